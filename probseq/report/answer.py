"""The short answer in words, and what a reader must be warned of. Every sentence is computed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from probseq.baseline import behind_counting
from probseq.plots.comparison import comparison_unit, error_per_token, lead_per_token, per_token
from probseq.plots.numbers import count, decimals, listing, significant, with_error
from probseq.plots.style import family
from probseq.restarts import TOLERANCE

if TYPE_CHECKING:
    from probseq.compare import Comparison
    from probseq.study import Run

TOKENS = {
    "letters": "a letter or a space",
    "char": "a character",
    "byte": "a byte",
    "word": "a word, a number or a punctuation mark",
    "symbol": "a symbol",
    "vector": "one step of the series",
}
_SIGNS = {"exact": "", "lower bound": "at most ", "estimate": "about "}
_FEW = 30  # below so many test sequences, an error is itself uncertain
_TROUBLES = {
    "nonfinite": "became non-finite",
    "decreased": "stopped because its objective fell",
    "interrupted": "was interrupted",
}


def answer(run: Run) -> list[Markup]:
    """Sentences: who won, by how much and how surely; what kind of model; what the restarts and the truth say."""
    comparison = run.comparison
    sentences = [_winner(comparison), _runner_up(comparison), _families(comparison), _restarts(comparison), _truth(run)]
    return [sentence for sentence in sentences if sentence]


def chosen_value(comparison: Comparison, name: str) -> float:
    """Test bits per token (of vectors nats per step) of the chosen restart."""
    return float(per_token(comparison, name)[comparison.chosen[name]])


def finite_values(comparison: Comparison, name: str) -> NDArray[np.float64]:
    """The same of every restart that has a finite number."""
    values = per_token(comparison, name)
    return values[np.isfinite(values)]


def _spread(comparison: Comparison, name: str) -> float:
    values = finite_values(comparison, name)
    return float(np.ptp(values)) if len(values) else 0.0


def _bold(name: str) -> Markup:
    return Markup("<strong>{}</strong>").format(name)


def _winner(comparison: Comparison) -> Markup:
    first = comparison.ranking[0]
    score, error = comparison.test[first], error_per_token(comparison, first)
    value, unit = _bold(with_error(chosen_value(comparison, first), error)), comparison_unit(comparison).name
    words = "{} gives the test data the highest probability: it needs {}{} {}."
    if first in comparison.diverged:
        words = "Every fit diverged, and nothing here is to be trusted: the last good weights of {} need {}{} {}."
    elif score.density:
        words = "{} gives the test data the highest density: minus its logarithm is {}{} {}."
    elif len(comparison.ranking) == 1:
        words = "{} needs {}{} {} for the test data."
    return Markup(words).format(_bold(first), _SIGNS[score.likelihood], value, unit)


def _runner_up(comparison: Comparison) -> Markup:
    if len(comparison.ranking) < 2:
        return Markup("")
    first, second = comparison.ranking[:2]
    gap, error = lead_per_token(comparison, second)
    text = Markup("The runner-up, {}, needs {} {} more. ").format(
        _bold(second), with_error(gap, error), comparison_unit(comparison).word
    )
    if not math.isfinite(error):
        few = len(comparison.test[first].num_tokens) < 2
        return text + (
            "With a single test sequence, no error can be given."
            if few
            else "With sequences that a model holds impossible, no error can be given."
        )
    num = len(comparison.test[first].num_tokens)
    times = f"{gap / error if error else math.inf:,.{1 if num < _FEW else 0}f} standard errors of the paired difference"
    if gap <= _critical(num) * error:
        reach = f"{times}, too few with {num} test sequences" if gap > 2 * error else "within two standard errors"
        return text + f"That is {reach}: these test sequences cannot tell the two apart."
    text += f"That is {times}, more than the choice of test sequences explains"
    unsteady = max((first, second), key=lambda name: _spread(comparison, name))
    if (spread := _spread(comparison, unsteady)) > gap:
        return text + Markup("; but the restarts of {} differ by {}, so another seed might swap them.").format(
            _bold(unsteady), significant(spread)
        )
    return text + "."


def _critical(num: int) -> float:
    """Standard errors that a mean of `num` differences exceeds by chance in one case of twenty (Student's t)."""
    from scipy.special import stdtrit

    return max(2.0, float(stdtrit(num - 1, 0.975)))


def _families(comparison: Comparison) -> Markup:
    best: dict[str, str] = {}
    for name in comparison.ranking:
        best.setdefault(family(comparison.models[name]), name)
    if "stochastic" not in best or "deterministic" not in best:
        return Markup("")
    gap = chosen_value(comparison, best["stochastic"]) - chosen_value(comparison, best["deterministic"])
    more, less = ("stochastic", "deterministic") if gap > 0 else ("deterministic", "stochastic")
    how = {"stochastic": "drawn", "deterministic": "computed"}
    return Markup(
        "Of the models whose hidden state is {}, {} is the best; of those where it is {}, {}, which needs {} {} more."
    ).format(
        how[less],
        _bold(best[less]),
        how[more],
        _bold(best[more]),
        significant(abs(gap)),
        comparison_unit(comparison).word,
    )


def _restarts(comparison: Comparison) -> Markup:
    names = [name for name in comparison.ranking if len(finite_values(comparison, name)) > 1]
    if not names:
        return Markup("")
    name = max(names, key=lambda one: _spread(comparison, one))
    if _spread(comparison, name) * comparison_unit(comparison).nats <= TOLERANCE:
        return Markup("")
    values = finite_values(comparison, name)
    most = " most" if len(names) > 1 else ""
    text = Markup(f"The starting point matters{most} for {{}}: its {{}} restarts end between {{}} and {{}} {{}}.")
    low, high = decimals(values.min()), decimals(values.max())
    return text.format(_bold(name), len(values), low, high, comparison_unit(comparison).name)


def _truth(run: Run) -> Markup:
    if run.corpus.truth is None:
        return Markup("")
    unit = comparison_unit(run.comparison)
    floor = run.corpus.truth.test_nats_per_token / unit.nats
    return Markup("The data were generated: the true distribution itself needs {} {} per test {}.").format(
        _bold(decimals(floor)), unit.word, unit.token
    )


def notices(run: Run) -> list[Markup]:
    """What went wrong: restarts that failed or were interrupted, and models that were never begun."""
    found = []
    for name, fit in run.fits.items():
        for reason, words in _TROUBLES.items():
            if number := fit.stop_reason.count(reason):  # type: ignore[arg-type]
                which = f"{number} of {count(len(fit.stop_reason), 'restart')}"
                words = words if number == 1 else words.replace("was ", "were ")
                found.append(Markup("{}: {} {}.").format(_bold(name), which, words))
        found += [Markup("{}: {}.").format(_bold(name), problem) for problem in fit.details.get("problems", [])]
        lost = run.comparison.test[name].num_restarts - len(finite_values(run.comparison, name))
        if lost:
            found.append(Markup("{}: the test value of {} is not finite.").format(_bold(name), count(lost, "restart")))
    behind = behind_counting(run.comparison, run.counted)
    found += [Markup("{}: {}.").format(_bold(name), words) for name, words in behind.items()]
    missing = [name for name in run.study.models if name not in run.fits]
    if missing:
        found.append(Markup("Stopped early; never begun: {}.").format(listing(missing)))
    return found
