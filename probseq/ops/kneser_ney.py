"""Interpolated modified Kneser-Ney smoothing on sorted tables of n-grams."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def discounts(counts: Int[Tensor, "M"]) -> Float[Tensor, "4"]:
    """What modified Kneser-Ney takes from an n-gram counted 0, 1, 2, and 3 or more times.

    With ``n_i`` the number of n-grams counted i times and ``Y = n_1 / (n_1 + 2 n_2)``: ``D_0 = 0`` and
    ``D_i = i - (i + 1) Y n_{i+1} / n_i`` for i = 1, 2, 3. Where one of ``n_1 .. n_4`` is zero or a discount is not
    positive (few n-grams, or none that are rare), all three fall back to 0.5, 1 and 1.5.

    Reference:
        Chen and Goodman (1999), An empirical study of smoothing techniques for language modeling.
    """
    n = torch.bincount(counts.clamp(max=5), minlength=6)[1:5].double()
    i = torch.arange(1, 4, dtype=torch.float64, device=counts.device)
    estimated = i - (i + 1) * n[0] / (n[0] + 2 * n[1]) * n[1:] / n[:3]
    if (n == 0).any() or (estimated <= 0).any():
        estimated = i / 2
    return torch.cat([estimated.new_zeros(1), estimated])


@dataclass(frozen=True)
class Level:
    """The n-grams of one order k, and how they refine the probabilities of order k - 1.

    An n-gram is a context and a symbol, and its context is an n-gram of the level below, so that one integer,
    ``context * V + symbol``, names it; its id is the rank of that key. The id one past the last (M) means "not stored";
    at order 1, where every symbol is stored, it is the id of the begin symbol.

    Attributes:
        keys: ``(M,)`` sorted keys.
        explicit: ``(M + 1,)`` discounted relative frequency of each n-gram; 0 for the one not stored.
        backoff: ``(C,)`` what each context leaves to order k - 1; 1 for a context never followed by anything.
        num_symbols: V, the size of the vocabulary.
    """

    keys: Tensor
    explicit: Tensor
    backoff: Tensor
    num_symbols: int

    @classmethod
    def from_counts(cls, keys: Tensor, counts: Tensor, num_contexts: int, num_symbols: int) -> Level:
        """Smooth the counts ``(M,)`` of the n-grams `keys` over `num_contexts` contexts."""
        context = keys // num_symbols
        taken = discounts(counts)[counts.clamp(max=3)]  # (M,)
        total = torch.bincount(context, weights=counts.double(), minlength=num_contexts)  # (C,)
        left = torch.bincount(context, weights=taken, minlength=num_contexts)
        explicit = torch.where(counts > 0, (counts - taken) / total[context], 0.0)
        backoff = torch.where(total > 0, left / total, 1.0)
        return cls(keys, torch.cat([explicit, explicit.new_zeros(1)]), backoff, num_symbols)

    def find(self, context: Tensor, symbols: Tensor) -> Tensor:
        """The id of each n-gram (context, symbol), M where it is not stored. The two arguments are broadcast."""
        key = context * self.num_symbols + symbols
        place = torch.searchsorted(self.keys, key).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == key, place, len(self.keys))

    def refine(self, lower: Tensor, context: Tensor, ids: Tensor) -> Tensor:
        """Probabilities at this order, given those one order below: ``explicit + backoff * lower``."""
        return self.explicit[ids] + self.backoff[context] * lower

    def refine_all(self, lower: Float[Tensor, "N V"], context: Int[Tensor, "N"]) -> Float[Tensor, "N V"]:
        """The same for every symbol after each context."""
        refined = self.backoff[context, None] * lower
        begin, end = torch.searchsorted(self.keys, torch.stack([context, context + 1]) * self.num_symbols)
        size = end - begin  # (N,): what followed a context lies in one stretch of the table
        rows = torch.repeat_interleave(size)
        ids = torch.arange(len(rows), device=rows.device) + (begin + size - size.cumsum(0))[rows]
        refined[rows, self.keys[ids] % self.num_symbols] += self.explicit[ids]
        return refined


def following(ids: Int[Tensor, "L"], starts: Int[Tensor, "N"], first: int) -> Int[Tensor, "L"]:
    """The n-gram that ends before each token, given the one that ends at it; `first` where a sequence starts."""
    context = ids.roll(1)
    context[starts] = first
    return context
