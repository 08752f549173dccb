"""The file formats that a user's own data may come in, each read into `Document`s."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.arrays import check_array, load_arrays, split_arrays
from probseq.data.documents import Document, cut_sections
from probseq.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ("text", "tokens", "values")
_PAIRS = "where they are pairs of a source and a target, fit with --source-level char (in Python ps.read_pairs)"


def read_documents(
    path: Path, *, level: str = "char", column: str | None = None, id_column: str | None = None
) -> list[Document]:
    """The documents of a file or folder; see `read_corpus` for the formats.

    Raises:
        InputError: a file that is missing, empty, malformed or of an unknown type, with the place of the mistake.
    """
    readers: dict[str, Callable[[], list[Document]]] = {
        ".txt": lambda: cut_sections(read_text(path, level), path.name),
        ".jsonl": lambda: _read_json_lines(path, level, column),
        ".csv": lambda: _read_table(path, level, ",", column, id_column),
        ".tsv": lambda: _read_table(path, level, "\t", column, id_column),
        ".npz": lambda: _read_arrays(path),
    }
    if not path.exists():
        raise InputError(
            f"there is no file or folder {path}; expected a .txt, .jsonl, .csv, .tsv or .npz file, or a folder"
        )
    if path.is_dir():
        return _read_folder(path, level)
    if path.suffix.lower() not in readers:
        raise unknown("file type", path.suffix or path.name, readers)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; expected at least three documents")
    return readers[path.suffix.lower()]()


def read_text(path: Path, level: str = "char") -> str:
    """The text of a UTF-8 file, with line ends as ``\\n``. At level ``byte``, the file as it is, whatever its bytes.

    Raises:
        InputError: it cannot be read, or is no UTF-8; the sentence gives the offset of the offending byte.
    """
    try:
        content = path.read_bytes()
        if level == "byte":
            return content.decode("utf-8", "surrogateescape")
        text = content.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a readable file") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte 0x{content[error.start]:02x} at offset {error.start}); "
            "convert it to UTF-8, for example with iconv, or use level 'byte'"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _read_folder(folder: Path, level: str) -> list[Document]:
    files = sorted(file for file in folder.rglob("*.txt") if file.is_file())
    if not files:
        raise InputError(f"folder {folder} holds no .txt file; expected one for each document")
    return [Document(read_text(file, level), file.relative_to(folder).as_posix()) for file in files]


def _read_json_lines(path: Path, level: str, key: str | None) -> list[Document]:
    return [
        Document(_json_content(value, name, level), name, metadata=metadata)
        for name, value, metadata in json_record(path, key, _KEYS, level)
    ]


def json_record(
    path: Path, key: str | None, keys: Iterable[str], level: str = "char"
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Of every line of a .jsonl file: what to call it, the value under `key`, and the plain values beside it.

    Args:
        path: the file; blank lines are left out.
        key: where the value is. Default: the first of `keys` that a line has.
        keys: the names that a value may go by.
        level: see `read_text`.

    Raises:
        InputError: a line that is no JSON object, or has no such key.
    """
    for name, record in json_objects(path, level):
        found = key or next((k for k in keys if k in record), next(iter(keys)))
        if found not in record:
            held = ", ".join(record) or "none"
            pairs = f"; {_PAIRS}" if {"source", "target"} <= record.keys() else ""
            raise InputError(
                f"{path.name}, {name} has no key {found!r} (it has {held}); name the key with --column{pairs}"
            )
        value = record.pop(found)
        yield name, value, _scalars(record)


def json_objects(path: Path, level: str = "char") -> Iterator[tuple[str, dict[str, Any]]]:
    """Of every line of a .jsonl file that is not blank: what to call it, and its object.

    Raises:
        InputError: a line that is no JSON object.
    """
    for number, line in enumerate(read_text(path, level).split("\n"), start=1):
        if not line.strip():
            continue
        name = f"line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path.name}, {name} is not JSON ({error}); expected one object a line") from None
        if not isinstance(record, dict):
            kind = type(record).__name__
            raise InputError(f'{path.name}, {name} is a {kind}; expected an object such as {{"text": ...}}')
        yield name, record


def _scalars(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if v is None or isinstance(v, (str, int, float))}


def check_text(text: str, name: str) -> str:
    """`text` itself, if it is one.

    Raises:
        InputError: it holds half of a surrogate pair, as JSON can.
    """
    if any("\ud800" <= symbol <= "\udfff" for symbol in text):
        raise InputError(f"{name} has half of a surrogate pair, which no text can hold; expected Unicode characters")
    return text


def _json_content(value: Any, name: str, level: str) -> str | NDArray[Any]:
    if isinstance(value, str):
        return check_text(value, name)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        if level not in ("symbol", "word"):
            raise InputError(
                f"{name} holds a list of tokens, which level {level!r} would take apart; expected level 'symbol', "
                "which keeps them whole, or a text"
            )
        return " ".join(value)
    if not isinstance(value, list):
        raise InputError(f"{name} holds a {type(value).__name__}; expected a text, or a list of ints or of vectors")
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(f"{name} holds vectors of different sizes; expected all of one size") from None
    return check_array(array, name)


