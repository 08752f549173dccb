"""The forward-backward recursion of `probseq.ops.chain` in tensors: the statement of the method, for any device.

Sequences are sorted by falling length, so that those still running at a step are the first n, and a step is one matrix
product over all of them. Where the beliefs of all steps would need too much room, only those at the borders of spans
are kept, and every span but the last is computed a second time on the way back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold

if TYPE_CHECKING:
    from probseq.ops.chain import Gradients, Potentials

_BYTES = 256 * 2**20  # what one span of steps may hold of beliefs


class _Span(NamedTuple):
    """Consecutive steps of the forward pass, for the n sequences that are still running at each."""

    start: int
    beliefs: list[Tensor]  # before the first step and after each, (R, n, K); 0 before a sequence begins
    scales: list[Tensor]  # c_t of each step, (R, n)


def forward_backward(
    p: Potentials, table: Tensor, shift: Tensor, weights: Tensor | None, tokens: bool
) -> tuple[Tensor, Tensor | None, Gradients | None]:
    """Log-likelihoods (R, N), float64; with `tokens` their terms (R, N, T); with `weights` three gradients.

    The gradients are those of ``sum(weights * terms)`` with respect to the probabilities `initial` and `transition` and
    the logarithm of the table. Impossible sequences score -inf and add nothing.

    Args:
        p: the potentials.
        table: ``(R, M, K)``, the emission table as probabilities, each row lowered by its shift.
        shift: ``(R, M)``.
        weights: ``(R or 1, N, T or 1)``, or None.
        tokens: True if the terms are wanted.
    """
    order = torch.argsort(p.lengths, descending=True, stable=True)
    inverse, p = torch.argsort(order), take(p, order)
    num, steps = p.index.shape
    size = max(1, _BYTES // (len(table) * num * table.shape[-1] * table.element_size()))
    terms = table.new_zeros(len(table), num, steps, dtype=torch.float64)
    borders = [table.new_zeros(len(table), num, table.shape[-1])]
    for start in range(0, steps, size):
        span = _forward(p, table, start, min(start + size, steps), borders[-1])
        borders.append(span.beliefs[-1])
        for t, scale in enumerate(span.scales, start):
            n = scale.shape[1]
            terms[:, :n, t] = scale.double().log() + shift[:, p.index[:n, t]].double()
    log_likelihood, gradients = terms.sum(dim=-1), None
    if weights is not None:
        possible = (log_likelihood > -torch.inf)[..., None]
        grad = torch.where(possible, weights[:, order], 0.0).to(table.dtype).expand(-1, -1, steps)
        gradients = torch.zeros_like(p.initial), torch.zeros_like(p.transition), torch.zeros_like(table)
        later = torch.zeros_like(borders[0])  # the adjoint of the beliefs; 0 for a sequence that has ended
        for start in reversed(range(0, steps, size)):
            if start != span.start:
                span = _forward(p, table, start, start + size, borders[start // size])
            _backward(p, table, span, grad, later, gradients)
        if gradients[0].shape[1] > 1:
            gradients = (gradients[0][:, inverse], *gradients[1:])
    return log_likelihood[:, inverse], terms[:, inverse] if tokens else None, gradients


def take(p: Potentials, rows: Tensor) -> Potentials:
    """The potentials of some sequences."""
    return p._replace(
        initial=p.initial if p.initial.shape[1] == 1 else p.initial[:, rows],
        index=p.index[rows],
        lengths=p.lengths[rows],
        step=None if p.step is None else p.step[rows],
    )


def _forward(p: Potentials, table: Tensor, start: int, stop: int, belief: Tensor) -> _Span:
    span, least = _Span(start, [belief], []), _least(table)
    running = (p.lengths[:, None] > torch.arange(start, stop, device=p.lengths.device)).sum(dim=0).tolist()
    for t, n in enumerate(running, start):
        joint = threshold(_predict(p, belief[:, :n], t), least, 0) * table[:, p.index[:n, t]]
        scale = threshold(joint.sum(dim=-1), least, 0)
        belief = threshold(joint * _reciprocal(scale), least, 0)
        span.beliefs.append(belief)
        span.scales.append(scale)
    return span


def _backward(p: Potentials, table: Tensor, span: _Span, grad: Tensor, later: Tensor, gradients: Gradients) -> None:
    """Add a span's part to `gradients`; `later` is read and left as the adjoint of the belief before the span."""
    d_initial, d_transition, d_emission = gradients
    pushes = []
    for i in reversed(range(len(span.scales))):
        t, scale, belief = span.start + i, span.scales[i], span.beliefs[i + 1]
        n = scale.shape[1]
        index = p.index[:n, t]
        adjoint = later[:, :n] + (grad[:, :n, t] - (later[:, :n] * belief).sum(dim=-1))[..., None]
        adjoint = torch.where(belief > 0, adjoint, 0.0)
        _add_rows(d_emission, index, adjoint * belief)
        push = adjoint * table[:, index] * _reciprocal(scale)  # the adjoint of the prediction
        if t == 0:
            d_initial += push if d_initial.shape[1] > 1 else push.sum(dim=1, keepdim=True)
        elif p.step is None:
            later[:, :n] = push @ p.transition[:, 0].transpose(1, 2)
        else:
            matrices = p.step[:n, t]
            later[:, :n] = (p.transition[:, matrices] @ push[..., None])[..., 0]
            _add_rows(d_transition, matrices, span.beliefs[i][:, :n, :, None] * push[:, :, None])
        pushes.append(push)
    if p.step is None:  # all pair counts in one product
        before = [belief[:, : push.shape[1]] for belief, push in zip(span.beliefs, reversed(pushes), strict=False)]
        d_transition[:, 0] += torch.cat(before, dim=1).transpose(1, 2) @ torch.cat(pushes[::-1], dim=1)


