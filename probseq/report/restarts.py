"""What the restarts of every model tell, as rows and figures of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probseq.data.sequences import Sequences
from probseq.plots.numbers import MISSING, significant
from probseq.plots.style import family, unit_of
from probseq.restarts import TOLERANCE, Sensitivity, sensitivity

if TYPE_CHECKING:
    from probseq.study import Run

_TOKENS = 10_000  # of the validation data, for comparing paths


@dataclass(frozen=True)
class RestartRow:
    """One model with several restarts."""

    model: str
    family: str
    restarts: str
    found: str
    spread: str
    one_run: str
    optima: str
    agreement: str


def sensitivities(run: Run) -> dict[str, Sensitivity]:
    """What the restarts tell, for every model that has several, in the order of the ranking."""
    names = [name for name in run.comparison.ranking if run.comparison.models[name].num_restarts > 1]
    data = _some(run.corpus.validation)
    return {name: sensitivity(run.fits[name], data) for name in names}


def _some(data: Sequences) -> Sequences:
    """The first sequences, as many as hold that many tokens."""
    return data[np.arange(max(1, int(np.searchsorted(np.cumsum(data.lengths), _TOKENS, side="right"))))]


def restart_rows(found: dict[str, Sensitivity]) -> list[RestartRow]:
    """One row for each model."""
    return [_row(name, one) for name, one in found.items()]


def restart_notes(found: dict[str, Sensitivity]) -> list[str]:
    """What has to be said of single models below the table."""
    estimated = [name for name, one in found.items() if one.standard_error is not None]
    cut = [name for name, one in found.items() if one.cut_off]
    notes = []
    if cut:
        notes.append(
            f"Some runs were cut off before they converged ({', '.join(cut)}): two that were on their way to one "
            "optimum may count as two there."
        )
    if estimated:
        notes.append(
            f"The values of {', '.join(estimated)} are estimated from draws: a run has found the best where it is "
            f"within four standard errors of it, if that is more than {TOLERANCE:g} nats per token."
        )
    return notes


def _row(name: str, one: Sensitivity) -> RestartRow:
    nats, values = unit_of(one.model).nats, one.expected_best
    failed = f" ({one.num_failed} failed)" if one.num_failed else ""
    return RestartRow(
        model=name,
        family=family(one.model),
        restarts=f"{one.num_restarts}{failed}",
        found=f"{one.num_at_best(one.tolerance)} ({one.hit_rate(one.tolerance):.0%})",
        spread=significant(one.spread / nats),
        one_run=significant(float(values[0] - one.nats_per_token[one.best]) / nats),
        optima=one.optima_label or MISSING,
        agreement=MISSING if one.mean_agreement is None else f"{one.mean_agreement:.0%}",
    )
