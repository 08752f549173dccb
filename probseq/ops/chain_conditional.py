r"""Exact inference in hidden chains whose transitions are another matrix for every sequence, or for every step.

A chain that follows a source x has transitions :math:`p(s_t = k \mid s_{t-1} = j, x)`. Matrices of their own for N
sequences and T steps would need N T K K numbers. Here they are products of three parts,

.. math::
    p(s_t = k \mid s_{t-1} = j, x) = \frac{A_{jk} \, e_t(k)}{Z_t(j)}, \qquad Z_t(j) = \sum_k A_{jk} \, e_t(k),

where A is shared, and the drive :math:`e_t(k)`, how much the source and the past outputs call for state k, is a vector.
A is a matrix of probabilities (`SharedMatrix`), or a band, where A depends on the jump k - j within a window
(`JumpWindow`); or there is no memory at all, and :math:`p(s_t = k) \propto e_t(k)` (`Memoryless`). With the left scales
:math:`l_t = -\log Z_t` and the joint potentials :math:`w_t = \log b_t + \log e_t` the recursion in logarithms is

.. math::
    q_t(k) = \log \sum_j A_{jk} \exp(a_{t-1}(j) + l_t(j)), \quad v_t = q_t + w_t, \quad
    c_t = \log \sum_k \exp v_t(k) = \log p(y_t \mid y_{<t}, x), \quad a_t = v_t - c_t .

Its adjoint, with weights :math:`g_t` on :math:`c_t`, is made of shares between 0 and 1:

.. math::
    \bar v_t = \bar a_t + (g_t - \sum_k \bar a_t(k)) \, e^{a_t}, \qquad
    \bar a_{t-1}(j) = \sum_k \bar v_t(k) \, A_{jk} \, e^{a_{t-1}(j) + l_t(j) - q_t(k)} .

Memory is O(N T K), for a window a factor W more within a step, and autograd keeps no tape through time. C chains, for
example components of a mixture or restarts, stand side by side as the first axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from probseq.ops.conditional_recursion import Course, at, known, link_of, log_sum
from probseq.ops.log_product import log_product


@dataclass(frozen=True)
class SharedMatrix:
    """A matrix that all sequences share, driven by one vector for each sequence.

    A probability that is ``exp(-80)`` times the largest of its row counts as 0 in single precision.

    Attributes:
        log_initial: ``(C, N, K)``, ``log p(s_1)``.
        log_matrix: ``(C, K, K)``, logarithms of rows that sum to 1.
        log_drive: ``(C, N, K)``, any numbers.
    """

    log_initial: Float[Tensor, "C N K"]
    log_matrix: Float[Tensor, "C K K"]
    log_drive: Float[Tensor, "C N K"]

    @property
    def drive(self) -> Float[Tensor, "C N 1 K"]:
        """As for all steps."""
        return self.log_drive[:, :, None]

    @property
    def log_scale(self) -> Float[Tensor, "C N 1 K"]:
        """``-log Z``."""
        return -known(log_product(self.log_drive, self.log_matrix.mT))[:, :, None]

    @property
    def weights(self) -> Tensor:
        """What is shared, as the recursion takes it."""
        return self.log_matrix


@dataclass(frozen=True)
class JumpWindow:
    """Positions 0 to K - 1 and jumps between them, from `first` to ``first + W - 1``, 0 among them.

    Positions that a sequence does not have are those with a drive of -inf; rows are normalized without them.

    Attributes:
        log_initial: ``(C, N, K)``, ``log p(s_1)``.
        log_jump: ``(C, N or 1, K or 1, W)``, how much each position tends to each jump: any numbers, or -inf.
        first: the smallest jump.
        log_drive: ``(C, N, T or 1, K)``, any numbers, or -inf. The first step is not used.
    """

    log_initial: Float[Tensor, "C N K"]
    log_jump: Float[Tensor, "C #N #K W"]
    first: int
    log_drive: Float[Tensor, "C N #T K"]

    @property
    def drive(self) -> Float[Tensor, "C N #T K"]:
        """As for all steps."""
        return self.log_drive

    @property
    def log_scale(self) -> Float[Tensor, "C N #T K"]:
        """``-log Z``; 0 at positions from which nothing can be reached."""
        scale: Tensor = _LogScale.apply(self.log_jump, self.log_drive, self.first)  # type: ignore[no-untyped-call]
        return scale

    @property
    def weights(self) -> Float[Tensor, "C #N #K W"]:
        """Jumps by where they lead to, those from the first positions first."""
        if self.log_jump.shape[2] == 1:
            return self.log_jump.flip(-1)
        width = self.log_jump.shape[-1]
        moved = [_shifted(self.log_jump[..., w], self.first + w) for w in reversed(range(width))]
        return torch.stack(moved, dim=-1)


@dataclass(frozen=True)
class Memoryless:
    """States that are drawn anew at every step.

    Attributes:
        log_prior: ``(C, N, T or 1, K)``, ``log p(s_t)``.
    """

    log_prior: Float[Tensor, "C N #T K"]


Chain: TypeAlias = SharedMatrix | JumpWindow | Memoryless


def token_log_prob(
    chain: Chain, log_emission: Float[Tensor, "C N T K"], lengths: Int[Tensor, "N"]
) -> Float[Tensor, "C N T"]:
    """``log p(y_t | y_<t, x)`` in nats, differentiable once in all that the chain holds and in the emissions.

    The gradient of its sum with respect to `log_emission` is the posterior ``p(s_t | y, x)``.

    Args:
        chain: the transitions.
        log_emission: ``log p(y_t | s_t, ...)``; padding may hold any numbers.
        lengths: of the sequences, from 1 to T.

    Returns:
        0 at padding. A token that is impossible given its past scores -inf, and so does every one after it; none of
        these has a gradient.
    """
    if isinstance(chain, Memoryless):
        real = torch.arange(log_emission.shape[2], device=lengths.device) < lengths[:, None]
        return log_sum(chain.log_prior + log_emission).masked_fill(~real, 0.0)
    if isinstance(chain, JumpWindow) and _compiles(log_emission):
        from probseq.ops import window_compiled

        return window_compiled.token_log_prob(
            chain.log_initial, chain.log_jump, chain.log_drive, log_emission, lengths, chain.first
        )
    with torch.autocast(log_emission.device.type, enabled=False):  # beliefs are sums of many steps
        terms: Tensor = _TokenLogProb.apply(*_parts(chain, log_emission, lengths))  # type: ignore[no-untyped-call]
    return terms


def filtered(
    chain: Chain, log_emission: Float[Tensor, "C N T K"], lengths: Int[Tensor, "N"]
) -> Float[Tensor, "C N T K"]:
    """``log p(s_t | y_1..y_t, x)``, the belief after each token; -inf at padding and from an impossible token on."""
    real = torch.arange(log_emission.shape[2], device=lengths.device) < lengths[:, None]
    if isinstance(chain, Memoryless):
        joint = chain.log_prior + log_emission
        return (joint - known(joint.logsumexp(-1, keepdim=True))).masked_fill(~real[..., None], -torch.inf)
    weights, log_scale, joint, *rest = _parts(chain, log_emission, lengths)
    course = Course(weights.detach(), log_scale.detach(), joint.detach(), *rest)
    result = torch.full_like(course.joint, -torch.inf)
    for t, belief in enumerate(course.beliefs):
        result[:, course.order[: belief.shape[1]], t] = belief
    return result


def predicted(chain: Chain, log_belief: Float[Tensor, "C N K"] | None, step: int = 0) -> Float[Tensor, "C N K"]:
    """``log p(s_t | y_<t, x)``, given the belief after y_{t-1}, or None at the beginning.

    Args:
        chain: the transitions.
        log_belief: normalized logarithms.
        step: which step of a drive that differs from step to step leads on.
    """
    if isinstance(chain, Memoryless):
        return chain.log_prior[:, :, min(step, chain.log_prior.shape[2] - 1)]
    if log_belief is None:
        return chain.log_initial
    link = link_of(chain.weights, None if isinstance(chain, SharedMatrix) else chain.first)
    ahead = link.predict(log_belief + at(chain.log_scale, step))
    return ahead + at(chain.drive, step)


def transition(chain: SharedMatrix | JumpWindow) -> Float[Tensor, "C N #T K K"]:
    """The matrices themselves, for tiny cases: row j of a matrix is ``p(s_t | s_{t-1} = j, x)``, or 0 throughout."""
    if isinstance(chain, SharedMatrix):
        shared = chain.log_matrix[:, None, None]
    else:
        size, width = chain.drive.shape[-1], chain.log_jump.shape[-1]
        jump = torch.arange(size) - torch.arange(size)[:, None] - chain.first
        inside = (jump >= 0) & (jump < width)
        rows = chain.log_jump.expand(-1, -1, size, -1)
        shared = rows.gather(-1, jump.clamp(0, width - 1).to(rows.device).expand(*rows.shape[:2], -1, -1))
        shared = shared.masked_fill(~inside.to(rows.device), -torch.inf)[:, :, None]
    return (chain.log_scale[..., None] + shared + chain.drive[..., None, :]).exp()


def mixture(log_weights: Float[Tensor, "C N"], terms: Float[Tensor, "C N T"]) -> Float[Tensor, "N T"]:
    r"""``log p(y_t | y_<t, x)`` of a mixture of chains, each drawn for a whole sequence.

    .. math::
        p(y_t \mid y_{<t}) = \sum_m p(m \mid y_{<t}) \, p_m(y_t \mid y_{<t}), \qquad
        p(m \mid y_{<t}) \propto \phi_m \prod_{u < t} p_m(y_u \mid y_{<u})

    Args:
        log_weights: the logarithms of weights that sum to 1.
        terms: of every chain, -inf where a token is impossible. They are added up in double precision: shares are
            differences of sums that grow with the sequence.
    """
    if len(terms) == 1:
        return terms[0]
    prior, each = log_weights.double()[..., None], terms.double()
    before = torch.cat([prior, prior + each.cumsum(dim=-1)[..., :-1]], dim=-1)
    share = before - known(log_sum(before, dim=0))
    return log_sum(share + each, dim=0).to(terms.dtype)


class _LogScale(torch.autograd.Function):
    """``-log Z`` of a window: jump by jump, so that no tensor is larger than the drive."""

    @staticmethod
    def forward(ctx: Any, log_jump: Tensor, log_drive: Tensor, first: int) -> Tensor:
        result = -known(reduce(torch.logaddexp, _ahead(log_jump, log_drive, first)))
        ctx.save_for_backward(log_jump, log_drive, result)
        ctx.first = first
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        log_jump, log_drive, scale = ctx.saved_tensors
        of_jump, of_drive = torch.zeros_like(log_jump), torch.zeros_like(log_drive)
        for w, ahead in enumerate(_ahead(log_jump, log_drive, ctx.first)):
            share = -grad * (ahead + scale).exp()
            of_jump[..., w] = share.sum(dim=2).sum_to_size(of_jump.shape[:-1])
            of_drive += _shifted(share, ctx.first + w, 0.0)
        return of_jump, of_drive, None


def _ahead(log_jump: Tensor, log_drive: Tensor, first: int) -> Iterator[Float[Tensor, "C N #T K"]]:
    """``log A_jk e_t(k)`` where each jump leads."""
    for w, jump in enumerate(log_jump[:, :, None].unbind(dim=-1)):
        yield _shifted(log_drive, -first - w) + jump


class _TokenLogProb(torch.autograd.Function):
    """Filtering in logarithms with the explicit adjoint."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        course = Course(*args)
        ctx.course = course
        terms = course.joint.new_zeros(course.joint.shape[:3])
        for t, term in enumerate(course.terms):
            terms[:, course.order[: term.shape[1]], t] = term
        return terms

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return *ctx.course.back(grad), None, None


def _compiles(log_emission: Tensor) -> bool:
    """Whether there are compiled loops for these tensors."""
    return log_emission.device.type == "cpu"


def _parts(chain: SharedMatrix | JumpWindow, log_emission: Tensor, lengths: Tensor) -> tuple[Any, ...]:
    """What `Course` takes."""
    drive = chain.drive.expand_as(log_emission)[:, :, 1:]
    joint = log_emission + torch.cat([chain.log_initial[:, :, None], drive], dim=2)
    first = None if isinstance(chain, SharedMatrix) else chain.first
    return chain.weights, chain.log_scale.expand(-1, log_emission.shape[1], -1, -1), joint, lengths, first


def _shifted(x: Float[Tensor, "*B K"], by: int, none: float = -torch.inf) -> Float[Tensor, "*B K"]:
    """Every entry `by` positions further, `none` where none comes from."""
    by = max(-x.shape[-1], min(by, x.shape[-1]))
    return F.pad(x, (by, -by), value=none)
