"""Models made of counts: `Uniform`, `Unigram`, and `NGram` with interpolated modified Kneser-Ney smoothing.

They have no hidden state to infer and no starting point to be sensitive to: one restart, an exact likelihood, and a fit
(`probseq.fit_counts`) that counts. They are what every other model has to beat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.base import Model
from probseq.models.emissions import Categorical
from probseq.ops.kneser_ney import Level, following
from probseq.types import TokenLogProb


class _Independent(Model):
    """Tokens that ignore the past: ``log p(x_t | x_<t) = log_probs[x_t]``, 0 for one that is missing."""

    log_probs: Tensor  # (V,)

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        self.check_values(batch)
        return torch.where(batch.observed, self.log_probs[batch.values], 0.0)[None]

    def initial_state(self, num_sequences: int) -> int:
        return num_sequences

    def next_log_prob(self, state: int) -> Float[Tensor, "R N V"]:
        return self.log_probs.expand(1, state, -1)

    def advance(self, state: int, values: Int[Tensor, "N"]) -> int:
        return state

    def select(self, restart: int) -> _Independent:
        self.check_restart(restart)
        return self


class Uniform(_Independent):
    """Every symbol with probability ``1 / V``, always: the worst a model may be.

    Args:
        num_symbols: V, the size of the vocabulary.

    Raises:
        InputError: fewer than one symbol.

    Example:
        >>> Uniform(4).log_probs.exp().tolist()
        [0.25, 0.25, 0.25, 0.25]
    """

    def __init__(self, num_symbols: int) -> None:
        super().__init__()
        self.emission = Categorical(num_symbols)
        self.register_buffer("log_probs", torch.full((num_symbols,), -math.log(num_symbols), dtype=torch.float64))

    def config(self) -> dict[str, Any]:
        return {"num_symbols": self.num_symbols}

    @property
    def num_parameters(self) -> int:
        """0: nothing is learned."""
        return 0


class Unigram(_Independent):
    """Independent tokens with Dirichlet-smoothed frequencies.

    ``p(v) = (count(v) + concentration) / (total + V * concentration)``, the posterior mean under a symmetric Dirichlet
    prior. Uniform until `probseq.fit_counts` has counted.

    Args:
        num_symbols: V, the size of the vocabulary.
        concentration: the pseudo-count given to every symbol, positive.

    Raises:
        InputError: fewer than one symbol, or a concentration that is not positive.
    """

    def __init__(self, num_symbols: int, concentration: float = 1.0) -> None:
        super().__init__()
        self.emission = Categorical(num_symbols)
        if not 0 < concentration < math.inf:
            raise InputError(f"concentration is {concentration}; expected a positive number")
        self.concentration = float(concentration)
        self.register_buffer("log_probs", torch.full((num_symbols,), -math.log(num_symbols), dtype=torch.float64))

    def set_counts(self, counts: Tensor) -> None:
        """Take the (weighted) number of times each symbol was seen, ``(V,)``."""
        smoothed = counts.to(self.log_probs) + self.concentration
        self.log_probs = smoothed.log() - smoothed.sum().log()

    def config(self) -> dict[str, Any]:
        return {"num_symbols": self.num_symbols, "concentration": self.concentration}

    @property
    def num_parameters(self) -> int:
        """``V - 1``: probabilities that sum to one."""
        return self.num_symbols - 1


class NGram(Model):
    """An n-gram model with interpolated modified Kneser-Ney smoothing.

    With h the k - 1 symbols before w, h' the same without its first, and c the count at order k,
    ``p_k(w | h) = max(c(h w) - D(c(h w)), 0) / c(h) + backoff(h) p_{k-1}(w | h')`` and ``p_0(w) = 1 / V``, so that
    every symbol has positive probability after every context, and the probabilities sum to one exactly.

    The highest order counts occurrences; lower orders count the different symbols that come before an n-gram. Every
    sequence starts with a begin symbol that is context only: never predicted, never part of the vocabulary. An n-gram
    that starts with it has nothing before it, so there it is occurrences that are counted, at every order.

    The model is its counts: `state_dict` holds ``sizes`` (n,), ``keys`` and ``counts`` of all orders end to end. Until
    `probseq.fit_counts` has counted, its order is 0, which is the uniform distribution.

    Args:
        num_symbols: V, the size of the vocabulary.
        max_order: the longest n-grams that a fit may choose (5 means four symbols of context).

    Raises:
        InputError: fewer than one symbol, or an order below 1.

    Reference:
        Kneser and Ney (1995), Improved backing-off for m-gram language modeling; Chen and Goodman (1999), An empirical
        study of smoothing techniques for language modeling.
    """

    sizes: Tensor
    keys: Tensor
    counts: Tensor
    explicit: Tensor
    backoff: Tensor

    def __init__(self, num_symbols: int, max_order: int = 8) -> None:
        super().__init__()
        self.emission = Categorical(num_symbols)
        if max_order < 1:
            raise InputError(f"max_order is {max_order}; expected 1 or more")
        self.max_order = max_order
        for name in ("sizes", "keys", "counts"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64))
        for name in ("explicit", "backoff"):  # follow from the counts, so they are not saved
            self.register_buffer(name, torch.zeros(0, dtype=torch.float64), persistent=False)

    @property
    def order(self) -> int:
        """n, the length of the longest n-grams; 0 before a fit."""
        return len(self.sizes)

    @property
    def num_parameters(self) -> int:
        """The number of n-grams stored over all orders, each with one free probability.

        A back-off weight is not free: it is what a context's probabilities leave of one.
        """
        return int((self.counts > 0).sum())

    def set_counts(self, keys: list[Tensor], counts: list[Tensor]) -> None:
        """Take the n-grams of orders 1 to n and their (continuation) counts, as `Level` describes them."""
        device = self.device
        self.sizes = torch.tensor([len(one) for one in keys], dtype=torch.int64, device=device)
        self.keys = torch.cat(keys).to(device)
        self.counts = torch.cat(counts).to(device)
        self._smooth()

    def _smooth(self) -> None:
        """Compute `explicit` and `backoff` of every order from the counts."""
        sizes = self.sizes.tolist()
        keys, counts = self.keys.split_with_sizes(sizes), self.counts.split_with_sizes(sizes)
        tables = zip(keys, counts, self._num_contexts(), strict=True)
        levels = [Level.from_counts(*table, self.num_symbols) for table in tables]
        self.explicit = torch.cat([self.explicit[:0], *(level.explicit for level in levels)])
        self.backoff = torch.cat([self.backoff[:0], *(level.backoff for level in levels)])

    def _num_contexts(self) -> list[int]:
        """Contexts of each order: the n-grams one order below, and the one not stored (order 1: only the latter)."""
        return [size + 1 for size in [0, *self.sizes.tolist()[:-1]]][: self.order]

    def levels(self) -> list[Level]:
        """The tables of orders 1 to n."""
        sizes = self.sizes.tolist()
        keys = self.keys.split_with_sizes(sizes)
        explicit = self.explicit.split_with_sizes([size + 1 for size in sizes])
        backoff = self.backoff.split_with_sizes(self._num_contexts())
        return [Level(*parts, self.num_symbols) for parts in zip(keys, explicit, backoff, strict=True)]

    def check_values(self, batch: Batch) -> None:
        super().check_values(batch)
        self.check_complete(batch)

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        self.check_values(batch)
        symbols = batch.values[batch.mask]  # all sequences end to end, without padding
        starts = batch.lengths.cumsum(0) - batch.lengths
        context = torch.zeros_like(symbols)
        probs = torch.full(symbols.shape, 1 / self.num_symbols, dtype=self.explicit.dtype, device=symbols.device)
        for level in self.levels():
            ids = level.find(context, symbols)
            probs = level.refine(probs, context, ids)
            context = following(ids, starts, len(level.keys))
        log_prob = probs.new_zeros(batch.values.shape)
        log_prob[batch.mask] = probs.log()
        return log_prob[None]

    def initial_state(self, num_sequences: int) -> Int[Tensor, "n N"]:
        """``(n, N)``: the id of the context at each order."""
        begin = torch.tensor(self._num_contexts(), dtype=torch.int64, device=self.device) - 1
        return begin[:, None].repeat(1, num_sequences)

    def next_log_prob(self, state: Int[Tensor, "n N"]) -> Float[Tensor, "R N V"]:
        shape = (state.shape[1], self.num_symbols)
        probs = torch.full(shape, 1 / self.num_symbols, dtype=self.explicit.dtype, device=self.device)
        for level, context in zip(self.levels(), state, strict=True):
            probs = level.refine_all(probs, context)
        return probs.log()[None]

    def advance(self, state: Int[Tensor, "n N"], values: Int[Tensor, "N"]) -> Int[Tensor, "n N"]:
        ids = [level.find(context, values) for level, context in zip(self.levels(), state, strict=True)]
        return torch.stack([torch.zeros_like(values), *ids[:-1]])[: self.order]

    def select(self, restart: int) -> NGram:
        self.check_restart(restart)
        return self

    def config(self) -> dict[str, Any]:
        return {"num_symbols": self.num_symbols, "max_order": self.max_order}

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("sizes", "keys", "counts"):  # the data decided their sizes: make room before the copy
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(saved, device=self.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._smooth()
