"""What the restarts in a run folder tell, and writing it to tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from probseq.checkpoint import SavedModel, is_run, load_model, load_run
from probseq.errors import InputError, unknown
from probseq.restarts import TOLERANCE, Sensitivity, sensitivity
from probseq.run_folder import new_folder
from probseq.scoring import open_fitted, read_sequences

if TYPE_CHECKING:
    import pandas as pd

    from probseq.data.vocabulary import Vocabulary


def open_sensitivities(
    folder: Path,
    name: str | None = None,
    file: Path | None = None,
    *,
    tolerance: float = TOLERANCE,
    column: str | None = None,
    id_column: str | None = None,
) -> dict[str, Sensitivity]:
    """What `probseq.sensitivity` says of every model with several restarts in a run folder, or of one model.

    Args:
        folder: a run folder or a model folder.
        name: of the model, where the folder is a run. Default: all that have several restarts.
        file: data on which most probable paths are compared.
        tolerance: nats per token within which two values are the same.
        column, id_column: of a table. Default: as in the model's run.

    Raises:
        InputError: no such folder or model, no model with several restarts, or a file that cannot be read.
    """
    saved = _saved(folder, name)
    chosen = saved if name else {one: model for one, model in saved.items() if model.model.num_restarts > 1}
    if not chosen:
        raise InputError(f"no model in {folder} has more than one restart; fit one with num_restarts > 1")
    data = None
    if file is not None:
        fitted = open_fitted(folder, next(iter(chosen)) if is_run(folder) else None)
        data = read_sequences(fitted, file, column, id_column)[1]
    return {
        one: sensitivity(model.model if model.fit is None else model.fit, data, tolerance=tolerance)
        for one, model in chosen.items()
    }


def _saved(folder: Path, name: str | None) -> dict[str, SavedModel]:
    if not is_run(folder):
        if name not in (None, folder.name):
            raise InputError(f"{folder} is the folder of one model; leave {name} out, or give the run folder")
        return {folder.resolve().name: load_model(folder)}
    saved = load_run(folder).saved
    if name is not None and name not in saved:
        raise unknown("model", name, saved)
    return saved if name is None else {name: saved[name]}


def restarts_frame(found: dict[str, Sensitivity]) -> pd.DataFrame:
    """One row for each restart of each model."""
    import pandas as pd

    return pd.concat([one.frame.assign(model=name) for name, one in found.items()]).set_index("model").reset_index()


def best_of_frame(found: dict[str, Sensitivity]) -> pd.DataFrame:
    """The expected best of r runs: one row for each model and r."""
    import pandas as pd

    rows = [(name, r, value) for name, one in found.items() for r, value in enumerate(one.expected_best, start=1)]
    return pd.DataFrame(rows, columns=["model", "runs", "expected_best_nats_per_token"])


def summary_frame(found: dict[str, Sensitivity]) -> pd.DataFrame:
    """One row for each model."""
    import pandas as pd

    return pd.DataFrame([{"model": name, **one.summary} for name, one in found.items()])


def to_plain(found: dict[str, Sensitivity]) -> dict[str, Any]:
    """Everything as plain values: by model its summary, its restarts and the expected best of r runs."""
    return {
        name: {
            **one.summary,
            "expected_best": one.expected_best.tolist(),
            "restarts": one.frame.to_dict("records"),
            "agreement": None if one.agreement is None else one.agreement.tolist(),
        }
        for name, one in found.items()
    }


def write_sensitivities(found: dict[str, Sensitivity], folder: Path, out: Path) -> list[str]:
    """Write tables (.csv) and figures (.svg) into a new folder; returns the names of the files.

    Args:
        found: what `open_sensitivities` returned.
        folder: where it came from: the names of symbols are read there.
        out: the folder to make.

    Raises:
        InputError: `out` exists or cannot be written.
    """
    from probseq import plots

    vocabulary = next(iter(_saved(folder, None).values())).vocabulary
    with new_folder(out) as partial:
        summary_frame(found).to_csv(partial / "summary.csv", index=False)
        restarts_frame(found).to_csv(partial / "restarts.csv", index=False)
        best_of_frame(found).to_csv(partial / "best-of.csv", index=False)
        several = {name: one for name, one in found.items() if one.num_restarts - one.num_failed > 1}
        if several:
            plots.plot_final_values(several).savefig(partial / "final-values.svg")
            plots.plot_best_of(several).savefig(partial / "best-of.svg")
        if any(one.fit is not None and plots.has_curve(one.fit) for one in several.values()):
            plots.plot_traces(several).savefig(partial / "traces.svg")
        for name, one in several.items():
            _write_parameters(name, one, vocabulary, partial)
        return sorted(path.name for path in partial.iterdir())


def _write_parameters(name: str, one: Sensitivity, vocabulary: Vocabulary | None, folder: Path) -> None:
    from probseq import plots

    if one.optimum is not None:
        plots.plot_aligned_parameters(one, vocabulary).savefig(folder / f"parameters-{name}.svg")
