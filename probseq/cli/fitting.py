"""The commands that fit: compare and fit."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
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
    SourceColumnOption,
    SourceLevelOption,
    SourceMinCountOption,
    StopWordsOption,
    UnitOption,
    WindowOption,
    examples,
    given,
    preparation,
)
from probseq.errors import InputError, unknown

if TYPE_CHECKING:
    from probseq.study import Run, Study

_OF_TOPICS = ("lda", "syntax-topics")
DIVERGED = 1
_PLACE = (  # settings that say where data are, which go when other data are named
    *("corpus", "path", "level", "source_level", "source_min_count", "column", "source_column", "id_column"),
    *("num_sequences", "length"),
)
INTERRUPTED = 130  # what shells report for Ctrl-C

app = typer.Typer()


@app.command(
    epilog=examples(
        "probseq compare",
        "probseq compare --preset quick",
        "probseq compare --preset quick --data my.txt --level char",
        "probseq compare --preset words",
        "probseq compare --data series.csv --level vector --column temperature,pressure",
        "probseq compare --preset g2p",
        "probseq compare --preset g2p --data pairs.tsv",
        "probseq compare my-study.toml --seed 1 --out runs/mine",
        "probseq compare runs/letters-seed0/study.toml",
    )
)
def compare(
    study: Annotated[
        Path | None, typer.Argument(metavar="STUDY.toml", help="Default: the preset letters, or series.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="letters, quick, series, words or g2p, of the package.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="A file, folder or corpus to use instead.")] = None,
    level: LevelOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    source_level: SourceLevelOption = None,
    source_column: SourceColumnOption = None,
    source_min_count: SourceMinCountOption = None,
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

    The default study is the preset letters; for vectors (--level vector) it is the preset series, for pairs
    (--source-level char) the preset g2p.
    """
    from probseq.study import make_study, read_study
    from probseq.study import preset as read_preset

    sources = given(source_level=source_level, source_column=source_column, source_min_count=source_min_count)
    if study is not None and preset is not None:
        raise InputError(f"received the study {study} and the preset {preset!r}; expected one of them")
    if study is not None:
        chosen = read_study(study)
    else:
        chosen = read_preset(preset or ("g2p" if sources else "series" if _of_vectors(data, level) else "letters"))
    values = chosen.model_dump(exclude_none=True)
    if data is not None:
        for key in _PLACE:
            values["data"].pop(key, None)
        values["data"] |= _source(data, *(spec.kind for spec in chosen.models.values()), pairs=bool(sources))
        values["name"] = f"{chosen.name}-{_slug(data)}"
    values["data"] |= given(level=level, column=column, id_column=id_column, window=window)
    values["data"] |= sources
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
        "probseq fit hmm-decoder --data pairs.tsv --seconds 600",
        "probseq fit alignment-hmm --data pairs.tsv --source-min-count 1 --set jumps=[0,2]",
    )
)
def fit(
    kind: Annotated[
        str,
        typer.Argument(
            help="uniform, unigram, cache, ngram, iid, hmm, lda, syntax-topics, vb-hmm, svi-hmm, nuts-hmm, rnn, "
            "update-gate, gru, lstm or transformer; of pairs seq2seq, transformer-seq2seq, hmm-decoder, "
            "svi-hmm-decoder or alignment-hmm."
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="A file, a folder, or a corpus (`probseq data list`).")],
    level: LevelOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    source_level: SourceLevelOption = None,
    source_column: SourceColumnOption = None,
    source_min_count: SourceMinCountOption = None,
    window: WindowOption = None,
    unit: UnitOption = None,
    min_count: MinCountOption = None,
    stop_words: StopWordsOption = None,
    num_states: Annotated[int | None, typer.Option(help="Of an HMM, or of latent states.")] = None,
    num_topics: Annotated[int | None, typer.Option(help="Of a model of topics: lda or syntax-topics.")] = None,
    num_classes: Annotated[int | None, typer.Option(help="Of syntax-topics.")] = None,
    hidden_dim: Annotated[int | None, typer.Option(help="Of a recurrent network, also of pairs.")] = None,
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
    sources = given(source_level=source_level, source_column=source_column, source_min_count=source_min_count)
    budget = given(num_steps=num_steps, seconds=seconds)
    model = {"kind": kind, **sizes, **budget, **dict(map(_setting, settings or []))}
    values: dict[str, Any] = {
        "name": f"{kind}-{_slug(data)}",
        "data": _source(data, kind, pairs=bool(sources)),
        "models": {kind: model},
    }
    values["data"] |= given(level=level, column=column, id_column=id_column, window=window)
    values["data"] |= sources
    values["data"] |= preparation(unit, min_count, stop_words)
    values |= given(seed=seed, device=device)
    _run(make_study(values), out, resume, tensorboard)


def _source(data: str, *kinds: str, pairs: bool = False) -> dict[str, Any]:
    """A corpus of the catalog, or else a path; ``./sotu`` is a file even if there is a corpus of that name.

    The documents of a model of topics are whole texts, cut into words where they are texts. What a kind of pairs is
    fitted to are pairs, and so is a file whose sources have a level.
    """
    from probseq.data.catalog import corpora
    from probseq.data.preparation import WHOLE_DOCUMENTS
    from probseq.specs import KINDS

    entries = {entry.name: entry for entry in corpora()}
    of_topics = bool(kinds) and set(kinds) <= set(_OF_TOPICS)
    usual: dict[str, Any] = {"level": "word", "window": WHOLE_DOCUMENTS} if of_topics else {}
    if data in entries:
        level = usual.get("level") if usual.get("level") in entries[data].levels else entries[data].level
        return {"corpus": data, **usual, "level": level}
    if not Path(data).exists() and not re.search(r"[/\\.]", data):
        raise unknown("corpus", data, entries)
    if pairs or any(KINDS[kind].of_pairs for kind in kinds):
        return {"path": data, "level": "symbol", "source_level": "char"}
    return {"path": data, "level": "vector" if data.lower().endswith(".npy") else "char", **usual}


def _of_vectors(data: str | None, level: str | None) -> bool:
    return data is not None and (level or _source(data)["level"]) == "vector"


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


def _short_fits(run: Run) -> Iterator[str]:
    """Which networks saw the validation data once at most, because their seconds were over before the second look."""
    from probseq.specs.networks import GradientSpec

    for name, spec in run.study.models.items():
        fit = run.fits.get(name)
        if not isinstance(spec, GradientSpec) or fit is None or spec.seconds is None:
            continue
        if len(fit.validation_steps) < 2:
            yield (
                f"{name}: {len(fit.history)} steps in {spec.seconds:g} seconds, and one look at the validation data; "
                f"give it more seconds, or a smaller eval_every ({spec.eval_every}) "
                f"and warmup_steps ({spec.warmup_steps})"
            )


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
    for note in _short_fits(run):
        typer.echo(note, err=True)
    typer.echo(f"report: {out / 'report.html'}\n{run.seconds:.0f} seconds in all")
    if len(run.comparison.diverged) == len(run.fits):
        typer.echo("every model diverged: try a smaller learning_rate", err=True)
        raise typer.Exit(DIVERGED)
    if run.interrupted:
        typer.echo("interrupted: models that were not finished are as far as they got, or missing", err=True)
        if checkpoints.exists():
            typer.echo(f"go on with the same command, --resume and --out {out}", err=True)
        raise typer.Exit(INTERRUPTED)
