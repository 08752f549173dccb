"""Which documents a topic is in, how much of all words it takes, and when."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError, check_whole

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BATCH = 2**16  # tokens


def has_topics(model: object) -> bool:
    """Whether a model has topics that can be read: `probseq.LDA`, `probseq.SyntaxTopics`."""
    return hasattr(model, "topics") and hasattr(model, "document_topics")


@torch.no_grad()
def topic_shares(model: Any, data: Sequences) -> Floats:
    """``(R, N, K)``: the share of each topic in each document, in the order of `data`.

    Args:
        model: a model with topics, such as `probseq.LDA`.
        data: N documents.

    Raises:
        InputError: a model without topics, or documents that it cannot read.
    """
    return shares_and_words(model, data)[0]


@torch.no_grad()
def shares_and_words(model: Any, data: Sequences) -> tuple[Floats, Floats]:
    """`topic_shares`, and how many words topics emit in each document, ``(R, N)``, in expectation.

    Of a topic model these are all words that were observed, of a model with other classes fewer.
    """
    if not has_topics(model):
        raise InputError(f"received a {type(model).__name__}, which has no topics; expected an LDA")
    check_sequences(data, "data")
    shares = np.empty((model.num_restarts, len(data), model.num_topics))
    words = np.empty(shares.shape[:2])
    prior = model.alpha.double().sum(dim=-1, keepdim=True)
    for batch in data.batches(_BATCH, device=model.device):
        gamma, rows = model.document_posterior(batch), batch.index.cpu().numpy()
        total = gamma.sum(dim=-1)
        shares[:, rows] = (gamma / total[..., None]).cpu().numpy()
        words[:, rows] = (total - prior).cpu().numpy()
    return shares, words


def prevalence(shares: ArrayLike, words: ArrayLike, weights: ArrayLike) -> Floats:
    """``(..., K)``: the share of each topic among the words that topics emit.

    Args:
        shares: ``(..., N, K)`` of each topic in each document.
        words: ``(..., N)`` that topics emit in each document; see `shares_and_words`.
        weights: ``(N,)`` how often each document counts.
    """
    weight = np.asarray(words) * np.asarray(weights)
    total = np.maximum(weight.sum(axis=-1, keepdims=True), 1e-300)
    return np.asarray(np.einsum("...nk,...n->...k", np.asarray(shares), weight) / total)


def documents_by_topic(shares: ArrayLike, num_documents: int = 3, words: ArrayLike | None = None) -> Ints:
    """``(K, n)``: for each topic the documents in which it has the largest share, the largest first.

    By shares alone documents of one or two words come first: what topic they have is certain, and no word is against
    it. Given the number of words, a document counts as if it went on for the average number of words in the way of all
    documents.

    Args:
        shares: ``(N, K)``, one restart of `topic_shares`.
        num_documents: n; all documents where there are fewer.
        words: ``(N,)`` in each document.

    Raises:
        InputError: shares of another shape, not one number of words for each, or fewer than one document.
    """
    table = np.asarray(shares, dtype=np.float64)
    if table.ndim != 2:
        raise InputError(f"shares have shape {table.shape}; expected (N, K): take one restart")
    check_whole("num_documents", num_documents)
    if words is not None:
        length = np.asarray(words, dtype=np.float64)
        if length.shape != (len(table),) or not (length >= 0).all():
            raise InputError(f"words have shape {length.shape}; expected {len(table)} numbers, one for each document")
        usual = (table * length[:, None]).sum(axis=0) / max(len(table), 1)
        table = (table * length[:, None] + usual) / np.maximum(length + usual.sum(), 1e-300)[:, None]
    return np.argsort(-table, axis=0, kind="stable")[:num_documents].T


def topics_over_time(
    shares: ArrayLike, data: Sequences, times: ArrayLike, width: float = 10, words: ArrayLike | None = None
) -> tuple[Floats, Floats, Floats]:
    """The share of each topic among the words of each span of time.

    Args:
        shares: ``(N, K)``, one restart of `topic_shares`.
        data: the N documents.
        times: ``(N,)`` when each was written, for example its year.
        width: of a span, in the unit of `times`. Spans without a document are left out.
        words: ``(N,)`` that topics emit in each document. Default: all that were observed.

    Returns:
        ``(B,)`` the beginning of each span, a multiple of `width`; ``(B, K)`` the shares, which sum to 1 in each; and
        ``(B,)`` the number of words in it.

    Raises:
        InputError: not one finite time for each document, or a width that is not positive.

    Example:
        >>> data = Sequences.from_list([[0, 1], [0, 1, 1, 1], [1]])
        >>> topics_over_time([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], data, [1790, 1799, 1801])[:2]
        (array([1790., 1800.]), array([[0.66666667, 0.33333333],
               [0.        , 1.        ]]))
    """
    table, when = np.asarray(shares, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if table.ndim != 2 or when.shape != (len(data),) or len(table) != len(data) or not np.isfinite(when).all():
        raise InputError(
            f"received shares of shape {table.shape}, {len(data)} documents and times of shape {when.shape}; expected "
            "(N, K), N documents and N finite numbers"
        )
    if not 0 < width < np.inf:
        raise InputError(f"width is {width}; expected a positive number")
    spans, which = np.unique(np.floor(when / width), return_inverse=True)
    words = np.asarray(data.num_observed if words is None else words) * data.weights
    total = np.bincount(which, weights=words).astype(np.float64)
    parts = [np.bincount(which, weights=words * column) for column in table.T]
    some = total > 0
    return spans[some] * width, (np.array(parts).T / np.where(some, total, 1)[:, None])[some], total[some]