def _read_table(path: Path, level: str, separator: str, column: str | None, id_column: str | None) -> list[Document]:
    frame = read_frame(read_text(path, level), path.name, separator)
    for wanted in (column, id_column):
        if wanted is not None and wanted not in frame.columns:
            raise unknown("column", wanted, frame.columns)
    if id_column is not None:
        values = [column] if column else [one for one in frame.columns if one != id_column]
        groups = [(f"{id_column} {one}", rows[values]) for one, rows in frame.groupby(id_column, sort=False)]
        return [Document(_long_content(rows, name), name) for name, rows in groups]
    text = column or ("text" if "text" in frame.columns else None)
    if text is None and len(frame.columns) == 1 and _numbers(frame.iloc[:, 0]) is None:
        text = frame.columns[0]
    if text is None:
        if separator == "\t" and _looks_like_pairs(frame):
            raise InputError(f"{path.name} has two columns of text; name one of them with --column, or {_PAIRS}")
        return list(_numeric_rows(frame, path.name))
    known = frame.drop(columns=text).to_dict("records")
    return [
        Document(content, f"row {i}", metadata={str(k): v for k, v in more.items()})
        for i, (content, more) in enumerate(zip(frame[text], known, strict=True), start=1)
    ]


def read_frame(text: str, name: str, separator: str, blank_rows: bool = False) -> pd.DataFrame:
    """All cells as strings, so that the text "NA" and the number 1.0 stay what they are.

    Args:
        text: the table.
        name: what messages call it.
        separator: between the cells of a row.
        blank_rows: keep rows of which nothing is filled; otherwise they are left out.

    Raises:
        InputError: rows that do not make a table, or that end early.
    """
    import pandas as pd

    options: dict[str, Any] = {"sep": separator, "dtype": str, "keep_default_na": False}
    options["skip_blank_lines"] = not blank_rows
    lines = text.split("\n")
    first = lines[0].split(separator)
    try:
        if all(_is_number(cell) for cell in first):  # no header: a series a row, and rows may differ in length
            longest = max(line.count(separator) for line in lines) + 1
            options |= {"header": None, "names": [str(i) for i in range(longest)]}
        frame: pd.DataFrame = pd.read_csv(io.StringIO(text), **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        detail = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise InputError(f"{name} is no table ({detail}); expected rows of equally many columns") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes what is too much for an index
        raise InputError(f"{name} has rows of more columns than its header; expected equally many")
    if frame.empty:
        raise InputError(f"{name} has a header and no rows; expected a document a row")
    if blank_rows or "header" not in options:
        _check_widths(frame, text, name, separator)
    return frame.fillna("")


def _check_widths(frame: pd.DataFrame, text: str, name: str, separator: str) -> None:
    """Raise `InputError` if a row ends early: a cell that is empty is missing, one that is absent a mistake."""
    if not (frame.iloc[:, -1].fillna("") == "").any():  # a row that ends early has none there
        return
    width, rows = len(frame.columns), csv.reader(io.StringIO(text), delimiter=separator)
    for cells in rows:
        if len(cells) < width and any(cell.strip() for cell in cells):
            raise InputError(
                f"line {rows.line_num} of {name} has {len(cells)} of {width} cells; expected one for each column, "
                "empty where a value is missing"
            )


def _looks_like_pairs(frame: pd.DataFrame) -> bool:
    """Whether there are two columns, and one of them holds no number at all."""
    columns = [frame.iloc[:, i] for i in range(frame.shape[1])]
    return len(columns) == 2 and not all(any(map(_is_number, cells)) for cells in columns)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(cells: Iterable[str]) -> NDArray[Any] | None:
    """The cells as ints, or else as floats; None if one of them is no number."""
    for kind in (np.int64, np.float64):
        try:
            return np.array([cell.strip() for cell in cells]).astype(kind)
        except ValueError:
            continue
    return None


def _numeric_rows(frame: pd.DataFrame, name: str) -> Iterator[Document]:
    remedy = "name the text column with --column, or the id column of a long table with --id-column"
    for i, cells in enumerate(frame.to_numpy(), start=1):
        filled = [j for j, cell in enumerate(cells) if cell.strip()]
        length = filled[-1] + 1 if filled else 0  # short rows: empty cells at the end
        if len(filled) < length:
            raise InputError(f"row {i} of {name} has an empty cell before its end; expected one at its end only")
        array = _numbers(cells[:length]) if length else np.zeros(0, dtype=np.int64)
        if array is None:
            raise InputError(f"row {i} of {name} holds {_first_text(cells)!r}, which is no number; {remedy}")
        yield Document(check_array(array, f"row {i}"), f"row {i}")


def _first_text(cells: Iterable[str]) -> str:
    return next(cell for cell in cells if not _is_number(cell))


def _long_content(rows: pd.DataFrame, name: str) -> str | NDArray[Any]:
    columns = [_numbers(rows[one]) for one in rows.columns]
    if len(columns) == 1:
        return "\n".join(rows.iloc[:, 0]) if columns[0] is None else check_array(columns[0], name)
    for one, values in zip(rows.columns, columns, strict=True):
        if values is None:
            raise InputError(
                f"{name} has {_first_text(list(rows[one]))!r} in column {one!r}, which is no number; "
                "expected numbers, or one text column named with --column"
            )
    return check_array(np.stack([np.asarray(values, dtype=np.float64) for values in columns], axis=1), name)


def _read_arrays(path: Path) -> list[Document]:
    arrays = load_arrays(path)
    if len(arrays) == 1 and (only := next(iter(arrays.values()))).ndim == 2 and only.dtype.kind in "iu":
        return [Document(check_array(row, f"row {i}"), f"row {i}") for i, row in enumerate(only, start=1)]
    return split_arrays(arrays, path.name, check_array)
