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

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from probseq.ops.chain import Gradients, Potentials

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


def beliefs(p: Potentials, chosen: Tensor, after: bool, result: Tensor) -> None:
    """Fill the rows `chosen` (R, N) of `result` (R, N, T, K) as `chain_tensor.beliefs` does."""
    for r in chosen.any(dim=1).nonzero()[:, 0].tolist():
        rows = chosen[r].nonzero()[:, 0]
        filled = np.zeros((len(rows), *result.shape[2:]))
        _fill(*_arrays(p, r), rows.cpu().numpy(), after, filled)
        result[r, rows] = torch.from_numpy(filled).to(result)


def again(
    p: Potentials, chosen: Tensor, weights: Tensor | None, tokens: Tensor | None, gradients: Gradients | None
) -> Tensor:
    """Log-likelihoods of the sequences `chosen` (R, N), else 0; fills their `tokens` and adds to the `gradients`."""
    g = torch.empty(1, 0, 0) if weights is None else weights
    terms = torch.zeros(*chosen.shape, p.index.shape[1], dtype=torch.float64)
    for r in chosen.any(dim=1).nonzero()[:, 0].tolist():
        totals = [np.zeros(part.shape[1:]) for part in p[:3]]
        own = g[min(r, len(g) - 1)].double().cpu().numpy()
        _walk(*_arrays(p, r), chosen[r].nonzero()[:, 0].cpu().numpy(), own, terms[r].numpy(), *totals)
        for gradient, total in zip(gradients or (), totals, strict=False):
            gradient[r] += torch.from_numpy(total).to(gradient)
    terms = terms.to(chosen.device)
    if tokens is not None:
        tokens[chosen] = terms[chosen]
    return terms.sum(dim=-1)


def _arrays(p: Potentials, r: int) -> list[NDArray[Any]]:
    """Restart r and the sequences, as the compiled loops take them."""
    parts = (part[r].detach().double().cpu().numpy() for part in p[:3])
    step = np.empty((0, 0), np.int64) if p.step is None else p.step.cpu().numpy()
    return [*parts, p.index.cpu().numpy(), p.lengths.cpu().numpy(), step]


@_compiled
def _walk(pi, a, log_b, x, n, step, chosen, g, tokens, d_pi, d_a, d_b):  # type: ignore[no-untyped-def]
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
        if not forward(log_pi, log_a, log_b, x, step, i, n[i], belief, prior, tokens[i]) or len(g) == 0:
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
                _, total = kernel(belief[t - 1], log_a[matrix], k, prior)
                for j in range(states):
                    share = later[k] * prior[j] / total
                    if share != 0:
                        sent[j] += share
                        d_a[matrix, j, k] += share / a[matrix, j, k]
            later[:] = sent


@_compiled
def forward(log_pi, log_a, log_b, x, step, i, length, belief, work, tokens):  # type: ignore[no-untyped-def]
    """Fill the log-beliefs (T, K) of sequence i and its `tokens` (T,), -inf from an impossible one on.

    Returns False if there is one; `belief` is -inf there, and means nothing after it.
    """
    for t in range(length):
        predict(log_pi, log_a, step, i, t, belief, work, belief[t])
        belief[t] += log_b[x[i, t]]
        top = belief[t].max()
        if top == -np.inf:
            tokens[t:length] = -np.inf
            return False
        tokens[t] = top + np.log(np.exp(belief[t] - top).sum())
        belief[t] -= tokens[t]
    return True


@_compiled
def predict(log_pi, log_a, step, i, t, belief, work, out):  # type: ignore[no-untyped-def]
    """Fill ``log p(s_t | x_<t)``, given the log-beliefs of the steps before; `out` may be ``belief[t]``."""
    if t == 0:
        out[:] = log_pi[min(i, len(log_pi) - 1)]
        return
    for k in range(len(out)):
        top, total = kernel(belief[t - 1], log_a[step[i, t] if len(step) else 0], k, work)
        out[k] = top + np.log(total)


@_compiled
def _fill(pi, a, log_b, x, n, step, chosen, after, out):  # type: ignore[no-untyped-def]
    """The beliefs `out` (n, T, K) of the n sequences `chosen`, after each token or before it; 0 before."""
    log_pi, log_a = np.log(pi), np.log(a)
    belief, work, row = np.empty(out.shape[1:]), np.empty(out.shape[2]), np.empty(out.shape[2])
    tokens = np.empty(out.shape[1])
    for q, i in enumerate(chosen):
        forward(log_pi, log_a, log_b, x, step, i, n[i], belief, work, tokens)
        for t in range(n[i]):
            if after and tokens[t] > -np.inf:
                out[q, t] = np.exp(belief[t])
            elif not after and (t == 0 or tokens[t - 1] > -np.inf):
                predict(log_pi, log_a, step, i, t, belief, work, row)
                out[q, t] = np.exp(row)


@_compiled
def kernel(belief, log_a, k, out):  # type: ignore[no-untyped-def]
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


def differentiable(p: Potentials) -> Tensor:
    """As `chain_tensor.differentiable`."""
    initial, transition = _log(p.initial), _log(p.transition)
    belief, terms = p.log_emission[:, p.index[:, 0]], []
    for t in range(p.index.shape[1]):
        if t == 0:
            prior = initial.expand_as(belief)
        else:
            matrix = transition if p.step is None else transition[:, p.step[:, t]]
            prior = _logsumexp(belief[..., None] + matrix, dim=2)
        joint = prior + p.log_emission[:, p.index[:, t]]
        terms.append(_logsumexp(joint, dim=2))
        belief = joint - terms[-1].masked_fill(terms[-1] == -torch.inf, 0.0)[..., None]
    real = torch.arange(p.index.shape[1], device=p.index.device) < p.lengths[:, None]
    return torch.stack(terms, dim=-1).masked_fill(~real, 0.0)


def _log(x: Tensor) -> Tensor:
    """The logarithm, with a gradient of 0 at 0."""
    return x.masked_fill(x == 0, 1.0).log().masked_fill(x == 0, -torch.inf)


def _logsumexp(x: Tensor, dim: int) -> Tensor:
    """As `torch.logsumexp`, with a gradient of 0 where all is -inf."""
    top = x.detach().amax(dim=dim, keepdim=True)
    top = top.masked_fill(top == -torch.inf, 0.0)
    return _log((x - top).exp().sum(dim=dim)) + top.squeeze(dim)
