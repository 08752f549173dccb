"""The options that several commands share, and what all commands do with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from probseq.errors import InputError, unknown

LevelOption = Annotated[str | None, typer.Option("--level", help="letters, char, byte, word, symbol or vector.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of the data split, the starting points, the updates.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
ColumnOption = Annotated[
    str | None, typer.Option("--column", help="Of a table or JSON lines: where the values are; of vectors: a,b.")
]
IdColumnOption = Annotated[str | None, typer.Option("--id-column", help="Of a long table: which document a row is of.")]
SourceLevelOption = Annotated[
    str | None, typer.Option("--source-level", help="Of pairs: how sources are cut, as in --level.")
]
SourceColumnOption = Annotated[
    str | None, typer.Option("--source-column", help="Of pairs: where the sources are. Default: source.")
]
WindowOption = Annotated[int | None, typer.Option("--window", help="Tokens in a sequence, at most.")]
UnitOption = Annotated[
    str | None, typer.Option("--unit", help="document, or paragraph: what counts as a document of its own.")
]
MinCountOption = Annotated[
    int | None, typer.Option("--min-count", help="Rarer symbols become <unk>. Only scores of one vocabulary compare.")
]
SourceMinCountOption = Annotated[
    int | None, typer.Option("--source-min-count", help="Of pairs: the same of the sources. Default: 2.")
]
StopWordsOption = Annotated[
    str | None,
    typer.Option(
        "--stop-words", help="Words to leave out: english,punctuation,... Only scores of the same tokens compare."
    ),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="The folder to make. Default: a new one in runs/.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from the checkpoints of a command that was killed.")
]
BoardOption = Annotated[Path | None, typer.Option("--tensorboard", help="A folder for TensorBoard's event files.")]
SourceArgument = Annotated[Path, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder or a model folder.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A file or folder, as for --data.")]
MaybeFileArgument = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="A file or folder, as for --data; or --input.")
]
InputOption = Annotated[
    Path | None, typer.Option("--input", help="The same as FILE; of a model of pairs, sources, one a line.")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Which model of a run. Default: the best.")]
RestartOption = Annotated[int | None, typer.Option("--restart", help="Default: the one chosen on validation.")]
FormatOption = Annotated[str, typer.Option("--format", help="table or json.")]
FileOption = Annotated[Path | None, typer.Option("--out", help="Write a .csv or .json file instead of printing.")]


def examples(*lines: str) -> str:
    """What stands below the help of a command."""
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def preparation(unit: str | None, min_count: int | None, stop_words: str | None) -> dict[str, Any]:
    """What was given of the options that say how text becomes tokens."""
    words = None if stop_words is None else [word.strip() for word in stop_words.split(",")]
    return given(unit=unit, min_count=min_count, stop_words=words)


def one_file(file: Path | None, other: Path | None) -> Path:
    """The file that was named, as an argument or with --input.

    Raises:
        InputError: none was, or both.
    """
    if file is not None and other is None:
        return file
    if other is None or file is not None:
        raise InputError(f"received the file {file} and --input {other}; expected exactly one of them")
    return other


def check_format(output: str) -> None:
    """Raise `InputError` unless `output` is a way to print."""
    if output not in ("table", "json"):
        raise unknown("format", output, ("table", "json"))


def check_streaming(num: int, output: str) -> None:
    """Raise `InputError` where a text cannot be printed as it is drawn."""
    if num != 1 or output != "table":
        raise InputError(f"received --stream with --num {num} and --format {output}; it prints one text, as it is")


def check_left_out(why: str, asked: Mapping[str, bool]) -> None:
    """Raise `InputError` where options were given that say nothing here."""
    if names := [name for name, given in asked.items() if given]:
        raise InputError(f"received {', '.join(names)}, and {why}; leave it out")
