"""The commands that fit: compare and fit."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from probseq.cli.options import (
    BoardOption,
    ColumnOption,
    DeviceOption,
    IdColumnOption,
    LevelOption,
    MinCountOption,
    OutOption,
    ResumeOption,
    SeedOption,
    StopWordsOption,
    UnitOption,
    WindowOption,
    examples,
    given,
    preparation,
)
from probseq.errors import InputError, unknown

if TYPE_CHECKING:
    from probseq.study import Study

_OF_TOPICS = ("lda", "syntax-topics")
DIVERGED = 1
INTERRUPTED = 130  # what shells report for Ctrl-C

app = typer.Typer()


@app.command(
    epilog=examples(
        "probseq compare",
        "probseq compare --preset quick",
        "probseq compare --preset quick --data my.txt --level char",
        "probseq compare --preset words",
        "probseq compare --data series.csv --level vector --column temperature,pressure",
        "probseq compare my-study.toml --seed 1 --out runs/mine",
        "probseq compare runs/letters-seed0/study.toml",
    )
)
def compare(
    study: Annotated[
        Path | None, typer.Argument(metavar="STUDY.toml", help="Default: the preset letters, or series.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="letters, quick, series or words, of the package.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="A file, folder or corpus to use instead.")] = None,
    level: LevelOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    window: WindowOption = None,
    unit: UnitOption = None,
    min_count: MinCountOption = None,
    stop_words: StopWordsOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    tensorboard: BoardOption = None,
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
    values["data"] |= preparation(unit, min_count, stop_words)
    values |= given(seed=seed, device=device)
    _run(make_study(values), out, resume, tensorboard)


@app.command(
    epilog=examples(
        "probseq fit hmm --data sotu --level letters --num-states 8 --num-restarts 10",
        "probseq fit lstm --data my.txt --hidden-dim 64 --seconds 60 --out runs/my-lstm",
        "probseq fit lstm --data my.txt --hidden-dim 64 --seconds 60 --out runs/my-lstm --resume",
        "probseq fit gru --data my.txt --set learning_rate=0.01 --set dropout=0.1",
        "probseq fit hmm --data series.csv --level vector --num-states 3 --set covariance=full",
        "probseq fit hmm --data earthquakes --num-states 3 --set emission=poisson",
        "probseq fit lda --data my-speeches --num-topics 20 --stop-words english,punctuation",
        "probseq fit syntax-topics --data my-speeches --num-topics 20 --num-classes 8",
    )
)
def fit(
    kind: Annotated[
        str,
        typer.Argument(
            help="uniform, unigram, cache, ngram, iid, hmm, lda, syntax-topics, vb-hmm, svi-hmm, nuts-hmm, rnn, "
            "update-gate, gru, lstm or transformer."
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="A file, a folder, or a corpus (`probseq data list`).")],
    level: LevelOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    window: WindowOption = None,
    unit: UnitOption = None,
    min_count: MinCountOption = None,
    stop_words: StopWordsOption = None,
    num_states: Annotated[int | None, typer.Option(help="Of an HMM.")] = None,
    num_topics: Annotated[int | None, typer.Option(help="Of a model of topics: lda or syntax-topics.")] = None,
    num_classes: Annotated[int | None, typer.Option(help="Of syntax-topics.")] = None,
    hidden_dim: Annotated[int | None, typer.Option(help="Of a recurrent network.")] = None,
    num_restarts: Annotated[int | None, typer.Option(help="Runs from different starting points.")] = None,
    num_steps: Annotated[int | None, typer.Option(help="The budget in steps.")] = None,
    seconds: Annotated[float | None, typer.Option(help="The budget in seconds.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any other setting, as key=value.")] = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    tensorboard: BoardOption = None,
) -> None:
    """Fit one model and write a run folder: `compare` with a single row.

    A network keeps checkpoints in OUT.checkpoints until OUT is written: repeat the command with --resume if it was
    killed, and nothing is lost.
    A model of topics (lda, syntax-topics) is of words and of whole documents, unless --level and --window say
    otherwise.
    """
    from probseq.specs import KINDS
    from probseq.study import make_study

    if kind not in KINDS:
        raise unknown("model kind", kind, KINDS)
    sizes = given(num_states=num_states, num_topics=num_topics, num_classes=num_classes)
    sizes |= given(hidden_dim=hidden_dim, num_restarts=num_restarts)
    for key in sizes:
        if key not in KINDS[kind].model_fields:
            raise InputError(f"received --{key.replace('_', '-')}, which is not of kind {kind!r}; leave it out")
    budget = given(num_steps=num_steps, seconds=seconds)
    model = {"kind": kind, **sizes, **budget, **dict(map(_setting, settings or []))}
    values: dict[str, Any] = {
        "name": f"{kind}-{_slug(data)}",
        "data": _source(data, kind),
        "models": {kind: model},
    }
    values["data"] |= given(level=level, column=column, id_column=id_column, window=window)
    values["data"] |= preparation(unit, min_count, stop_words)
    values |= given(seed=seed, device=device)
    _run(make_study(values), out, resume, tensorboard)


def _source(data: str, kind: str = "") -> dict[str, Any]:
    """A corpus of the catalog, or else a path; ``./sotu`` is a file even if there is a corpus of that name.

    The documents of a model of topics are whole texts, cut into words where they are texts.
    """
    from probseq.data.catalog import corpora
    from probseq.data.preparation import WHOLE_DOCUMENTS

    entries = {entry.name: entry for entry in corpora()}
    usual: dict[str, Any] = {"level": "word", "window": WHOLE_DOCUMENTS} if kind in _OF_TOPICS else {}
    if data in entries:
        level = usual.get("level") if usual.get("level") in entries[data].levels else entries[data].level
        return {"corpus": data, **usual, "level": level}
    if not Path(data).exists() and not re.search(r"[/\\.]", data):
        raise unknown("corpus", data, entries)
    return {"path": data, "level": "vector" if data.lower().endswith(".npy") else "char", **usual}


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


def _run(study: Study, out: Path | None, resume: bool, tensorboard: Path | None) -> None:
    from probseq.run_folder import checkpoints_of, free_folder
    from probseq.study import run_study
    from probseq.tables import print_run

    out = out or free_folder(study, resume=resume)
    checkpoints = checkpoints_of(out)
    run = run_study(study, out, checkpoints=checkpoints, resume=resume, tensorboard=tensorboard)
    print_run(run)
    for name, fit in run.fits.items():
        for restart, why in fit.details.get("failures", {}).items():
            typer.echo(f"{name} diverged: restart {restart}, {why}", err=True)
    typer.echo(f"report: {out / 'report.html'}\n{run.seconds:.0f} seconds in all")
    if len(run.comparison.diverged) == len(run.fits):
        typer.echo("every model diverged: try a smaller learning_rate", err=True)
        raise typer.Exit(DIVERGED)
    if run.interrupted:
        typer.echo("interrupted: models that were not finished are as far as they got, or missing", err=True)
        if checkpoints.exists():
            typer.echo(f"go on with the same command, --resume and --out {out}", err=True)
        raise typer.Exit(INTERRUPTED)
