"""What counting alone achieves, so that a model that has learned less than frequencies says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probseq.data.corpus import Corpus
from probseq.evaluate import evaluate
from probseq.inference.counts import fit_counts
from probseq.models.ngram import Unigram

if TYPE_CHECKING:
    from probseq.compare import Comparison

_COUNTED = ("uniform", "unigram", "cacheunigram", "ngram")


def counting_nats(corpus: Corpus) -> float | None:
    """Nats per token of test under how often each symbol occurs in train; None for vectors, and for missing symbols."""
    if not corpus.is_symbolic or any(part.missing is not None for part in corpus.parts.values()):
        return None
    fit = fit_counts(Unigram(corpus.num_symbols), corpus.train)
    return float(evaluate(fit, corpus.test).nats_per_token[0])


def behind_counting(comparison: Comparison, counted: float | None) -> dict[str, str]:
    """By name of a model that needs more than counting: one sentence that says so."""
    found = {}
    for name in comparison.ranking if counted is not None else []:
        nats = comparison.test[name].nats_per_token[comparison.chosen[name]]
        if nats > counted and type(comparison.models[name]).__name__.lower() not in _COUNTED:
            found[name] = (
                f"{nats:.3f} nats per test token are more than counting alone needs ({counted:.3f}, the unigram): it "
                "has learned less than how often each symbol occurs; give it more steps, or another learning rate"
            )
    return found
