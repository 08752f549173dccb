"""`Sequences`, a data set of ragged sequences, and `Batch`, the padded tensors a model sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.errors import InputError

_MEMORY_MAP_BYTES = 64 * 2**20  # arrays above this size are mapped, not read, when a saved data set is loaded


@dataclass(frozen=True)
class Batch:
    """Padded tensors on one device: what a model sees.

    Attributes:
        values: ``(N, T)`` int64 symbols or ``(N, T, D)`` floats, padded on the right (with 0).
        lengths: ``(N,)`` int64, the real length of each row, at least 1.
        weights: ``(N,)`` float64, how often each row counts (1 unless the data set says otherwise).
        index: ``(N,)`` int64, the row of the data set that each row came from.
        source: the batch that a conditional model conditions on, row by row, or None.
    """

    values: Tensor
    lengths: Tensor
    weights: Tensor
    index: Tensor
    source: Batch | None = None

    @property
    def mask(self) -> Tensor:
        """``(N, T)`` bool, True at real tokens."""
        steps = torch.arange(self.values.shape[1], device=self.values.device)
        return steps < self.lengths[:, None]

    @property
    def num_tokens(self) -> int:
        """The number of real tokens."""
        return int(self.lengths.sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            values=self.values.to(device),
            lengths=self.lengths.to(device),
            weights=self.weights.to(device),
            index=self.index.to(device),
            source=None if self.source is None else self.source.to(device),
        )


class Sequences:
    """A data set of N sequences, stored as one flat array and offsets.

    Sequences may differ in length; nothing is padded until a `Batch` is made. The flat array may be memory-mapped.

    Args:
        values: ``(total,)`` non-negative ints (symbols) or ``(total, D)`` floats (vectors), all sequences end to end.
        offsets: ``(N + 1,)`` ints; sequence ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
        weights: ``(N,)`` positive floats, how often each sequence counts. Default: 1 each.
        source: N sequences to condition on, one for each sequence, or None.

    Raises:
        InputError: an empty sequence, negative symbols, offsets or weights that do not fit.

    Example:
        >>> data = Sequences.from_list([[0, 1, 2], [3]])
        >>> len(data), data.num_tokens, data[1].tolist()
        (2, 4, [3])
    """

    def __init__(
        self,
        values: NDArray[Any],
        offsets: NDArray[Any],
        weights: NDArray[Any] | None = None,
        source: Sequences | None = None,
    ) -> None:
        self.values = values
        self.offsets = np.asarray(offsets, dtype=np.int64)
        self.source = source
        self.weights = np.ones(len(self)) if weights is None else np.asarray(weights, dtype=np.float64)
        self._check(weighted=weights is not None)

    def _check(self, weighted: bool) -> None:
        integral = np.issubdtype(self.values.dtype, np.integer)
        if not (integral and self.values.ndim == 1) and not (
            np.issubdtype(self.values.dtype, np.floating) and self.values.ndim == 2
        ):
            raise InputError(
                f"sequences hold an array of dtype {self.values.dtype} and {self.values.ndim} axes; "
                "expected symbols (total,) of an integer dtype or vectors (total, D) of a float dtype"
            )
        if self.offsets.ndim != 1 or len(self.offsets) == 0:
            raise InputError("offsets must be a vector of N + 1 positions, starting at 0")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.values):
            raise InputError(
                f"offsets run from {self.offsets[0]} to {self.offsets[-1]}; expected 0 to {len(self.values)}"
            )
        if len(self) and (short := int(self.lengths.min())) < 1:
            where = int(np.argmin(self.lengths))
            raise InputError(f"sequence {where} has length {short}; expected at least 1 token: drop empty sequences")
        signed = np.issubdtype(self.values.dtype, np.signedinteger)  # unsigned ones need no look, which may be long
        if signed and len(self.values) and (low := int(self.values.min())) < 0:
            raise InputError(f"symbol {low} is negative; expected ids 0 to V - 1")
        if self.weights.shape != (len(self),):
            raise InputError(f"weights have shape {self.weights.shape}; expected ({len(self)},), one for each sequence")
        if weighted and not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise InputError("weights must be finite and positive; drop sequences that should not count")
        if self.source is not None and len(self.source) != len(self):
            raise InputError(f"source has {len(self.source)} sequences; expected {len(self)}, one for each sequence")

    @classmethod
    def from_list(
        cls,
        sequences: Iterable[Sequence[int] | NDArray[Any]],
        weights: Sequence[float] | None = None,
        source: Sequences | None = None,
    ) -> Sequences:
        """Build from lists of symbols, or arrays of symbols ``(T,)`` or of vectors ``(T, D)``.

        Raises:
            InputError: an empty sequence, or sequences of different kinds or dimensions.
        """
        arrays = [np.asarray(one) for one in sequences]
        for i, one in enumerate(arrays):
            if one.ndim not in (1, 2) or len(one) == 0:
                raise InputError(
                    f"sequence {i} has shape {one.shape}; expected (T,) symbols or (T, D) vectors with T >= 1"
                )
            if one.shape[1:] != arrays[0].shape[1:]:
                raise InputError(
                    f"sequence {i} has shape {one.shape}, the first one {arrays[0].shape}; expected the same D for all"
                )
        lengths = [len(one) for one in arrays]
        flat = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)
        if flat.ndim == 2:
            flat = flat.astype(np.float64)
        return cls(flat, np.cumsum([0, *lengths]), None if weights is None else np.asarray(weights), source)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, item: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, item: slice | NDArray[Any] | Sequence[int]) -> Sequences: ...
    def __getitem__(self, item: int | slice | NDArray[Any] | Sequence[int]) -> NDArray[Any] | Sequences:
        """One sequence as an array (int), or several as `Sequences` (slice, ids or bool mask)."""
        if isinstance(item, (int, np.integer)):
            if not -len(self) <= item < len(self):
                raise IndexError(f"sequence {item} of {len(self)}")
            i = int(item) % len(self)
            return self.values[self.offsets[i] : self.offsets[i + 1]]
        rows = np.arange(len(self))[item if isinstance(item, slice) else np.asarray(item)]
        parts = [self[int(i)] for i in rows]
        flat = np.concatenate(parts) if parts else self.values[:0]
        source = None if self.source is None else self.source[rows]
        return Sequences(flat, np.cumsum([0, *map(len, parts)]), self.weights[rows], source)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        kind = "symbols" if self.is_symbolic else f"vectors of {self.values.shape[1]}"
        return f"Sequences({len(self):,} sequences, {self.num_tokens:,} {kind})"

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``(N,)`` the length of each sequence."""
        return np.diff(self.offsets)

    @property
    def num_tokens(self) -> int:
        """The number of tokens (symbols or vectors) in all sequences."""
        return len(self.values)

    @property
    def is_symbolic(self) -> bool:
        """True for symbols, False for real vectors."""
        return self.values.ndim == 1

    def windows(self, length: int) -> Sequences:
        """Cut every sequence into consecutive windows of at most `length` tokens; none spans two sequences.

        A window inherits its sequence's weight. A last window of one token is joined to the window before it, because
        one token has no context to be predicted from.

        Raises:
            InputError: `length` below 2, or sequences with a source (whose alignment a cut would lose).
        """
        if length < 2:
            raise InputError(f"window is {length}; expected 2 or more tokens")
        if self.source is not None:
            raise InputError("sequences with a source cannot be cut into windows; leave the window out")
        lengths = self.lengths
        counts = -(-lengths // length)
        counts -= (lengths % length == 1) & (counts > 1)
        rows = np.repeat(np.arange(len(self)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, ... in each sequence
        offsets = np.append(self.offsets[rows] + length * within, self.offsets[-1])
        return Sequences(self.values, offsets, self.weights[rows])

    def batches(
        self,
        max_tokens: int = 2**16,
        *,
        batch_size: int | None = None,
        sort_by_length: bool = True,
        shuffle: bool = False,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> Iterator[Batch]:
        """One pass over the data in padded batches.

        Args:
            max_tokens: padded tokens in one batch, at most; a longer sequence gets a batch of its own.
            batch_size: sequences in one batch, at most. Default: as many as `max_tokens` allows.
            sort_by_length: put sequences of like length together, so that little is padding.
            shuffle: a random order of batches (and of rows, among sequences of equal length), drawn from `seed`.
            seed: the seed of the shuffle.
            device: where the tensors are put.
        """
        order = np.arange(len(self))
        rng = np.random.default_rng(seed)
        if shuffle:
            order = rng.permutation(order)
        if sort_by_length:
            order = order[np.argsort(-self.lengths[order], kind="stable")]
        groups = self._groups(order, max_tokens, batch_size or len(self))
        if shuffle:
            groups = [groups[i] for i in rng.permutation(len(groups))]
        for rows in groups:
            yield self.batch(rows, device=device)

    def _groups(self, order: NDArray[np.int64], max_tokens: int, batch_size: int) -> list[NDArray[np.int64]]:
        groups, begin, longest = [], 0, 0
        for end, length in enumerate(self.lengths[order]):
            longest = max(longest, int(length))
            size = end - begin + 1
            if size > 1 and (size * longest > max_tokens or size > batch_size):
                groups.append(order[begin:end])
                begin, longest = end, int(length)
        return [*groups, order[begin:]] if len(order) else []

    def batch(self, rows: NDArray[np.int64] | None = None, device: torch.device | str = "cpu") -> Batch:
        """The given rows (default: all) as one padded batch."""
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        if len(rows) == 0:
            raise InputError("a batch needs at least one sequence; the data set is empty")
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        position = self.offsets[rows][:, None] + np.arange(longest)
        real = np.arange(longest) < lengths[:, None]
        values = np.asarray(self.values[np.where(real, position, 0)])
        values = values.astype(np.int64 if self.is_symbolic else np.float64)
        values[~real] = 0
        return Batch(
            values=torch.from_numpy(values).to(device),
            lengths=torch.from_numpy(lengths).to(device),
            weights=torch.from_numpy(self.weights[rows]).to(device),
            index=torch.from_numpy(rows).to(device),
            source=None if self.source is None else self.source.batch(rows, device),
        )

    def save(self, folder: str | Path) -> None:
        """Write ``values.npy``, ``offsets.npy``, ``weights.npy`` (and a folder ``source``) for `load`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "values.npy", self.values)
        np.save(folder / "offsets.npy", self.offsets)
        np.save(folder / "weights.npy", self.weights)
        if self.source is not None:
            self.source.save(folder / "source")

    @classmethod
    def load(cls, folder: str | Path) -> Sequences:
        """Read what `save` wrote; values larger than 64 MiB are memory-mapped."""
        folder = Path(folder)
        path = folder / "values.npy"
        if not path.is_file():
            raise InputError(f"no sequences in {folder}: expected the file values.npy")
        large = path.stat().st_size > _MEMORY_MAP_BYTES
        source = cls.load(folder / "source") if (folder / "source").is_dir() else None
        return cls(
            np.load(path, mmap_mode="r" if large else None, allow_pickle=False),
            np.load(folder / "offsets.npy", allow_pickle=False),
            np.load(folder / "weights.npy", allow_pickle=False),
            source,
        )
