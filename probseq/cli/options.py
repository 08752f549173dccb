"""The options that several commands share, and what all commands do with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from probseq.errors import unknown

LevelOption = Annotated[str | None, typer.Option("--level", help="letters, char, byte, word, symbol or vector.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of the data split, the starting points, the updates.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda.")]
ColumnOption = Annotated[
    str | None, typer.Option("--column", help="Of a table or JSON lines: where the values are; of vectors: a,b.")
]
IdColumnOption = Annotated[str | None, typer.Option("--id-column", help="Of a long table: which document a row is of.")]
WindowOption = Annotated[int | None, typer.Option("--window", help="Tokens in a sequence, at most.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The folder to make. Default: a new one in runs/.")]
SourceArgument = Annotated[Path, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder or a model folder.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A file or folder, as for --data.")]
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


def check_format(output: str) -> None:
    """Raise `InputError` unless `output` is a way to print."""
    if output not in ("table", "json"):
        raise unknown("format", output, ("table", "json"))
