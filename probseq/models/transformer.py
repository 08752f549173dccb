"""The decoder-only transformer: no state is carried, every token looks back at the tokens before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from probseq.errors import InputError, unknown
from probseq.models.base import evaluation_mode
from probseq.models.emissions import Emission
from probseq.models.network import Network, check_sizes
from probseq.models.positions import POSITIONS, Turn, rotate, rotation, sinusoids

_STD = 0.02  # of the codes and the other weights, at the beginning

KeysAndValues = tuple[Tensor, Tensor]


class Cache(NamedTuple):
    """What a transformer remembers of the past.

    Attributes:
        past: tokens before the next one; with absolute positions, those in the window.
        layers: for each layer the keys and values ``(N, heads, at most context, dim)`` of the last tokens.
        window: with absolute positions, the inputs in the window.
    """

    past: int
    layers: Sequence[KeysAndValues | None]
    window: Tensor | None = None


class Transformer(Network):
    r"""Pre-norm decoder with causal self-attention over the last `context` tokens.

    .. math::
        x \leftarrow x + \mathrm{attention}(\mathrm{norm}(x)), \qquad x \leftarrow x + \mathrm{mlp}(\mathrm{norm}(x)),
        \qquad x_{t+1} \sim p(x \mid E \, \mathrm{norm}(x_t))

    For symbols, p is the softmax of the outputs, and the output weights E are the input embedding (weight tying). For
    vectors, the input and the output have a linear layer each, and the outputs are the parameters of an emission
    family.

    A sequence may be longer than the context, with any positions:

    - ``"rotary"``: attention depends on distance alone. Each layer sees the last `context` codes of the layer below,
      so that L layers together reach back :math:`L (\mathrm{context} - 1)` tokens.
    - ``"learned"`` and ``"sinusoidal"`` are added to the code of a token, and count from the beginning of a window of
      `context` tokens. When it is full, it moves on by `stride` tokens and is read anew; the begin symbol stays its
      first, as in training. With a stride of 1 every token is predicted from the longest context there is; longer
      strides are that many times faster, and leave ``context - stride + 1`` tokens of context at least.

    In training, units are dropped after the embedding and each half-block, and on a GPU attention weights too. On a CPU
    there is no dropout inside attention: torch's fused attention kernel for CPUs has none, and without it each layer
    would write its T x T weights to memory.

    Args:
        num_symbols: V, the size of the vocabulary, short for ``emission=Categorical(V)``.
        num_layers: blocks.
        num_heads: attention heads in a block.
        embed_dim: width, a multiple of ``2 * num_heads``.
        context: how many tokens (itself included) a position attends to.
        dropout: the share of units dropped, in training.
        emission: the family of the observations, for example ``Gaussian(2)``.
        positions: ``"rotary"``, ``"learned"`` or ``"sinusoidal"``.
        tied: whether the output weights are the embedding; of symbols alone.
        stride: of the window, where positions are absolute.

    Raises:
        InputError: a size below 1, a width that the heads do not divide into even parts, dropout outside [0, 1),
            unknown positions, a stride that is not below the context, or not 1 with rotary positions, neither or both
            of `num_symbols` and `emission`.

    Reference:
        A. Vaswani et al. (2017), "Attention is all you need"; R. Xiong et al. (2020), "On layer normalization in the
        transformer architecture"; O. Press, L. Wolf (2017), "Using the output embedding to improve language models";
        J. Su et al. (2021), "RoFormer: enhanced transformer with rotary position embedding".
    """

    def __init__(
        self,
        num_symbols: int | None = None,
        num_layers: int = 2,
        num_heads: int = 4,
        embed_dim: int = 128,
        context: int = 256,
        dropout: float = 0.0,
        *,
        emission: Emission | None = None,
        positions: str = "rotary",
        tied: bool = True,
        stride: int = 1,
    ) -> None:
        super().__init__(num_symbols, emission, dropout)
        check_sizes(num_layers=num_layers, num_heads=num_heads, embed_dim=embed_dim, context=context, stride=stride)
        _check_positions(positions, stride, context)
        if embed_dim % (2 * num_heads):
            raise InputError(f"embed_dim is {embed_dim}; expected a multiple of 2 * num_heads = {2 * num_heads}")
        self.num_layers, self.num_heads, self.embed_dim, self.context = num_layers, num_heads, embed_dim, context
        self.positions, self.tied, self.stride = positions, tied, stride
        self.embed = self.input_layer(embed_dim)
        self.place = nn.Embedding(context, embed_dim) if positions == "learned" else None
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(embed_dim, num_heads, context, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = None
        if not (tied and self.is_symbolic):
            self.head = nn.Linear(embed_dim, self.emission.num_outputs, bias=not self.is_symbolic)
        self._initialize()

    def _initialize(self) -> None:
        """Small normal weights; what is added to the residual stream is scaled down with depth (GPT-2)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and not name.startswith("emission."):
                depth = (2 * self.num_layers) ** -0.5 if name.endswith("out.weight") else 1.0
                nn.init.normal_(parameter, std=_STD * depth)

    def config(self) -> dict[str, Any]:
        names = ("num_layers", "num_heads", "embed_dim", "context", "dropout", "positions", "tied", "stride")
        return {"emission": self.emission.config(), **{name: getattr(self, name) for name in names}}

    def piece(self, num_sequences: int) -> int:
        """A context at a time: a longer piece would compute affinities that the context then hides."""
        return self.context

    def forward(
        self, inputs: Shaped[Tensor, "N T *C"], state: Cache | None = None
    ) -> tuple[Float[Tensor, "N T P"], Cache]:
        cache = state or Cache(0, [None] * self.num_layers, inputs[:, :0])
        if self.positions == "rotary":
            hidden, layers = self._read(inputs, cache.past, cache.layers)
            return self._outputs(hidden), Cache(cache.past + inputs.shape[1], layers)
        parts = []
        while inputs.shape[1]:
            cache = self._slide(cache) if cache.past == self.context else cache
            now, inputs = inputs[:, : self.context - cache.past], inputs[:, self.context - cache.past :]
            hidden, layers = self._read(now, cache.past, cache.layers)
            cache = Cache(cache.past + now.shape[1], layers, torch.cat([_window(cache), now], dim=1))
            parts.append(hidden)
        return self._outputs(torch.cat(parts, dim=1)), cache

    def _slide(self, cache: Cache) -> Cache:
        """The window moves on by `stride` tokens; every token in it stands elsewhere, so it is read anew."""
        window = torch.cat([_window(cache)[:, :1], _window(cache)[:, 1 + self.stride :]], dim=1)
        _, layers = self._read(window, 0, [None] * self.num_layers)
        return Cache(window.shape[1], layers, window)

    def _read(
        self, inputs: Tensor, past: int, layers: Sequence[KeysAndValues | None]
    ) -> tuple[Float[Tensor, "N T E"], list[Any]]:
        x, turn = self._code(inputs, past)
        kept = []
        for block, layer in zip(self.blocks, layers, strict=True):
            x, layer = block(x, turn, layer)
            kept.append(layer)
        return self.norm(x), kept

    def _code(self, inputs: Tensor, past: int) -> tuple[Float[Tensor, "N T E"], Turn | None]:
        """What the first block reads, and the rotary angles."""
        code, steps, turn = self.embed(inputs), inputs.shape[1], None
        if self.positions == "rotary":
            turn = rotation(past, steps, self.embed_dim // self.num_heads, code)
        elif self.place is not None:
            code = code + self.place.weight[past : past + steps]
        else:  # as large as the codes are at the beginning
            code = code + _STD * math.sqrt(2) * sinusoids(past, steps, self.embed_dim, code)
        return self.drop(code), turn

    def _outputs(self, hidden: Float[Tensor, "N T E"]) -> Float[Tensor, "N T P"]:
        return F.linear(hidden, self.embed.weight[: self.num_symbols]) if self.head is None else self.head(hidden)

    def attention(self, values: Shaped[Tensor, "N T *D"]) -> list[Float[Tensor, "N heads L L"]]:
        """The attention weights of every layer, ``L = T + 1``; no dropout.

        Entry ``[n, h, t, s]`` is how much head h looks from position t at position s. Position 0 is the begin symbol,
        and position t is the token x_t.

        Args:
            values: sequences of equal length, as the values of a `Batch`.

        Raises:
            InputError: something else; or, with absolute positions, a sequence that is longer than one window.
        """
        self.check_values(values)
        inputs = torch.cat([self.begin(len(values)), self.read(values)], dim=1)
        if self.positions != "rotary" and inputs.shape[1] > self.context:
            raise InputError(
                f"received sequences of {inputs.shape[1] - 1} tokens, and a window holds {self.context - 1} after the "
                "begin symbol; expected no more: shorten them"
            )
        with evaluation_mode(self):
            x, turn = self._code(inputs, 0)
            found = []
            for block in self.blocks:
                found.append(block.weights(x, turn))  # type: ignore[operator]
                x, _ = block(x, turn, None)
        return found


class _Block(nn.Module):
    """Attention, then a two-layer perceptron, each added to what comes in."""

    def __init__(self, dim: int, num_heads: int, context: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.context, self.dropout = num_heads, context, dropout
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.mlp_in, self.mlp_out = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, turn: Turn | None, cache: KeysAndValues | None) -> tuple[Tensor, KeysAndValues]:
        attended, cache = self._attend(x, turn, cache)
        x = x + self.drop(attended)
        return x + self.drop(self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))), cache

    def weights(self, x: Tensor, turn: Turn | None) -> Float[Tensor, "N heads T T"]:
        """What the fused kernel keeps to itself: softmax of query times key, over the positions that may be seen."""
        query, key, _ = self._project(x, turn)
        affinity = query @ key.mT / math.sqrt(query.shape[-1])
        return affinity.masked_fill(~self._band(x.shape[1], key), -math.inf).softmax(dim=-1)

    def _project(self, x: Tensor, turn: Turn | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each ``(N, heads, T, dim)``."""
        num, steps, _ = x.shape
        heads = self.qkv(self.norm_attention(x)).view(num, steps, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key = heads[:2] if turn is None else rotate(heads[:2], turn)
        return query, key, heads[2]

    def _attend(self, x: Tensor, turn: Turn | None, cache: KeysAndValues | None) -> tuple[Tensor, KeysAndValues]:
        num, steps, dim = x.shape
        query, key, value = self._project(x, turn)
        if cache is not None:
            key, value = torch.cat([cache[0], key], dim=2), torch.cat([cache[1], value], dim=2)
        how: dict[str, Any] = {"dropout_p": self.dropout if self.training and x.is_cuda else 0.0}
        if key.shape[2] == steps <= self.context:
            how["is_causal"] = True
        elif steps > 1 or key.shape[2] > self.context:
            how["attn_mask"] = self._band(steps, key)
        mixed = F.scaled_dot_product_attention(query, key, value, **how).transpose(1, 2).reshape(num, steps, dim)
        last = slice(max(0, key.shape[2] - self.context + 1), None)  # the next token adds itself
        return self.attention_out(mixed), (key[:, :, last], value[:, :, last])

    def _band(self, steps: int, key: Tensor) -> Tensor:
        """True where a query may look: at itself and at the ``context - 1`` tokens before it."""
        at = torch.arange(key.shape[2], device=key.device)
        distance = at[-steps:, None] - at
        return (distance >= 0) & (distance < self.context)


def _window(cache: Cache) -> Tensor:
    if cache.window is None:
        raise RuntimeError("a cache of rotary positions was given to absolute ones")
    return cache.window


def _check_positions(positions: str, stride: int, context: int) -> None:
    if positions not in POSITIONS:
        raise unknown("positions", positions, POSITIONS)
    if positions == "rotary" and stride > 1:
        raise InputError("stride is for learned or sinusoidal positions; rotary ones need none: leave it out")
    if positions != "rotary" and stride >= context:
        raise InputError(f"stride is {stride} and context {context}; expected a stride below the context")
