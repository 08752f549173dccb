"""The decoder-only transformer: no state is carried, every token looks back at the tokens before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from probseq.errors import InputError
from probseq.models.emissions import Emission
from probseq.models.network import Network, check_sizes

Cache = tuple[int, Sequence[tuple[Tensor, Tensor] | None]]
"""Tokens seen so far, and for each layer the keys and values ``(N, heads, at most context, dim)`` of the last ones."""


class Transformer(Network):
    r"""Pre-norm decoder with causal self-attention over the last `context` tokens.

    .. math::
        x \leftarrow x + \mathrm{attention}(\mathrm{norm}(x)), \qquad x \leftarrow x + \mathrm{mlp}(\mathrm{norm}(x)),
        \qquad x_{t+1} \sim p(x \mid E \, \mathrm{norm}(x_t))

    For symbols, p is the softmax of the outputs, and the output weights E are the input embedding (weight tying). For
    vectors, the input and the output have a linear layer each, and the outputs are the parameters of an emission
    family. Positions are rotary, so attention depends on distance alone and a sequence may be longer than the context:
    each layer then sees the last `context` tokens. There is no dropout inside attention: it would switch off torch's
    fast attention kernel on a CPU.

    Args:
        num_symbols: V, the size of the vocabulary, short for ``emission=Categorical(V)``.
        num_layers: blocks.
        num_heads: attention heads in a block.
        embed_dim: width, a multiple of ``2 * num_heads``.
        context: how many tokens (itself included) a position attends to.
        dropout: the share of units dropped after the embedding and each half-block, in training.
        emission: the family of the observations, for example ``Gaussian(2)``.

    Raises:
        InputError: a size below 1, a width that the heads do not divide into even parts, dropout outside [0, 1),
            neither or both of `num_symbols` and `emission`.

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
    ) -> None:
        super().__init__(num_symbols, emission, dropout)
        check_sizes(num_layers=num_layers, num_heads=num_heads, embed_dim=embed_dim, context=context)
        if embed_dim % (2 * num_heads):
            raise InputError(f"embed_dim is {embed_dim}; expected a multiple of 2 * num_heads = {2 * num_heads}")
        self.num_layers, self.num_heads, self.embed_dim, self.context = num_layers, num_heads, embed_dim, context
        self.embed = self.input_layer(embed_dim)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(embed_dim, num_heads, context, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim)
        self.head = None if self.is_symbolic else nn.Linear(embed_dim, self.emission.num_outputs)
        self._initialize()

    def _initialize(self) -> None:
        """Small normal weights; what is added to the residual stream is scaled down with depth (GPT-2)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and not name.startswith("emission."):
                depth = (2 * self.num_layers) ** -0.5 if name.endswith("out.weight") else 1.0
                nn.init.normal_(parameter, std=0.02 * depth)

    def config(self) -> dict[str, Any]:
        names = ("num_layers", "num_heads", "embed_dim", "context", "dropout")
        return {"emission": self.emission.config(), **{name: getattr(self, name) for name in names}}

    def forward(
        self, inputs: Shaped[Tensor, "N T *C"], state: Cache | None = None
    ) -> tuple[Float[Tensor, "N T P"], Cache]:
        past, caches = (0, [None] * self.num_layers) if state is None else state
        x = self.drop(self.embed(inputs))
        turn = rotation(past, inputs.shape[1], self.embed_dim // self.num_heads, x)
        kept = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, turn, cache)
            kept.append(cache)
        x = self.norm(x)
        outputs = F.linear(x, self.embed.weight[: self.num_symbols]) if self.head is None else self.head(x)
        return outputs, (past + inputs.shape[1], kept)


class _Block(nn.Module):
    """Attention, then a two-layer perceptron, each added to what comes in."""

    def __init__(self, dim: int, num_heads: int, context: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.context = num_heads, context
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_out = nn.Linear(dim, dim, bias=False)
        self.mlp_in, self.mlp_out = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, cache = self._attend(self.norm_attention(x), turn, cache)
        x = x + self.drop(attended)
        return x + self.drop(self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))), cache

    def _attend(
        self, x: Tensor, turn: tuple[Tensor, Tensor], cache: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        num, steps, dim = x.shape
        heads = self.qkv(x).view(num, steps, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = rotate(heads[0], turn), rotate(heads[1], turn), heads[2]  # (N, heads, T, dim)
        if cache is not None:
            key, value = torch.cat([cache[0], key], dim=2), torch.cat([cache[1], value], dim=2)
        if key.shape[2] == steps <= self.context:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=self._band(steps, key))
        mixed = mixed.transpose(1, 2).reshape(num, steps, dim)
        last = slice(max(0, key.shape[2] - self.context + 1), None)  # the next token adds itself
        return self.attention_out(mixed), (key[:, :, last], value[:, :, last])

    def _band(self, steps: int, key: Tensor) -> Tensor:
        """True where a query may look: at itself and at the ``context - 1`` tokens before it."""
        at = torch.arange(key.shape[2], device=key.device)
        distance = at[-steps:, None] - at
        return (distance >= 0) & (distance < self.context)


def rotation(past: int, steps: int, dim: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(steps, dim / 2)`` of the rotary angles for positions ``past .. past + steps - 1``."""
    half = torch.arange(dim // 2, device=like.device, dtype=torch.float64)
    position = torch.arange(past, past + steps, device=like.device, dtype=torch.float64)
    angle = position[:, None] * 10_000.0 ** (-2 * half / dim)
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def rotate(x: Float[Tensor, "N heads T dim"], turn: tuple[Tensor, Tensor]) -> Float[Tensor, "N heads T dim"]:
    """Rotate pairs of coordinates by the angle of their position; products then depend on distance alone."""
    cos, sin = turn
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)
