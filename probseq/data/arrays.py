"""Arrays as a file holds them, checked and cut into documents."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.documents import Document
from probseq.errors import InputError

Array = NDArray[np.float64]


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by name; that of a .npy file by the name of the file.

    Raises:
        InputError: a file that numpy cannot read without running code out of it.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {path.name: found}
        with found:
            return {key: found[key] for key in found.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        raise InputError(
            f"{path.name} cannot be read as {path.suffix}; expected arrays of numbers that numpy has written, "
            "no Python objects"
        ) from None


def check_array(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Symbols ``(T,)`` or vectors ``(T, D)``: ints stay ints, a series of floats gets D = 1.

    Raises:
        InputError: another shape or type, or a number that is not finite.
    """
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2):
        raise InputError(
            f"{name} holds an array of {array.dtype} with shape {array.shape}; expected ints (T,) or floats (T, D)"
        )
    if array.dtype.kind != "f" and array.ndim == 1:
        return array
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        where = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InputError(
            f"{name} has a missing or infinite value at step {where}; expected finite numbers "
            "(level 'vector' takes NaN as missing)"
        )
    return array[:, None] if array.ndim == 1 else array


def as_series(values: NDArray[Any], name: str) -> Array:
    """``(T, D)`` float64 of an array ``(T,)`` or ``(T, D)``; NaN stays.

    Raises:
        InputError: another shape or type, no steps, or an infinite value.
    """
    if values.dtype.kind not in "biuf" or values.ndim not in (1, 2) or values.size == 0:
        raise InputError(f"{name} is an array of {values.dtype} with shape {values.shape}; expected (T,) or (T, D)")
    series = values.astype(np.float64)
    series = series[:, None] if series.ndim == 1 else series
    if np.isinf(series).any():
        step = int(np.argwhere(np.isinf(series))[0][0])
        raise InputError(f"{name} has an infinite value at step {step}; expected finite numbers, or NaN where missing")
    return series


def split_arrays(
    arrays: dict[str, NDArray[Any]], name: str, check: Callable[[NDArray[Any], str], NDArray[Any]]
) -> list[Document]:
    """One document for each array; ``values`` are cut by ``offsets`` or ``lengths`` if there are any.

    Args:
        arrays: by name, as a .npz file holds them.
        name: what messages call the file.
        check: makes a sound array of one as it was read.
    """
    if "values" not in arrays or not arrays.keys() & {"offsets", "lengths"}:
        return [Document(check(array, key), key) for key, array in arrays.items()]
    values = check(arrays["values"], "values")
    if "offsets" not in arrays and arrays["lengths"].dtype.kind not in "iu":
        raise InputError(f"{name} has lengths of {arrays['lengths'].dtype}; expected ints, one for each sequence")
    offsets = arrays["offsets"] if "offsets" in arrays else np.append(0, np.cumsum(arrays["lengths"]))
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2 or (offsets[1:] < offsets[:-1]).any():
        raise InputError(f"{name} has offsets that do not rise; expected N + 1 ints, or N lengths")
    if offsets[0] != 0 or offsets[-1] != len(values):
        raise InputError(f"{name} has offsets from {offsets[0]} to {offsets[-1]}; expected 0 to {len(values)}")
    weights = arrays.get("weights", np.ones(len(offsets) - 1))
    if weights.shape != (len(offsets) - 1,):
        raise InputError(f"{name} has weights of shape {weights.shape}; expected ({len(offsets) - 1},), one a sequence")
    return [
        Document(values[begin:end], f"sequence {i}", weight=float(weight))
        for i, (begin, end, weight) in enumerate(zip(offsets[:-1], offsets[1:], weights, strict=True))
    ]
