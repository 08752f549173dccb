"""Starting points of a topic model, by name.

Variational inference climbs from where it begins, and where it ends differs by more than the choice of method does. So
the default start is a sampler, which leaves poor optima behind:

- ``gibbs``: 100 sweeps of collapsed Gibbs sampling, with the mean counts of the last 30 as topics.
- ``random``: nearly even topics, drawn by the model's constructor.
- ``documents``: every topic is a few random documents, smoothed.
- ``anchors``: words that occur in one topic only, found among the rows of the co-occurrence matrix; no chance in it, so
  that all restarts are alike (`probseq.inference.anchors`).
- ``parameters``: what was given, unchanged.

A start depends on ``(seed, restart)`` and the data alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.inference.sweeps import Count, Sweeps
from probseq.models.base import restart_seed
from probseq.models.topic import LDA
from probseq.ops.chain_compiled import in_threads

Floats = NDArray[np.float64]

_MOST_TOKENS = 2**22  # that a start looks at
_SWEEPS, _AVERAGED = 100, 30
_LEARN_EVERY = 5  # sweeps between two updates of the priors
_SEEDS = 5  # documents that make a topic


class Start(NamedTuple):
    """Parameters of one restart."""

    concentration: Floats  # (V, K)
    alpha: Floats  # (K,)
    eta: float


class Tokens(NamedTuple):
    """The observed words of some documents, end to end."""

    words: NDArray[np.int64]
    offsets: NDArray[np.int64]
    weights: Floats  # of each document
    scale: float  # all documents' words over these

    @classmethod
    def of(cls, data: Sequences) -> Tokens:
        """All documents, or evenly spaced ones up to a limit."""
        step = -(-data.num_tokens // _MOST_TOKENS)
        part = data[::step] if step > 1 else data
        lengths, words = part.num_observed, np.asarray(part.values, dtype=np.int64)
        kept = words if part.missing is None else words[~part.missing]
        scale = float(data.num_observed @ data.weights) / float(lengths @ part.weights)
        return cls(kept, np.append(0, np.cumsum(lengths)), part.weights, scale)

    def counts(self, chosen: NDArray[np.int64], num_words: int) -> Floats:
        """``(V,)``: how often each word occurs in the chosen documents."""
        parts = [self.words[self.offsets[d] : self.offsets[d + 1]] for d in chosen]
        return np.bincount(np.concatenate(parts), minlength=num_words).astype(np.float64)


Strategy = Callable[[LDA, Tokens, int], Start]


@torch.no_grad()
def initialize(model: LDA, data: Sequences, progress: bool | None = False) -> None:
    """Set the model's parameters by its strategy ``model.start``, once. Priors that are fixed stay as they are.

    Args:
        model: a model whose ``initialized`` is False; others, such as those with fixed topics, are left alone.
        data: the training documents.
        progress: show the sweeps of ``gibbs``; None: only where stderr is a terminal.

    Raises:
        InputError: nothing was observed, words outside the vocabulary, too few different words for ``anchors``.
    """
    if model.initialized:
        return
    if not data.num_observed.any():
        raise InputError("a start looks at the data, and every word of it is missing; give some that were observed")
    for batch in data.batches():
        model.check_values(batch)
    tokens = Tokens.of(data)

    with Sweeps(_SWEEPS, model.num_restarts, progress if model.start == "gibbs" else False) as sweeps:
        own: dict[str, Strategy] = {**STRATEGIES, "gibbs": partial(gibbs, count=sweeps.count)}
        found = list(in_threads(lambda r: own[model.start](model, tokens, r), range(model.num_restarts)))
    for r, start in enumerate(found):
        model.log_concentration[r] = torch.from_numpy(start.concentration.T).log()
        if "alpha" not in model.fixed:
            model.log_alpha[r] = torch.from_numpy(start.alpha).log()
        if "eta" not in model.fixed:
            model.log_eta[r] = float(np.log(start.eta))
    model.initialized = True


def gibbs(model: LDA, tokens: Tokens, r: int, count: Count = iter) -> Start:
    """Collapsed Gibbs sampling, whose priors follow the counts.

    Reference:
        T. L. Griffiths, M. Steyvers (2004), "Finding scientific topics".
    """
    from probseq.ops import topics_kernels as kernels

    rng = np.random.default_rng(restart_seed(model.seed, model.numbers[r]))
    keys = rng.integers(2**63, size=_SWEEPS).astype(np.uint64)
    chosen = rng.integers(model.num_topics, size=len(tokens.words))
    document = np.repeat(np.arange(len(tokens.weights)), np.diff(tokens.offsets))
    by_document = np.zeros((len(tokens.weights), model.num_topics), np.float32)
    by_word, total = np.empty((model.num_symbols, model.num_topics), np.float32), np.empty(model.num_topics)
    np.add.at(by_document, (document, chosen), 1)
    _count(tokens, document, chosen, by_word, total)
    mean = np.zeros(by_word.shape)
    drifting = (tokens.weights % 1 > 0).any() or total.sum() >= 2**24  # from there on float32 skips whole numbers
    alpha, eta = model.alpha[r].double().cpu().numpy().copy(), float(model.eta[r])
    for sweep in count(range(_SWEEPS)):
        kernels.gibbs(
            tokens.offsets, tokens.words, tokens.weights, chosen, alpha, eta, by_document, by_word, total, keys[sweep]
        )
        if drifting:
            _count(tokens, document, chosen, by_word, total)
        if sweep % _LEARN_EVERY == 0:
            alpha, eta = _learn(model, tokens, by_document, by_word, alpha, eta)
        if sweep >= _SWEEPS - _AVERAGED:
            mean += by_word / _AVERAGED
    return Start(mean * tokens.scale + eta, alpha, eta)


def _count(
    tokens: Tokens, document: NDArray[np.int64], chosen: NDArray[np.int64], by_word: NDArray[np.float32], total: Floats
) -> None:
    """Fill the weighted counts of topics by word and in all anew: sums of weights that are no whole numbers drift."""
    places = tokens.words * by_word.shape[1] + chosen
    by_word[:] = np.bincount(places, tokens.weights[document], by_word.size).reshape(by_word.shape)
    total[:] = by_word.sum(axis=0, dtype=np.float64)


def _learn(
    model: LDA,
    tokens: Tokens,
    by_document: NDArray[np.float32],
    by_word: NDArray[np.float32],
    alpha: Floats,
    eta: float,
) -> tuple[Floats, float]:
    """Priors under which the counts are more probable; those that are fixed stay."""
    if "alpha" not in model.fixed:
        alpha = polya_step(by_document, alpha, tokens.weights)
        alpha = np.full_like(alpha, alpha.mean()) if model.symmetric else alpha
    if "eta" not in model.fixed:
        eta = float(polya_step(by_word.T, np.full(len(by_word), eta)).mean())
    return alpha, eta


def polya_step(counts: NDArray[np.floating[Any]], alpha: Floats, weights: Floats | None = None) -> Floats:
    """One step of Minka's fixed point for the Dirichlet distribution behind rows of counts; 0 becomes a little more.

    A row of weight w counts as w rows.

    Reference:
        T. P. Minka (2000), "Estimating a Dirichlet distribution".
    """
    size, n, prior = counts.sum(axis=1, dtype=np.float64), torch.from_numpy(counts), torch.from_numpy(alpha)
    times = torch.from_numpy(np.ones(len(counts)) if weights is None else weights)
    gained = times @ ((n + prior).digamma() - prior.digamma())
    possible = times @ ((torch.from_numpy(size) + prior.sum()).digamma() - prior.sum().digamma())
    return np.asarray((prior * gained / possible).clamp(min=1e-6)) if possible > 0 else alpha


def documents(model: LDA, tokens: Tokens, r: int) -> Start:
    """Every topic has the words of a few documents, and as many words again as all documents have them."""
    rng, size = np.random.default_rng(restart_seed(model.seed, model.numbers[r])), len(tokens.weights)
    lengths, share = np.diff(tokens.offsets), tokens.weights / tokens.weights.sum()
    overall = np.bincount(tokens.words, np.repeat(tokens.weights, lengths), model.num_symbols)
    chosen = [rng.choice(size, _SEEDS, p=share) for _ in range(model.num_topics)]
    seeds = np.stack([tokens.counts(rows, model.num_symbols) for rows in chosen])
    topics = seeds / np.maximum(seeds.sum(axis=1, keepdims=True), 1) + overall / overall.sum()
    return _even(model, topics / topics.sum(axis=1, keepdims=True), tokens, r)


def anchors(model: LDA, tokens: Tokens, r: int) -> Start:
    """See `probseq.inference.anchors`."""
    from scipy.sparse import csr_matrix

    from probseq.inference.anchors import anchor_topics

    shape = (len(tokens.weights), model.num_symbols)
    counts = csr_matrix((np.ones(len(tokens.words)), tokens.words, tokens.offsets), shape=shape)
    return _even(model, anchor_topics(counts, model.num_topics, tokens.weights), tokens, r)


def _even(model: LDA, topics: Floats, tokens: Tokens, r: int) -> Start:
    """Topics ``(K, V)`` of equal size, with the model's priors."""
    eta, words = float(model.eta[r]), float(np.diff(tokens.offsets) @ tokens.weights) * tokens.scale
    return Start(topics.T * words / model.num_topics + eta, model.alpha[r].double().cpu().numpy(), eta)


STRATEGIES: dict[str, Strategy] = {"gibbs": gibbs, "documents": documents, "anchors": anchors}
