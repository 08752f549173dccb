"""Where the networks of a study keep what they need to go on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probseq.errors import InputError
from probseq.inference import checkpointing
from probseq.specs.networks import METRICS, GradientSpec


@dataclass(frozen=True)
class Training:
    """Where the networks of a study leave traces of their training, each in a folder of its own name.

    Attributes:
        checkpoints: the folder of their checkpoints, or None.
        tensorboard: the folder of their event files, or None.
        resume: whether they go on from their checkpoints.
    """

    checkpoints: Path | None = None
    tensorboard: Path | None = None
    resume: bool = False

    def check(self, names: list[str]) -> None:
        """Raise `InputError` if there is nothing to resume."""
        if self.resume and not any(self._begun(name) for name in names):
            there = set() if self.checkpoints is None else {path.parent.name for path in self.checkpoints.glob("*/*")}
            others = f", which holds {', '.join(sorted(there))}" if there else ""
            raise InputError(
                f"there is nothing to resume in {self.checkpoints}{others}: no run.json of {', '.join(names)} is there"
            )

    def options(self, name: str, spec: Any) -> dict[str, Any]:
        """What the fit of this model has to know."""
        if not isinstance(spec, GradientSpec):
            return {}
        return {
            "checkpoint": None if self.checkpoints is None else self.checkpoints / name,
            "tensorboard": None if self.tensorboard is None else self.tensorboard / name,
            "resume": self.resume and self._begun(name),
        }

    def remove(self, names: list[str]) -> None:
        """Remove what these networks left among the checkpoints, and nothing else."""
        if self.checkpoints is None:
            return
        for name in names:
            if self._begun(name):
                (self.checkpoints / name / METRICS).unlink(missing_ok=True)
                checkpointing.remove(self.checkpoints / name)
        with suppress(OSError):  # something else is in it
            self.checkpoints.rmdir()

    def _begun(self, name: str) -> bool:
        return self.checkpoints is not None and checkpointing.begun(self.checkpoints / name)
