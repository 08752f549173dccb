"""Checkpoints of a fit: from the last one a killed process is continued bit for bit.

A folder holds ``run.json``, which says what is fitted, to what and how, and the last few states, each one file
``step-00000400.safetensors``. Nothing in them is code, and nothing in them is the time: two runs that did the same have
the same bytes. What the clock said stands apart, in ``clock.json``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from probseq.data.sequences import Sequences
from probseq.errors import InputError

SCHEMA = 1
_STATE = re.compile(r"step-(\d{8})\.safetensors")


class Checkpoints:
    """The folder of checkpoints of one run.

    Args:
        folder: where.
        identity: what is fitted, to what and how, in plain values (JSON), by part; a state of another run is refused.
        keep: the last so many states are kept.
        resume: go on with the run that the folder holds, instead of beginning one.

    Raises:
        InputError: a folder that holds a run and is not to be resumed, none to resume, another run's, no place to
            write.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any], *, keep: int, resume: bool) -> None:
        self.folder, self.keep = Path(folder), keep
        identity = json.loads(json.dumps({"schema": SCHEMA, **_finite(identity)}))
        found = (self.folder / "run.json").exists()
        if resume:
            if not found:
                raise InputError(f"there is no run to resume in {self.folder}; leave resume out, or name its folder")
            _check_same(self.folder, _read(self.folder / "run.json"), identity)
        elif found:
            raise InputError(f"{self.folder} holds the checkpoints of a run; resume it, or choose another folder")
        else:
            _make(self.folder)
            write_whole(self.folder / "run.json", _text(identity))
        for partial in self.folder.glob(".*.partial"):  # of a process that was killed while it wrote
            partial.unlink()

    def states(self) -> list[int]:
        """The steps of which there is a state, in order."""
        found = (_STATE.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(one[1]) for one in found if one)

    def path(self, step: int) -> Path:
        """The file of the state after that many steps."""
        return self.folder / f"step-{step:08d}.safetensors"

    def seconds(self, step: int) -> float:
        """What the clock said then; 0 where that was not written."""
        path = self.folder / "clock.json"
        return float(_read(path).get(str(step), 0.0)) if path.exists() else 0.0

    def save(self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], seconds: float) -> None:
        """Write the state after `step` steps, then forget all but the last few.

        Raises:
            InputError: it cannot be written; earlier states are as they were.
        """
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        document = json.dumps({**values, "sha256": _checksum(tensors)}, sort_keys=True)
        try:
            write_whole(self.path(step), safetensors.torch.save(tensors, metadata={"state": document}))
            kept = [one for one in self.states() if one <= step][-self.keep :]
            write_whole(
                self.folder / "clock.json", _text({str(one): self.seconds(one) for one in kept} | {str(step): seconds})
            )
        except InputError as error:
            rest = self.states()
            intact = f"{self.path(rest[-1])} is intact: make room and resume" if rest else "there is none before it"
            raise InputError(f"{error}; {intact}") from None
        for one in self.states():
            if one not in kept:
                self.path(one).unlink()

    def load(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """The newest state: its step, tensors and values; None where the run was stopped before there was one.

        Raises:
            InputError: it is damaged.
        """
        steps = self.states()
        if not steps:
            return None
        path = self.path(steps[-1])
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                values = json.loads((file.metadata() or {})["state"])
            damage = None if values.pop("sha256") == _checksum(tensors) else "its SHA-256 is another"
        except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
            damage = str(error)
        if damage is not None:
            before = f"; delete it to resume from step {steps[-2]}" if len(steps) > 1 else ""
            raise InputError(f"the checkpoint {path} is damaged: {damage}{before}")
        return steps[-1], tensors, values


def write_whole(path: Path, content: bytes) -> None:
    """Write a file such that it has either its old content or the new one, whenever the process or the machine stops.

    Raises:
        InputError: it cannot be written; the old content stands.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def fingerprint(data: Sequences) -> str:
    """A checksum of everything in a data set."""
    checksum = hashlib.sha256()
    for array in (data.values, data.offsets, data.weights, data.missing, data.states, data.continues):
        checksum.update(b"-" if array is None else array.tobytes())
    return checksum.hexdigest()


def _sync_folder(folder: Path) -> None:
    """Let the new name reach the disk too; not every system can open a folder."""
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_same(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise `InputError` naming the first thing in which two runs differ."""
    for part in here:
        old, new = there.get(part), here[part]
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
            raise InputError(
                f"the checkpoints in {folder} are of another {part}: {key} is {old.get(key)!r} there and "
                f"{new.get(key)!r} here"
            )
        raise InputError(f"the checkpoints in {folder} are of another {part}; only the run that wrote them can go on")


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    checksum = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        checksum.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        checksum.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return checksum.hexdigest()


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from None


def _text(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} is damaged: it holds a {type(document).__name__}; expected an object")
    return document
