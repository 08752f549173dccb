"""The forward-backward recursion of `probseq.ops.chain` on a CPU: which compiled loop, and cut into which jobs.

With few states a step of the recursion is too little work for a tensor call. Here compiled loops walk the sequences,
and threads share jobs of (restart, some sequences). How the work is cut depends on the shapes alone, and results are
added in order, so that no sum depends on the number of threads. Tested equal to `probseq.ops.chain_tensor`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.ops.chain_checks import check_ranges

if TYPE_CHECKING:
    from probseq.ops.chain import Gradients, Potentials

_BYTES = 64 * 2**20  # what one job may hold of beliefs, and what the jobs of one restart may hold of counts
_PARTS = 16  # jobs that the sequences of one restart are shared among, at most
_FEW_SEQUENCES = 16  # below this many, one at a time
_MANY_STATES = 24  # from this many on, a step is a matrix product

T = TypeVar("T")


def suits(table: Tensor) -> bool:
    """True if the compiled loops can take these potentials."""
    return table.device.type == "cpu"


def forward_backward(
    p: Potentials, table: Tensor, shift: Tensor, weights: Tensor | None, tokens: bool
) -> tuple[Tensor, Tensor | None, Gradients | None]:
    """As `chain_tensor.forward_backward`."""
    check_ranges(p)
    work = _Work(p, table, shift, weights, tokens)
    parts = len(work.cuts) - 1

    def job(number: int) -> list[NDArray[Any]]:
        r, part = divmod(number, parts)
        own = [total[r] if shared else np.zeros(total.shape[1:], total.dtype) for total, shared in work.totals]
        work.add(r, work.cuts[part], work.cuts[part + 1], own)
        return own

    with _one_blas_thread() if work.multiplies else nullcontext():
        for number, own in enumerate(in_threads(job, range(len(table) * parts))):
            for (total, shared), part in zip(work.totals, own, strict=True):
                if not shared:
                    total[number // parts] += part
    return work.results()


def beliefs(p: Potentials, table: Tensor, after: bool) -> Tensor:
    """As `chain_tensor.beliefs`."""
    from probseq.ops.chain_walk import beliefs as fill

    check_ranges(p)
    work = _Work(p, table, table.new_zeros(table.shape[:2]), None, tokens=False, one_by_one=True)
    whole, last = (np.zeros((*work.ll.shape, steps, table.shape[-1]), work.b.dtype) for steps in (p.index.shape[1], 1))
    before, behind = (last, whole) if after else (whole, last)
    parts = len(work.cuts) - 1

    def job(number: int) -> None:
        r, part = divmod(number, parts)
        fill(work.chain(r), work.cuts[part], work.cuts[part + 1], before[r], behind[r])

    list(in_threads(job, range(len(table) * parts)))
    return torch.from_numpy(whole)


class _Work:
    """Inputs as arrays, outputs to be filled, and the cuts between jobs.

    Attributes:
        order: None if the sequences are walked one at a time. Else they stand side by side, sorted by falling length,
            and arrays with an axis for steps are time-major.
        multiplies: True if a step is a matrix product.
        totals: the three gradients; each with True if no two jobs add to the same row of it, so that they may share it.
    """

    def __init__(
        self,
        p: Potentials,
        table: Tensor,
        shift: Tensor,
        weights: Tensor | None,
        tokens: bool,
        one_by_one: bool = False,
    ) -> None:
        (num, steps), restarts, self.backward = p.index.shape, len(table), weights is not None
        self.pi, self.a, self.b, self.shift = (_array(x) for x in (p.initial, p.transition, table, shift.double()))
        self.n, self.x = _array(p.lengths), _array(p.index)
        self.g = np.ones((1, 1, 1), self.b.dtype) if weights is None else _array(weights.to(table.dtype))
        self.step = np.empty((0, 0), np.int64) if p.step is None else _array(p.step)
        one_by_one = one_by_one or p.step is not None or num < _FEW_SEQUENCES
        self.order = None if one_by_one else np.argsort(-self.n, kind="stable")
        self.multiplies = not one_by_one and self.a.shape[-1] >= _MANY_STATES
        self.width = 1 if one_by_one else _width(self.a.shape[-1])
        shape = (1, 0) if not tokens else (num, steps) if one_by_one else (steps, num)
        self.ll, self.tokens = np.zeros((restarts, num)), np.zeros((restarts, *shape))
        sizes = [x.shape if self.backward else (len(x),) + (1,) * (x.ndim - 1) for x in (self.pi, self.a, self.b)]
        shared = _used_once(p) if self.backward else [True] * 3
        self.totals = [(np.zeros(size, self.b.dtype), once) for size, once in zip(sizes, shared, strict=True)]
        own_bytes = sum(total[0].nbytes for total, once in self.totals if not once)
        self.cuts, self.longest = _cut(num, self.width, own_bytes), int(p.lengths.max())
        if self.order is not None:
            self._stand_side_by_side(self.order)

    def _stand_side_by_side(self, order: NDArray[np.int64]) -> None:
        from probseq.ops.chain_lanes import transpose

        self.n = self.n[order]
        if self.pi.shape[1] > 1:
            self.pi = np.ascontiguousarray(self.pi[:, order])
        self.g = np.ascontiguousarray(self.g[:, order if self.backward else [0]].transpose(0, 2, 1))
        index, self.x = self.x, np.empty(self.x.shape[::-1], np.uint32)  # unsigned: no check for negative positions
        transpose(index, order, self.x)

    def chain(self, r: int) -> Any:
        """Restart r, as the compiled loops take it."""
        from probseq.ops.chain_shared import Chain

        g = self.g[min(r, len(self.g) - 1)]
        return Chain(self.pi[r], self.a[r], self.b[r], self.shift[r], self.x, self.n, g, self.step)

    def add(self, r: int, first: int, last: int, own: list[NDArray[Any]]) -> None:
        """Walk sequences `first` to `last` of restart r: fill their scores and add to the gradients `own`."""
        from probseq.ops import chain_lanes, chain_rows, chain_shared, chain_walk

        chain, totals = self.chain(r), chain_shared.Totals(*own)
        scores = chain_shared.Scores(self.ll[r], self.tokens[r])
        if self.order is None:
            chain_walk.walk(chain, first, last, self._span(1), scores, self.backward, totals)
            return
        kernel = chain_rows.rows if self.multiplies else chain_lanes.lanes
        width = _share(last - first, self.width)
        at = np.ascontiguousarray(self.a[r, 0].T)
        kernel(
            chain,
            at,
            first,
            last,
            width,
            self._span(width if self.multiplies else chain_lanes.WIDTH),
            scores,
            self.backward,
            totals,
        )

    def _span(self, width: int) -> int:
        """Steps whose beliefs a job holds at once."""
        room: int = _BYTES // (width * self.a.shape[-1] * self.b.itemsize)
        return max(1, min(self.longest if self.backward else 64, room))

    def results(self) -> tuple[Tensor, Tensor | None, Gradients | None]:
        initial, transition, emission = (total for total, _ in self.totals)
        tokens = self.tokens if self.tokens.size else None
        if self.order is not None:
            inverse = np.argsort(self.order)
            self.ll, initial = self.ll[:, inverse], initial[:, inverse] if initial.shape[1] > 1 else initial
            tokens = None if tokens is None else np.ascontiguousarray(tokens[:, :, inverse].transpose(0, 2, 1))
        gradients = (torch.from_numpy(initial), torch.from_numpy(transition), torch.from_numpy(emission))
        return (
            torch.from_numpy(self.ll),
            None if tokens is None else torch.from_numpy(tokens),
            gradients if self.backward else None,
        )


def _array(x: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = x.detach().contiguous().numpy()
    return array


def _used_once(p: Potentials) -> list[bool]:
    """For each gradient: True if no row of it gets contributions from two places."""
    return [
        p.initial.shape[1] > 1,
        p.step is not None and _distinct(p.step[:, 1:], p.lengths - 1, p.transition.shape[1]),
        _distinct(p.index, p.lengths, p.log_emission.shape[1]),
    ]


def _distinct(rows: Tensor, lengths: Tensor, size: int) -> bool:
    if int(lengths.sum()) > size:
        return False
    real = torch.arange(rows.shape[1]) < lengths[:, None]
    return int(torch.bincount(rows[real], minlength=1).max()) <= 1


def _width(states: int) -> int:
    """Sequences side by side, at most: with more states, a matrix product needs more rows to be worth its setup."""
    return 64 if states < _MANY_STATES else 128 if states < 128 else 256


def _share(num: int, most: int) -> int:
    """The size of equal shares of `num`, at most `most` each."""
    return -(-num // -(-num // most))


def _cut(num: int, width: int, own_bytes: int) -> list[int]:
    """Cuts between jobs of as many sequences each; fewer jobs where each needs much room for counts of its own."""
    parts = max(-(-num // width), 2 if num >= 64 else 1)
    parts = max(1, min(parts, _PARTS, _BYTES // max(own_bytes, 1)))
    cuts: list[int] = np.linspace(0, num, parts + 1).astype(int).tolist()
    return cuts


def _one_blas_thread() -> AbstractContextManager[Any]:
    """The threads are ours: a matrix product inside one of them must not start more."""
    limit: AbstractContextManager[Any] = _blas().limit(limits=1)
    return limit


@cache
def _blas() -> Any:
    import scipy.linalg.cython_blas  # noqa: F401 - the library whose products numba calls
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def in_threads(work: Callable[[int], T], jobs: range) -> Iterable[T]:
    """The results of ``work(job)``, in order, by as many threads as torch uses."""
    threads = min(torch.get_num_threads(), len(jobs))
    return map(work, jobs) if threads == 1 else _pool(threads).map(work, jobs)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of its parent's threads
