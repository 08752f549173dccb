"""What `Sequences` may hold: every rule as a function that raises one sentence, or returns what was checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.errors import InputError

Missing = NDArray[np.bool_] | None


def as_sequence(given: Any, number: int) -> NDArray[Any]:
    """One sequence as an array ``(T,)`` of ints or ``(T, D)`` of numbers.

    Raises:
        InputError: another shape, or values that are no numbers.
    """
    try:
        array = np.asarray(given)
    except ValueError:
        raise InputError(
            f"sequence {number} has vectors of different sizes; expected (T, D), with NaN where an entry is missing"
        ) from None
    if array.ndim not in (1, 2) or len(array) == 0:
        raise InputError(
            f"sequence {number} has shape {array.shape}; expected (T,) symbols or (T, D) vectors with T >= 1"
        )
    if array.ndim == 1 and array.dtype.kind == "f":
        raise InputError(
            f"sequence {number} is an array of {array.dtype} with shape {array.shape}; expected ints (T,), or, for a "
            "series of one number a step, vectors (T, 1): x[:, None]"
        )
    if array.dtype.kind not in ("biuf" if array.ndim == 2 else "iu"):
        raise InputError(
            f"sequence {number} is an array of {array.dtype}; expected ints (T,) for symbols, such as "
            "Vocabulary.encode gives, or numbers (T, D) for vectors"
        )
    return array


def check_offsets(offsets: Any) -> NDArray[np.int64]:
    """The positions at which sequences begin, and where the last one ends, as int64."""
    given = np.asarray(offsets)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise InputError(
            f"offsets are an array of {given.dtype} with shape {given.shape}; expected N + 1 positions, starting at 0"
        )
    return given.astype(np.int64, copy=False)


def check_layout(values: NDArray[Any], offsets: NDArray[np.int64]) -> None:
    """Raise `InputError` unless `values` are symbols or vectors and `offsets` cut them into sequences."""
    symbols = np.issubdtype(values.dtype, np.integer) and values.ndim == 1
    vectors = np.issubdtype(values.dtype, np.floating) and values.ndim == 2 and values.shape[1] > 0
    if not symbols and not vectors:
        raise InputError(
            f"sequences hold an array of dtype {values.dtype} and shape {values.shape}; "
            "expected symbols (total,) of an integer dtype or vectors (total, D) of a float dtype"
        )
    if offsets.ndim != 1 or len(offsets) == 0:
        raise InputError("offsets must be a vector of N + 1 positions, starting at 0")
    if offsets[0] != 0 or offsets[-1] != len(values):
        raise InputError(f"offsets run from {offsets[0]} to {offsets[-1]}; expected 0 to {len(values)}")
    lengths = np.diff(offsets)
    if len(lengths) and (short := int(lengths.min())) < 1:
        where = int(np.argmin(lengths))
        raise InputError(f"sequence {where} has length {short}; expected at least 1 token: drop empty sequences")


def check_weights(weights: NDArray[Any] | None, num_sequences: int) -> NDArray[np.float64]:
    """``(N,)`` float64: the weights given, or 1 each."""
    if weights is None:
        return np.ones(num_sequences)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (num_sequences,):
        raise InputError(f"weights have shape {weights.shape}; expected ({num_sequences},), one for each sequence")
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise InputError("weights must be finite and positive; drop sequences that should not count")
    return weights


def mark_missing(values: NDArray[Any], missing: NDArray[Any] | None) -> tuple[NDArray[Any], Missing]:
    """The values with -1 or NaN at missing steps, and which steps are wholly missing; None where none is.

    An array that has the marks already is returned as it is, so that a mapped file stays one.
    """
    if missing is not None:
        missing = np.asarray(missing)
        if missing.dtype != np.bool_ or missing.shape != (len(values),):
            raise InputError(
                f"missing is an array of {missing.dtype} with shape {missing.shape}; "
                f"expected bool ({len(values)},), True at the steps that were not observed"
            )
    return _missing_symbols(values, missing) if values.ndim == 1 else _missing_vectors(values, missing)


def _missing_symbols(values: NDArray[Any], missing: Missing) -> tuple[NDArray[Any], Missing]:
    signed = np.issubdtype(values.dtype, np.signedinteger)  # unsigned ones need no look, which may be long
    if missing is None or not missing.any():
        if signed and len(values) and (low := int(values.min())) < 0:
            raise InputError(f"symbol {low} is negative; expected ids 0 to V - 1, or missing=True at that step")
        return values, None
    if not signed or (values[missing] != -1).any():
        wider = np.promote_types(values.dtype, np.int8) if values.dtype.itemsize < 8 else np.dtype(np.int64)
        values = np.array(values, dtype=wider)
        values[missing] = -1
    low = int(values.min(where=~missing, initial=0))
    if low < 0:
        raise InputError(f"symbol {low} is negative; expected ids 0 to V - 1, or missing=True at that step")
    return values, missing


def _missing_vectors(values: NDArray[Any], missing: Missing) -> tuple[NDArray[Any], Missing]:
    absent = np.isnan(values).all(axis=1)
    if missing is not None and (missing & ~absent).any():
        values = np.where(missing[:, None], np.asarray(np.nan, dtype=values.dtype), values)
        absent |= missing
    infinite = np.isinf(values)
    if infinite.any():
        step = int(np.argwhere(infinite)[0][0])
        raise InputError(f"step {step} of all holds an infinite value; expected finite numbers, or NaN where missing")
    return values, absent if absent.any() else None


def check_states(states: NDArray[Any] | None, total: int) -> NDArray[np.int64] | None:
    """``(total,)`` int64 known hidden states; None where none is known."""
    if states is None:
        return None
    states = np.asarray(states)
    if not np.issubdtype(states.dtype, np.integer) or states.shape != (total,):
        raise InputError(
            f"states are an array of {states.dtype} with shape {states.shape}; "
            f"expected ints ({total},), one for each token, -1 where unknown"
        )
    if total and (low := int(states.min())) < -1:
        raise InputError(f"states hold {low}; expected 0 to K - 1, or -1 where a state is unknown")
    return states.astype(np.int64, copy=False)


def check_continues(continues: NDArray[Any] | None, num_sequences: int) -> NDArray[np.bool_] | None:
    """``(N,)`` bool; None where no sequence continues another."""
    if continues is None:
        return None
    continues = np.asarray(continues)
    if continues.dtype != np.bool_ or continues.shape != (num_sequences,):
        raise InputError(
            f"continues is an array of {continues.dtype} with shape {continues.shape}; expected bool "
            f"({num_sequences},), True where a sequence goes on where the one before it ended"
        )
    if len(continues) and continues[0]:
        raise InputError("continues is True for the first sequence; expected False, because nothing is before it")
    return continues if continues.any() else None


def join(lists: Iterable[Any], lengths: list[int], name: str) -> NDArray[Any] | None:
    """One array end to end out of a list for each sequence, each as long as its sequence; None for no sequences."""
    arrays = [np.asarray(one) for one in lists]
    if [array.shape for array in arrays] != [(length,) for length in lengths]:
        received = ", ".join(str(array.shape) for array in arrays[:5])
        expected = ", ".join(f"({length},)" for length in lengths[:5])
        raise InputError(f"{name} has lists of shapes {received}; expected one as long as each sequence: {expected}")
    return np.concatenate(arrays) if arrays else None
