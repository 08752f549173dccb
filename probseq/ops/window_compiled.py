"""The recursion of `probseq.ops.chain_conditional` for windows of jumps, compiled for a CPU.

A step is too little work for a tensor call, so loops walk the sequences. How the work is cut depends on shapes alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from probseq.ops.chain_compiled import in_threads
from probseq.ops.chain_shared import compiled

_PARTS = 4  # jobs that the sequences of one chain are shared among, where there are many


class _Parts(NamedTuple):
    """What a window holds, of one chain, or the gradients with respect to it."""

    initial: Any  # (N, K)
    jump: Any  # (N or 1, K or 1, W)
    drive: Any  # (N, T or 1, K)
    emission: Any  # (N, T, K)


class _Course(NamedTuple):
    """What the way forth leaves for the way back, of one chain."""

    terms: Any  # (N, T)
    belief: Any  # (N, T, K), logarithms
    ahead: Any  # (N, T, K), q
    scale: Any  # (N, T, K), log Z


def token_log_prob(
    log_initial: Float[Tensor, "C N K"],
    log_jump: Float[Tensor, "C #N #K W"],
    log_drive: Float[Tensor, "C N #T K"],
    log_emission: Float[Tensor, "C N T K"],
    lengths: Int[Tensor, "N"],
    first: int,
) -> Float[Tensor, "C N T"]:
    """As `probseq.ops.chain_conditional.token_log_prob`, with what a `JumpWindow` holds."""
    parts = (log_initial, log_jump, log_drive, log_emission)
    terms: Tensor = _Terms.apply(*parts, lengths, first)  # type: ignore[no-untyped-call]
    return terms


class _Terms(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        *parts, lengths, first = args
        given, length = _Parts(*map(_array, parts)), _array(lengths)
        shape, dtype = given.emission.shape, given.emission.dtype
        course = _Course(np.zeros(shape[:3], dtype), *(np.empty(shape, dtype) for _ in range(3)))

        def job(c: int, begin: int, end: int) -> None:
            _forth(_of(given, c), length, first, begin, end, _of(course, c))

        _jobs(job, shape)
        ctx.known = given, length, first, course
        return torch.from_numpy(course.terms)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        given, length, first, course = ctx.known
        result, weight = _Parts(*map(np.zeros_like, given)), _array(grad)
        shared = result.jump.shape[1] == 1

        def job(c: int, begin: int, end: int) -> NDArray[Any]:
            own = _of(result, c)
            if shared:  # by jobs at once
                own = own._replace(jump=np.zeros_like(own.jump))
            _back(_of(given, c), length, first, begin, end, _of(course, c), weight[c], own)
            jump: NDArray[Any] = own.jump
            return jump

        for c, jump in _jobs(job, result.emission.shape):
            if shared:  # added in order, so that no sum depends on the number of threads
                result.jump[c] += jump
        return *map(torch.from_numpy, result), None, None


def _of(parts: Any, c: int) -> Any:
    """Those of one chain."""
    return type(parts)(*(part[c] for part in parts))


def _jobs(job: Any, shape: tuple[int, ...]) -> list[tuple[int, Any]]:
    """What every job returns, with its chain."""
    parts = _PARTS if shape[1] >= 64 else 1
    cuts = np.linspace(0, shape[1], parts + 1).astype(int).tolist()
    numbers = range(shape[0] * parts)
    done = in_threads(lambda number: job(number // parts, *cuts[number % parts : number % parts + 2]), numbers)
    return [(number // parts, result) for number, result in zip(numbers, done, strict=True)]


def _array(x: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = x.detach().contiguous().numpy()
    return array


@compiled
def _forth(given, lengths, first, begin, end, course):  # type: ignore[no-untyped-def]
    """Fill the course of the sequences `begin` to `end`."""
    terms, belief, ahead, scale = course
    x = np.empty(given.emission.shape[2], given.emission.dtype)
    for i in range(begin, end):
        table = given.jump[min(i, len(given.jump) - 1)]
        for t in range(lengths[i]):
            if t == 0:
                belief[i, t] = given.initial[i] + given.emission[i, t]
            else:
                now = given.drive[i, min(t, given.drive.shape[1] - 1)]
                _normalizers(table, now, belief[i, t - 1], first, scale[i, t])
                x[:] = belief[i, t - 1] - scale[i, t]
                for k in range(len(x)):
                    ahead[i, t, k] = _arriving(table, x, k, first) if now[k] > -np.inf else -np.inf
                belief[i, t] = ahead[i, t] + now + given.emission[i, t]
            terms[i, t] = _log_sum(belief[i, t])
            if terms[i, t] == -np.inf:
                terms[i, t : lengths[i]] = -np.inf
                break
            belief[i, t] -= terms[i, t]


@compiled
def _log_sum(x):  # type: ignore[no-untyped-def]
    """The logarithm of the sum of ``exp(x)``."""
    top = -np.inf
    for value in x:
        top = max(top, value)
    if top == -np.inf:
        return x.sum()  # not a number where one of them is none
    total = 0.0
    for value in x:
        total += np.exp(value - top)
    return top + np.log(total)


@compiled
def _normalizers(table, drive, belief, first, scale):  # type: ignore[no-untyped-def]
    """Fill ``log Z`` of every position that is possible, else 0."""
    size, width = len(drive), table.shape[1]
    for j in range(size):
        scale[j] = 0
        if belief[j] == -np.inf:
            continue
        row, low, high = table[min(j, len(table) - 1)], max(0, -first - j), min(width, size - first - j)
        top = -np.inf
        for w in range(low, high):
            top = max(top, row[w] + drive[j + first + w])
        if top > -np.inf:
            total = 0.0
            for w in range(low, high):
                total += np.exp(row[w] + drive[j + first + w] - top)
            scale[j] = top + np.log(total)


@compiled
def _arriving(table, x, k, first):  # type: ignore[no-untyped-def]
    """The logarithm of the sum over all jumps that lead to k."""
    low, high, top = max(0, k - first - len(x) + 1), min(table.shape[1], k - first + 1), -np.inf
    for w in range(low, high):
        j = k - first - w
        top = max(top, x[j] + table[min(j, len(table) - 1), w])
    if top == -np.inf:
        for w in range(low, high):  # not a number where one of them is none: `max` passes over it
            j = k - first - w
            top += x[j] + table[min(j, len(table) - 1), w]
        return top
    total = 0.0
    for w in range(low, high):
        j = k - first - w
        total += np.exp(x[j] + table[min(j, len(table) - 1), w] - top)
    return top + np.log(total)


@compiled
def _back(given, lengths, first, begin, end, course, grad, result):  # type: ignore[no-untyped-def]
    """Add the gradients of ``sum(grad * terms)`` of the sequences `begin` to `end`."""
    size = given.emission.shape[2]
    own, later = np.empty(size, given.emission.dtype), np.empty(size, given.emission.dtype)
    for i in range(begin, end):
        at = min(i, len(given.jump) - 1)
        later[:] = 0
        for t in range(lengths[i] - 1, -1, -1):
            if course.terms[i, t] == -np.inf:
                continue
            rest = grad[i, t] - later.sum()
            own[:] = later + rest * np.exp(course.belief[i, t])
            result.emission[i, t] = own
            if t == 0:
                result.initial[i] = own
                continue
            step = min(t, given.drive.shape[1] - 1)
            x, ahead, scale = course.belief[i, t - 1] - course.scale[i, t], course.ahead[i, t], course.scale[i, t]
            later[:] = 0
            result.drive[i, step] += own
            _back_to_origins(given.jump[at], x, ahead, first, own, later, result.jump[at])
            _back_to_normalizers(
                given.jump[at], given.drive[i, step], scale, first, later, result.jump[at], result.drive[i, step]
            )


@compiled
def _back_to_origins(table, x, ahead, first, own, later, result):  # type: ignore[no-untyped-def]
    """From what arrives at each position to where it came from, and to the jumps."""
    for k in range(len(own)):
        if own[k] == 0 or ahead[k] == -np.inf:
            continue
        for w in range(max(0, k - first - len(x) + 1), min(table.shape[1], k - first + 1)):
            j = k - first - w
            row = min(j, len(table) - 1)
            share = own[k] * np.exp(x[j] + table[row, w] - ahead[k])
            later[j] += share
            result[row, w] += share


@compiled
def _back_to_normalizers(table, drive, scale, first, later, of_table, of_drive):  # type: ignore[no-untyped-def]
    """From what leaves each position to all that was in its reach."""
    for j in range(len(later)):
        if later[j] == 0:
            continue
        row = min(j, len(table) - 1)
        for w in range(max(0, -first - j), min(table.shape[1], len(drive) - first - j)):
            share = later[j] * np.exp(table[row, w] + drive[j + first + w] - scale[j])
            of_drive[j + first + w] -= share
            of_table[row, w] -= share
