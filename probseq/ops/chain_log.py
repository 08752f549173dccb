r"""The recursion of `probseq.ops.chain` in logarithms: slow, and exact where probabilities underflow.

A belief below the smallest float is 0 in the scaled recursion; if the next token is possible in that state alone, the
sequence looks impossible. Such sequences, and only those, come here. With :math:`a_t(k) = \log p(s_t = k, x_{\le t})`
and backward kernels :math:`p(s_t = j \mid s_{t+1} = k, x_{\le t})` the adjoint is a sum of non-negative terms:

.. math::
    \lambda_t(j) = (g_t - g_{t+1}) \, p(s_t = j \mid x_{\le t})
                 + \sum_k \lambda_{t+1}(k) \, p(s_t = j \mid s_{t+1} = k, x_{\le t})

Gradients at probabilities of zero are taken as 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from probseq.ops.chain import Gradients, Potentials

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


def again(
    p: Potentials, chosen: Tensor, weights: Tensor | None, tokens: Tensor | None, gradients: Gradients | None
) -> Tensor:
    """Log-likelihoods of the sequences `chosen` (R, N), else 0; fills their `tokens` and adds to the `gradients`."""
    steps = np.empty((0, 0), np.int64) if p.step is None else p.step.cpu().numpy()
    g = torch.empty(1, 0, 0) if weights is None else weights
    terms = torch.zeros(*chosen.shape, p.index.shape[1], dtype=torch.float64)
    for r in chosen.any(dim=1).nonzero()[:, 0].tolist():
        pi, a, log_b = (part[r].double().cpu().numpy() for part in (p.initial, p.transition, p.log_emission))
        totals = [np.zeros_like(part) for part in (pi, a, log_b)]
        _walk(
            pi, a, log_b, p.index.cpu().numpy(), p.lengths.cpu().numpy(), g[min(r, len(g) - 1)].double().cpu().numpy(),
            steps, chosen[r].nonzero()[:, 0].cpu().numpy(), terms[r].numpy(), *totals,
        )  # fmt: skip
        for gradient, total in zip(gradients or (), totals, strict=False):
            gradient[r] += torch.from_numpy(total).to(gradient)
    terms = terms.to(chosen.device)
    if tokens is not None:
        tokens[chosen] = terms[chosen]
    return terms.sum(dim=-1)


@_compiled
def _walk(pi, a, log_b, x, n, g, step, chosen, tokens, d_pi, d_a, d_b):  # type: ignore[no-untyped-def]
    """The sequences `chosen`: fill `tokens` (N, T) with ``log p(x_t | x_<t)`` and add to the gradients.

    `pi` and `a` are probabilities, `d_b` is with respect to the log-table. Impossible sequences add nothing.
    """
    states = a.shape[1]
    log_pi, log_a = np.log(pi), np.log(a)
    longest = 0
    for i in chosen:
        longest = max(longest, n[i])
    belief = np.empty((longest, states))
    later, sent, prior = np.empty(states), np.empty(states), np.empty(states)
    for i in chosen:
        if not _forward(log_pi, log_a, log_b, x, step, i, n[i], belief, prior, tokens) or len(g) == 0:
            continue
        after = 0.0
        later[:] = 0
        for t in range(n[i] - 1, -1, -1):
            weight = g[i, min(t, g.shape[1] - 1)]
            for k in range(states):
                later[k] += (weight - after) * np.exp(belief[t, k])
                d_b[x[i, t], k] += later[k]
            after = weight
            if t == 0:
                row = min(i, len(d_pi) - 1)
                for k in range(states):
                    if later[k] != 0:
                        d_pi[row, k] += later[k] / pi[min(i, len(pi) - 1), k]
                continue
            matrix = step[i, t] if len(step) else 0
            sent[:] = 0
            for k in range(states):
                if later[k] == 0:
                    continue
                _, total = _kernel(belief[t - 1], log_a[matrix], k, prior)
                for j in range(states):
                    share = later[k] * prior[j] / total
                    if share != 0:
                        sent[j] += share
                        d_a[matrix, j, k] += share / a[matrix, j, k]
            later[:] = sent


@_compiled
def _forward(log_pi, log_a, log_b, x, step, i, length, belief, work, tokens):  # type: ignore[no-untyped-def]
    """Fill the log-beliefs of one sequence and its row of `tokens`; False if it is impossible."""
    for t in range(length):
        for k in range(len(work)):
            if t == 0:
                prior = log_pi[min(i, len(log_pi) - 1), k]
            else:
                top, total = _kernel(belief[t - 1], log_a[step[i, t] if len(step) else 0], k, work)
                prior = top + np.log(total)
            belief[t, k] = prior + log_b[x[i, t], k]
        top = belief[t].max()
        if top == -np.inf:
            tokens[i, t:length] = -np.inf
            return False
        tokens[i, t] = top + np.log(np.exp(belief[t] - top).sum())
        belief[t] -= tokens[i, t]
    return True


@_compiled
def _kernel(belief, log_a, k, out):  # type: ignore[no-untyped-def]
    """Fill ``out[j] = exp(belief[j] + log_a[j, k] - top)``; returns the maximum `top` and the sum of `out`."""
    top = -np.inf
    for j in range(len(belief)):
        out[j] = belief[j] + log_a[j, k]
        top = max(top, out[j])
    total = 0.0
    for j in range(len(belief)):
        out[j] = np.exp(out[j] - top) if top > -np.inf else 0.0
        total += out[j]
    return top, total
