"""The recursions of `probseq.ops.paths` for one sequence at a time, compiled for a CPU.

Arrays of one restart: ``pi`` (1, K) or (N, K), ``a`` (L, K, K), ``b`` (M, K), their logarithms, ``x`` (N, T) rows of b,
``n`` lengths, and ``step`` (N, T) rows of a, or (0, 0). Innermost loops run over the arriving state, where rows of a
are contiguous. Where beliefs underflow, a sequence is done again in logarithms, by `probseq.ops.chain_log`.
"""

from __future__ import annotations

import numba
import numpy as np

from probseq.ops.chain_log import forward, kernel

_LEAST = np.finfo(np.float64).tiny / np.finfo(np.float64).eps  # sums below it lack digits
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})


@_compiled
def viterbi(log_pi, log_a, log_b, x, n, step, first, last, path, log_prob):  # type: ignore[no-untyped-def]
    """Fill `path` (N, T) and `log_prob` (N,). Of equal paths, that with the smaller states wins, from the end on."""
    states = log_a.shape[1]
    best, new, origin = np.empty(states), np.empty(states), np.empty(states, np.int64)
    for i in range(first, last):
        back = np.empty((n[i], states), np.uint16)
        best[:] = log_pi[min(i, len(log_pi) - 1)] + log_b[x[i, 0]]
        for t in range(1, n[i]):
            matrix = log_a[step[i, t] if len(step) else 0]
            new[:] = -np.inf
            origin[:] = 0
            for j in range(states):
                before, row = best[j], matrix[j]
                for k in range(len(row)):
                    value = before + row[k]
                    origin[k] = j if value > new[k] else origin[k]
                    new[k] = value if value > new[k] else new[k]
            best[:] = new + log_b[x[i, t]]
            back[t] = origin
        state = np.argmax(best)
        log_prob[i] = best[state]
        if best[state] > -np.inf:
            for t in range(n[i] - 1, -1, -1):
                path[i, t] = state
                state = back[t, state]


