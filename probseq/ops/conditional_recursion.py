"""The recursion of `probseq.ops.chain_conditional` in logarithms, forth and back, and what both are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class Course:
    """The recursion, once forth and, if asked for, once back.

    Sequences are sorted by falling length, so that those still running at a step are the first n.

    Args:
        weights: what is shared.
        log_scale: ``(C, N, T or 1, K)``.
        joint: ``(C, N, T, K)``, emissions and drive; of the first step, emissions and initial probabilities.
        lengths: ``(N,)``.
        first: the smallest jump; None for a matrix.
    """

    def __init__(self, weights: Tensor, log_scale: Tensor, joint: Tensor, lengths: Tensor, first: int | None) -> None:
        self.order = torch.argsort(lengths, descending=True, stable=True)
        self.first, self.is_own = first, first is not None and weights.shape[1] > 1
        self.weights = weights[:, self.order] if self.is_own else weights
        self.log_scale, self.joint = log_scale[:, self.order], joint[:, self.order]
        steps = torch.arange(joint.shape[2], device=lengths.device)
        self.running = (lengths[:, None] > steps).sum(dim=0).tolist()
        self.beliefs: list[Tensor] = []  # after each step, (C, n, K)
        self.ahead: list[Tensor] = []  # q_t, (C, n, K); of no use at the first step
        self.terms: list[Tensor] = []  # c_t, (C, n)
        link = link_of(self.weights, first)
        for t, n in enumerate(n for n in self.running if n):
            self.ahead.append(link.predict(self._scaled(t, n)) if t else self.joint[:, :n, 0])
            joint_now = self.ahead[t] + self.joint[:, :n, t] if t else self.ahead[0]
            self.terms.append(joint_now.logsumexp(dim=-1))
            self.beliefs.append(joint_now - known(self.terms[t])[..., None])

    def _scaled(self, t: int, n: int) -> Tensor:
        """What step t adds up: beliefs before it, divided by Z."""
        return self.beliefs[t - 1][:, :n] + at(self.log_scale, t)[:, :n]

    def back(self, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of ``sum(grad * terms)``: of the weights, the scales and the joint potentials."""
        link = link_of(self.weights, self.first)
        grad, later = grad[:, self.order], torch.zeros_like(self.joint[:, :, 0])
        of_scale, of_joint = torch.zeros_like(self.log_scale), torch.zeros_like(self.joint)
        for t in reversed(range(len(self.beliefs))):
            belief, term = self.beliefs[t], self.terms[t]
            n = term.shape[1]
            weight = grad[:, :n, t].masked_fill(term == -torch.inf, 0.0)
            own = later[:, :n] + (weight - later[:, :n].sum(dim=-1))[..., None] * belief.exp()
            of_joint[:, :n, t] = own
            if t:
                later[:, :n] = link.pull(self._scaled(t, n), self.ahead[t], own)
                at(of_scale, t)[:, :n] += later[:, :n]
        inverse = torch.argsort(self.order)
        of_weights = link.gradient()
        return of_weights[:, inverse] if self.is_own else of_weights, of_scale[:, inverse], of_joint[:, inverse]


class _Matrix:
    """The sum over j, and its adjoint, where A is a matrix: products of probabilities."""

    def __init__(self, log_matrix: Tensor) -> None:
        self.matrix = log_matrix.exp()
        self.pulled: list[tuple[Tensor, Tensor]] = []

    def predict(self, x: Float[Tensor, "C n K"]) -> Float[Tensor, "C n K"]:
        """``log sum_j A_jk exp(x_j)``."""
        top = known(x.amax(dim=-1, keepdim=True))
        return ((x - top).exp() @ self.matrix).log() + top

    def pull(self, x: Tensor, ahead: Tensor, grad: Tensor) -> Float[Tensor, "C n K"]:
        """The gradient with respect to x of ``sum(grad * ahead)``."""
        top = known(x.amax(dim=-1, keepdim=True))
        before, ratio = (x - top).exp(), (top - known(ahead)).exp() * grad
        self.pulled.append((before, ratio))
        return before * (ratio @ self.matrix.mT)

    def gradient(self) -> Tensor:
        """Of all that was pulled, with respect to the logarithms of A."""
        if not self.pulled:
            return torch.zeros_like(self.matrix)
        before, ratio = (torch.cat(parts, dim=1) for parts in zip(*self.pulled, strict=True))
        return self.matrix * (before.mT @ ratio)


class _Window:
    """The sum over j, and its adjoint, where A is a band: sums over windows."""

    def __init__(self, weights: Tensor, first: int) -> None:
        self.weights, self.first, self.last = weights, first, first + weights.shape[-1] - 1
        self.total = torch.zeros_like(weights)

    def predict(self, x: Float[Tensor, "C n K"]) -> Float[Tensor, "C n K"]:
        """``log sum_j A_jk exp(x_j)``."""
        return self._terms(x).logsumexp(dim=-1)

    def pull(self, x: Tensor, ahead: Tensor, grad: Tensor) -> Float[Tensor, "C n K"]:
        """The gradient with respect to x of ``sum(grad * ahead)``."""
        share = (self._terms(x) - known(ahead)[..., None]).exp() * grad[..., None]  # (C, n, K, W)
        own = self.total if self.total.shape[1] == 1 else self.total[:, : x.shape[1]]
        own += share.sum_to_size(own.shape)
        size, back = x.shape[-1], x.new_zeros(*x.shape[:-1], x.shape[-1] + self.weights.shape[-1] - 1)
        for w, part in enumerate(share.unbind(dim=-1)):
            back[..., w : w + size] += part
        return back[..., self.last : self.last + size]

    def gradient(self) -> Tensor:
        """Of all that was pulled, with respect to the weights."""
        return self.total

    def _terms(self, x: Tensor) -> Float[Tensor, "C n K W"]:
        return windows(x, self.last, -self.first) + self.weights[:, : x.shape[1]]


def link_of(weights: Tensor, first: int | None) -> _Matrix | _Window:
    """How beliefs are carried from one step to the next: by a matrix, or where a smallest jump is given, by a band."""
    return _Matrix(weights) if first is None else _Window(weights, first)


def at(part: Float[Tensor, "C N #T K"], step: int) -> Float[Tensor, "C N K"]:
    """What belongs to a step; the same for all where there is one."""
    return part[:, :, min(step, part.shape[2] - 1)]


def windows(x: Float[Tensor, "*B K"], before: int, after: int) -> Float[Tensor, "*B K W"]:
    """For each position those from `before` before it to `after` after it, -inf beyond the ends."""
    return F.pad(x, (before, after), value=-torch.inf).unfold(-1, before + after + 1, 1)


def known(x: Tensor) -> Tensor:
    """0 in place of -inf, where nothing is possible: there is nothing to divide by."""
    return x.masked_fill(x == -torch.inf, 0.0)


def log_sum(x: Tensor, dim: int = -1) -> Tensor:
    """As `torch.logsumexp`, with a gradient of 0 where all is -inf."""
    top = known(x.detach().amax(dim=dim, keepdim=True))
    total = (x - top).exp().sum(dim=dim)
    none = total == 0
    return total.masked_fill(none, 1.0).log().masked_fill(none, -torch.inf) + top.squeeze(dim)
