"""`evaluate`: what probability does a model give to every sequence of a data set? The answer is a `Score`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.models.base import SequenceModel, evaluation_mode
from probseq.models.given import Given
from probseq.types import Likelihood

_DOCUMENTS = 8  # whole documents are long: side by side they need fewer steps, and models go through them in pieces
_MOST_DRIFT = 0.01  # nats per token that more particles may still gain


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
        standard_error: ``(R, N)`` the Monte Carlo standard error of each `log_prob` of an estimate, or None. It is
            known from a few replicates only: with four of them, two standard errors cover about 86 of 100 deviations.
        drift: ``(R, N)`` what each `log_prob` of an estimate gained over a smaller effort, or None: of a model with
            particles, the average of its independent filters (four) over one of them, ``log mean_s p_s - mean_s
            log p_s``. An estimate is too low on average; four times the effort again gains less than that.
        density: True where `log_prob` are densities of real vectors, not probabilities.
        elpd_error: ``(R,)`` the Monte Carlo standard error of `elpd` of an estimate, or None. Sequences that share
            random numbers deviate together, so it is more than the squares of `standard_error` add up to.

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
    drift: NDArray[np.float64] | None = None
    density: bool = False
    elpd_error: NDArray[np.float64] | None = None

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
    def nats_per_token_se(self) -> NDArray[np.float64]:
        """``(R,)`` standard error of `nats_per_token` over sequences; see `standard_error_of_rate`."""
        return np.array([standard_error_of_rate(one, self.num_tokens, self.weights) for one in self.log_prob])

    @property
    def nats_per_sequence(self) -> NDArray[np.float64]:
        """``(R,)`` ``-elpd / N``: where a sequence is a word, nats per word; for a bound, an upper bound on it."""
        return np.asarray(-self.elpd / self.weights.sum())

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
        if self.elpd_error is None:
            return np.full(self.num_restarts, np.nan if self.likelihood == "estimate" else 0.0)
        return self.elpd_error / self.total_tokens

    @property
    def drift_per_token(self) -> NDArray[np.float64]:
        """``(R,)`` `drift` per token (nats): with four replicates, an estimate is still too low by about a third of it.

        NaN where it is unknown, and 0 where there is no estimate.
        """
        if self.drift is None:
            return np.full(self.num_restarts, np.nan if self.likelihood == "estimate" else 0.0)
        return np.asarray((self.weights * self.drift).sum(axis=1) / self.total_tokens)


def standard_error_of_sum(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Standard error of ``sum_i w_i x_i`` over independent sequences: ``sqrt(N var(x))``, where weights repeat.

    With ``N = sum_i w_i`` and the weighted mean m, this is ``sqrt(sum_i w_i (x_i - m)^2)``. It is inf where a value is
    infinite: no finite number of sequences says how far off the sum may be; and NaN for a single sequence, which says
    nothing about others.

    Reference:
        Vehtari, Gelman and Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation and
        WAIC.
    """
    return _deviation(values, np.ones(len(values)), weights)


