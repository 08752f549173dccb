"""`read_topics`: everything that a person wants to know of the topics of one fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probseq.data.corpus import Corpus
from probseq.data.sequences import Sequences, check_sequences
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError, check_whole
from probseq.inference.run import Fit
from probseq.topics.agreement import TopicAgreement, topic_agreement
from probseq.topics.coherence import diversity, npmi_coherence
from probseq.topics.documents import documents_by_topic, has_topics, prevalence, shares_and_words, topics_over_time
from probseq.topics.layout import topic_map
from probseq.topics.words import MEASURES, empty_topics, top_words

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_COHERENT, _DIVERSE = 10, 25  # words of a topic that are looked at


@dataclass(frozen=True, repr=False)
class TopicReading:
    """The topics of one restart, read.

    Attributes:
        restart: the one that is read.
        shares: ``(N, K)`` of each topic in each document.
        prevalence: ``(K,)`` of each topic among all words; of a `probseq.SyntaxTopics` among those that topics emit.
        words: by measure (``probability``, ``relevance``, ``frex``), the top words of each topic.
        coherence: ``(K,)`` NPMI of the ten most probable words on the reference.
        diversity: the share of different words among the 25 most probable ones of all topics.
        documents: ``(K, n)`` those in which each topic has the largest share; see `documents_by_topic`.
        titles: their names.
        points: ``(K, 2)`` of the topics on a map; NaN for the empty ones.
        agreement: with the other restarts.
        spans: ``(B,)`` beginnings of spans of time; None where the documents have no dates.
        over_time: ``(B, K)`` the share of each topic in each span; None likewise.
        empty: ``(K,)`` True for a topic that no word has gone to (see `probseq.topics.words.empty_topics`): `order`,
            `frame`, `diversity` and the figures leave it out, and no restart finds it again.
    """

    restart: int
    shares: Floats
    prevalence: Floats
    words: dict[str, list[list[str]]]
    coherence: Floats
    diversity: float
    documents: Ints
    titles: list[list[str]]
    points: Floats
    agreement: TopicAgreement
    spans: Floats | None
    over_time: Floats | None
    empty: NDArray[np.bool_]

    @property
    def num_topics(self) -> int:
        """K."""
        return len(self.prevalence)

    @property
    def order(self) -> Ints:
        """The topics that are not empty, the most prevalent first."""
        found = np.argsort(-self.prevalence, kind="stable")
        return found[~self.empty[found]]

    @property
    def frame(self) -> pd.DataFrame:
        """One row for each topic that is not empty, the most prevalent first."""
        import pandas as pd

        columns = {
            "topic": np.arange(self.num_topics),
            "prevalence": self.prevalence,
            "coherence": self.coherence,
            "found_again": self.agreement.found,
            "of_restarts": np.full(self.num_topics, self.agreement.num_others),
            "overlap": self.agreement.mean_overlap,
            **{by: [" ".join(row) for row in rows] for by, rows in self.words.items()},
        }
        return pd.DataFrame(columns).iloc[self.order].reset_index(drop=True)

    def __repr__(self) -> str:
        rows = [
            f"{k:5}  {self.prevalence[k]:9.1%}  {self.coherence[k]:9.3f}  {self._found(k):>11}  "
            f"{' '.join(self.words['relevance'][k])}"
            for k in self.order
        ]
        header = f"{'topic':>5}  {'of words':>9}  {'coherence':>9}  {'found again':>11}  most relevant words"
        return "\n".join([header, *rows, *self.notes(), f"diversity {self.diversity:.2f}"])

    def notes(self) -> list[str]:
        """What is to be said of the topics that are not shown."""
        number = int(self.empty.sum())
        return [f"{number} more {'is' if number == 1 else 'are'} empty: no word has gone there"] if number else []

    def _found(self, k: int) -> str:
        return f"{self.agreement.found[k]} of {self.agreement.num_others}" if self.agreement.num_others else "-"


def read_topics(
    fitted: Fit[Any] | Any,
    data: Sequences,
    vocabulary: Vocabulary | Sequence[str] | None = None,
    *,
    restart: int = 0,
    titles: Sequence[str] | None = None,
    times: ArrayLike | None = None,
    width: float = 10,
    reference: Sequences | None = None,
    window: int | None = 10,
    num_words: int = 10,
    num_documents: int = 3,
) -> TopicReading:
    """Read the topics of one restart of a topic model, in the light of all the others.

    Args:
        fitted: a `probseq.LDA` with R restarts, or its `Fit`.
        data: the documents that prevalence, the documents of each topic and time are read from.
        vocabulary: the names of the words; their ids where it is None. Its ``<unk>`` is ranked nowhere.
        restart: the one to read, best the one that validation has chosen.
        titles: ``(N,)`` what the documents are called. Default: their numbers.
        times: ``(N,)`` when each document was written; `width` is that of a span.
        width: see `topics_over_time`.
        reference: the documents that coherence is counted on. Default: `data`.
        window: of coherence; see `npmi_coherence`.
        num_words: words shown for each topic.
        num_documents: documents for each topic.

    Raises:
        InputError: a model without topics, no such restart, no documents, times that do not fit them, or
            data of another vocabulary than the model's.

    Example:
        >>> from probseq import LDA
        >>> lda = LDA.from_parameters([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]], alpha=[0.1, 0.1])
        >>> data = Sequences.from_list([[0, 1, 0], [2, 3, 3], [1, 0, 1]])
        >>> read_topics(lda, data, ["cat", "dog", "tax", "law"], num_words=2).words["probability"]
        [['cat', 'dog'], ['tax', 'law']]
    """
    model = fitted.model if isinstance(fitted, Fit) else fitted
    check_sequences(data, "data")
    check_whole("num_words", num_words)
    if has_topics(model):
        model.check_restart(restart)
        _check_vocabularies(model, vocabulary, data, data if reference is None else reference)
    names, no_words = _words(vocabulary, model.num_symbols)
    all_shares, all_emitted = shares_and_words(model, data)
    common = prevalence(all_shares, all_emitted, data.weights)  # of every restart: all rank their words in one way
    agreement = topic_agreement(model, restart, shares=common, without=no_words)
    topics = model.topics[restart].detach().double().cpu().numpy()
    rank = partial(top_words, topics, shares=common[restart], without=no_words)
    shares, emitted = all_shares[restart], all_emitted[restart]
    best = documents_by_topic(shares, num_documents, emitted)
    called = _names(titles, len(data), "document")
    spans = None if times is None else topics_over_time(shares, data, times, width, emitted)
    empty = empty_topics(topics)
    points = np.full((len(topics), 2), np.nan)
    points[~empty] = topic_map(topics[~empty])
    return TopicReading(
        restart=restart,
        shares=shares,
        prevalence=common[restart],
        words={by: [[names[v] for v in row] for row in rank(num_words, by)] for by in MEASURES},
        coherence=npmi_coherence(rank(_COHERENT, "probability"), reference or data, window),
        diversity=diversity(rank(_DIVERSE, "probability")[~empty]),
        documents=best,
        titles=[[called[n] for n in row] for row in best],
        points=points,
        agreement=agreement,
        spans=None if spans is None else spans[0],
        over_time=None if spans is None else spans[1],
        empty=empty,
    )


def _check_vocabularies(
    model: Any, vocabulary: Vocabulary | Sequence[str] | None, data: Sequences, reference: Sequences
) -> None:
    """Raise `InputError` unless words are the same everywhere: an id of another vocabulary is another word."""
    own = getattr(model, "vocabulary", None)
    given = {"data": data.vocabulary, "reference": reference.vocabulary}
    if isinstance(vocabulary, Vocabulary):
        given["vocabulary"] = vocabulary.digest
    for name, one in given.items():
        if own is not None and one is not None and one != own:
            raise InputError(
                f"{name} is of another vocabulary than the {type(model).__name__} was fitted to; expected the same "
                "one: take both from one corpus, or encode texts with its vocabulary"
            )
    if reference.is_symbolic and reference.values.max(initial=0) >= model.num_symbols:
        raise InputError(f"reference has the word {reference.values.max()}; expected 0 to {model.num_symbols - 1}")


def _words(vocabulary: Vocabulary | Sequence[str] | None, number: int) -> tuple[list[str], list[int]]:
    """Names of the words, and the ids of those that are none: ``<unk>`` stands for many."""
    if not isinstance(vocabulary, Vocabulary):
        return _names(vocabulary, number, "word"), []
    few = number <= 2  # without it there would be no pair of words
    return _names(vocabulary.symbols, number, "word"), [] if vocabulary.unknown is None or few else [vocabulary.unknown]


def _names(given: Sequence[str] | None, number: int, unit: str) -> list[str]:
    if given is None:
        return [str(i) for i in range(number)]
    if len(given) != number:
        raise InputError(f"received {len(given)} names of {unit}s; expected {number}, one for each")
    return [str(one) for one in given]


def read_corpus_topics(fitted: Fit[Any] | Any, corpus: Corpus, restart: int = 0, **options: Any) -> TopicReading:
    """`read_topics` of the training part of a corpus, with the names of words and documents, and years where known.

    Args:
        fitted, restart: as for `read_topics`.
        corpus: the corpus that the model was fitted to.
        **options: the other arguments of `read_topics`.

    Raises:
        InputError: as for `read_topics`.
    """
    known = corpus.documents.get("train", [])
    rows = corpus.document_of.get("train", np.arange(0))
    titles = [str(known[i]["name"]) for i in rows] if known else None
    years = [_year(known[i]) for i in rows] if known else [np.nan]
    times = None if np.isnan(years).any() else np.array(years)
    if times is not None:
        options = {"times": times, "width": _round_width(float(np.ptp(times))), **options}
    return read_topics(fitted, corpus.train, corpus.vocabulary, restart=restart, titles=titles, **options)


def _year(known: dict[str, Any]) -> float:
    try:
        return float(known["year"])
    except (KeyError, TypeError, ValueError):
        return float("nan")


def _round_width(length: float, most: int = 30) -> float:
    """1, 2 or 5 times a power of ten, such that so many spans at most cover the length."""
    return next(w for e in range(18) for w in (10.0**e, 2 * 10.0**e, 5 * 10.0**e) if length / w <= most)
