"""Where the networks of a study keep what they need to go on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probseq.errors import InputError
from probseq.specs.networks import NetworkSpec


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
            raise InputError(f"there is nothing to resume in {self.checkpoints}: no network of this study began there")

    def options(self, name: str, spec: Any) -> dict[str, Any]:
        """What the fit of this model has to know."""
        if not isinstance(spec, NetworkSpec):
            return {}
        return {
            "checkpoint": None if self.checkpoints is None else self.checkpoints / name,
            "tensorboard": None if self.tensorboard is None else self.tensorboard / name,
            "resume": self.resume and self._begun(name),
        }

    def _begun(self, name: str) -> bool:
        return self.checkpoints is not None and (self.checkpoints / name / "run.json").exists()
