"""`TransformerSeq2Seq`: an encoder that looks at the whole source, and a decoder that looks back and at the source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.base import evaluation_mode
from probseq.models.conditional import ConditionalNetwork, given_source
from probseq.models.network import check_sizes
from probseq.models.positions import Turn, rotate, rotation, sinusoids

_HEAD = 0.3  # of the scale of other weights: at the beginning symbols are about as likely as one another

KeysAndValues = tuple[Tensor, Tensor]
"""Each ``(N, heads, T, dim)``."""


class TransformerState(NamedTuple):
    """What the decoder remembers; every tensor has the sequences as its first axis.

    Attributes:
        past: how many inputs it has read.
        source: keys and values of the source, for each layer.
        target: keys and values of what it has read, for each layer.
        mask: ``(N, 1, 1, S)``, True at real positions of the source.
        outputs: ``(N, V)``, the logits of what comes next.
    """

    past: int
    source: list[KeysAndValues]
    target: list[KeysAndValues]
    mask: Bool[Tensor, "N 1 1 S"]
    outputs: Float[Tensor, "N V"]


class TransformerSeq2Seq(ConditionalNetwork):
    r"""The encoder-decoder transformer, pre-norm.

    In every layer of the encoder each position of the source looks at all of them. In every layer of the decoder each
    step looks at the steps before it and at itself, then at the source:

    .. math::
        x \leftarrow x + \mathrm{attention}(\mathrm{norm}(x)), \qquad
        x \leftarrow x + \mathrm{attention}(\mathrm{norm}(x), h(\text{source})), \qquad
        x \leftarrow x + \mathrm{mlp}(\mathrm{norm}(x))

    Positions are told twice: sinusoids in the code of a symbol say where it stands, and rotary angles, in all three
    kinds of attention, say how far ahead or behind another stands, in the source as well. Sources and targets may have
    any length.

    Args:
        num_source_symbols: how many symbols the source is of.
        num_symbols: V, how many the target is of.
        num_layers: layers of the encoder, and of the decoder.
        num_heads: attention heads in a layer.
        embed_dim: E, the width, a multiple of ``2 * num_heads``.
        dropout: the share of units dropped after the embedding and each part of a layer, in training.

    Raises:
        InputError: a size below 1, a width that the heads do not divide into even parts, dropout outside [0, 1).

    Reference:
        A. Vaswani et al. (2017), "Attention is all you need"; R. Xiong et al. (2020), "On layer normalization in the
        transformer architecture"; J. Su et al. (2021), "RoFormer: enhanced transformer with rotary position embedding".
    """

    encoder: Any
    decoder: Any

    def __init__(
        self,
        num_source_symbols: int,
        num_symbols: int,
        *,
        num_layers: int = 2,
        num_heads: int = 4,
        embed_dim: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_source_symbols, num_symbols, dropout)
        check_sizes(num_layers=num_layers, num_heads=num_heads, embed_dim=embed_dim)
        if embed_dim % (2 * num_heads):
            raise InputError(f"embed_dim is {embed_dim}; expected a multiple of 2 * num_heads = {2 * num_heads}")
        self.num_layers, self.num_heads, self.embed_dim = num_layers, num_heads, embed_dim
        self.embed_source, self.embed = nn.Embedding(num_source_symbols, embed_dim), self.input_layer(embed_dim)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(_EncoderLayer(embed_dim, num_heads, dropout) for _ in range(num_layers))
        self.decoder = nn.ModuleList(_DecoderLayer(embed_dim, num_heads, dropout) for _ in range(num_layers))
        self.norm_source, self.norm = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_symbols)
        self._initialize()

    def _initialize(self) -> None:
        """Normal weights that keep the variance; what is added to the residual stream is scaled down with depth."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and not name.startswith("embed"):
                added = (3 if name.startswith("decoder") else 2) * self.num_layers
                scale = added**-0.5 if name.endswith("out.weight") else _HEAD if name == "head.weight" else 1.0
                nn.init.normal_(parameter, std=scale * parameter.shape[1] ** -0.5)

    def config(self) -> dict[str, Any]:
        names = ("num_layers", "num_heads", "embed_dim")
        return {**super().config(), **{name: getattr(self, name) for name in names}}

    def token_log_prob(self, batch: Batch) -> Float[Tensor, "N T"]:
        source, mask = self._encode(given_source(batch))
        outputs = self._decode(self._shifted(batch), 0, source, mask, [None] * self.num_layers)[0]
        return self.log_prob(outputs, batch.values).masked_fill(~batch.mask, 0.0)

    def initial_state(self, source: Batch) -> TransformerState:
        pairs, mask = self._encode(source)
        outputs, target = self._decode(self.begin(len(mask)), 0, pairs, mask, [None] * self.num_layers)
        return TransformerState(1, pairs, target, mask, outputs[:, 0])

    def next_log_prob(self, state: TransformerState) -> Float[Tensor, "N V"]:
        return state.outputs.log_softmax(dim=-1)

    def advance(self, state: TransformerState, values: Int[Tensor, "N"]) -> TransformerState:
        outputs, target = self._decode(values[:, None], state.past, state.source, state.mask, state.target)
        return state._replace(past=state.past + 1, target=target, outputs=outputs[:, 0])

    @torch.no_grad()
    def attention_weights(self, batch: Batch, layer: int = -1, by_head: bool = False) -> Float[Tensor, "N *heads T S"]:
        """How much each step of the target looks at each position of the source; 0 at padding of either.

        Args:
            batch: targets and their sources.
            layer: of the decoder; the last by default.
            by_head: each head by itself ``(N, heads, T, S)``; by default their mean ``(N, T, S)``.

        Raises:
            InputError: there is no such layer.
        """
        if not -self.num_layers <= layer < self.num_layers:
            raise InputError(f"layer is {layer}; expected 0 to {self.num_layers - 1}, or -1 for the last")
        with evaluation_mode(self):
            source, mask = self._encode(given_source(batch))
            x, turn = self._code(self.embed, self._shifted(batch), 0)
            for one, pair in zip(self.decoder[: layer % self.num_layers], source, strict=False):
                x, _ = one(x, turn, None, pair, mask)
            found: Tensor = self.decoder[layer].weights(x, turn, source[layer], mask) * batch.mask[:, None, :, None]
        return found if by_head else found.mean(dim=1)

    def _shifted(self, batch: Batch) -> Int[Tensor, "N T"]:
        """What the decoder reads: the begin symbol, and each symbol but the last."""
        return torch.cat([self.begin(len(batch.values)), batch.values[:, :-1]], dim=1)

    def _code(self, embed: nn.Module, inputs: Int[Tensor, "N T"], past: int) -> tuple[Float[Tensor, "N T E"], Turn]:
        code: Tensor = embed(inputs)
        code = code + sinusoids(past, inputs.shape[1], self.embed_dim, code)
        return self.drop(code), rotation(past, inputs.shape[1], self.embed_dim // self.num_heads, code)

    def _encode(self, source: Batch) -> tuple[list[KeysAndValues], Bool[Tensor, "N 1 1 S"]]:
        """For each layer of the decoder, the keys and values of the source."""
        mask = source.mask[:, None, None]
        x, turn = self._code(self.embed_source, source.values, 0)
        for layer in self.encoder:
            x = layer(x, turn, mask)
        x = self.norm_source(x)
        return [layer.cross.keys_and_values(x, turn) for layer in self.decoder], mask

    def _decode(
        self,
        inputs: Int[Tensor, "N T"],
        past: int,
        source: list[KeysAndValues],
        mask: Bool[Tensor, "N 1 1 S"],
        before: Sequence[KeysAndValues | None],
    ) -> tuple[Float[Tensor, "N T V"], list[KeysAndValues]]:
        """The logits of what follows each input, and the keys and values of all that has been read."""
        x, turn = self._code(self.embed, inputs, past)
        kept = []
        for layer, pair, own in zip(self.decoder, source, before, strict=True):
            x, own = layer(x, turn, own, pair, mask)
            kept.append(own)
        return self.head(self.norm(x)), kept


class _Attention(nn.Module):
    """Several heads side by side, with rotary positions."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.pair = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def keys_and_values(self, x: Float[Tensor, "N T E"], turn: Turn) -> KeysAndValues:
        key, value = self.pair(x).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return rotate(key, turn), value

    def forward(
        self,
        x: Float[Tensor, "N T E"],
        pair: KeysAndValues,
        turn: Turn,
        mask: Bool[Tensor, "N 1 1 S"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "N T E"]:
        mixed = F.scaled_dot_product_attention(self._queries(x, turn), *pair, attn_mask=mask, is_causal=causal)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def weights(
        self, x: Float[Tensor, "N T E"], pair: KeysAndValues, turn: Turn, mask: Bool[Tensor, "N 1 1 S"]
    ) -> Float[Tensor, "N heads T S"]:
        """What the fused kernel keeps to itself."""
        affinity = self._queries(x, turn) @ pair[0].mT / math.sqrt(pair[0].shape[-1])
        return affinity.masked_fill(~mask, -math.inf).softmax(dim=-1)

    def _queries(self, x: Tensor, turn: Turn) -> Float[Tensor, "N heads T dim"]:
        return rotate(self.query(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2), turn)


class _EncoderLayer(nn.Module):
    """Attention to itself, then a two-layer perceptron, each added to what comes in."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_own, self.own = nn.LayerNorm(dim), _Attention(dim, num_heads)
        self.norm_mlp, self.mlp_in, self.mlp_out = nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, turn: Turn, mask: Tensor) -> Tensor:
        y = self.norm_own(x)
        return self.mlp(x + self.drop(self.own(y, self.own.keys_and_values(y, turn), turn, mask)))

    def mlp(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.drop(self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x)))))
        return added


