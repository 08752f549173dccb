"""Pairs, each a source and a target, out of a user's own file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from probseq.data.corpus import Corpus, build_corpus
from probseq.data.documents import Document
from probseq.data.preparation import make_preparation
from probseq.data.readers import check_text, json_objects, read_text
from probseq.data.vocabulary import as_read
from probseq.errors import InputError, unknown

_SOURCE, _TARGET = "source", "target"
_NAME_THEM = "name its columns with --source-column and --column"


def read_pairs(
    path: str | Path,
    level: str = "symbol",
    source_level: str = "char",
    window: int | None = None,
    *,
    column: str | None = None,
    source_column: str | None = None,
    name: str | None = None,
    **options: Any,
) -> Corpus:
    """A corpus of pairs from a user's own file: targets, and a source for each.

    ====== ==========================================================================================================
    .tsv   a pair a line: source, tab, target. With the names of columns, or where the first line is ``source``, tab,
           ``target`` (in capitals or not), that line is a header and other columns may stand beside them
    .jsonl a pair a line: an object with ``source`` and ``target``, each a text or a list of symbols
    ====== ==========================================================================================================

    Every source and every target is closed by ``<end>``, so both may be empty. All targets of one source, as
    `source_level` reads it, go to the same part. The vocabularies are those of train alone; rare symbols of the sources
    are ``<unk>``, at every level but the fixed ones, letters and byte.

    Args:
        path: the file, in UTF-8.
        level: how targets are cut into symbols: letters, char, byte, word, or symbol for what stands between spaces.
        source_level: the same for sources.
        window: targets of more tokens are an error, because a pair is never cut. Default: any length.
        column, source_column: of the targets and of the sources, where they have other names.
        name: of the corpus. Default: the file's name.
        **options: the other fields of `probseq.data.Preparation`.

    Returns:
        A corpus whose parts have a source (``corpus.is_parallel``).

    Raises:
        InputError: a file that is missing, empty or too small, or malformed lines, with their numbers.

    Warns:
        UserWarning: the first line looks like a header that was not named.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        ...     _ = file.write("see\\tS IH\\n" + "".join(f"{x}ee\\t{x.upper()} IY\\n" for x in "bflnst"))
        ...     file.flush()
        ...     corpus = read_pairs(file.name, min_count=2)
        >>> sum(len(part) for part in corpus.parts.values()), corpus.vocabulary.symbols
        (7, ('<unk>', 'IY', '<end>'))
    """
    preparation = make_preparation(level=level, source_level=source_level, window=window, **options)
    path = Path(path)
    documents = read_pair_documents(path, level, source_level, column=column, source_column=source_column)
    if path.suffix.lower() == ".tsv":
        _warn_of_header(documents, level)
    return build_corpus(documents, preparation, name=name or path.stem, description=f"Pairs read from {path.name}.")


def read_pair_documents(
    path: Path,
    level: str = "symbol",
    source_level: str = "char",
    *,
    column: str | None = None,
    source_column: str | None = None,
) -> list[Document]:
    """The pairs of a file as documents with a source; see `read_pairs`.

    Raises:
        InputError: a file that is missing, empty, malformed or of an unknown type, with the lines of the mistakes.
    """
    readers = {".tsv": _read_tsv, ".jsonl": _read_json_lines}
    content = "byte" if level == source_level == "byte" else "char"
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected pairs in a .tsv or .jsonl file")
    if path.suffix.lower() not in readers:
        raise unknown("file type of pairs", path.suffix or path.name, readers)
    rows = readers[path.suffix.lower()](path, source_column, column, content)
    named = ((f"{line} of {path.name}", source, target) for line, source, target in rows)
    documents = [
        Document(_text(target, name, level), name, source=_text(source, name, source_level))
        for name, source, target in named
    ]
    if not documents:
        raise InputError(f"{path} holds no pairs; expected a source and a target in every line")
    return documents


def has_columns(path: Path, *names: str | None) -> bool:
    """Whether the header, or the first object, of a file of pairs has all these names; None is in every file."""
    if path.suffix.lower() == ".jsonl":
        held = list(next(json_objects(path, "byte"), ("", {}))[1])
    else:
        held = read_text(path, "byte").removeprefix("\ufeff").partition("\n")[0].removesuffix("\r").split("\t")
    return {*names} - {None} <= {*held}


def _warn_of_header(documents: list[Document], level: str) -> None:
    """Say that line 1 may be a header: its symbols are in no other target, and most targets do share some."""
    symbols = [_symbols(one.content, level) for one in documents]
    seen: dict[str, int] = {}
    for own in symbols:
        for symbol in own:
            seen[symbol] = seen.get(symbol, 0) + 1
    alone = [bool(own) and all(seen[symbol] == 1 for symbol in own) for own in symbols]
    if documents[0].name.startswith("line 1 ") and alone[0] and 2 * sum(alone[1:]) < len(alone) - 1:
        warnings.warn(
            f"{documents[0].name} has the target {documents[0].content!r}, whose symbols are in no other; where it is "
            f"a header, {_NAME_THEM}",
            stacklevel=3,
        )


def _symbols(target: Any, level: str) -> set[str]:
    text = as_read(target, level)
    return set(text.split() if level in ("word", "symbol") else text)


def _read_tsv(path: Path, source_column: str | None, column: str | None, level: str) -> Iterator[tuple[str, Any, Any]]:
    """The cells of every line that is not blank, by the names of the first line where it is a header."""
    lines = [
        (i, line.split("\t")) for i, line in enumerate(read_text(path, level).split("\n"), start=1) if line.strip(" ")
    ]
    if not lines:
        return iter(())
    first = lines[0][1]
    named = bool(source_column or column) or {_SOURCE, _TARGET} <= {cell.casefold() for cell in first}
    source, target = (0, 1)
    if named:
        source = _place(first, source_column, _SOURCE, "--source-column", path.name)
        target = _place(first, column, _TARGET, "--column", path.name)
    width, rows = (len(first), lines[1:]) if named else (2, lines)
    if wrong := [(i, len(cells)) for i, cells in rows if len(cells) != width]:
        or_named = f"; where line 1 is a header, {_NAME_THEM}" if not named and len(first) > 2 else ""
        raise InputError(f"{path.name}: {_describe(wrong)}; expected {width}, with tabs between them{or_named}")
    return ((f"line {i}", cells[source], cells[target]) for i, cells in rows)


def _place(header: list[str], name: str | None, usual: str, option: str, file: str) -> int:
    """Where a column stands in a header: that of this name, or else the usual one, in capitals or not."""
    if name is not None and name not in header:
        raise unknown(f"column of {file}", name, header)
    if name is not None:
        return header.index(name)
    cells = [cell.casefold() for cell in header]
    if usual not in cells:
        raise InputError(f"{file} has no column {usual!r} (it has {', '.join(header)}); name the column with {option}")
    return cells.index(usual)


def _describe(wrong: list[tuple[int, int]], most: int = 5) -> str:
    """In words, which lines have how many cells."""
    named = ", ".join(f"line {i} has {count} cell{'s' * (count != 1)}" for i, count in wrong[:most])
    return f"{named} and so on, {len(wrong)} lines in all" if len(wrong) > most else named


def _read_json_lines(
    path: Path, source_column: str | None, column: str | None, level: str
) -> Iterator[tuple[str, Any, Any]]:
    keys = [source_column or _SOURCE, column or _TARGET]
    for name, record in json_objects(path, level):
        if missing := [key for key in keys if key not in record]:
            held = ", ".join(record) or "none"
            raise InputError(
                f"{path.name}, {name} has no key {missing[0]!r} (it has {held}); name the keys with "
                "--source-column and --column"
            )
        yield name, record[keys[0]], record[keys[1]]


def _text(value: Any, name: str, level: str) -> str:
    """A text, or symbols with spaces between them."""
    if isinstance(value, str):
        return value if level == "byte" else check_text(value, name)
    if not isinstance(value, list) or not all(isinstance(one, (str, int)) for one in value):
        raise InputError(f"{name} holds a {type(value).__name__}; expected a text, or a list of symbols")
    if level != "symbol":
        raise InputError(
            f"{name} holds a list of symbols, which level {level!r} would take apart; expected level 'symbol', "
            "or a text"
        )
    symbols = [str(one) for one in value]
    if broken := [one for one in symbols if one.split() != [one]]:
        raise InputError(f"{name} holds the symbol {broken[0]!r}; expected symbols without spaces")
    return check_text(" ".join(symbols), name)
