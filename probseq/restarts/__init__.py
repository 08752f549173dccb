"""What the restarts of one model tell: which one is best, and how much depends on the starting point."""

from probseq.models.alignment import align
from probseq.restarts.choice import model_choice
from probseq.restarts.sensitivity import Sensitivity, sensitivity
from probseq.restarts.summary import TOLERANCE, RestartSummary, best_restart, expected_best, select

__all__ = [
    "TOLERANCE",
    "RestartSummary",
    "Sensitivity",
    "align",
    "best_restart",
    "expected_best",
    "model_choice",
    "select",
    "sensitivity",
]
