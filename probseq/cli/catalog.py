"""The commands about the corpora that can be used by name."""

from __future__ import annotations

from typing import Annotated

import typer

from probseq.cli.options import LevelOption, examples

app = typer.Typer(no_args_is_help=True, help="The corpora that can be used by name.")


@app.command("list", epilog=examples("probseq data list"))
def data_list() -> None:
    """The corpora that can be used by name."""
    from probseq.data.catalog import corpora
    from probseq.tables import print_entries

    print_entries(corpora())


@app.command("info", epilog=examples("probseq data info sotu", "probseq data info sotu --level word"))
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
