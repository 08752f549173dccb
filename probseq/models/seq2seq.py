"""`Seq2Seq`: a recurrent encoder and decoder; the bottleneck, and attention of two kinds."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from probseq.data.batch import Batch
from probseq.errors import InputError, unknown
from probseq.models.base import evaluation_mode
from probseq.models.conditional import ConditionalNetwork, given_source
from probseq.models.encoder import Encoded, Encoder, recurrent_layer

ATTENTION = ("additive", "dot")

_NUMBERS = 2**25  # of every pair of steps, in memory at once; more are computed again on the way back


class DecoderState(NamedTuple):
    """What the decoder remembers; every tensor has the sequences as its first axis.

    Attributes:
        encoded: the sources.
        memory: the state of each part of the cell, ``(N, layers, H)``.
        outputs: ``(N, V)``, the logits of what comes next.
    """

    encoded: Encoded
    memory: tuple[Float[Tensor, "N layers H"], ...]
    outputs: Float[Tensor, "N V"]


class Seq2Seq(ConditionalNetwork):
    r"""A recurrent network reads the source, another writes the target.

    .. math::
        d_t = \mathrm{cell}(d_{t-1}, y_{t-1}), \qquad d_0 = \tanh(W_0 h), \qquad
        p(y_t \mid y_{<t}, x) = \mathrm{softmax}(U \tanh(W [d_t, c_t]))

    The encoder gives a vector :math:`h_s` for each position of the source, and a summary h of the whole. The models
    differ in what the decoder is told of the source at step t, the context :math:`c_t`, and in nothing else:

    - the bottleneck (``attention=None``): the summary, :math:`c_t = h`, whatever is being written;
    - attention: :math:`c_t = \sum_s a_{ts} h_s` with :math:`a_{ts} = \mathrm{softmax}_s \, \mathrm{score}(d_t, h_s)`,
      where the score is :math:`h_s^\top W_d d_t / \sqrt E` (``"dot"``), or :math:`v^\top \tanh(W_s h_s + W_d d_t)`
      (``"additive"``).

    The context is not fed back into the cell, so that a known target is scored without a loop.

    Args:
        num_source_symbols: how many symbols the source is of.
        num_symbols: V, how many the target is of.
        attention: ``"dot"``, ``"additive"``, or None (in a study file ``"none"``), the bottleneck.
        cell: ``"lstm"`` or ``"gru"``, of encoder and decoder.
        bidirectional: whether the source is read from both ends.
        hidden_dim: H, units of the decoder, and of the encoder (both directions together).
        embed_dim: the size of a symbol's code. Default: `hidden_dim`.
        num_layers: layers of encoder and decoder.
        dropout: the share of units dropped, in training.

    Raises:
        InputError: a size below 1, dropout outside [0, 1), an unknown cell or kind of attention.

    Reference:
        I. Sutskever, O. Vinyals, Q. V. Le (2014), "Sequence to sequence learning with neural networks"; D. Bahdanau,
        K. Cho, Y. Bengio (2015), "Neural machine translation by jointly learning to align and translate"; M.-T. Luong,
        H. Pham, C. D. Manning (2015), "Effective approaches to attention-based neural machine translation".
    """

    def __init__(
        self,
        num_source_symbols: int,
        num_symbols: int,
        *,
        attention: str | None = "dot",
        cell: str = "lstm",
        bidirectional: bool = True,
        hidden_dim: int = 128,
        embed_dim: int | None = None,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_source_symbols, num_symbols, dropout)
        attention = None if attention == "none" else attention
        if attention is not None and attention not in ATTENTION:
            raise unknown("attention", attention, ATTENTION)
        self.attention, self.cell, self.bidirectional = attention, cell, bidirectional
        self.hidden_dim, self.num_layers = hidden_dim, num_layers
        self.embed_dim = hidden_dim if embed_dim is None else embed_dim
        self.encoder = Encoder(num_source_symbols, self.embed_dim, hidden_dim, cell, bidirectional, num_layers, dropout)
        self.embed, self.drop = nn.Embedding(num_symbols + 1, self.embed_dim), nn.Dropout(dropout)
        self.cells = recurrent_layer(cell, self.embed_dim, hidden_dim, num_layers, dropout)
        self.begins = nn.Linear(hidden_dim, num_layers * hidden_dim)
        self.score = None if attention is None else _SCORES[attention](hidden_dim)
        self.mix = nn.Linear(2 * hidden_dim, hidden_dim)
        self.head = nn.Linear(hidden_dim, num_symbols)

    def config(self) -> dict[str, Any]:
        names = ("attention", "cell", "bidirectional", "hidden_dim", "embed_dim", "num_layers")
        return {**super().config(), **{name: getattr(self, name) for name in names}}

    def token_log_prob(self, batch: Batch) -> Float[Tensor, "N T"]:
        encoded, hidden = self._read(batch)
        return self.log_prob(self._outputs(encoded, hidden), batch.values).masked_fill(~batch.mask, 0.0)

    def initial_state(self, source: Batch) -> DecoderState:
        encoded = self.encoder(source)
        return self._step(encoded, self._begin(encoded), self.begin(len(encoded.summary)))

    def next_log_prob(self, state: DecoderState) -> Float[Tensor, "N V"]:
        return state.outputs.log_softmax(dim=-1)

    def advance(self, state: DecoderState, values: Int[Tensor, "N"]) -> DecoderState:
        return self._step(state.encoded, state.memory, values[:, None])

    @torch.no_grad()
    def attention_weights(self, batch: Batch) -> Float[Tensor, "N T S"]:
        """How much each step of the target looks at each position of the source; 0 at padding of either.

        Raises:
            InputError: there is no attention in the bottleneck.
        """
        if self.score is None:
            raise InputError("the bottleneck does not attend to positions; take attention='dot' or 'additive'")
        with evaluation_mode(self):
            encoded, hidden = self._read(batch)
            return self._weights(encoded, hidden) * batch.mask[..., None]

    def _begin(self, encoded: Encoded) -> tuple[Tensor, ...]:
        """The memory before the first step."""
        hidden = self.begins(encoded.summary).tanh().unflatten(-1, (self.num_layers, self.hidden_dim))
        return (hidden, torch.zeros_like(hidden)) if self.cell == "lstm" else (hidden,)

    def _run(self, memory: tuple[Tensor, ...], inputs: Int[Tensor, "N T"]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the decoder makes of its inputs ``(N, T, H)``, and its memory after them."""
        before = tuple(part.transpose(0, 1).contiguous() for part in memory)
        hidden, after = self.cells(self.drop(self.embed(inputs)), before if self.cell == "lstm" else before[0])
        return hidden, tuple(part.transpose(0, 1) for part in (after if self.cell == "lstm" else (after,)))

    def _read(self, batch: Batch) -> tuple[Encoded, Float[Tensor, "N T H"]]:
        """The source, and the decoder's state at every step of a known target."""
        encoded = self.encoder(given_source(batch))
        inputs = torch.cat([self.begin(len(batch.values)), batch.values[:, :-1]], dim=1)
        return encoded, self._run(self._begin(encoded), inputs)[0]

    def _step(self, encoded: Encoded, memory: tuple[Tensor, ...], inputs: Int[Tensor, "N 1"]) -> DecoderState:
        hidden, memory = self._run(memory, inputs)
        return DecoderState(encoded, memory, self._outputs(encoded, hidden)[:, 0])

    def _weights(self, encoded: Encoded, hidden: Float[Tensor, "N T H"]) -> Float[Tensor, "N T S"]:
        assert self.score is not None
        scores: Tensor = self.score(encoded.outputs, hidden)
        return scores.masked_fill(~encoded.mask[:, None], -math.inf).softmax(dim=-1)

    def _outputs(self, encoded: Encoded, hidden: Float[Tensor, "N T H"]) -> Float[Tensor, "N T V"]:
        if self.score is None:
            context = encoded.summary[:, None].expand_as(hidden)
        else:
            context = self._weights(encoded, hidden) @ encoded.outputs
        outputs: Tensor = self.head(self.drop(self.mix(torch.cat([hidden, context], dim=-1)).tanh()))
        return outputs


class _Dot(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim, bias=False)

    def forward(self, outputs: Float[Tensor, "N S E"], hidden: Float[Tensor, "N T H"]) -> Float[Tensor, "N T S"]:
        scores: Tensor = self.query(hidden) @ outputs.mT
        return scores / math.sqrt(outputs.shape[-1])


class _Additive(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.key, self.query = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.weight = nn.Linear(dim, 1, bias=False)

    def forward(self, outputs: Float[Tensor, "N S E"], hidden: Float[Tensor, "N T H"]) -> Float[Tensor, "N T S"]:
        key, query = self.key(outputs), self.query(hidden)
        piece = max(1, _NUMBERS // key.numel())
        if piece >= query.shape[1]:
            return self._score(key, query)
        parts = [
            checkpoint(self._score, key, part, use_reentrant=False, preserve_rng_state=False)
            for part in query.split(piece, dim=1)
        ]
        return torch.cat(parts, dim=1)

    def _score(self, key: Float[Tensor, "N S E"], query: Float[Tensor, "N t E"]) -> Float[Tensor, "N t S"]:
        return F.linear((key[:, None] + query[:, :, None]).tanh(), self.weight.weight)[..., 0]


_SCORES = {"dot": _Dot, "additive": _Additive}
