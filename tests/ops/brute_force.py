"""Tiny potentials of every kind, and sums over all paths of states."""

from __future__ import annotations

import itertools
import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from probseq.ops.chain import Counts, Potentials


def normalized(x: Tensor) -> Tensor:
    return x / x.sum(dim=-1, keepdim=True)


def random_potentials(
    restarts=2, num=3, steps=4, states=3, symbols=4, matrices=1, initials=1, zeros=0.0, dtype=torch.float64, seed=0
) -> Potentials:
    """Potentials of that size; `matrices` above 1 brings steps of their own, `zeros` is the share of zeros."""
    generator = torch.Generator().manual_seed(seed)

    def positive(*shape: int, keep_last: bool = True) -> Tensor:
        values = torch.rand(shape, dtype=torch.float64, generator=generator) + 0.05
        possible = torch.rand(shape, generator=generator) >= zeros
        if keep_last:  # so that no row of probabilities is all zero
            possible[..., -1] = True
        return values * possible

    def whole(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    return Potentials(
        initial=normalized(positive(restarts, initials, states)).to(dtype),
        transition=normalized(positive(restarts, matrices, states, states)).to(dtype),
        log_emission=(3 * positive(restarts, symbols, states, keep_last=False).log()).to(dtype),
        index=whole(symbols, num, steps),
        lengths=1 + whole(steps, num),
        step=whole(matrices, num, steps) if matrices > 1 else None,
    )


def underflowing_potentials(dtype: torch.dtype, matrices: int = 1) -> Potentials:
    """States come in order, and token 1 is 2,000 nats likelier in the state where no sequence can be yet.

    Token 3 is impossible; sequence 4 has it after beliefs were lost, sequence 5 comes to a state that it cannot reach.
    """
    order = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75], [0.0, 0.0, 1.0]], dtype=dtype)
    never = -math.inf
    rows = [[0.0, -3, -5], [-2000, -2001, 0], [-1, -1.5, -1], [never, never, never], [-1, never, never], [-1, -1, -9]]
    return Potentials(
        initial=torch.tensor([[[1.0, 0.0, 0.0]]], dtype=dtype),
        transition=order.expand(1, matrices, 3, 3).contiguous(),
        log_emission=torch.tensor([rows], dtype=dtype),
        index=torch.tensor([[0, 1, 2, 1], [0, 0, 2, 0], [1, 0, 1, 2], [2, 2, 2, 2], [1, 1, 5, 3], [1, 1, 1, 4]]),
        lengths=torch.tensor([3, 4, 4, 2, 4, 4]),
        step=torch.tensor([[0, 1, 0, 1]] * 6) if matrices > 1 else None,
    )


def double(p: Potentials) -> Potentials:
    return p._replace(**{name: getattr(p, name).double() for name in ("initial", "transition", "log_emission")})


@st.composite
def potentials(draw):
    """K and T up to 4 and 5, ragged; with and without zeros, steps of their own, and initials of their own."""
    num = draw(st.integers(1, 5))
    return random_potentials(
        restarts=draw(st.integers(1, 2)),
        num=num,
        steps=draw(st.integers(1, 5)),
        states=draw(st.integers(1, 4)),
        symbols=draw(st.integers(1, 4)),
        matrices=draw(st.sampled_from([1, 1, 3])),
        initials=draw(st.sampled_from([1, num])),
        zeros=draw(st.sampled_from([0.0, 0.3])),
        seed=draw(st.integers(0, 2**16)),
    )


def matrix(p: Potentials, r: int, i: int, t: int) -> Tensor:
    return p.transition[r, 0 if p.step is None else p.step[i, t]]


def log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def joint(p: Potentials, r: int, i: int, steps: int | None = None) -> dict[tuple[int, ...], float]:
    """``log p(path, x)`` of every path of sequence i, or of its first `steps` tokens."""
    initial = p.initial[r, i if p.initial.shape[1] > 1 else 0].tolist()
    steps = int(p.lengths[i]) if steps is None else steps
    transition = [matrix(p, r, i, t).tolist() for t in range(steps)]
    emission = p.log_emission[r, p.index[i]].tolist()
    table = {}
    for path in itertools.product(range(len(initial)), repeat=steps):
        moves = sum(log(transition[t][path[t - 1]][path[t]]) for t in range(1, steps))
        table[path] = log(initial[path[0]]) + moves + sum(emission[t][path[t]] for t in range(steps))
    return table


def evidence(table: dict[tuple[int, ...], float]) -> float:
    """``log p(x)``."""
    return torch.tensor(list(table.values()), dtype=torch.float64).logsumexp(0).item()


def posterior(table: dict[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    """``p(path | x)`` of the paths that are possible."""
    total = evidence(table)
    return {path: math.exp(value - total) for path, value in table.items() if value > -math.inf}


def counts(p: Potentials, weights: Tensor) -> Counts:
    """As `chain.expected_counts`."""
    log_likelihood = torch.zeros(len(p.initial), len(p.index), dtype=torch.float64)
    initial, transition, emission = (torch.zeros_like(part) for part in p[:3])
    for r, i in itertools.product(range(len(p.initial)), range(len(p.index))):
        table = joint(p, r, i)
        log_likelihood[r, i] = evidence(table)
        for path, share in posterior(table).items():
            share *= weights[i]
            initial[r, i if initial.shape[1] > 1 else 0, path[0]] += share
            for t, state in enumerate(path):
                emission[r, p.index[i, t], state] += share
                if t:
                    transition[r, 0 if p.step is None else p.step[i, t], path[t - 1], state] += share
    return Counts(log_likelihood, initial, transition, emission)


def emission_gradient(p: Potentials, grad: Tensor) -> Tensor:
    """Of ``sum(grad * terms)`` (N, T) with respect to the log-table: a term is a difference of two log-likelihoods."""
    grad = torch.where(torch.arange(p.index.shape[1]) < p.lengths[:, None], grad, 0.0)
    later = torch.cat([grad[:, 1:], torch.zeros_like(grad[:, :1])], dim=1)
    prefixes = [p._replace(lengths=torch.full_like(p.lengths, t + 1)) for t in range(p.index.shape[1])]
    return sum(counts(q, (grad - later)[:, t]).emission for t, q in enumerate(prefixes))


def terms(p: Potentials) -> Tensor:
    """As `chain.token_log_prob`."""
    result = torch.zeros(len(p.initial), *p.index.shape, dtype=torch.float64)
    for r, i in itertools.product(range(len(p.initial)), range(len(p.index))):
        before = 0.0
        for t in range(int(p.lengths[i])):
            after = evidence(joint(p, r, i, t + 1))
            result[r, i, t] = after - before if after > -math.inf else -math.inf
            before = after
    return result


def beliefs(p: Potentials, seen: str) -> Tensor:
    """``p(s_t | ...)`` given all tokens (``"all"``), those up to t (``"past"``) or before t (``"before"``)."""
    result = torch.zeros(len(p.initial), *p.index.shape, p.transition.shape[-1], dtype=torch.float64)
    silent = torch.zeros_like(p.log_emission[:, :1])  # a token that says nothing
    for r, i in itertools.product(range(len(p.initial)), range(len(p.index))):
        for t in range(int(p.lengths[i])):
            q = p
            if seen == "before":
                index = p.index.clone()
                index[i, t] = p.log_emission.shape[1]
                q = p._replace(log_emission=torch.cat([p.log_emission, silent], dim=1), index=index)
            for path, share in posterior(joint(q, r, i, None if seen == "all" else t + 1)).items():
                result[r, i, t, path[t]] += share
    return result
