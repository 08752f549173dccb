"""The command line. Heavy modules are imported by the commands, so that ``--help`` is quick."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from probseq import __version__
from probseq.errors import InputError, unknown

if TYPE_CHECKING:
    from probseq.study import Study

_INTERRUPTED = 130  # what shells report for Ctrl-C


class _Group(TyperGroup):
    """A bad input is one sentence on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("interrupted; nothing was written", err=True)
            raise typer.Exit(_INTERRUPTED) from None


app = typer.Typer(name="probseq", cls=_Group, no_args_is_help=True, pretty_exceptions_enable=False)
data_app = typer.Typer(no_args_is_help=True, help="The corpora that can be used by name.")
app.add_typer(data_app, name="data")

LevelOption = Annotated[str | None, typer.Option("--level", help="letters, char, byte, word or symbol.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of the data split, the starting points, the updates.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
ColumnOption = Annotated[str | None, typer.Option("--column", help="Of a table or JSON lines: where the values are.")]
IdColumnOption = Annotated[str | None, typer.Option("--id-column", help="Of a long table: which document a row is of.")]
WindowOption = Annotated[int | None, typer.Option("--window", help="Tokens in a sequence, at most.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The folder to make. Default: a new one in runs/.")]
SourceArgument = Annotated[Path, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder or a model folder.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A file or folder, as for --data.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Which model of a run. Default: the best.")]
RestartOption = Annotated[int | None, typer.Option("--restart", help="Default: the one chosen on validation.")]
FormatOption = Annotated[str, typer.Option("--format", help="table or json.")]


def _examples(*lines: str) -> str:
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"probseq {__version__}")
        raise typer.Exit


@app.callback(epilog=_examples("probseq compare --preset quick", "probseq data list", "probseq compare --help"))
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """One question to every model of sequences: what probability do you give this sequence?"""


@app.command(
    epilog=_examples(
        "probseq compare",
        "probseq compare --preset quick",
        "probseq compare --preset quick --data my.txt --level char",
        "probseq compare my-study.toml --seed 1 --out runs/mine",
        "probseq compare runs/letters-seed0/study.toml",
    )
)
def compare(
    study: Annotated[Path | None, typer.Argument(metavar="STUDY.toml", help="Default: the preset letters.")] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="A study of the package: letters or quick.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="A file, folder or corpus to use instead.")] = None,
    level: LevelOption = None,
    column: ColumnOption = None,
    id_column: IdColumnOption = None,
    window: WindowOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    out: OutOption = None,
) -> None:
    """Fit every model of a study, rank them on held-out data, and write a run folder with a report."""
    from probseq.study import make_study, read_study
    from probseq.study import preset as read_preset

    if study is not None and preset is not None:
        raise InputError(f"received the study {study} and the preset {preset!r}; expected one of them")
    chosen = read_study(study) if study is not None else read_preset(preset or "letters")
    values = chosen.model_dump(exclude_none=True)
    if data is not None:
        for key in ("corpus", "path", "level", "column", "id_column", "num_sequences", "length"):
            values["data"].pop(key, None)
        values["data"] |= _source(data)
        values["name"] = f"{chosen.name}-{_slug(data)}"
    values["data"] |= _given(level=level, column=column, id_column=id_column, window=window)
    values |= _given(seed=seed, device=device)
    _run(make_study(values), out)


@app.command(
    epilog=_examples(
        "probseq fit hmm --data sotu --level letters --num-states 8 --num-restarts 10",
        "probseq fit lstm --data my.txt --hidden-dim 64 --seconds 60 --out runs/my-lstm",
        "probseq fit gru --data my.txt --set learning_rate=0.01 --set dropout=0.1",
    )
)
def fit(
    kind: Annotated[str, typer.Argument(help="uniform, unigram, ngram, hmm, rnn, gru, lstm or transformer.")],
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
    sizes = _given(num_states=num_states, hidden_dim=hidden_dim, num_restarts=num_restarts)
    budget = _given(num_steps=num_steps, seconds=seconds)
    model = {"kind": kind, **sizes, **budget, **dict(map(_setting, settings or []))}
    values: dict[str, Any] = {"name": f"{kind}-{_slug(data)}", "data": _source(data), "models": {kind: model}}
    values["data"] |= _given(level=level, column=column, id_column=id_column, window=window)
    values |= _given(seed=seed, device=device)
    _run(make_study(values), out)


@app.command(
    epilog=_examples(
        "probseq score runs/letters-seed0 my.txt",
        "probseq score runs/letters-seed0 my.txt --model hmm-16 --format json",
    )
)
def score(
    source: SourceArgument,
    file: FileArgument,
    model: ModelOption = None,
    restart: RestartOption = None,
    window: Annotated[int | None, typer.Option("--window", help="Tokens scored in one go; default: the run's.")] = None,
    output: FormatOption = "table",
) -> None:
    """The log-probability of every document in a file, in nats and bits, each token given those before it."""
    from probseq.checkpoint import plain
    from probseq.scoring import open_fitted, score_file
    from probseq.tables import print_scores

    _check_format(output)
    result = score_file(open_fitted(source, model, restart), file, window)
    if output == "json":
        typer.echo(json.dumps(plain(result), indent=2))
    else:
        print_scores(result)


@app.command(
    epilog=_examples(
        "probseq sample runs/letters-seed0",
        'probseq sample runs/letters-seed0 --model hmm-64 --prefix "the people" --length 200 --num 3',
    )
)
def sample(
    source: SourceArgument,
    model: ModelOption = None,
    restart: RestartOption = None,
    length: Annotated[int, typer.Option("--length", help="Symbols in each text, the prefix included.")] = 300,
    num: Annotated[int, typer.Option("--num", help="How many texts.")] = 1,
    prefix: Annotated[str, typer.Option("--prefix", help="What each text begins with.")] = "",
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of the draws.")] = 0,
) -> None:
    """Draw text from a model, one a line."""
    from probseq.scoring import open_fitted, sample_text

    fitted = open_fitted(source, model, restart)
    texts = sample_text(fitted.model, fitted.vocabulary, num=num, length=length, prefix=prefix, seed=seed)
    typer.echo("\n".join(texts))


@app.command(
    epilog=_examples(
        "probseq decode runs/letters-seed0 my.txt --model hmm-2",
        "probseq decode runs/letters-seed0/models/hmm-2 my.txt --posterior --format json",
    )
)
def decode(
    source: SourceArgument,
    file: FileArgument,
    model: ModelOption = None,
    restart: RestartOption = None,
    posterior: Annotated[bool, typer.Option("--posterior", help="Each state's probability instead.")] = False,
    output: FormatOption = "table",
) -> None:
    """The hidden states of an HMM: the most probable path (Viterbi), a line for each symbol."""
    from probseq.scoring import decode_file, open_fitted
    from probseq.tables import print_states

    _check_format(output)
    documents = decode_file(open_fitted(source, model, restart), file, posterior)
    if output == "json":
        typer.echo(json.dumps(list(documents)))
    else:
        print_states(documents)


@data_app.command("list", epilog=_examples("probseq data list"))
def data_list() -> None:
    """The corpora that can be used by name."""
    from probseq.data.catalog import corpora
    from probseq.tables import print_entries

    print_entries(corpora())


@data_app.command("info", epilog=_examples("probseq data info sotu", "probseq data info sotu --level word"))
def data_info(
    name: Annotated[str, typer.Argument(help="A name out of `probseq data list`.")],
    level: LevelOption = None,
    window: Annotated[int, typer.Option("--window", help="Tokens in a sequence, at most.")] = 256,
) -> None:
    """Where a corpus is from, and how large its parts are."""
    from probseq.data.catalog import corpora, load_corpus
    from probseq.tables import print_corpus

    corpus = load_corpus(name, level=level, window=window)
    print_corpus(next(entry for entry in corpora() if entry.name == name), corpus)


def main() -> None:
    """Run the command line."""
    app()


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def _source(data: str) -> dict[str, str]:
    """A corpus of the catalog, or else a path; ``./sotu`` is a file even if there is a corpus of that name."""
    from probseq.data.catalog import corpora

    levels = {entry.name: entry.level for entry in corpora()}
    if data in levels:
        return {"corpus": data, "level": levels[data]}
    if not Path(data).exists() and not re.search(r"[/\\.]", data):
        raise unknown("corpus", data, levels)
    return {"path": data, "level": "char"}


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


def _check_format(output: str) -> None:
    if output not in ("table", "json"):
        raise unknown("format", output, ("table", "json"))


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
        raise typer.Exit(_INTERRUPTED)
