"""What a fit did at every step: a line of JSON for each, and TensorBoard by choice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

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
        self.file: IO[str] | None = None if path is None else _open(Path(path), step)
        self.board: Any = None if board is None else _writer(board, step)

    def write(self, step: int, values: Mapping[str, float | list[float]]) -> None:
        """Note what was true after `step` steps; a list has a number for each restart, NaN if it had stopped."""
        if self.file is not None:
            try:
                self.file.write(json.dumps({"step": step, **{key: _plain(one) for key, one in values.items()}}) + "\n")
                self.file.flush()
            except OSError as error:
                raise InputError(f"cannot write {self.file.name}: {error.strerror}; make room and resume") from None
        if self.board is not None:
            for key, one in values.items():
                curves = {f"{key}/{r}": x for r, x in enumerate(one)} if isinstance(one, list) else {key: one}
                for name, number in curves.items():
                    if math.isfinite(number):
                        self.board.add_scalar(name, number, step)

    def close(self) -> None:
        """Close the files."""
        if self.file is not None:
            self.file.close()
        if self.board is not None:
            self.board.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a file that a fit wrote. A last line that was cut off is left out.

    Raises:
        InputError: no such file.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise InputError(f"cannot read the metrics {path}: {error.strerror}") from None
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _open(path: Path, step: int | None) -> IO[str]:
    if path.exists() and step is None:
        raise InputError(f"the metrics file {path} exists; remove it, choose another, or resume the run that wrote it")
    if path.exists():
        kept = [line for line in read_metrics(path) if line["step"] <= (step or 0)]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the metrics {path}: {error.strerror}") from None


def _writer(board: str | Path, step: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard is not installed; install it: pip install 'probseq[tensorboard]'") from None
    return SummaryWriter(log_dir=str(board), purge_step=None if step is None else step + 1)  # type: ignore[no-untyped-call]


def _plain(value: float | list[float]) -> Any:
    """JSON has no NaN."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value if math.isfinite(value) else None
