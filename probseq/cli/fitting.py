"""The commands that fit: compare and fit."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probseq.cli.options import (
    ColumnOption,
    DeviceOption,
    IdColumnOption,
    LevelOption,
    OutOption,
    SeedOption,
    WindowOption,
    examples,
    given,
)
from probseq.errors import InputError, unknown

if TYPE_CHECKING:
    from probseq.study import Study

INTERRUPTED = 130  # what shells report for Ctrl-C

app = typer.Typer()


@app.command(
    epilog=examples(
        "probseq compare",
        "probseq compare --preset quick",
        "probseq compare --preset quick --data my.txt --level char",
        "probseq compare --data series.csv --level vector --column temperature,pressure",
        "probseq compare my-study.toml --seed 1 --out runs/mine",
        "probseq compare runs/letters-seed0/study.toml",
    )
)
def compare(
    study: Annotated[
        Path | None, typer.Argument(metavar="STUDY.toml", help="Default: the preset letters, or series.")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="letters, quick or series, of the package.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="A file, folder or corpus to use instead.")] = None,
    level: LevelOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    window: WindowOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    out: OutOption = None,
) -> None:
    """Fit every model of a study, rank them on held-out data, and write a run folder with a report.

    The default study is the preset letters; for vectors (--level vector) it is the preset series.
    """
    from probseq.study import make_study, read_study
    from probseq.study import preset as read_preset

    if study is not None and preset is not None:
        raise InputError(f"received the study {study} and the preset {preset!r}; expected one of them")
    source = {} if data is None else _source(data) | given(level=level)
    fallback = "series" if source.get("level") == "vector" else "letters"
    chosen = read_study(study) if study is not None else read_preset(preset or fallback)
    values = chosen.model_dump(exclude_none=True)
    if data is not None:
        for key in ("corpus", "path", "level", "column", "id_column", "num_sequences", "length"):
            values["data"].pop(key, None)
        values["data"] |= source
        values["name"] = f"{chosen.name}-{_slug(data)}"
    values["data"] |= given(level=level, column=column, id_column=id_column, window=window)
    values |= given(seed=seed, device=device)
    _run(make_study(values), out)


@app.command(
    epilog=examples(
        "probseq fit hmm --data sotu --level letters --num-states 8 --num-restarts 10",
        "probseq fit lstm --data my.txt --hidden-dim 64 --seconds 60 --out runs/my-lstm",
        "probseq fit gru --data my.txt --set learning_rate=0.01 --set dropout=0.1",
        "probseq fit hmm --data series.csv --level vector --num-states 3 --set covariance=full",
        "probseq fit hmm --data earthquakes --num-states 3 --set emission=poisson",
    )
)
def fit(
    kind: Annotated[
        str,
        typer.Argument(
            help="uniform, unigram, ngram, iid, hmm, vb-hmm, svi-hmm, nuts-hmm, rnn, gru, lstm or transformer."
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="A file, a folder, or a corpus (`probseq data list`).")],
    level: LevelOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    window: WindowOption = None,
    num_states: Annotated[int | None, typer.Option(help="Of an HMM.")] = None,
    hidden_dim: Annotated[int | None, typer.Option(help="Of a recurrent network.")] = None,
    num_restarts: Annotated[int | None, typer.Option(help="Runs from different starting points.")] = None,
    num_steps: Annotated[int | None, typer.Option(help="The budget in steps.")] = None,
    seconds: Annotated[float | None, typer.Option(help="The budget in seconds.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any other setting, as key=value.")] = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    out: OutOption = None,
) -> None:
    """Fit one model and write a run folder: `compare` with a single row."""
    from probseq.specs import KINDS
    from probseq.study import make_study

    if kind not in KINDS:
        raise unknown("model kind", kind, KINDS)
    sizes = given(num_states=num_states, hidden_dim=hidden_dim, num_restarts=num_restarts)
    budget = given(num_steps=num_steps, seconds=seconds)
    model = {"kind": kind, **sizes, **budget, **dict(map(_setting, settings or []))}
    values: dict[str, Any] = {"name": f"{kind}-{_slug(data)}", "data": _source(data), "models": {kind: model}}
    values["data"] |= given(level=level, column=column, id_column=id_column, window=window)
    values |= given(seed=seed, device=device)
    _run(make_study(values), out)


def _source(data: str) -> dict[str, str]:
    """A corpus of the catalog, or else a path; ``./sotu`` is a file even if there is a corpus of that name."""
    from probseq.data.catalog import corpora

    levels = {entry.name: entry.level for entry in corpora()}
    if data in levels:
        return {"corpus": data, "level": levels[data]}
    if not Path(data).exists() and not re.search(r"[/\\.]", data):
        raise unknown("corpus", data, levels)
    return {"path": data, "level": "vector" if data.lower().endswith(".npy") else "char"}


def _slug(text: str) -> str:
    return re.sub(r"[^\w-]+", "-", Path(text).stem).strip("-") or "data"


def _setting(text: str) -> tuple[str, Any]:
    """``key=value`` with a TOML value, or else a string."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"received --set {text}; expected key=value, for example --set learning_rate=0.01")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _run(study: Study, out: Path | None) -> None:
    from probseq.run_folder import free_folder
    from probseq.study import run_study
    from probseq.tables import print_run

    out = out or free_folder(study)
    run = run_study(study, out)
    print_run(run)
    typer.echo(f"report: {out / 'report.html'}\n{run.seconds:.0f} seconds in all")
    if run.interrupted:
        typer.echo("interrupted: models that were not finished are as far as they got, or missing", err=True)
        raise typer.Exit(INTERRUPTED)
