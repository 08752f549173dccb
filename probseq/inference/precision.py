"""Half precision by choice: bfloat16 where it runs, and by itself only where it was seen to be faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal, get_args

import torch

from probseq.errors import InputError, unknown

Precision = Literal["float32", "bfloat16"]

_SELF_TEST_SECONDS = 10.0
_NO_KERNEL = ("could not create a primitive", "not implemented for", "not supported", "NOT_SUPPORTED")
_GAIN = 1.1  # how many times as fast bfloat16 has to be: the clock of a shared machine is no better


def check_precision(precision: str) -> None:
    """Raise `InputError` unless `precision` is one that `choose_precision` takes."""
    valid = (*get_args(Precision), "auto")
    if precision not in valid:
        raise unknown("precision", precision, valid)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Matrix products in this precision; parameters, gradients, losses and the optimizer stay as they are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def choose_precision(
    precision: str, trial: Callable[[Precision], None], seconds: float = _SELF_TEST_SECONDS
) -> Precision:
    """The precision to train in.

    Args:
        precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: a self-test decides, and bfloat16 has to be at least
            1.1 times as fast.
        trial: the work of one step, without an update, in a given precision.
        seconds: of the self-test; five trials are made in any case, and the one in progress is finished.

    Raises:
        InputError: bfloat16 is asked for, and this machine has no kernel for it.
    """
    if precision == "float32":
        return "float32"
    try:
        trial("bfloat16")
    except RuntimeError as error:  # torch has no kernel: for example an LSTM on a CPU without bfloat16 instructions
        if not any(sign in str(error) for sign in _NO_KERNEL):
            raise
        if precision == "auto":
            return "float32"
        reason = str(error).splitlines()[0]
        raise InputError(f"this network does not run in bfloat16 here ({reason}); choose float32 or auto") from None
    if precision == "bfloat16":
        return "bfloat16"
    full, half = (_fastest(trial, one, seconds / 2) for one in get_args(Precision))
    return "bfloat16" if half * _GAIN < full else "float32"


def _fastest(trial: Callable[[Precision], None], precision: Precision, seconds: float, rounds: int = 20) -> float:
    """Seconds of the fastest of at least two rounds; the first also builds what torch keeps, and does not count."""
    begin, best = time.perf_counter(), float("inf")
    trial(precision)
    for _ in range(rounds):
        start = time.perf_counter()
        trial(precision)
        end = time.perf_counter()
        best = min(best, end - start)
        if end - begin >= seconds:
            break
    return best
