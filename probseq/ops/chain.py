r"""Exact inference in a hidden Markov chain: filtering, expected counts, paths.

A chain has K states. With initial probabilities :math:`\pi`, transition probabilities :math:`A` and emission
potentials :math:`b_t(k) = p(x_t \mid s_t = k)`, the scaled forward recursion is

.. math::
    u_t(k) = b_t(k) \sum_j \alpha_{t-1}(j) A_{jk}, \qquad c_t = \sum_k u_t(k) = p(x_t \mid x_{<t}), \qquad
    \alpha_t = u_t / c_t = p(s_t \mid x_{\le t}),

so that :math:`\log p(x) = \sum_t \log c_t`. Its adjoint, run backwards, gives every expected count at once: with
weight :math:`g_t` on :math:`\log c_t`,

.. math::
    \bar u_t = (\bar\alpha_t - \langle \bar\alpha_t, \alpha_t \rangle + g_t) / c_t, \qquad
    \bar\alpha_{t-1}(j) = \sum_k A_{jk} b_t(k) \bar u_t(k),

and for :math:`g_t = 1` the product :math:`u_t \bar u_t` is the posterior :math:`p(s_t \mid x)`.

All functions take the emissions as a *table* of log-potentials ``(R, M, K)`` and an ``index`` ``(N, T)`` of its rows:
for symbols the table has one row for each symbol (M = V) and the index is the data itself, so nothing of size
(R, N, T, K) is built to hold emissions. Every row is shifted by its maximum before it is exponentiated, so real-valued
observations of any scale are safe.

Reference:
    L. R. Rabiner (1989), "A tutorial on hidden Markov models and selected applications in speech recognition".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.ops import chain_compiled

_BYTES = 256 * 2**20  # what one pass may hold of forward messages; longer work is split over sequences


class Counts(NamedTuple):
    """What the E-step knows: expected counts, summed over the (weighted) sequences."""

    log_likelihood: Float[Tensor, "R N"]
    initial: Float[Tensor, "R K"]
    transition: Float[Tensor, "R K K"]
    emission: Float[Tensor, "R M K"]


class _Messages(NamedTuple):
    """The forward pass in time-major layout, for rows sorted by falling length."""

    alpha: Float[Tensor, "T R N K"]
    scale: Float[Tensor, "T R N"]
    active: list[int]


def token_log_prob(
    initial: Float[Tensor, "R K"],
    transition: Float[Tensor, "R K K"],
    log_emission: Float[Tensor, "R M K"],
    index: Int[Tensor, "N T"],
    lengths: Int[Tensor, "N"],
) -> Float[Tensor, "R N T"]:
    """``log p(x_t | x_<t)`` in nats, differentiable in the three parameters; 0 at padding.

    A token that is impossible given its past scores -inf, and so does every token after it.
    """
    result: Tensor = _TokenLogProb.apply(initial, transition, log_emission, index, lengths)  # type: ignore[no-untyped-call]
    return result


def expected_counts(
    initial: Float[Tensor, "R K"],
    transition: Float[Tensor, "R K K"],
    log_emission: Float[Tensor, "R M K"],
    index: Int[Tensor, "N T"],
    lengths: Int[Tensor, "N"],
    weights: Float[Tensor, "N"],
) -> Counts:
    """The E-step: log-likelihoods, and expected initial, transition and emission counts.

    Sequences are split so that the messages of one pass stay below a byte budget; the sums are exact.
    """
    table, shift = _exponentiate(log_emission)
    totals = (torch.zeros_like(initial), torch.zeros_like(transition), torch.zeros_like(table))
    log_likelihood = initial.new_zeros(len(initial), len(index), dtype=torch.float64)
    for rows in _chunks(initial, lengths):
        ones = weights[rows].to(initial.dtype)[:, None].expand(-1, index.shape[1])
        grad = ones.expand(len(initial), -1, -1)
        log_prob, *gradients = _forward_backward(initial, transition, table, shift, index[rows], lengths[rows], grad)
        log_likelihood[:, rows] = log_prob.sum(-1, dtype=torch.float64)
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient
    factors = (initial, transition, table)
    # The adjoint is a difference, so a count of zero may come out as a rounding error below zero.
    counts = [(total * factor).clamp(min=0) for total, factor in zip(totals, factors, strict=True)]
    return Counts(log_likelihood, *counts)


def filtered(
    initial: Float[Tensor, "R K"],
    transition: Float[Tensor, "R K K"],
    log_emission: Float[Tensor, "R M K"],
    index: Int[Tensor, "N T"],
    lengths: Int[Tensor, "N"],
) -> Float[Tensor, "R N T K"]:
    """``p(s_t | x_1..x_t)``, the belief after each token; 0 at padding."""
    order, inverse = _by_length(lengths)
    messages = _forward(initial, transition, _exponentiate(log_emission)[0], index[order], lengths[order])
    return messages.alpha.permute(1, 2, 0, 3)[:, inverse]


def posterior_marginals(
    initial: Float[Tensor, "R K"],
    transition: Float[Tensor, "R K K"],
    log_emission: Float[Tensor, "R M K"],
    index: Int[Tensor, "N T"],
    lengths: Int[Tensor, "N"],
) -> Float[Tensor, "R N T K"]:
    """``p(s_t | x)``, the belief about each state given the whole sequence; 0 at padding."""
    order, inverse = _by_length(lengths)
    table = _exponentiate(log_emission)[0]
    messages = _forward(initial, transition, table, index[order], lengths[order])
    marginals = torch.zeros_like(messages.alpha)
    ones = initial.new_ones(len(initial), *index.shape)
    for t, adjoint, _ in _backward(messages, transition, table, index[order], ones):
        n = messages.active[t]
        marginals[t, :, :n] = (adjoint * messages.alpha[t, :, :n] * messages.scale[t, :, :n, None]).clamp(min=0)
    return marginals.permute(1, 2, 0, 3)[:, inverse]


def viterbi(
    initial: Float[Tensor, "R K"],
    transition: Float[Tensor, "R K K"],
    log_emission: Float[Tensor, "R M K"],
    index: Int[Tensor, "N T"],
    lengths: Int[Tensor, "N"],
) -> tuple[Int[Tensor, "R N T"], Float[Tensor, "R N"]]:
    """The most probable state path of each sequence and its ``log p(s, x)`` in nats; -1 at padding.

    Reference:
        A. J. Viterbi (1967), "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm".
    """
    log_transition = transition.log()
    steps = index.shape[1]
    best = initial.log()[:, None] + log_emission[:, index[:, 0]]  # (R, N, K)
    back = torch.zeros(steps, *best.shape, dtype=torch.int16, device=best.device)
    states = torch.arange(best.shape[-1], device=best.device).expand_as(best)
    for t in range(1, steps):
        value, arg = (best[..., None] + log_transition[:, None]).max(dim=2)  # (R, N, K)
        real = (t < lengths)[:, None]
        best = torch.where(real, value + log_emission[:, index[:, t]], best)
        back[t] = torch.where(real, arg, states)  # at padding the path stays where it is
    log_prob, state = best.max(dim=-1)
    path = torch.empty(*state.shape, steps, dtype=torch.int64, device=state.device)
    for t in reversed(range(steps)):
        path[..., t] = state
        state = back[t].long().gather(-1, state[..., None])[..., 0]
    padding = torch.arange(steps, device=lengths.device) >= lengths[:, None]
    return path.masked_fill(padding, -1), log_prob


def sample_paths(
    initial: Float[Tensor, "R K"],
    transition: Float[Tensor, "R K K"],
    log_emission: Float[Tensor, "R M K"],
    index: Int[Tensor, "N T"],
    lengths: Int[Tensor, "N"],
    generator: torch.Generator | None = None,
) -> Int[Tensor, "R N T"]:
    """One draw of each state path from ``p(s | x)``: forward filtering, backward sampling; -1 at padding."""
    belief = filtered(initial, transition, log_emission, index, lengths)
    restarts, num, steps, states = belief.shape
    path = torch.full((restarts, num, steps), -1, dtype=torch.int64, device=belief.device)
    later = belief.new_ones(restarts, num, states)
    for t in reversed(range(steps)):
        weight = belief[:, :, t] * later
        weight = torch.where((t < lengths)[:, None], weight, 1.0)  # any draw will do at padding
        draw = torch.multinomial(weight.flatten(0, 1), 1, generator=generator).view(restarts, num)
        path[:, :, t] = torch.where(t < lengths, draw, -1)
        arriving = transition.transpose(1, 2)[torch.arange(restarts, device=draw.device)[:, None], draw]  # (R, N, K)
        later = torch.where((t < lengths)[:, None], arriving, 1.0)
    return path


class _TokenLogProb(torch.autograd.Function):
    """Forward filtering with the explicit adjoint, so that autograd keeps no tape through time."""

    @staticmethod
    def forward(ctx, initial, transition, log_emission, index, lengths):  # type: ignore[no-untyped-def]
        table, shift = _exponentiate(log_emission)
        ctx.save_for_backward(initial, transition, table, shift, index, lengths)
        parts = [
            _forward_backward(initial, transition, table, shift, index[rows], lengths[rows], None)[0]
            for rows in _chunks(initial, lengths)
        ]
        return torch.cat(parts, dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        initial, transition, table, shift, index, lengths = ctx.saved_tensors
        totals = (torch.zeros_like(initial), torch.zeros_like(transition), torch.zeros_like(table))
        for rows in _chunks(initial, lengths):
            parts = _forward_backward(initial, transition, table, shift, index[rows], lengths[rows], grad[:, rows])
            for total, part in zip(totals, parts[1:], strict=True):
                total += part
        return totals[0], totals[1], totals[2] * table, None, None


def _exponentiate(log_emission: Tensor) -> tuple[Tensor, Tensor]:
    """The table in probability space, each row shifted so that its largest entry is 1, and the shifts ``(R, M)``."""
    shift = log_emission.detach().amax(dim=-1)
    shift = shift.masked_fill(~shift.isfinite(), 0.0)  # a row that is impossible in every state stays 0
    return (log_emission.detach() - shift[..., None]).exp(), shift


def _chunks(initial: Tensor, lengths: Tensor) -> Iterator[slice]:
    restarts, states = initial.shape
    longest = int(lengths.max())
    per_sequence = max(1, longest * restarts * states * initial.element_size() * 2)
    size = max(1, _BYTES // per_sequence)
    return (slice(begin, begin + size) for begin in range(0, len(lengths), size))


def _by_length(lengths: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.argsort(lengths, descending=True, stable=True)
    return order, torch.argsort(order)


def _forward_backward(
    initial: Tensor,
    transition: Tensor,
    table: Tensor,
    shift: Tensor,
    index: Tensor,
    lengths: Tensor,
    grad: Tensor | None,
) -> tuple[Tensor, ...]:
    """``log p(x_t | x_<t)`` (R, N, T), 0 at padding, and with `grad` (R, N, T) the gradients of ``sum(grad * log p)``.

    The gradients are with respect to the *probabilities* (initial, transition, table).
    """
    if chain_compiled.suits(initial):
        return chain_compiled.forward_backward(initial, transition, table, shift, index, lengths, grad)
    order, inverse = _by_length(lengths)
    index, lengths = index[order], lengths[order]
    messages = _forward(initial, transition, table, index, lengths)
    padding = torch.arange(index.shape[1], device=index.device) >= lengths[:, None]
    log_prob = (messages.scale.log().permute(1, 2, 0) + shift[:, index]).masked_fill(padding, 0.0)[:, inverse]
    if grad is None:
        return (log_prob,)
    d_initial, d_table = torch.zeros_like(initial), torch.zeros_like(table)
    push = torch.zeros_like(messages.alpha)  # b_t * adjoint of u_t, kept to count pairs in one product
    for t, adjoint, emission in _backward(messages, transition, table, index, grad[:, order]):
        n = messages.active[t]
        push[t, :, :n] = adjoint * emission
        prior = initial[:, None] if t == 0 else messages.alpha[t - 1, :, :n] @ transition
        d_table.index_add_(1, index[:n, t], adjoint * prior)
        if t == 0:
            d_initial = push[0].sum(dim=1)
    before = messages.alpha[:-1].permute(1, 3, 0, 2).flatten(2)  # (R, K, (T-1) N)
    after = push[1:].permute(1, 0, 2, 3).flatten(1, 2)  # (R, (T-1) N, K)
    return log_prob, d_initial, before @ after, d_table


def _forward(initial: Tensor, transition: Tensor, table: Tensor, index: Tensor, lengths: Tensor) -> _Messages:
    (num, steps), (restarts, states) = index.shape, initial.shape
    active = (lengths[:, None] > torch.arange(steps, device=lengths.device)).sum(dim=0).tolist()
    alpha = initial.new_zeros(steps, restarts, num, states)
    scale = initial.new_ones(steps, restarts, num)
    for t, n in enumerate(active):
        prior = initial[:, None] if t == 0 else alpha[t - 1, :, :n] @ transition
        joint = prior * table[:, index[:n, t]]  # (R, n, K)
        total = joint.sum(dim=-1)
        scale[t, :, :n] = total
        alpha[t, :, :n] = joint / total.masked_fill(total == 0, 1.0)[..., None]
    return _Messages(alpha, scale, active)


def _backward(
    messages: _Messages, transition: Tensor, table: Tensor, index: Tensor, grad: Tensor
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For t from last to first: t, the adjoint of u_t (R, n, K), and the emissions b_t (R, n, K)."""
    alpha, scale, active = messages
    transposed = transition.transpose(1, 2)
    later = torch.zeros_like(alpha[0])  # adjoint of alpha_t; 0 for sequences that ended at t
    for t in reversed(range(len(active))):
        n = active[t]
        inner = (later[:, :n] * alpha[t, :, :n]).sum(dim=-1)
        total = scale[t, :, :n]
        adjoint = (later[:, :n] + (grad[:, :n, t] - inner)[..., None]) / total.masked_fill(total == 0, 1.0)[..., None]
        emission = table[:, index[:n, t]]
        yield t, adjoint, emission
        later[:, :n] = (adjoint * emission) @ transposed
