"""`fit_counts`: fit models of counts; the order of an n-gram, or the strength of a cache, is chosen on validation."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.models.base import Model
from probseq.models.cache import CacheUnigram
from probseq.models.ngram import NGram, Uniform, Unigram
from probseq.ops.kneser_ney import Level, following

CountModel = TypeVar("CountModel", Uniform, Unigram, NGram, CacheUnigram)

_OBJECTIVE = "log-likelihood per token (nats)"
_PRECISION = 0.01  # of the logarithm of a strength; its optimum is flat
_PATIENCE = 2  # orders in a row that may score worse on validation before the search ends


def fit_counts(model: CountModel, train: Sequences, validation: Sequences | None = None) -> Fit[CountModel]:
    """Fit a model of counts in one pass over the data. The model is changed in place, and is in the answer.

    For an `NGram`, the orders 1, 2, ... up to ``max_order`` are tried in turn and the one with the highest probability
    of `validation` is kept; the search ends early after two orders in a row that are worse than the best so far.
    Without `validation` the order is ``max_order``, or less where no sequence is that long. What is counted for one
    order serves the next. For a `CacheUnigram`, the strength with the highest probability of `validation` is kept.

    Args:
        model: a `Uniform`, `Unigram`, `NGram` or `CacheUnigram`.
        train: symbols to count. A sequence's weight is how often it counts; for an `NGram` it must be whole, because
            the smoothing is a function of whole counts.
        validation: symbols to choose the order, or the strength, on.

    Returns:
        A `Fit` whose history is one value, the mean log-probability per training token (nats). For an `NGram`,
        ``validation_steps`` are the orders tried, ``validation`` (E, 1) their mean log-probability per validation
        token, and ``details["order"]`` is the order kept. For a `CacheUnigram` ``details["strength"]`` was chosen.

    Raises:
        InputError: no data, vectors, symbols outside the model's vocabulary; for an `NGram`, fractional weights or
            missing tokens.

    Example:
        >>> data = Sequences.from_list([[0, 1, 0, 1, 0, 1, 0]])
        >>> fit = fit_counts(Unigram(2, concentration=0.5), data)
        >>> [round(p, 4) for p in fit.model.log_probs.exp().tolist()]
        [0.5625, 0.4375]
    """
    if not isinstance(model, (Uniform, Unigram, NGram, CacheUnigram)):
        raise InputError(f"fit_counts fits Uniform, Unigram, NGram and CacheUnigram; received {type(model).__name__}")
    began = time.perf_counter()
    tokens = _Tokens.of(model, train, "train")
    if isinstance(model, NGram):
        if (fractional := train.weights[train.weights % 1 != 0]).size:
            raise InputError(
                f"an n-gram counts whole occurrences; received the weight {fractional[0]}: make weights whole"
            )
        held_out = None if validation is None else _Tokens.of(model, validation, "validation")
        search = _fit_ngram(model, tokens, held_out)
    elif isinstance(model, CacheUnigram):
        search = _fit_cache(model, tokens, train, validation)
    else:
        counts = torch.bincount(tokens.symbols, weights=tokens.weights, minlength=model.num_symbols)
        if isinstance(model, Unigram):
            model.set_counts(counts)
        search = _Search(train=[float(counts @ model.log_probs.cpu().double() / counts.sum())])
    return Fit(
        model=model,
        objective=_OBJECTIVE,
        history=np.array([[search.train[search.best - 1]]]),
        stop_reason=["converged"],
        seconds=time.perf_counter() - began,
        validation_steps=np.arange(1, len(search.validation) + 1),
        validation=np.array(search.validation)[:, None] if search.validation else None,
        details=_details(model),
    )


@dataclass
class _Search:
    """Mean log-probability per token of the orders tried: 1, 2, and so on."""

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The order that validation prefers (the lowest of equals), or without validation the last one."""
        return int(np.argmax(self.validation)) + 1 if self.validation else len(self.train)

    @property
    def over(self) -> bool:
        return len(self.train) - self.best >= _PATIENCE


@dataclass
class _Tokens:
    """A data set on its way up the orders: every token's context, and its probability one order below.

    Attributes:
        symbols: ``(L,)`` all sequences end to end.
        starts: ``(N,)`` where each begins.
        weights: ``(L,)`` the weight of each token's sequence.
        context: ``(L,)`` the id of the context at the present order.
        lower: ``(L,)`` the probability at the order below.
    """

    symbols: Tensor
    starts: Tensor
    weights: Tensor
    context: Tensor
    lower: Tensor

    @classmethod
    def of(cls, model: Model, data: Sequences, part: str) -> _Tokens:
        if not len(data) or not data.is_symbolic:
            received = "vectors" if len(data) else "no sequences"
            raise InputError(f"{part} holds {received}; a model of counts needs sequences of symbols")
        for batch in data.batches():
            model.check_values(batch)
        observed = data.values >= 0  # a model of independent tokens counts what is there
        if not observed.any():
            raise InputError(f"every token of {part} is missing; expected at least one that was observed")
        symbols = torch.from_numpy(data.values[observed].astype(np.int64))
        weights = torch.from_numpy(np.repeat(data.weights, data.lengths)[observed])
        lower = torch.full(symbols.shape, 1 / model.num_symbols, dtype=torch.float64)
        starts = torch.from_numpy(data.offsets[:-1])
        return cls(symbols, starts, weights, torch.zeros_like(symbols), lower)

    def mean_log_prob(self, highest: Level, ids: Tensor) -> float:
        """Mean log-probability per token (nats) if `highest` is the last order, where `ids` (L,) are its n-grams."""
        log_prob = highest.refine(self.lower, self.context, ids).log_()
        return float(self.weights @ log_prob / self.weights.sum())

    def climb(self, level: Level, ids: Tensor) -> None:
        """Go one order up, past `level`, where `ids` (L,) are its n-grams."""
        self.lower = level.refine(self.lower, self.context, ids)
        self.context = following(ids, self.starts, len(level.keys))


