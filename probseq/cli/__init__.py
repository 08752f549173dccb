"""The command line. Heavy modules are imported by the commands, so that ``--help`` is quick."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from probseq import __version__
from probseq.cli import asking, catalog, decoding, fitting
from probseq.cli.options import examples
from probseq.errors import InputError


class _Group(TyperGroup):
    """A bad input is one sentence on stderr and exit code 2; a warning is one line there."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _print_warning
                return super().invoke(ctx)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("interrupted; nothing was written", err=True)
            raise typer.Exit(fitting.INTERRUPTED) from None


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"warning: {' '.join(str(message).split())}", err=True)


app = typer.Typer(name="probseq", cls=_Group, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(fitting.app)
app.add_typer(asking.app)
app.add_typer(decoding.app)
app.add_typer(catalog.app, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"probseq {__version__}")
        raise typer.Exit


@app.callback(epilog=examples("probseq compare --preset quick", "probseq data list", "probseq compare --help"))
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """One question to every model of sequences: what probability do you give this sequence?"""


def main() -> None:
    """Run the command line."""
    app()
