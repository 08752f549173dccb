"""`LDAEstimator`: a topic model with the interface of scikit-learn, for matrices of word counts.

Needs scikit-learn: ``pip install 'probseq[sklearn]'``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError
from probseq.evaluate import evaluate
from probseq.inference.em import em, initialize
from probseq.inference.run import Fit
from probseq.models.topic import LDA
from probseq.models.topic_variational import Statistics
from probseq.topics import beside_likelihood

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError("the estimators need scikit-learn; install it: pip install 'probseq[sklearn]'") from error


_MOST_WORDS = 10**9  # of all documents: each takes some tens of bytes


class LDAEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    r"""A topic model fitted by variational EM from several starting points, of which the best is kept.

    `X` is ``(N, V)``: how often each word occurs in each document, whole numbers, dense or a sparse matrix of scipy. A
    row of zeros is a document of which nothing is known: its topics are those of the prior.

    Args:
        num_topics: K.
        alpha: of the Dirichlet prior over a document's topics, where learning begins.
        eta: of the Dirichlet prior over a topic's words, where learning begins.
        symmetric: learn one number for all of alpha.
        fixed: what is not learned, among ``"alpha"`` and ``"eta"``.
        num_restarts: R, runs from different starting points.
        start: see `probseq.LDA`.
        num_steps: passes over the documents at most.
        tol: relative tolerance of the bound per word.
        total_documents: how many documents `partial_fit` will see in all. Default: those that it has seen so far.
        decay: of the weight of each call of `partial_fit`; see `probseq.em`.
        delay: of these weights.
        random_state: an int, a ``RandomState`` or None; the seed of the starting points.

    Attributes:
        model\_: the restart with the highest bound, a `probseq.LDA`.
        fit\_: the `probseq.Fit` of all restarts, if `fit` was called.
        components\_: ``(K, V)``, the pseudo-counts of each topic's words; the rows of `topics\_` are their shares.
        n_features_in\_: V.

    Reference:
        M. Hoffman, D. Blei, F. Bach (2010), "Online learning for latent Dirichlet allocation".

    Example:
        >>> X = np.repeat([[4, 4, 0, 0], [0, 0, 4, 4]], 20, axis=0)
        >>> topics = LDAEstimator(num_topics=2, random_state=0).fit(X).transform(X)
        >>> bool((topics[:20].argmax(axis=1) != topics[20:].argmax(axis=1)).all())
        True
    """

    def __init__(
        self,
        num_topics: int = 10,
        alpha: Any = 0.1,
        eta: float = 0.05,
        symmetric: bool = False,
        fixed: tuple[str, ...] = (),
        num_restarts: int = 1,
        start: str = "gibbs",
        num_steps: int = 50,
        tol: float = 1e-5,
        total_documents: int | None = None,
        decay: float = 0.7,
        delay: float = 1.0,
        random_state: Any = None,
    ) -> None:
        self.num_topics = num_topics
        self.alpha = alpha
        self.eta = eta
        self.symmetric = symmetric
        self.fixed = fixed
        self.num_restarts = num_restarts
        self.start = start
        self.num_steps = num_steps
        self.tol = tol
        self.total_documents = total_documents
        self.decay = decay
        self.delay = delay
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> LDAEstimator:
        """Fit from `num_restarts` starting points and keep the one with the highest bound.

        Raises:
            InputError: see `probseq.LDA` and `probseq.em`; counts that are no whole numbers, or all zero.
        """
        data = self._documents(X, reset=True)
        fit = em(self._begin(self.num_restarts), data, num_steps=self.num_steps, tol=self.tol)
        self.fit_: Fit[LDA] = fit
        last = [fit.history[n - 1, r] if n else -np.inf for r, n in enumerate(fit.num_steps)]
        self.model_ = fit.model.select(int(np.argmax(last)))
        self.num_documents_, self.num_calls_ = len(data), int(fit.num_steps.max())
        self._average: list[Tensor] | None = None
        return self

    @torch.no_grad()
    def partial_fit(self, X: Any, y: Any = None) -> LDAEstimator:
        r"""One step of online variational inference with some more documents.

        A running average of the statistics of one document follows theirs with weight
        :math:`(s + \text{delay})^{-\text{decay}}` in call s = 0, 1, ..., and the topics are those of `total_documents`
        such documents. The first documents make the starting point; after `fit`, its topics are it, and its steps are
        counted as calls.

        Raises:
            InputError: as for `fit`; another number of words than before.
        """
        again = hasattr(self, "model_")
        data = self._documents(X, reset=not again)
        check_sequences(data, "data")
        if not again:
            self.model_, self.num_documents_, self.num_calls_ = self._begin(1), 0, 0
            initialize(self.model_, data)
            self._average = None
        before, self.num_documents_ = self.num_documents_ or len(data), self.num_documents_ + len(data)
        statistics = self.model_.e_step(data.batch())
        new = [value / len(data) for value in statistics[1:]]
        words = (self.model_.concentration - self.model_.eta[..., None]).clamp(min=0) / before
        average = [words, *new[1:]] if self._average is None else self._average
        weight = (self.num_calls_ + self.delay) ** -self.decay
        self._average = [torch.lerp(old, one, weight) for old, one in zip(average, new, strict=True)]
        total = self.total_documents or self.num_documents_
        self.model_.m_step(Statistics(statistics.bound, *(value * total for value in self._average)))
        self.num_calls_ += 1
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """``(N, K)``: the share of each topic in each document; rows sum to 1."""
        check_is_fitted(self)
        data = self._documents(X)
        shares = np.empty((len(data), self.num_topics))
        for batch in data.batches():
            shares[batch.index] = self.model_.document_topics(batch)[0].numpy()
        return shares

    def score(self, X: Any, y: Any = None) -> float:
        """Log-likelihood of all documents' words in nats, estimated by particles; see `probseq.LDA`.

        It is the probability of words in a given order, without the number of orders that a multinomial counts.
        """
        check_is_fitted(self)
        return float(evaluate(self.model_, self._documents(X)).elpd[0])

    def beside_likelihood(self, X: Any) -> dict[str, float]:
        """A lower bound and document completion, in nats per word: no likelihoods, and smaller is better.

        They cost less than `score`, and completion ranks models much as that does; see
        `probseq.topics.beside_likelihood`. Words have the order of the columns here, so that one which comes twice is
        also among those given: compare completion with that of the same matrix only.
        """
        check_is_fitted(self)
        return {name: float(nats[0]) for name, nats in beside_likelihood(self.model_, self._documents(X)).items()}

    @property
    def components_(self) -> NDArray[np.float64]:
        """``(K, V)``: the pseudo-counts of each topic's words."""
        check_is_fitted(self)
        return np.asarray(self.model_.concentration[0].detach())

    @property
    def topics_(self) -> NDArray[np.float64]:
        """``(K, V)``: the probability of each word in each topic."""
        check_is_fitted(self)
        return np.asarray(self.model_.topics[0].detach())

    @property
    def _n_features_out(self) -> int:
        return self.num_topics

    def _begin(self, num_restarts: int) -> LDA:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        priors = {"alpha": self.alpha, "eta": self.eta, "symmetric": self.symmetric, "fixed": self.fixed}
        return LDA(self.num_topics, self.n_features_in_, num_restarts, seed, self.start, **priors)

    def _documents(self, X: Any, reset: bool = False) -> Sequences:
        """A row as a document: its words in the order of the columns, or one that is missing where there is none."""
        from scipy.sparse import csr_matrix

        table = csr_matrix(self._whole(validate_data(self, X, reset=reset, dtype=np.float64, accept_sparse="csr")))
        counts, size = table.data.astype(np.int64), table.shape[0]
        rows = np.repeat(np.arange(size), np.diff(table.indptr))
        lengths = np.bincount(rows, counts, minlength=size).astype(np.int64)
        silent = np.flatnonzero(lengths == 0)
        order = np.argsort(np.append(np.repeat(rows, counts), silent), kind="stable")
        words = np.append(np.repeat(table.indices, counts), np.zeros(len(silent), np.int64))[order]
        missing = np.append(np.zeros(lengths.sum(), bool), np.ones(len(silent), bool))[order]
        return Sequences(words.astype(np.int64), np.append(0, np.cumsum(np.maximum(lengths, 1))), missing=missing)

    def _whole(self, X: Any) -> Any:
        values = X if isinstance(X, np.ndarray) else X.data
        wrong = values[(values < 0) | (values != np.round(values))]
        if len(wrong):
            sign = "Negative values in data: " if wrong.min() < 0 else ""  # how scikit-learn's own errors begin
            raise InputError(
                f"{sign}X holds {wrong.min():g}; expected counts, whole numbers of 0 or more, and no weights "
                "such as tf-idf"
            )
        if (number := values.sum()) > _MOST_WORDS:
            raise InputError(
                f"X counts {number:g} words; expected {_MOST_WORDS:,} in all at most: take fewer documents"
            )
        return X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = tags.input_tags.positive_only = True
        return tags