@dataclass(frozen=True)
class _Grams:
    """The n-grams of one order.

    Attributes:
        keys: ``(M,)`` sorted, as in `Level`.
        counts: ``(M,)`` occurrences.
        ids: ``(L,)`` which one ends at each token; M where none does.
        begin_is_last: whether the context M is the begin symbol, as it is at order 1, rather than none.
    """

    keys: Tensor
    counts: Tensor
    ids: Tensor
    begin_is_last: bool = False

    @classmethod
    def unigrams(cls, tokens: _Tokens, num_symbols: int) -> _Grams:
        """Every symbol of the vocabulary, seen or not."""
        counts = torch.bincount(tokens.symbols, weights=tokens.weights, minlength=num_symbols).long()
        return cls(torch.arange(num_symbols), counts, tokens.symbols, begin_is_last=True)

    def longer(self, tokens: _Tokens, num_symbols: int) -> _Grams:
        """The n-grams of the next order. A token with fewer tokens (and begin symbols) before it ends none of them."""
        context = following(self.ids, tokens.starts, len(self.keys))
        keys, ids = torch.unique(context * num_symbols + tokens.symbols, return_inverse=True)
        counts = torch.bincount(ids, weights=tokens.weights).long()
        last = len(self.keys) + self.begin_is_last  # keys of contexts that are not stored come last: drop them
        size = int(torch.searchsorted(keys, last * num_symbols))
        return _Grams(keys[:size], counts[:size], ids.clamp_(max=size))

    def continuation_counts(self, longer: _Grams) -> Tensor:
        """``(M,)`` how many different symbols come before each n-gram; its occurrences where it starts with begin."""
        suffix = torch.empty(len(longer.keys) + 1, dtype=torch.int64)
        suffix[longer.ids] = self.ids
        before = torch.bincount(suffix[:-1], minlength=len(self.keys))
        return torch.where(before > 0, before, self.counts)


def _details(model: Model) -> dict[str, float]:
    """What was chosen on validation."""
    if isinstance(model, NGram):
        return {"order": model.order}
    return {"strength": model.strength} if isinstance(model, CacheUnigram) else {}


def _fit_cache(model: CacheUnigram, tokens: _Tokens, train: Sequences, validation: Sequences | None) -> _Search:
    """Count, and choose the strength between 1 and a million by golden sections of its logarithm."""
    model.set_counts(torch.bincount(tokens.symbols, weights=tokens.weights, minlength=model.num_symbols))

    def value(data: Sequences, log_strength: float) -> float:
        model.set_strength(math.exp(log_strength))
        total = sum(float(batch.weights @ model.token_log_prob(batch)[0].sum(dim=1)) for batch in data.batches())
        return total / float(data.weights @ data.num_observed)

    if validation is None:
        return _Search(train=[value(train, math.log(model.strength))])
    check_sequences(validation, "validation")
    low, high, golden = 0.0, math.log(1e6), (math.sqrt(5) - 1) / 2
    while high - low > _PRECISION:
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if value(validation, left) >= value(validation, right) else (left, high)
    chosen = value(validation, (low + high) / 2)
    return _Search(train=[value(train, (low + high) / 2)], validation=[chosen])


def _fit_ngram(model: NGram, train: _Tokens, held_out: _Tokens | None) -> _Search:
    """Try orders until the search is over, and give the model the counts of the best."""
    search = _Search()
    grams = _Grams.unigrams(train, model.num_symbols)
    keys, occurrences, continuations, num_contexts = [], [], [], 1
    while True:
        keys.append(grams.keys)
        occurrences.append(grams.counts)
        highest = Level.from_counts(grams.keys, grams.counts, num_contexts, model.num_symbols)
        search.train.append(train.mean_log_prob(highest, grams.ids))
        if held_out is not None:
            held_out_ids = highest.find(held_out.context, held_out.symbols)
            search.validation.append(held_out.mean_log_prob(highest, held_out_ids))
        if len(keys) == model.max_order or search.over:
            break
        longer = grams.longer(train, model.num_symbols)
        if not len(longer.keys):
            break
        continuations.append(grams.continuation_counts(longer))
        lower = Level.from_counts(grams.keys, continuations[-1], num_contexts, model.num_symbols)
        train.climb(lower, grams.ids)
        if held_out is not None:
            held_out.climb(lower, held_out_ids)
        grams, num_contexts = longer, len(grams.keys) + 1
    model.set_counts(keys[: search.best], [*continuations[: search.best - 1], occurrences[search.best - 1]])
    return search
