"""The starting point of `probseq.SyntaxTopics`: a sampler, which leaves poor divisions of words behind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.sequences import Sequences
from probseq.inference.sweeps import Count, Sweeps
from probseq.inference.topics import Tokens, polya_step
from probseq.models.base import restart_seed
from probseq.models.syntax_topics import SyntaxTopics
from probseq.ops.chain_compiled import in_threads

_SWEEPS, _AVERAGED = 200, 50
_LEARN_EVERY = 5  # sweeps between two updates of the priors


class Start(NamedTuple):
    """Parameters of one restart."""

    words: NDArray[np.float64]  # (V, J)
    steps: NDArray[np.float64]  # (C + 1, C)
    alpha: NDArray[np.float64]  # (K,)
    eta: NDArray[np.float64]  # (2,)


@torch.no_grad()
def initialize(model: SyntaxTopics, data: Sequences, progress: bool | None = False) -> None:
    """Set the model's parameters by sweeps of collapsed Gibbs sampling, once.

    Args:
        model: a model whose ``initialized`` is False; others are left alone.
        data: the training documents.
        progress: show the sweeps; None: only where stderr is a terminal.

    Raises:
        InputError: words outside the vocabulary, or missing.
    """
    if model.initialized:
        return
    for batch in data.batches():
        model.check_values(batch)
    tokens = Tokens.of(data)
    with Sweeps(_SWEEPS, model.num_restarts, progress) as sweeps:

        def begin(r: int) -> Start:
            return gibbs(model, tokens, model.numbers[r], r, sweeps.count)

        starts = list(in_threads(begin, range(model.num_restarts)))
    for r, start in enumerate(starts):
        model.log_words[r] = torch.from_numpy(start.words.T).log()
        steps = torch.from_numpy(start.steps).log()
        model.log_transition[r], model.log_initial[r] = steps[:-1], steps[-1]
        model.log_alpha[r], model.log_eta[r] = (torch.from_numpy(x).log() for x in (start.alpha, start.eta))
    model.initialized = True


def gibbs(model: SyntaxTopics, tokens: Tokens, number: int, r: int, count: Count = iter) -> Start:
    """Mean counts of the last sweeps; priors follow the counts.

    Reference:
        T. L. Griffiths, M. Steyvers, D. M. Blei, J. B. Tenenbaum (2004), "Integrating topics and syntax".
    """
    from probseq.ops.syntax_topics_kernels import sweep

    rng = np.random.default_rng(restart_seed(model.seed, number))
    keys = rng.integers(2**63, size=_SWEEPS).astype(np.uint64)
    size, classes, weight = model.num_topics, model.num_classes, tokens.weights
    label = _random_labels(rng, len(tokens.words), size, classes)
    by_document, by_word, steps = counts(tokens, label, model.num_symbols, size, classes)
    total, alpha, eta = by_word.sum(axis=0), np.full(size, model.prior["alpha"]), np.full(2, model.prior["eta"])
    prior, mean_words, mean_steps = (
        model.prior["transition_concentration"],
        np.zeros_like(by_word),
        np.zeros_like(steps),
    )
    for number, key in count(enumerate(keys)):
        sweep(tokens.offsets, tokens.words, weight, label, alpha, eta, prior, by_document, by_word, total, steps, key)
        if number % _LEARN_EVERY == 0:
            alpha = polya_step(by_document, alpha, weight)
            for part, columns in enumerate((by_word[:, :size], by_word[:, size:])):
                if columns.shape[1]:
                    eta[part] = polya_step(columns.T, np.full(model.num_symbols, eta[part])).mean()
        if number >= _SWEEPS - _AVERAGED:
            mean_words += by_word / _AVERAGED
            mean_steps += steps / _AVERAGED
    smooth = np.repeat(eta, [size, classes - 1])
    return Start(mean_words * tokens.scale + smooth, mean_steps * tokens.scale + prior, alpha, eta)


def _random_labels(rng: np.random.Generator, num: int, size: int, classes: int) -> NDArray[np.int64]:
    """Every class is as frequent as every other, and so is every topic."""
    chosen = rng.integers(classes, size=num)
    return np.where(chosen == 0, rng.integers(size, size=num), size - 1 + chosen)


def counts(
    tokens: Tokens, label: NDArray[np.int64], num_words: int, size: int, classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Topics by document, labels by word, and classes by the class before, all weighted but the first."""
    document = np.repeat(np.arange(len(tokens.weights)), np.diff(tokens.offsets))
    weight, topical = tokens.weights[document], label < size
    by_document = np.zeros((len(tokens.weights), size))
    by_word, steps = np.zeros((num_words, size + classes - 1)), np.zeros((classes + 1, classes))
    np.add.at(by_document, (document[topical], label[topical]), 1)
    np.add.at(by_word, (tokens.words, label), weight)
    now = np.maximum(0, label - size + 1)
    before = np.append(classes, now[:-1])
    before[tokens.offsets[:-1][np.diff(tokens.offsets) > 0]] = classes
    np.add.at(steps, (before, now), weight)
    return by_document, by_word, steps
