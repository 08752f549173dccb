"""`HMMEstimator`: a hidden Markov model with the interface of scikit-learn, for data in one array with lengths.

Needs scikit-learn: ``pip install 'probseq[sklearn]'``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError, unknown
from probseq.estimator_topics import LDAEstimator
from probseq.evaluate import evaluate
from probseq.inference.em import em
from probseq.models import emissions
from probseq.models.hmm import HMM
from probseq.restarts import best_restart

try:
    from sklearn.base import BaseEstimator, DensityMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("the estimators need scikit-learn; install it: pip install 'probseq[sklearn]'") from error

__all__ = ["HMMEstimator", "LDAEstimator"]

_MAX_SYMBOLS = 2**20  # more is a number taken for a symbol
_FAMILIES = ("gaussian", "gaussian-mixture", "poisson", "bernoulli", "categorical")


class HMMEstimator(DensityMixin, BaseEstimator):  # type: ignore[misc]
    r"""A hidden Markov model fitted by EM from several starting points, of which the best is kept.

    `X` is ``(total, D)``: the rows of all sequences end to end, whose lengths are in `lengths` (default: one sequence).
    Entries that were not observed are NaN. Symbols are whole numbers in one column.

    The order of the rows matters, unlike elsewhere in scikit-learn. A splitter for cross-validation should therefore
    take contiguous blocks (``KFold`` without shuffling, ``TimeSeriesSplit``); each block is then one sequence. All R
    restarts remain in ``fit_.model``.

    Args:
        num_states: K, the number of hidden states.
        emission: ``"gaussian"``, ``"gaussian-mixture"``, ``"poisson"``, ``"bernoulli"`` or ``"categorical"``.
        covariance: of ``"gaussian"``: ``"diag"``, ``"full"``, ``"tied"`` or ``"spherical"``.
        num_components: of each state of a ``"gaussian-mixture"``.
        num_symbols: of ``"categorical"``; default: the largest symbol in the training data, plus 1.
        num_restarts: R, runs from different starting points.
        start: see `probseq.HMM`.
        num_steps: EM steps at most.
        tol: relative tolerance of the log-likelihood per row.
        random_state: an int, a ``RandomState`` or None; the seed of the starting points.

    Attributes:
        model\_: the restart with the highest likelihood of the training data, a `probseq.HMM`.
        fit\_: the `probseq.Fit` of all restarts.
        n_features_in\_: D, the number of columns.

    Example:
        >>> X = np.concatenate([np.zeros((20, 1)), np.ones((20, 1))]) + 0.01 * np.arange(40)[:, None] % 0.1
        >>> estimator = HMMEstimator(num_states=2, random_state=0).fit(X)
        >>> path = estimator.predict(X)
        >>> len(set(path[:20])), len(set(path[20:])), len(set(path))
        (1, 1, 2)
    """

    def __init__(
        self,
        num_states: int = 2,
        emission: str = "gaussian",
        covariance: str = "diag",
        num_components: int = 2,
        num_symbols: int | None = None,
        num_restarts: int = 10,
        start: str = "kmeans",
        num_steps: int = 200,
        tol: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.num_states = num_states
        self.emission = emission
        self.covariance = covariance
        self.num_components = num_components
        self.num_symbols = num_symbols
        self.num_restarts = num_restarts
        self.start = start
        self.num_steps = num_steps
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, lengths: Any = None) -> HMMEstimator:
        """Fit from `num_restarts` starting points and keep the one that gives the data the highest likelihood.

        Raises:
            InputError: see `probseq.HMM` and `probseq.em`; data that do not suit the emission; lengths that do not add
                up, or that were given in the place of `y`; data that are impossible after every start.
        """
        data = self._sequences(X, y, lengths, reset=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        model = HMM(self.num_states, self._family(data), self.num_restarts, seed=seed, start=self.start)
        self.fit_ = em(model, data, num_steps=self.num_steps, tol=self.tol)
        found = best_restart(model, data)
        if not np.isfinite(found.nats_per_token[found.best]):
            raise InputError("the data are impossible after every start; take another start, or more restarts")
        self.model_ = model.select(found.best)
        return self

    def score(self, X: Any, y: Any = None, lengths: Any = None) -> float:
        """Log-likelihood of all sequences together, in nats."""
        check_is_fitted(self)
        return float(evaluate(self.model_, self._sequences(X, y, lengths)).elpd[0])

    def score_samples(self, X: Any, lengths: Any = None) -> NDArray[np.float64]:
        """``(total,)``: ``log p(x_t | x_<t)`` of every row, in nats; 0 where nothing was observed."""
        with torch.no_grad():
            return self._rows(X, lengths, lambda batch: self.model_.token_log_prob(batch))

    def predict(self, X: Any, lengths: Any = None) -> NDArray[np.int64]:
        """``(total,)``: the most probable path of states of each sequence; -1 where the sequence is impossible."""
        return self._rows(X, lengths, lambda batch: self.model_.viterbi(batch))

    def predict_proba(self, X: Any, lengths: Any = None) -> NDArray[np.float64]:
        """``(total, K)``: the probability of every state given the whole sequence."""
        return self._rows(X, lengths, lambda batch: self.model_.posterior_marginals(batch))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """One sequence of `n_samples` rows ``(n_samples, D)``, and its states ``(n_samples,)``."""
        check_is_fitted(self)
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        drawn = self.model_.simulate(1, n_samples, torch.Generator().manual_seed(seed))
        assert drawn.states is not None  # `simulate` knows them all
        return drawn.values.reshape(n_samples, -1), drawn.states

    def _rows(self, X: Any, lengths: Any, answer: Callable[[Batch], Tensor]) -> NDArray[Any]:
        """The answers ``(1, N, T, ...)`` for padded batches, as one row for each row of X."""
        check_is_fitted(self)
        data = self._sequences(X, None, lengths)
        rows: list[NDArray[Any]] = [np.empty(0)] * len(data)
        for batch in data.batches():
            for i, of_sequence, length in zip(batch.index, answer(batch)[0], batch.lengths, strict=True):
                rows[int(i)] = of_sequence[: int(length)].numpy()
        return np.concatenate(rows)

    def _sequences(self, X: Any, y: Any, lengths: Any, reset: bool = False) -> Sequences:
        values = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
        if y is not None and np.shape(y) != (len(values),):
            raise InputError(
                f"y has shape {np.shape(y)} for {len(values)} rows; y is not used: pass lengths by its name"
            )
        offsets = np.append(0, np.cumsum(_check_lengths(lengths, len(values))))
        if self.emission != "categorical":
            return Sequences(values, offsets)
        missing = np.isnan(values[:, 0])
        symbols = np.where(missing, 0, values[:, 0])
        if values.shape[1] != 1 or (symbols != np.round(symbols)).any() or (symbols < 0).any():
            raise InputError("X does not hold symbols; expected one column of whole numbers 0, 1, ..., or NaN")
        if self.num_symbols is None and symbols.max() >= _MAX_SYMBOLS:
            raise InputError(
                f"X holds the symbol {symbols.max():.0f}, and the emission would have as many; number the symbols "
                "0, 1, ... (numpy.unique with return_inverse), or give num_symbols"
            )
        return Sequences(symbols.astype(np.int64), offsets, missing=missing)

    def _family(self, data: Sequences) -> emissions.Emission:
        if self.emission not in _FAMILIES:
            raise unknown("emission", self.emission, _FAMILIES)
        if self.emission == "categorical":
            return emissions.Categorical(self.num_symbols or int(data.values.max()) + 1)
        dims = data.values.shape[1]
        if self.emission == "gaussian":
            return emissions.Gaussian(dims, covariance=self.covariance)
        if self.emission == "gaussian-mixture":
            return emissions.GaussianMixture(dims, self.num_components)
        return (emissions.Poisson if self.emission == "poisson" else emissions.Bernoulli)(dims)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.positive_only = self.emission in ("poisson", "bernoulli", "categorical")
        return tags


def _check_lengths(lengths: Any, num_rows: int) -> NDArray[np.int64]:
    """The lengths of the sequences as ints; one sequence of all rows where None.

    Raises:
        InputError: no list of whole numbers, or a list that does not add up.
    """
    if lengths is None:
        return np.array([num_rows])
    given = np.asarray(lengths)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise InputError(
            f"lengths are an array of {given.dtype} with shape {given.shape}; expected a list of whole numbers, one "
            "for each sequence"
        )
    if given.sum() != num_rows:
        raise InputError(f"lengths add up to {given.sum()} and X has {num_rows} rows; expected the same")
    return given.astype(np.int64)