class _DecoderLayer(_EncoderLayer):
    """Attention to what has been written, then to the source, then a two-layer perceptron."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__(dim, num_heads, dropout)
        self.norm_cross, self.cross = nn.LayerNorm(dim), _Attention(dim, num_heads)

    def forward(  # type: ignore[override]
        self, x: Tensor, turn: Turn, before: KeysAndValues | None, source: KeysAndValues, mask: Tensor
    ) -> tuple[Tensor, KeysAndValues]:
        x, own = self._look_back(x, turn, before)
        return self.mlp(x + self.drop(self.cross(self.norm_cross(x), source, turn, mask))), own

    def weights(self, x: Tensor, turn: Turn, source: KeysAndValues, mask: Tensor) -> Float[Tensor, "N heads T S"]:
        """How the heads look at the source, from the beginning of the target."""
        x, _ = self._look_back(x, turn, None)
        return self.cross.weights(self.norm_cross(x), source, turn, mask)

    def _look_back(self, x: Tensor, turn: Turn, before: KeysAndValues | None) -> tuple[Tensor, KeysAndValues]:
        y = self.norm_own(x)
        key, value = self.own.keys_and_values(y, turn)
        if before is not None:  # one step: it may look at all of them
            key, value = torch.cat([before[0], key], dim=2), torch.cat([before[1], value], dim=2)
        return x + self.drop(self.own(y, (key, value), turn, causal=before is None)), (key, value)