@_compiled
def k_best(log_pi, log_a, log_b, x, n, step, first, last, paths, log_probs):  # type: ignore[no-untyped-def]
    """Fill `paths` (N, k, T) and `log_probs` (N, k), best first; what does not exist is left as it is."""
    states, count = log_a.shape[1], log_probs.shape[1]
    best, new = np.empty((states, count)), np.empty((states, count))
    for i in range(first, last):
        back = np.empty((n[i], states, count), np.int32)  # the state before, and its rank there
        best[:] = -np.inf
        best[:, 0] = log_pi[min(i, len(log_pi) - 1)] + log_b[x[i, 0]]
        for t in range(1, n[i]):
            matrix = log_a[step[i, t] if len(step) else 0]
            new[:] = -np.inf
            for k in range(states):
                for j in range(states):
                    _merge(best[j], matrix[j, k] + log_b[x[i, t], k], j * count, new[k], back[t, k])
            best, new = new, best
        new[0] = -np.inf
        ends = np.empty(count, np.int32)
        for k in range(states):
            _merge(best[k], 0.0, k * count, new[0], ends)
        for rank in range(count):
            if new[0, rank] == -np.inf:
                break
            log_probs[i, rank] = new[0, rank]
            code = ends[rank]
            for t in range(n[i] - 1, -1, -1):
                paths[i, rank, t] = code // count
                code = back[t, code // count, code % count]


@_compiled
def _merge(values, plus, code, into, origin):  # type: ignore[no-untyped-def]
    """Merge falling `values`, raised by `plus`, into the falling list `into`; `origin` says what came from where."""
    for rank in range(len(values)):
        value = values[rank] + plus
        if not value > into[-1]:
            return
        place = len(into) - 1
        while place > 0 and value > into[place - 1]:
            into[place], origin[place] = into[place - 1], origin[place - 1]
            place -= 1
        into[place], origin[place] = value, code + rank


@_compiled
def sample(pi, a, b, log_pi, log_a, log_b, x, n, step, first, last, uniform, path):  # type: ignore[no-untyped-def]
    """Fill `path` (N, T) with a draw, given `uniform` (N, T) in [0, 1): forward filtering, backward sampling."""
    states = a.shape[1]
    weight = np.empty(states)
    for i in range(first, last):
        belief = np.empty((n[i], states))
        known = 0
        for t in range(n[i]):
            if t == 0:
                belief[0] = pi[min(i, len(pi) - 1)]
            else:
                _predict(belief[t - 1], a[step[i, t] if len(step) else 0], belief[t])
            if not _condition(belief[t], b[x[i, t]]) > _LEAST:
                break
            known += 1
        if known < n[i]:
            _draw_in_logarithms(log_pi, log_a, log_b, x, step, i, uniform[i, : n[i]], belief, path[i])
            continue
        state = _draw(belief[n[i] - 1], uniform[i, n[i] - 1])
        path[i, n[i] - 1] = state
        for t in range(n[i] - 2, -1, -1):
            matrix = a[step[i, t + 1] if len(step) else 0]
            for j in range(states):
                weight[j] = belief[t, j] * matrix[j, state]
            state = _draw(weight, uniform[i, t])
            path[i, t] = state


@_compiled
def _draw_in_logarithms(log_pi, log_a, log_b, x, step, i, uniform, belief, path):  # type: ignore[no-untyped-def]
    """The draw of one sequence where beliefs underflow, or no draw."""
    length, weight, tokens = len(belief), np.empty(belief.shape[1]), np.empty(len(belief))
    if not forward(log_pi, log_a, log_b, x, step, i, length, belief, weight, tokens):
        return
    state = _draw(np.exp(belief[length - 1]), uniform[length - 1])
    path[length - 1] = state
    for t in range(length - 2, -1, -1):
        kernel(belief[t], log_a[step[i, t + 1] if len(step) else 0], state, weight)
        state = _draw(weight, uniform[t])
        path[t] = state


@_compiled
def _predict(belief, a, prior):  # type: ignore[no-untyped-def]
    prior[:] = 0
    for j in range(len(a)):
        before, row = belief[j], a[j]
        for k in range(len(row)):
            prior[k] += before * row[k]


@_compiled
def _condition(prior, emission):  # type: ignore[no-untyped-def]
    """Turn a prediction into the belief after a token; returns the token's probability."""
    total = 0.0
    for k in range(len(prior)):
        prior[k] *= emission[k]
        total += prior[k]
    for k in range(len(prior)):
        prior[k] /= total if total > 0 else 1.0
    return total


@_compiled
def _draw(weight, uniform):  # type: ignore[no-untyped-def]
    """An index with probability in proportion to its weight; never one of weight 0."""
    target, cumulative, state = uniform * weight.sum(), 0.0, 0
    for k in range(len(weight)):
        if weight[k] > 0:
            state = k
            cumulative += weight[k]
            if cumulative > target:
                break
    return state


@_compiled
def entropy(pi, a, a_log_a, b, log_pi, log_a, log_b, x, n, step, first, last, out):  # type: ignore[no-untyped-def]
    """Fill `out` (N,); -inf where there is no path."""
    states = a.shape[1]
    belief, prior = np.empty(states), np.empty(states)
    h, new, weight = np.empty(states), np.empty(states), np.empty(states)  # h: entropy of the path so far, by its end
    for i in range(first, last):
        known = 0
        for t in range(n[i]):
            if t == 0:
                prior[:] = pi[min(i, len(pi) - 1)]
                h[:] = 0
            else:
                matrix = step[i, t] if len(step) else 0
                for j in range(states):
                    weight[j] = belief[j] * (h[j] - np.log(belief[j])) if belief[j] > 0 else 0.0
                _predict(weight, a[matrix], h)
                _predict(belief, a_log_a[matrix], new)
                _predict(belief, a[matrix], prior)
                for k in range(states):
                    h[k] = (h[k] - new[k]) / prior[k] + np.log(prior[k]) if prior[k] > 0 else 0.0
            belief[:] = prior
            if not _condition(belief, b[x[i, t]]) > _LEAST:
                break
            known += 1
        if known < n[i]:
            out[i] = _entropy_in_logarithms(log_pi, log_a, log_b, x, step, i, n[i])
            continue
        total = 0.0
        for k in range(states):
            total += belief[k] * (h[k] - np.log(belief[k])) if belief[k] > 0 else 0.0
        out[i] = max(total, 0.0)


@_compiled
def _entropy_in_logarithms(log_pi, log_a, log_b, x, step, i, length):  # type: ignore[no-untyped-def]
    """The entropy of one sequence where beliefs underflow."""
    states = log_a.shape[1]
    belief, weight, tokens = np.empty((length, states)), np.empty(states), np.empty(length)
    if not forward(log_pi, log_a, log_b, x, step, i, length, belief, weight, tokens):
        return -np.inf
    h, new, total = np.zeros(states), np.empty(states), 0.0
    for t in range(1, length):
        for k in range(states):
            _, whole = kernel(belief[t - 1], log_a[step[i, t] if len(step) else 0], k, weight)
            new[k] = 0
            for j in range(states):
                if weight[j] > 0:
                    new[k] += weight[j] / whole * (h[j] - np.log(weight[j] / whole))
        h[:] = new
    for k in range(states):
        share = np.exp(belief[length - 1, k])
        total += share * (h[k] - belief[length - 1, k]) if share > 0 else 0.0
    return max(total, 0.0)
