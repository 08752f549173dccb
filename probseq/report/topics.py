"""What the topics of the smallest topic model are, and which of them are there in every restart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from probseq.plots.numbers import MISSING, count, decimals
from probseq.plots.style import visible
from probseq.topics import TopicReading, has_topics, read_corpus_topics

if TYPE_CHECKING:
    from probseq.study import Run


@dataclass(frozen=True)
class TopicRow:
    """One topic."""

    topic: int
    share: str
    coherence: str
    again: str
    words: list[str]
    documents: str


@dataclass(frozen=True)
class Topics:
    """The topics of one model.

    Attributes:
        name: of the model.
        restart: the one that validation chose, which is read.
        reading: everything that was read.
        rows: one for each topic, the most prevalent first.
        sentences: how different the topics are, and how many come back.
    """

    name: str
    restart: int
    reading: TopicReading
    rows: list[TopicRow]
    sentences: list[str]


def describe_topics(run: Run) -> Topics | None:
    """Read the topic model with the fewest topics, but more than one; None if there is none."""
    models = {name: fit.model for name, fit in run.fits.items() if has_topics(fit.model)}
    several = {name: model.num_topics for name, model in models.items() if model.num_topics > 1}
    if not several:
        return None
    name = min(several, key=lambda one: several[one])
    restart = run.comparison.chosen[name]
    reading = read_corpus_topics(run.fits[name], run.corpus, restart, num_words=8)
    return Topics(name, restart, reading, [_row(reading, int(k)) for k in reading.order], _sentences(name, reading))


def _row(reading: TopicReading, k: int) -> TopicRow:
    agreement = reading.agreement
    return TopicRow(
        topic=k,
        share=f"{100 * reading.prevalence[k]:.1f} %",
        coherence=decimals(reading.coherence[k]),
        again=f"{agreement.found[k]} of {agreement.num_others}" if agreement.num_others else MISSING,
        words=[visible(word) for word in reading.words["relevance"][k]],
        documents="; ".join(visible(title) for title in reading.titles[k]),
    )


def _sentences(name: str, reading: TopicReading) -> list[str]:
    agreement = reading.agreement
    different = f"Of the 25 most probable words of every topic, {reading.diversity:.0%} are different ones."
    words = [different]
    if empty := int(reading.empty.sum()):
        words.append(f"No word has gone to {count(empty, 'topic')} more, left out here.")
    if not agreement.num_others:
        return words
    found = agreement.found[reading.order]
    always, never = int((found == agreement.num_others).sum()), int((found == 0).sum())
    others = {1: "the other restart", 2: "both other restarts"}
    where = others.get(agreement.num_others, f"all {agreement.num_others} other restarts")
    again = f"{always} {'is' if always == 1 else 'are'} there again in {where}"
    none = f", and {never} {'not' if agreement.num_others == 1 else 'in none of them'}" if never else ""
    return [f"Of {count(len(found), 'topic')} of {name}, {again}{none}.", *words]