def beliefs(p: Potentials, table: Tensor, after: bool) -> Tensor:
    """``p(s_t | x_<=t)``, or ``p(s_t | x_<t)``, (R, N, T, K), 0 at padding."""
    order = torch.argsort(p.lengths, descending=True, stable=True)
    p, steps = take(p, order), p.index.shape[1]
    span = _forward(p, table, 0, steps, table.new_zeros(len(table), len(order), table.shape[-1]))
    result = table.new_zeros(len(table), len(order), steps, table.shape[-1])
    for t, belief in enumerate(span.beliefs[1:]):
        n = belief.shape[1]
        result[:, order[:n], t] = belief if after else _predict(p, span.beliefs[t][:, :n], t)
    return result


def differentiable(p: Potentials) -> Tensor:
    """``log p(x_t | x_<t)`` (R, N, T) by operations that autograd can differentiate any number of times.

    Impossible sequences have no gradient.
    """
    terms = _recorded(p)
    lost = (terms == -torch.inf).any(dim=-1)
    if lost.any():
        from probseq.ops import chain_log

        rows = lost.any(dim=0).nonzero()[:, 0]
        exact = terms.index_copy(1, rows, chain_log.differentiable(take(p, rows)))
        terms = torch.where(lost[..., None], exact, terms)
        terms = torch.where((terms == -torch.inf).any(dim=-1, keepdim=True), terms.detach(), terms)
    return terms


def _recorded(p: Potentials) -> Tensor:
    """The recursion in probabilities; -inf where a belief underflows."""
    shift = p.log_emission.detach().amax(dim=-1, keepdim=True).nan_to_num(neginf=0.0)
    table = (p.log_emission - shift).exp()
    belief, terms = torch.zeros_like(table[:, p.index[:, 0]]), []
    for t in range(p.index.shape[1]):
        joint = _predict(p, belief, t) * table[:, p.index[:, t]]
        scale = threshold(joint.sum(dim=-1), _least(table), 0)
        belief = joint * _reciprocal(scale)
        log_scale = scale.masked_fill(scale == 0, 1.0).log().masked_fill(scale == 0, -torch.inf)
        terms.append(log_scale + shift[:, p.index[:, t], 0])
    real = torch.arange(p.index.shape[1], device=p.index.device) < p.lengths[:, None]
    return torch.stack(terms, dim=-1).masked_fill(~real, 0.0)


def _predict(p: Potentials, belief: Tensor, t: int) -> Tensor:
    """``p(s_t | x_<t)`` from the belief before step t, (R, n, K)."""
    n = belief.shape[1]
    if t == 0:
        return p.initial[:, :n].expand(-1, n, -1)
    if p.step is None:
        return belief @ p.transition[:, 0]
    return (belief[..., None, :] @ p.transition[:, p.step[:n, t]])[..., 0, :]


def _least(table: Tensor) -> float:
    """The smallest number whose sums have all their digits; what is below counts as 0 here."""
    numbers = torch.finfo(table.dtype)
    return numbers.tiny / numbers.eps


def _reciprocal(scale: Tensor) -> Tensor:
    """``1 / scale`` with an axis for states, and 0 where the scale is 0: what is impossible sends nothing back."""
    return torch.where(scale > 0, 1 / scale.masked_fill(scale == 0, 1.0), 0.0)[..., None]


def _add_rows(total: Tensor, index: Tensor, rows: Tensor) -> None:
    """``total[:, index[i]] += rows[:, i]``."""
    if total.is_cuda:  # index_add_ would add in no fixed order there
        total.transpose(0, 1).index_put_((index,), rows.transpose(0, 1), accumulate=True)
    else:
        total.index_add_(1, index, rows)
