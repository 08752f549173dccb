"""`evaluate`: what probability does a model give to every sequence of a data set? The answer is a `Score`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.models.base import SequenceModel
from probseq.types import Likelihood


@dataclass(frozen=True)
class Score:
    """The log-probability of every sequence under every restart, and what follows from it.

    A sequence of weight w counts as w sequences. Smaller ``nats_per_token`` is better; larger ``elpd`` is better. Of
    real vectors the numbers are log-densities: they depend on the unit of measurement, ``nats_per_token`` may be
    negative, and only differences between models of the same data have a meaning.

    Attributes:
        log_prob: ``(R, N)`` float64, ``log p(x)`` in nats; -inf for a sequence the model says is impossible.
        num_tokens: ``(N,)`` the observed tokens of each sequence; missing ones score 0 nats and are not counted.
        weights: ``(N,)`` how often each sequence counts.
        likelihood: what `log_prob` is: ``"exact"``, ``"lower bound"`` or ``"estimate"``.
        standard_error: ``(R, N)`` the Monte Carlo standard error of each `log_prob` of an estimate, or None.
        density: True where `log_prob` are densities of real vectors, not probabilities.

    Example:
        >>> score = Score(np.log([[0.25, 0.5]]), np.array([2, 1]), np.ones(2), "exact")
        >>> score.bits_per_token.tolist(), score.perplexity.round(6).tolist()
        ([1.0], [2.0])
    """

    log_prob: NDArray[np.float64]
    num_tokens: NDArray[np.int64]
    weights: NDArray[np.float64]
    likelihood: Likelihood
    standard_error: NDArray[np.float64] | None = None
    density: bool = False

    @property
    def num_restarts(self) -> int:
        return len(self.log_prob)

    @property
    def total_tokens(self) -> float:
        """The number of observed tokens, each as often as its sequence counts."""
        return float(self.weights @ self.num_tokens)

    @property
    def elpd(self) -> NDArray[np.float64]:
        """``(R,)`` the log-probability of the whole data set (nats)."""
        return np.asarray((self.weights * self.log_prob).sum(axis=1))

    @property
    def se(self) -> NDArray[np.float64]:
        """``(R,)`` standard error of `elpd` over sequences (nats): ``sqrt(N var(log_prob))``; inf where one is -inf."""
        return np.array([standard_error_of_sum(one, self.weights) for one in self.log_prob])

    @property
    def nats_per_token(self) -> NDArray[np.float64]:
        """``(R,)`` ``-elpd / tokens``; for a lower bound, an upper bound on it."""
        return -self.elpd / self.total_tokens

    @property
    def bits_per_token(self) -> NDArray[np.float64]:
        """``(R,)`` `nats_per_token` divided by log 2."""
        return self.nats_per_token / math.log(2)

    @property
    def perplexity(self) -> NDArray[np.float64]:
        """``(R,)`` ``exp(nats_per_token)``; NaN for a lower bound, and for a density, which counts no alternatives."""
        if self.density or self.likelihood == "lower bound":
            return np.full(self.num_restarts, np.nan)
        with np.errstate(over="ignore"):
            return np.exp(self.nats_per_token)

    @property
    def monte_carlo_error(self) -> NDArray[np.float64]:
        """``(R,)`` standard error of `nats_per_token` from the randomness of an estimate; NaN where unknown, else 0."""
        if self.standard_error is None:
            return np.full(self.num_restarts, np.nan if self.likelihood == "estimate" else 0.0)
        variance = (self.weights * self.standard_error) ** 2
        return np.asarray(np.sqrt(variance.sum(axis=1)) / self.total_tokens)


def standard_error_of_sum(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Standard error of ``sum_i w_i x_i`` over independent sequences: ``sqrt(N var(x))``, where weights repeat.

    With ``N = sum_i w_i`` and the weighted mean m, this is ``sqrt(sum_i w_i (x_i - m)^2)``. It is inf where a value is
    infinite: no finite number of sequences says how far off the sum may be; and NaN for a single sequence, which says
    nothing about others.

    Reference:
        Vehtari, Gelman and Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation and
        WAIC.
    """
    if not np.isfinite(values).all():
        return math.nan if np.isnan(values).any() else math.inf
    if len(values) < 2:
        return math.nan
    mean = np.average(values, weights=weights)
    return float(np.sqrt(weights @ (values - mean) ** 2))


def evaluate(model: SequenceModel | Fit[Any], data: Sequences, max_tokens: int = 2**14) -> Score:
    """Score every sequence of `data` under every restart of `model`.

    The model is put in evaluation mode and back; sums over tokens are taken in float64. A model whose likelihood is an
    estimate may have a method ``log_prob_standard_error(batch)`` that gives the ``(R, N)`` Monte Carlo standard errors.

    A restart that has failed (its numbers are NaN) keeps NaN in its row and never wins; where every restart gives NaN
    there is nothing to report, and that is an error.

    Args:
        model: anything that keeps the contract of `SequenceModel`, or the `Fit` of such a model.
        data: N sequences.
        max_tokens: padded tokens in one batch, at most: less needs less memory.

    Returns:
        A `Score`, its sequences in the order of `data`.

    Raises:
        InputError: no model, no data, nothing observed, values the model does not know, or NaN from every restart.
    """
    model = model.model if isinstance(model, Fit) else model
    if not hasattr(model, "token_log_prob"):
        raise InputError(f"received a {type(model).__name__} to evaluate; expected a model or a Fit")
    check_sequences(data, "data")
    log_prob = np.empty((model.num_restarts, len(data)))
    error = np.empty_like(log_prob)
    error_of = getattr(model, "log_prob_standard_error", None) if model.likelihood == "estimate" else None
    with torch.no_grad(), _evaluation_mode(model):
        for batch in data.batches(max_tokens, device=getattr(model, "device", "cpu")):
            rows = batch.index.cpu().numpy()
            log_prob[:, rows] = model.token_log_prob(batch).sum(dim=2, dtype=torch.float64).cpu().numpy()
            if error_of is not None:
                error[:, rows] = error_of(batch).double().cpu().numpy()
    _check_not_nan(log_prob)
    return Score(
        log_prob,
        data.num_observed,
        data.weights,
        model.likelihood,
        None if error_of is None else error,
        density=model.support[0] == "reals",
    )


def _check_not_nan(log_prob: NDArray[np.float64]) -> None:
    failed = np.isnan(log_prob)
    if failed.any(axis=1).all():
        restart, row = np.argwhere(failed)[0]
        raise InputError(
            f"the log-probability of sequence {row} under restart {restart} is NaN, and every restart has one; "
            "expected numbers or -inf: the fit has diverged, so fit again with a smaller learning rate or another seed"
        )


@contextmanager
def _evaluation_mode(model: SequenceModel) -> Iterator[None]:
    """Evaluation mode for every module of the model, and after that the mode each was in."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