def standard_error_of_rate(
    values: NDArray[np.float64], num_tokens: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    """Standard error of ``r = sum_i w_i x_i / sum_i w_i n_i``: ``sqrt(sum_i w_i (x_i - r n_i)^2) / sum_i w_i n_i``.

    A long sequence has a large sum and many tokens, so lengths that differ spread the sums and not the rate. This is
    the error of a ratio; where all sequences are equally long it is that of the sum per token. It is inf or NaN where
    `standard_error_of_sum` is.

    Reference:
        Cochran (1977), Sampling techniques, chapter 6.

    Example:
        >>> round(standard_error_of_rate(np.array([-2.0, -40.0]), np.array([1, 20]), np.ones(2)), 6)
        0.0
    """
    return _deviation(values, num_tokens, weights) / float(weights @ num_tokens)


def _deviation(values: NDArray[np.float64], sizes: NDArray[Any], weights: NDArray[np.float64]) -> float:
    """``sqrt(sum_i w_i (x_i - r s_i)^2)`` with ``r = sum_i w_i x_i / sum_i w_i s_i``."""
    if not np.isfinite(values).all():
        return math.nan if np.isnan(values).any() else math.inf
    if len(values) < 2:
        return math.nan
    rate = (weights @ values) / (weights @ sizes)
    return float(np.sqrt(weights @ (values - rate * sizes) ** 2))


def evaluate(model: SequenceModel | Fit[Any], data: Sequences, max_tokens: int = 2**14) -> Score:
    """Score every sequence of `data` under every restart of `model`.

    The model is put in evaluation mode and back; sums over tokens are taken in float64. A model whose likelihood is an
    estimate may have a method ``estimate(batch)`` that gives a `probseq.ops.particles.Estimate`. A drift above 0.01
    nats per token is warned of: the estimate needs more effort. So is a lone replicate, whose error nobody knows.

    Where sequences continue one another (``data.continues``), each is scored given all that came before it: a whole
    document is read once, and the terms are summed over its parts. Of an estimate, Monte Carlo standard error and drift
    are not known then (NaN), and nothing is warned of: they belong to whole documents; score those to see them.

    A restart that has failed (its numbers are NaN) keeps NaN in its row and never wins; where every restart gives NaN
    there is nothing to report, and that is an error.

    Args:
        model: anything that keeps the contract of `SequenceModel`, or the `Fit` of such a model.
        data: N sequences.
        max_tokens: padded tokens in one batch, at most: less needs less memory.

    Returns:
        A `Score`, its sequences in the order of `data`.

    Raises:
        InputError: no model, no data, nothing observed, values the model does not know, NaN from every restart, or
            sources that were fixed for another number of sequences.
    """
    model = model.model if isinstance(model, Fit) else model
    if not hasattr(model, "token_log_prob"):
        raise InputError(f"received a {type(model).__name__} to evaluate; expected a model or a Fit")
    check_sequences(data, "data")
    if isinstance(model, Given):
        model.check_count(len(data))
    log_prob, error, drift = (np.empty((model.num_restarts, len(data))) for _ in range(3))
    estimated = _estimates(model) and data.continues is None
    sums = _SumOfEstimates()
    with torch.no_grad(), evaluation_mode(model):
        for rows, parts, found in _scored(model, data, max_tokens):
            log_prob[:, rows], error[:, rows], drift[:, rows] = parts
            if estimated:
                sums.add(found, data.weights[rows])
    _check_not_nan(log_prob)
    score = Score(
        log_prob,
        data.num_observed,
        data.weights,
        model.likelihood,
        error if estimated else None,
        drift if estimated else None,
        density=model.support[0] == "reals",
        elpd_error=sums.standard_error() if estimated else None,
    )
    _warn_of_drift(score.drift_per_token, estimated)
    return score


def _warn_of_drift(drift: NDArray[np.float64], estimated: bool) -> None:
    if estimated and np.isnan(drift).all():
        warnings.warn(
            "the estimate of log p(x) comes from one replicate, so its error and its drift are unknown; give the model "
            "two or more (num_replicates)",
            stacklevel=3,
        )
    if (largest := float(np.nan_to_num(drift).max())) > _MOST_DRIFT:
        warnings.warn(
            f"the estimate of log p(x) rises by {largest:.3f} nats per token with more particles, so it is too low; "
            "give the model more of them (num_particles)",
            stacklevel=3,
        )


def _check_not_nan(log_prob: NDArray[np.float64]) -> None:
    failed = np.isnan(log_prob)
    if failed.any(axis=1).all():
        restart, row = np.argwhere(failed)[0]
        raise InputError(
            f"the log-probability of sequence {row} under restart {restart} is NaN, and every restart has one; "
            "expected numbers or -inf: the fit has diverged, so fit again with a smaller learning rate or another seed"
        )


def _estimates(model: SequenceModel) -> bool:
    return model.likelihood == "estimate" and hasattr(model, "estimate")


def _scored(
    model: SequenceModel, data: Sequences, max_tokens: int
) -> Iterator[tuple[NDArray[np.int64], tuple[Any, Any, Any], Any]]:
    """Batch by batch: rows of `data`; their ``(R, n)`` log-probabilities, errors and drifts; and the estimate."""
    device = getattr(model, "device", "cpu")
    if data.continues is None:
        for batch in data.batches(max_tokens, device=device):
            yield batch.index.cpu().numpy(), *_of_batch(model, batch)
        return
    whole, first = data.joined(), np.append(np.flatnonzero(~data.continues), len(data))
    for batch in whole.batches(_DOCUMENTS * max_tokens, device=device):
        terms = model.token_log_prob(batch).double().cpu().numpy()
        for n, document in enumerate(batch.index.tolist()):
            rows = np.arange(first[document], first[document + 1])
            begins = data.offsets[rows] - whole.offsets[document]
            total = np.add.reduceat(terms[:, n, : len(whole[document])], begins, axis=1)
            yield rows, (total, np.nan, np.nan), None


def _of_batch(model: Any, batch: Batch) -> tuple[tuple[Any, Any, Any], Any]:
    """Log-probability ``(R, n)`` of each sequence; standard error, drift and all else where it is an estimate."""
    found = model.estimate(batch) if _estimates(model) else None
    terms = model.token_log_prob(batch) if found is None else found.token_log_prob
    total = terms.sum(dim=2, dtype=torch.float64).cpu().numpy()
    if found is None:
        return (total, np.nan, np.nan), None
    return (total, found.standard_error.double().cpu().numpy(), found.drift.double().cpu().numpy()), found


class _SumOfEstimates:
    """The Monte Carlo error of a weighted sum of estimates, of which some share random numbers.

    To first order the sum deviates by the mean over replicates of what each replicate deviates by. Groups that share
    nothing are independent, so the variances of the groups' sums add up.
    """

    def __init__(self) -> None:
        self._groups: dict[int, Any] = {}  # (R, S) sums of deviations
        self._lost: Any = False  # (R,) a replicate has lost what others have found

    def add(self, found: Any, weights: NDArray[np.float64]) -> None:
        """One batch more."""
        each, shared = found.replicates.double().cpu().numpy(), found.shared.cpu().numpy()  # (R, S, n), (n,)
        never = np.isneginf(each).all(axis=1, keepdims=True)
        self._lost = self._lost | (np.isneginf(each) & ~never).any(axis=(1, 2))
        each = np.where(np.isneginf(each), 0.0, each)
        deviation = weights * (each - each.mean(axis=1, keepdims=True))
        for group in np.unique(shared):
            self._groups[group] = self._groups.get(group, 0.0) + deviation[..., shared == group].sum(axis=-1)

    def standard_error(self) -> NDArray[np.float64]:
        """``(R,)``: NaN for a lone replicate, inf where one has lost what others have found."""
        sums = np.stack(list(self._groups.values()))  # (G, R, S)
        num = sums.shape[-1]
        if num == 1:
            return np.full(sums.shape[1], np.nan)
        return np.where(self._lost, np.inf, np.sqrt((sums**2).sum(axis=(0, 2)) / (num * (num - 1))))
