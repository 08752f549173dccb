"""The forward-backward recursion of `probseq.ops.chain` compiled for a CPU.

With few states a step of the recursion is a handful of multiplications, and a loop over tensors spends its time in
Python. Here one compiled loop walks a sequence forward and backward while its messages are still in the cache, and
threads share the (restart, sequence) pairs. With many states the matrix products of the tensor loop are faster.
Tested equal to the tensor loop.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PARTS = 8  # jobs that the sequences are shared among; fixed, so that no sum depends on the number of threads
_MOST_STATES = 128  # above this the matrix products of the tensor loop win


def suits(initial: Tensor) -> bool:
    """True if the compiled loop is the faster one for these parameters ``(R, K)``."""
    return initial.device.type == "cpu" and initial.shape[1] <= _MOST_STATES


def forward_backward(
    initial: Tensor,
    transition: Tensor,
    table: Tensor,
    shift: Tensor,
    index: Tensor,
    lengths: Tensor,
    grad: Tensor | None,
) -> tuple[Tensor, ...]:
    """As ``chain._forward_backward``: the log-probability of every token and, with `grad`, the three gradients."""
    walk = _compile()
    pi, a, b = (p.detach().contiguous().numpy() for p in (initial, transition, table))
    x, n = index.contiguous().numpy(), lengths.contiguous().numpy()
    restarts, num = len(pi), len(x)
    log_prob = np.ones((restarts, *x.shape), pi.dtype)  # until its logarithm is taken, p(x_t | x_<t)
    g = np.broadcast_to(np.zeros((), pi.dtype), log_prob.shape) if grad is None else grad.to(initial.dtype).numpy()
    offset, real = shift.numpy(), np.arange(x.shape[1]) < n[:, None]
    parts = min(_PARTS, num)
    d_initial, d_transition, d_table = (np.zeros((parts, *p.shape), p.dtype) for p in (pi, a, b))
    cuts = np.linspace(0, num, parts + 1).astype(int)

    def work(job: int) -> None:
        r, part = divmod(job, parts)
        rows = slice(cuts[part], cuts[part + 1])
        walk(
            pi[r], a[r], b[r], x[rows], n[rows], g[r, rows], grad is not None,
            log_prob[r, rows], d_initial[part, r], d_transition[part, r], d_table[part, r],
        )  # fmt: skip
        with np.errstate(divide="ignore"):
            np.log(log_prob[r, rows], out=log_prob[r, rows])
        np.add(log_prob[r, rows], offset[r][x[rows]], out=log_prob[r, rows], where=real[rows])

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(work, range(restarts * parts)))
    if grad is None:
        return (torch.from_numpy(log_prob),)
    return torch.from_numpy(log_prob), *(torch.from_numpy(d.sum(axis=0)) for d in (d_initial, d_transition, d_table))


@cache
def _compile() -> Any:
    import numba  # imported on first use: it takes half a second

    options = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"}}
    return numba.njit(**options)(_walk)


def _walk(pi, a, b, x, lengths, grad, backward, scale, d_pi, d_a, d_b):  # type: ignore[no-untyped-def]
    """One restart, some sequences: fill `scale` (n, T) and add to the gradients. Compiled; plain loops on purpose."""
    states = len(pi)
    alpha = np.empty((x.shape[1], states), pi.dtype)
    prior = np.empty((x.shape[1], states), pi.dtype)
    later = np.empty(states, pi.dtype)
    push = np.empty(states, pi.dtype)
    for i in range(len(x)):
        for t in range(lengths[i]):
            row = b[x[i, t]]
            if t == 0:
                prior[0] = pi
            else:
                prior[t] = 0
                for j in range(states):
                    before = alpha[t - 1, j]
                    for k in range(states):
                        prior[t, k] += before * a[j, k]
            total = pi.dtype.type(0)
            for k in range(states):
                alpha[t, k] = prior[t, k] * row[k]
                total += alpha[t, k]
            scale[i, t] = total
            if total > 0:
                for k in range(states):
                    alpha[t, k] /= total
        if backward:
            later[:] = 0
            for t in range(lengths[i] - 1, -1, -1):
                symbol = x[i, t]
                total = scale[i, t] if scale[i, t] > 0 else pi.dtype.type(1)
                inner = grad[i, t]
                for k in range(states):
                    inner -= later[k] * alpha[t, k]
                for k in range(states):
                    adjoint = (later[k] + inner) / total
                    d_b[symbol, k] += adjoint * prior[t, k]
                    push[k] = adjoint * b[symbol, k]
                if t == 0:
                    d_pi += push
                else:
                    for j in range(states):
                        before = alpha[t - 1, j]
                        total = pi.dtype.type(0)
                        for k in range(states):
                            total += a[j, k] * push[k]
                            d_a[j, k] += before * push[k]
                        later[j] = total
