"""What a fit did at every step: a line of JSON for each, and TensorBoard by choice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from probseq.errors import InputError
from probseq.inference.checkpointing import write_whole


class Metrics:
    """A JSONL file that grows by a line for each step, and event files for TensorBoard.

    Args:
        path: the file, or None.
        board: the folder of TensorBoard's files, or None.
        step: the step after which the fit goes on: what was written about later ones is forgotten.

    Raises:
        InputError: the file is there and nothing is resumed, no place to write, TensorBoard is not installed.
    """

    def __init__(self, path: str | Path | None, board: str | Path | None, step: int | None) -> None:
        writer = None if board is None else _summary_writer()  # before anything is made
        self.file: FileIO | None = None if path is None else _open(Path(path), step)
        self.board: Any = None
        if writer is not None:
            try:
                self.board = writer(log_dir=str(board), purge_step=None if step is None else step + 1)
            except OSError as error:
                self.close()
                raise InputError(f"cannot write TensorBoard's files in {board}: {error.strerror}") from None

    def write(self, step: int, values: Mapping[str, float | list[float]]) -> None:
        """Note what was true after `step` steps; a list has a number for each restart, NaN if it had stopped.

        Raises:
            InputError: it cannot be written.
        """
        if self.file is not None:
            rest = _line({"step": step, **{key: _plain(one) for key, one in values.items()}})
            with _room(self.file.name):
                while rest:
                    rest = rest[self.file.write(rest) :]
        if self.board is not None:
            with _room(self.board.log_dir):
                for name, number in _curves(values):
                    self.board.add_scalar(name, number, step)

    def close(self) -> None:
        """Close the files.

        Raises:
            InputError: what TensorBoard still had to write cannot be written.
        """
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            with _room(self.board.log_dir):
                self.board.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a file that a fit wrote. A last line that was cut off is left out.

    Raises:
        InputError: no such file, or a line in it that is none of a fit's.
    """
    try:
        lines = Path(path).read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"cannot read the metrics {path}: {error.strerror}") from None
    return [_row(path, number, line) for number, line in enumerate(lines, start=1) if line.endswith(b"\n")]


def _row(path: str | Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
        int(row["step"])
    except (ValueError, TypeError, KeyError):
        raise InputError(f"the metrics {path} are damaged: line {number} is none of a fit's; remove it") from None
    return row


def _open(path: Path, step: int | None) -> FileIO:
    """The file without a buffer: a line that does not fit on the disk fails once, and not again when it is closed."""
    if step is None and path.exists() and path.stat().st_size:
        raise InputError(f"the metrics file {path} exists; remove it, choose another, or resume the run that wrote it")
    if step is not None and path.exists():
        write_whole({path: b"".join(_line(row) for row in read_metrics(path) if row["step"] <= step)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab", buffering=0)
    except OSError as error:
        raise InputError(f"cannot write the metrics {path}: {error.strerror}") from None


def _line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row) + "\n").encode()


@contextmanager
def _room(place: Any) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {place}: {error.strerror or error}; make room and resume") from None


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard is not installed; install it: pip install 'probseq[tensorboard]'") from None
    return SummaryWriter


def _curves(values: Mapping[str, float | list[float]]) -> Iterator[tuple[str, float]]:
    """Each number by its name; TensorBoard draws nothing for one that is not finite."""
    for key, one in values.items():
        curves = {f"{key}/{r}": x for r, x in enumerate(one)} if isinstance(one, list) else {key: one}
        yield from ((name, number) for name, number in curves.items() if math.isfinite(number))


def _plain(value: float | list[float]) -> Any:
    """JSON has no NaN."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value if math.isfinite(value) else None
