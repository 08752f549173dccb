"""`Sequences`, a data set of ragged sequences, some of whose tokens may be missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.batch import Batch, row_groups
from probseq.data.checks import (
    as_sequence,
    check_continues,
    check_layout,
    check_offsets,
    check_states,
    check_weights,
    join,
    mark_missing,
)
from probseq.errors import InputError

__all__ = ["Batch", "Sequences"]

_ARRAYS = ("values", "offsets", "weights", "missing", "states", "continues")
_MEMORY_MAP_BYTES = 64 * 2**20  # arrays above this size are mapped, not read, when a saved data set is loaded


class Sequences:
    """A data set of N sequences, stored as one flat array and offsets.

    Sequences may differ in length; nothing is padded until a `Batch` is made. The flat array may be memory-mapped.

    Args:
        values: ``(total,)`` non-negative ints (symbols) or ``(total, D)`` floats (vectors), all sequences end to end.
            NaN marks an entry of a vector that was not observed; single entries may be missing.
        offsets: ``(N + 1,)`` ints; sequence ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
        weights: ``(N,)`` positive floats, how often each sequence counts. Default: 1 each.
        source: N sequences to condition on, one for each sequence, or None.
        missing: ``(total,)`` bool, True at steps of which nothing was observed; whatever `values` has there is not
            read, and is kept as -1 or NaN. A model integrates over what is missing, so such a step scores 0 nats.
        states: ``(total,)`` ints, the hidden states that are known, -1 where unknown. Default: none is known.
        continues: ``(N,)`` bool, True where a sequence goes on where the one before it ended: `probseq.evaluate` scores
            it given all that came before it. Taken without that one, it begins anew. Default: none does.

    Attributes:
        missing: as given, and True also where a whole vector is NaN; None where every step was observed.
        vocabulary: the digest of the vocabulary that the symbols are of; a corpus sets it. None: not known.

    Raises:
        InputError: an empty sequence, negative symbols, infinite values, or arrays that do not fit one another.

    Example:
        >>> data = Sequences.from_list([[0, 1, 2], [3]])
        >>> len(data), data.num_tokens, data[1].tolist()
        (2, 4, [3])
        >>> Sequences.from_list([[[0.5], [float("nan")]], [[1.5]]]).num_observed.tolist()
        [1, 1]
    """

    vocabulary: str | None = None

    def __init__(
        self,
        values: NDArray[Any],
        offsets: NDArray[Any],
        weights: NDArray[Any] | None = None,
        source: Sequences | None = None,
        *,
        missing: NDArray[Any] | None = None,
        states: NDArray[Any] | None = None,
        continues: NDArray[Any] | None = None,
    ) -> None:
        values, self.offsets = np.asanyarray(values), check_offsets(offsets)  # a mapped file stays one
        check_layout(values, self.offsets)
        self.values, self.missing = mark_missing(values, missing)
        self.states = check_states(states, len(values))
        self.weights = check_weights(weights, len(self))
        self.continues = check_continues(continues, len(self))
        self.source = source
        if source is not None and len(source) != len(self):
            raise InputError(f"source has {len(source)} sequences; expected {len(self)}, one for each sequence")

    @classmethod
    def from_list(
        cls,
        sequences: Iterable[Sequence[Any] | NDArray[Any]],
        weights: Sequence[float] | None = None,
        source: Sequences | None = None,
        *,
        missing: Iterable[Sequence[bool] | NDArray[Any]] | None = None,
        states: Iterable[Sequence[int] | NDArray[Any]] | None = None,
    ) -> Sequences:
        """Build from lists of symbols, or arrays of symbols ``(T,)`` or of vectors ``(T, D)``.

        Args:
            sequences: one list or array for each sequence.
            weights, source: as above.
            missing, states: as above, as one list or array for each sequence.

        Raises:
            InputError: an empty sequence, sequences of different kinds or dimensions, lists of other lengths.
        """
        arrays = [as_sequence(one, i) for i, one in enumerate(sequences)]
        for i, one in enumerate(arrays):
            if one.shape[1:] != arrays[0].shape[1:]:
                raise InputError(
                    f"sequence {i} has shape {one.shape}, the first one {arrays[0].shape}; expected the same D for all"
                )
        lengths = [len(one) for one in arrays]
        flat = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)
        return cls(
            flat.astype(np.float64) if flat.ndim == 2 else flat,
            np.cumsum([0, *lengths]),
            None if weights is None else np.asarray(weights),
            source,
            missing=None if missing is None else join(missing, lengths, "missing"),
            states=None if states is None else join(states, lengths, "states"),
        )

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
        part = Sequences(
            self._take(self.values, rows),
            np.cumsum([0, *self.lengths[rows]]),
            self.weights[rows],
            None if self.source is None else self.source[rows],
            missing=None if self.missing is None else self._take(self.missing, rows),
            states=None if self.states is None else self._take(self.states, rows),
            continues=None if self.continues is None else self.continues[rows] & (np.diff(rows, prepend=-2) == 1),
        )
        part.vocabulary = self.vocabulary
        return part

    def _take(self, flat: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
        """What an array along all tokens has for the given sequences."""
        parts = [flat[self.offsets[i] : self.offsets[i + 1]] for i in rows]
        return np.concatenate(parts) if parts else flat[:0]

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
    def extents(self) -> NDArray[np.int64]:
        """``(N,)`` the length of each sequence or of its source, whichever is longer."""
        return self.lengths if self.source is None else np.maximum(self.lengths, self.source.lengths)

    @property
    def num_tokens(self) -> int:
        """The number of tokens (symbols or vectors) in all sequences, observed or not."""
        return len(self.values)

    @property
    def num_observed(self) -> NDArray[np.int64]:
        """``(N,)`` the number of tokens of each sequence of which something was observed."""
        if self.missing is None:
            return self.lengths
        return np.diff(np.append(0, np.cumsum(~self.missing))[self.offsets])

    @property
    def is_symbolic(self) -> bool:
        """True for symbols, False for real vectors."""
        return self.values.ndim == 1

    def windows(self, length: int, carry: bool = False) -> Sequences:
        """Cut every sequence into consecutive windows of at most `length` tokens; none spans two sequences.

        A window inherits its sequence's weight. A last window of one token is joined to the window before it, because
        one token has no context to be predicted from. With `carry` every window continues the one before it.

        Sequences with a source stay whole: a part of a target does not belong to a part of its source.

        Raises:
            InputError: `length` below 2, or a sequence with a source that is longer.
        """
        if length < 2:
            raise InputError(f"window is {length}; expected 2 or more tokens")
        lengths = self.lengths
        if self.source is not None:
            if len(self) and (longest := int(lengths.max())) > length:
                raise InputError(
                    f"window is {length}; the longest sequence with a source has {longest} tokens and must stay whole: "
                    f"give a window of {longest} or more, or None"
                )
            return self
        counts = -(-lengths // length)
        counts -= (lengths % length == 1) & (counts > 1)
        rows = np.repeat(np.arange(len(self)), counts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, ... in each sequence
        offsets = np.append(self.offsets[rows] + length * within, self.offsets[-1])
        continues, missing, states = within > 0 if carry else None, self.missing, self.states
        cut = Sequences(self.values, offsets, self.weights[rows], missing=missing, states=states, continues=continues)
        cut.vocabulary = self.vocabulary
        return cut

    def joined(self) -> Sequences:
        """Every sequence together with those that continue it, as one; of weight 1, for what counts are the parts."""
        if self.continues is None:
            return self
        offsets = np.append(self.offsets[:-1][~self.continues], self.offsets[-1])
        whole = Sequences(self.values, offsets, missing=self.missing, states=self.states)
        whole.vocabulary = self.vocabulary
        return whole

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
            max_tokens: padded tokens in one batch, at most, of the sequences and of their sources; what is longer gets
                a batch of its own.
            batch_size: sequences in one batch, at most. Default: as many as `max_tokens` allows.
            sort_by_length: put sequences of like length together (of like sources, among those of one length), so that
                little is padding.
            shuffle: a random order of batches (and of rows, among those of equal length), drawn from `seed`.
            seed: the seed of the shuffle.
            device: where the tensors are put.
        """
        order = np.arange(len(self))
        rng = np.random.default_rng(seed)
        if shuffle:
            order = rng.permutation(order)
        if sort_by_length:
            within = self.lengths if self.source is None else self.source.lengths
            order = order[np.lexsort((-within[order], -self.lengths[order]))]
        groups = row_groups(self.extents[order], order, max_tokens, batch_size or len(self))
        if shuffle:
            groups = [groups[i] for i in rng.permutation(len(groups))]
        for rows in groups:
            yield self.batch(rows, device=device)

    def batch(self, rows: NDArray[np.int64] | None = None, device: torch.device | str = "cpu") -> Batch:
        """The given rows (default: all) as one padded batch."""
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        if len(rows) == 0:
            raise InputError("a batch needs at least one sequence; the data set is empty")
        lengths = self.lengths[rows]
        real = np.arange(int(lengths.max())) < lengths[:, None]
        position = np.where(real, self.offsets[rows][:, None] + np.arange(real.shape[1]), 0)

        def pad(flat: NDArray[Any], dtype: type, value: int) -> torch.Tensor:
            padded: NDArray[Any] = np.asarray(flat[position]).astype(dtype)
            padded[~real] = value
            return torch.from_numpy(padded).to(device)

        return Batch(
            values=pad(self.values, np.int64 if self.is_symbolic else np.float64, 0),
            lengths=torch.from_numpy(lengths).to(device),
            weights=torch.from_numpy(self.weights[rows]).to(device),
            index=torch.from_numpy(rows).to(device),
            source=None if self.source is None else self.source.batch(rows, device),
            states=None if self.states is None else pad(self.states, np.int64, -1),
            vocabulary=self.vocabulary,
        )

    def save(self, folder: str | Path) -> None:
        """Write ``values.npy``, ``offsets.npy``, ``weights.npy`` and, where there are any, ``missing.npy``,
        ``states.npy`` and a folder ``source``, for `load`."""
        folder = Path(folder)
        _clear(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            if (array := getattr(self, name)) is not None:
                np.save(folder / f"{name}.npy", array)
        if self.source is not None:
            self.source.save(folder / "source")

    @classmethod
    def load(cls, folder: str | Path) -> Sequences:
        """Read what `save` wrote; arrays larger than 64 MiB are memory-mapped."""
        folder = Path(folder)
        if not (folder / "values.npy").is_file():
            raise InputError(f"no sequences in {folder}: expected the file values.npy")
        found = {name: path for name in _ARRAYS if (path := folder / f"{name}.npy").is_file()}
        arrays = {
            name: np.load(path, mmap_mode="r" if path.stat().st_size > _MEMORY_MAP_BYTES else None, allow_pickle=False)
            for name, path in found.items()
        }
        paired = (folder / "source" / "values.npy").is_file()
        return cls(source=cls.load(folder / "source") if paired else None, **arrays)


def _clear(folder: Path) -> None:
    """Remove the data that were saved here before, and nothing else."""
    for name in _ARRAYS:
        (folder / f"{name}.npy").unlink(missing_ok=True)
    if (source := folder / "source").is_dir():
        _clear(source)
        if not any(source.iterdir()):
            source.rmdir()


def check_sequences(data: object, part: str) -> None:
    """Raise `InputError` unless `data`, known to the user as `part`, is `Sequences` with something observed in it."""
    if not isinstance(data, Sequences) or not len(data):
        received = "no sequences" if isinstance(data, Sequences) else f"a {type(data).__name__}"
        raise InputError(f"{part} holds {received}; expected Sequences, for example Sequences.from_list([[0, 1], [2]])")
    if not data.num_observed.any():
        raise InputError(f"every token of {part} is missing; expected at least one that was observed")
