"""Do the words of a topic belong together, and are the topics different?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EPSILON = 1e-12  # of a probability, so that its logarithm exists
_PIECE = 2**18  # tokens counted at a time


def npmi_coherence(words: ArrayLike, reference: Sequences, window: int | None = 10) -> Floats:
    r"""Normalized pointwise mutual information of the top words of each topic, averaged over their pairs.

    .. math::
        \text{NPMI}(v, w) = \frac{\log (p(v, w) + \epsilon) - \log (p(v) \, p(w))}{-\log (p(v, w) + \epsilon)}

    p counts windows: all runs of so many words inside a document, moved on word by word, in which a word (or both)
    occurs at least once; a shorter document is one window. It is 1 for words that occur together only, 0 for
    independent ones, and -1 for words that never meet. A pair with a word that the reference lacks counts as 0. These
    are the numbers of gensim's ``CoherenceModel(coherence="c_npmi", window_size=10)``, except where a word stands twice
    in one window: gensim (4.4) forgets both when the first of them leaves it; and where both words are in every window:
    the limit is 1, and gensim's rounding gives -1.

    Args:
        words: ``(K, n)`` ids, for example from `top_words`.
        reference: the documents that are counted, best other ones than the model was fitted to, or many more.
        window: words in a window; None for whole documents.

    Returns:
        ``(K,)``, from -1 to 1; larger is better.

    Raises:
        InputError: fewer than two words in a topic, a word twice in one, no documents, a window below 2.

    Reference:
        G. Bouma (2009), "Normalized (pointwise) mutual information in collocation extraction"; M. Röder, A. Both, A.
        Hinneburg (2015), "Exploring the space of topic coherence measures".

    Example:
        >>> texts = Sequences.from_list([[0, 1], [0, 1], [2, 3], [2, 3]])
        >>> npmi_coherence([[0, 1], [0, 2]], texts).round(6).tolist()
        [1.0, -0.949828]
    """
    ids = np.asarray(words, dtype=np.int64)
    if ids.ndim != 2 or ids.shape[1] < 2 or any(len(set(row)) < len(row) for row in ids.tolist()):
        raise InputError(
            f"words have shape {ids.shape}; expected (K, n) with two different words or more in each topic"
        )
    check_sequences(reference, "reference")
    if window is not None and window < 2:
        raise InputError(f"window is {window}; expected 2 or more words, or None for whole documents")
    kept, place = np.unique(ids, return_inverse=True)
    together, total = _count_windows(kept, reference, window)
    place = place.reshape(ids.shape)
    alone = together.diagonal() / total
    return np.array([_mean_npmi(together[np.ix_(row, row)] / total, alone[row]) for row in place])


def _mean_npmi(together: Floats, alone: Floats) -> float:
    """Over all pairs of different words."""
    possible = alone[:, None] * alone
    with np.errstate(divide="ignore"):
        ratio = np.log(together + _EPSILON) - np.log(possible)
        values = np.where(possible > 0, ratio / -np.log(together + _EPSILON), 0.0)
    values = np.where(together >= 1, 1.0, values)
    return float(values[~np.eye(len(alone), dtype=bool)].mean())


def _count_windows(kept: Ints, reference: Sequences, window: int | None) -> tuple[Floats, int]:
    """In how many windows each pair of words occurs, ``(M, M)`` (on the diagonal: each word), and the number of all."""
    lengths = reference.lengths
    width = int(lengths.max()) if window is None else window
    numbers = np.maximum(lengths - width + 1, 1)  # windows of each document
    together, begin = np.zeros((len(kept), len(kept))), 0
    for end in [*np.searchsorted(reference.offsets, np.arange(_PIECE, reference.num_tokens, _PIECE)), len(reference)]:
        if end > begin:
            together += _count_piece(kept, reference[begin:end], numbers[begin:end], width)
            begin = int(end)
    return together, int(numbers.sum())


def _count_piece(kept: Ints, documents: Sequences, numbers: Ints, width: int) -> Floats:
    """The same for some documents; a document no longer than `width` is one window."""
    from scipy.sparse import csr_matrix

    values = np.asarray(documents.values, dtype=np.int64)
    word = np.searchsorted(kept, values).clip(max=len(kept) - 1)
    known = np.flatnonzero(kept[word] == values)
    document = np.searchsorted(documents.offsets, known, side="right") - 1
    place = known - documents.offsets[document]  # in the document
    first = np.maximum(place - width + 1, 0)  # window that a word is in; they run from 0 in each document
    last = np.minimum(place, numbers[document] - 1)
    repeats = last - first + 1
    rows = np.repeat(np.arange(len(known)), repeats)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    windows = (np.cumsum(numbers) - numbers)[document[rows]] + first[rows] + within
    shape = (int(numbers.sum()), len(kept))
    seen = csr_matrix((np.ones(len(rows)), (windows, word[known[rows]])), shape=shape)
    seen.data[:] = 1  # at least once
    return np.asarray((seen.T @ seen).toarray())


def diversity(words: ArrayLike) -> float:
    """The share of different words among the top words of all topics: 1 where no two topics share one.

    Args:
        words: ``(K, n)`` ids, usually 25 for each topic.

    Reference:
        A. B. Dieng, F. J. R. Ruiz, D. M. Blei (2020), "Topic modeling in embedding spaces".

    Example:
        >>> diversity([[0, 1], [1, 2]])
        0.75
    """
    ids = np.asarray(words)
    if ids.ndim != 2 or not ids.size:
        raise InputError(f"words have shape {ids.shape}; expected (K, n), the top words of each topic")
    return len(np.unique(ids)) / ids.size
