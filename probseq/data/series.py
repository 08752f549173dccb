"""Numeric series at level ``vector``: tables and arrays in which a row is a step and an empty cell is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.data.arrays import Array, as_series, load_arrays, split_arrays
from probseq.data.documents import Document
from probseq.data.readers import json_record, read_frame, read_text
from probseq.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

_ABSENT = {"", "na", "nan", "null", "none"}
_KEYS = ("values", "tokens")


def read_series(
    path: Path, column: str | None = None, id_column: str | None = None
) -> tuple[list[Document], tuple[str, ...]]:
    """The series of a file, each ``(T, D)`` floats with NaN where a value is missing, and the names of the D columns.

    Args:
        path: a .csv, .tsv, .jsonl, .npz or .npy file.
        column: of a table, the columns that are read, with commas between them (default: all); of JSON lines, the key.
        id_column: of a table, which series a row is a step of. Default: the whole table is one series.

    Raises:
        InputError: a file that is missing, malformed or of another type, text, or an infinite value.
    """
    readers: dict[str, Callable[[], tuple[list[Document], tuple[str, ...]]]] = {
        ".csv": lambda: _read_table(path, ",", column, id_column),
        ".tsv": lambda: _read_table(path, "\t", column, id_column),
        ".jsonl": lambda: (list(_read_json_lines(path, column)), ()),
        ".npz": lambda: (split_arrays(load_arrays(path), path.name, as_series), ()),
        ".npy": lambda: (split_arrays(load_arrays(path), path.name, as_series), ()),
    }
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected a .csv, .tsv, .jsonl, .npz or .npy file of numbers")
    if path.suffix.lower() not in readers:
        raise unknown("file type of numbers", path.suffix or path.name, readers)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; expected rows of numbers")
    documents, columns = readers[path.suffix.lower()]()
    if not documents:
        raise InputError(f"{path} holds no series; expected rows of numbers")
    return documents, columns


def _read_table(
    path: Path, separator: str, column: str | None, id_column: str | None
) -> tuple[list[Document], tuple[str, ...]]:
    frame = read_frame(read_text(path).rstrip("\n"), path.name, separator, blank_rows=True)
    wanted = None if column is None else [one.strip() for one in column.split(",")]
    for one in [*(wanted or []), *([id_column] if id_column else [])]:
        if one not in frame.columns:
            raise unknown("column", one, frame.columns)
    columns = wanted or [one for one in frame.columns if one != id_column]
    cells = np.stack([_parse(frame[one], path.name) for one in columns], axis=1)
    if id_column is None:
        return [Document(as_series(cells, path.name), path.name)], tuple(columns)
    groups = frame.groupby(id_column, sort=False).indices
    return [
        Document(as_series(cells[rows], f"{id_column} {one}"), f"{id_column} {one}", group=f"{id_column} {one}")
        for one, rows in groups.items()
    ], tuple(columns)


def _parse(cells: pd.Series[str], name: str) -> Array:
    """The numbers of one column; NaN where a cell is empty."""
    values = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        text = cell.strip()
        if text.lower() in _ABSENT:
            continue
        try:
            values[row] = float(text)
        except ValueError:
            raise InputError(
                f"row {row + 1} of {name} holds {cell!r} in column {cells.name!r}, which is no number; "
                "name the columns of numbers with --column (a,b), or leave the cell empty where it is missing"
            ) from None
    return values


def _read_json_lines(path: Path, key: str | None) -> Iterator[Document]:
    for name, value, metadata in json_record(path, key, _KEYS):
        if not isinstance(value, list) or not _is_numeric(value):
            raise InputError(f"{name} of {path.name} holds {json.dumps(value)[:40]}; expected a list of numbers")
        try:
            values = np.array(value, dtype=np.float64)
        except ValueError:
            raise InputError(f"{name} holds vectors of different sizes; expected all of one size") from None
        yield Document(as_series(values, name), name, metadata=metadata)


def _is_numeric(value: Any) -> bool:
    """Whether a list holds numbers and nulls alone, at any depth."""
    if isinstance(value, list):
        return all(map(_is_numeric, value))
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
