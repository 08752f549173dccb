"""How a transformer knows where a token stands."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

POSITIONS = ("rotary", "learned", "sinusoidal")

_BASE = 10_000.0
Turn = tuple[Tensor, Tensor]
"""Cosines and sines ``(T, dim)``: those of one half of the coordinates, and again, the sines negative at first."""


def angles(past: int, steps: int, dim: int, device: torch.device) -> Float[Tensor, "T half"]:
    r"""``(steps, dim / 2)`` float64: :math:`t \, 10000^{-2i / dim}` for positions ``past .. past + steps - 1``."""
    half = torch.arange(dim // 2, device=device, dtype=torch.float64)
    position = torch.arange(past, past + steps, device=device, dtype=torch.float64)
    return position[:, None] * _BASE ** (-2 * half / dim)


def sinusoids(past: int, steps: int, dim: int, like: Tensor) -> Float[Tensor, "T dim"]:
    """``(steps, dim)``: sine and cosine of each angle by turns; what is added to the code of a token.

    Reference:
        A. Vaswani et al. (2017), "Attention is all you need".
    """
    angle = angles(past, steps, dim, like.device)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(like.dtype)


def rotation(past: int, steps: int, dim: int, like: Tensor) -> Turn:
    """Cosines and sines of the rotary angles, as `rotate` takes them.

    Reference:
        J. Su et al. (2021), "RoFormer: enhanced transformer with rotary position embedding".
    """
    angle = angles(past, steps, dim, like.device)
    cos, sin = angle.cos().to(like.dtype), angle.sin().to(like.dtype)
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x: Float[Tensor, "*B T dim"], turn: Turn) -> Float[Tensor, "*B T dim"]:
    """Rotate pairs of coordinates by the angle of their position; products then depend on distance alone."""
    cos, sin = turn
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)
