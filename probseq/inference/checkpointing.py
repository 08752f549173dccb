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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from probseq.data.sequences import Sequences
from probseq.errors import InputError

SCHEMA = 2
_STATE = re.compile(r"step-(\d{8})\.safetensors")
_RUN, _CLOCK = "run.json", "clock.json"


@dataclass(frozen=True)
class State:
    """Everything that the next steps depend on.

    Attributes:
        tensors: by name.
        values: plain values (JSON).
        seconds: what the clock said.
    """

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]
    seconds: float


class Checkpoints:
    """The folder of checkpoints of one run. Nothing is written before `begin`.

    Args:
        folder: where.
        identity: what is fitted, to what and how, in plain values (JSON), by part; a state of another run is refused.
        keep: the last so many states are kept.
        resume: go on with the run that the folder holds, instead of beginning one.

    Raises:
        InputError: a folder that holds a run and is not to be resumed, none to resume, another run's.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any], *, keep: int, resume: bool) -> None:
        self.folder, self.keep = Path(folder), keep
        self.identity = json.loads(json.dumps({"schema": SCHEMA, **_finite(identity)}))
        found = begun(self.folder)
        if not found and self.states():
            raise InputError(f"{self.folder} holds checkpoints, and no {_RUN} that says of what; choose another folder")
        if found and not resume:
            raise InputError(f"{self.folder} holds the checkpoints of a run; resume it, or choose another folder")
        if resume and not found:
            raise InputError(f"there is no run to resume in {self.folder}; leave resume out, or name its folder")
        if found:
            _check_same(self.folder, _read(self.folder / _RUN), self.identity)

    def begin(self) -> None:
        """Make the folder, and say in it what is fitted, to what and how.

        Raises:
            InputError: there is no place to write.
        """
        make_folder(self.folder)
        for partial in _partials(self.folder):
            partial.unlink()
        if not begun(self.folder):
            write_whole({self.folder / _RUN: _text(self.identity)})

    def states(self) -> list[int]:
        """The steps of which there is a state, in order."""
        return sorted(int(path.stem.removeprefix("step-")) for path in _states(self.folder))

    def path(self, step: int) -> Path:
        """The file of the state after that many steps."""
        return self.folder / f"step-{step:08d}.safetensors"

    def seconds(self, step: int) -> float:
        """What the clock said then; 0 where that was not written."""
        path = self.folder / _CLOCK
        return float(_read(path).get(str(step), 0.0)) if path.exists() else 0.0

    def save(self, step: int, state: State) -> None:
        """Write the state after `step` steps, then forget all but the last few.

        Raises:
            InputError: it cannot be written; earlier states are as they were.
        """
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.tensors.items()}
        document = json.dumps({**state.values, "sha256": _checksum(tensors, state.values)}, sort_keys=True)
        try:
            self.note(step, state.seconds)  # before the state: no state is without its seconds
            write_whole({self.path(step): safetensors.torch.save(tensors, metadata={"state": document})})
        except InputError as error:
            rest = self.states()
            intact = f"{self.path(rest[-1])} is intact: make room and resume" if rest else "there is none before it"
            raise InputError(f"{error}; {intact}") from None
        kept = [one for one in self.states() if one <= step][-self.keep :]
        for one in self.states():
            if one not in kept:
                self.path(one).unlink()

    def note(self, step: int, seconds: float) -> None:
        """Write down what the clock said after `step` steps.

        Raises:
            InputError: it cannot be written; what is there is as it was.
        """
        clock = {str(one): self.seconds(one) for one in self.states()[-self.keep :]}
        write_whole({self.folder / _CLOCK: _text(clock | {str(step): seconds})})

    def load(self) -> State | None:
        """The newest state; None where the run was stopped before there was one.

        Raises:
            InputError: it is damaged.
        """
        steps = self.states()
        if not steps:
            return None
        newest = self._state(steps[-1])
        if isinstance(newest, State):
            return newest
        rest = steps[:-1]
        while rest and not isinstance(self._state(rest[-1]), State):
            rest.pop()
        to_delete = "it" if rest == steps[:-1] else f"all that come after step {rest[-1]}" if rest else ""
        remedy = f"delete {to_delete} to resume from step {rest[-1]}" if rest else "none is whole: begin anew"
        raise InputError(f"the checkpoint {self.path(steps[-1])} is damaged: {newest}; {remedy}")

    def _state(self, step: int) -> State | str:
        """The state after that many steps, or why it cannot be read."""
        try:
            with safetensors.safe_open(self.path(step), framework="pt") as file:
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                values = json.loads((file.metadata() or {})["state"])
            if values.pop("sha256") != _checksum(tensors, values):
                return "its SHA-256 is another"
        except OSError as error:
            return error.strerror or str(error)
        except (safetensors.SafetensorError, KeyError, ValueError, AttributeError):
            return "it was cut off or changed"
        return State(tensors, values, self.seconds(step))


def begun(folder: Path) -> bool:
    """Whether there is a run to resume."""
    return (folder / _RUN).exists()


def remove(folder: Path) -> None:
    """Remove the checkpoints of a run, and the folder if it holds nothing else."""
    if begun(folder):
        for path in [folder / _RUN, folder / _CLOCK, *_states(folder), *_partials(folder)]:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # what else is in it is not ours
            folder.rmdir()


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write files such that each has either its old content or the new one, whenever the process or the machine stops.

    All are written beside their places before the first is moved there, so a disk that fills changes none.

    Raises:
        InputError: one cannot be written; the old contents stand.
    """
    partials = {path: path.with_name(f".{path.name}.partial") for path in contents}
    try:
        for path, content in contents.items():
            with partials[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, partial in partials.items():
            os.replace(partial, path)
            _sync_folder(path.parent)
    except OSError as error:
        for partial in partials.values():
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from None


def fingerprint(data: Sequences) -> str:
    """A checksum of everything in a data set, its sources included."""
    checksum = hashlib.sha256()
    for array in (data.values, data.offsets, data.weights, data.missing, data.states, data.continues):
        checksum.update(b"-" if array is None else array.tobytes())
    if data.source is not None:
        checksum.update(fingerprint(data.source).encode())
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


def _states(folder: Path) -> list[Path]:
    return [path for path in folder.glob("step-*.safetensors") if _STATE.fullmatch(path.name)]


def _partials(folder: Path) -> list[Path]:
    """What a process that was killed while it wrote has left."""
    return list(folder.glob(".*.partial"))


def _checksum(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> str:
    checksum = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
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
