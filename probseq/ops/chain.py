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

All functions take `Potentials`. The emissions are a *table* of log-potentials ``(R, M, K)`` and an ``index`` ``(N, T)``
of its rows: for symbols the table has one row for each symbol (M = V) and the index is the data itself, so nothing of
size (R, N, T, K) is built to hold emissions. Every row is shifted by its maximum before it is exponentiated, so
real-valued observations of any scale are safe. A sequence for which all beliefs vanish below the smallest number is
computed again with logarithms. What remains is a state whose belief alone falls below about ``exp(-700)`` while another
state's does not: it is lost, and matters only where transitions of (almost) zero forbid the way back and later
observations turn the odds by as much.

Reference:
    L. R. Rabiner (1989), "A tutorial on hidden Markov models and selected applications in speech recognition".
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.ops import chain_compiled, chain_tensor
from probseq.ops.chain_checks import check_shapes

Gradients: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""With respect to the probabilities `initial` and `transition`, and to the table `log_emission`."""


class Potentials(NamedTuple):
    """What the engine is asked about: the parameters of R chains and N observed sequences.

    Attributes:
        initial: ``(R, 1, K)``, ``p(s_1)`` of all sequences, or ``(R, N, K)``, one for each.
        transition: ``(R, L, K, K)``; row j of a matrix is ``p(s_t | s_{t-1} = j)``. L = 1 for a homogeneous chain.
        log_emission: ``(R, M, K)``, a table of log-potentials.
        index: ``(N, T)`` int64, the row of the table that each token uses. Padding may hold any valid row.
        lengths: ``(N,)`` int64, from 1 to T.
        step: ``(N, T)`` int64, the matrix of `transition` that leads to step t (column 0 is ignored), or None: the
            first one, everywhere.
    """

    initial: Float[Tensor, "R #N K"]
    transition: Float[Tensor, "R L K K"]
    log_emission: Float[Tensor, "R M K"]
    index: Int[Tensor, "N T"]  # type: ignore[assignment]  # a tuple has a method of that name
    lengths: Int[Tensor, "N"]
    step: Int[Tensor, "N T"] | None = None


class Counts(NamedTuple):
    """What the E-step knows: expected counts, summed over the (weighted) sequences."""

    log_likelihood: Float[Tensor, "R N"]
    initial: Float[Tensor, "R #N K"]
    transition: Float[Tensor, "R L K K"]
    emission: Float[Tensor, "R M K"]


def token_log_prob(p: Potentials) -> Float[Tensor, "R N T"]:
    """``log p(x_t | x_<t)`` in nats, differentiable in the three parameters; 0 at padding.

    A token that is impossible given its past scores -inf, and so does every token after it; none of these has a
    gradient.
    """
    result: Tensor = _TokenLogProb.apply(*p)  # type: ignore[no-untyped-call]
    return result


def log_likelihood(p: Potentials, weights: Float[Tensor, "N"]) -> Float[Tensor, "R N"]:
    """``w log p(x)`` in nats, differentiable once in the three parameters.

    Where every sequence counts alike in what is differentiated, as in a sum, one pass finds both value and gradient;
    `token_log_prob` needs a second one for the gradient.
    """
    result: Tensor = _LogLikelihood.apply(weights, torch.is_grad_enabled(), *p)  # type: ignore[no-untyped-call]
    return result


def expected_counts(p: Potentials, weights: Float[Tensor, "N"]) -> Counts:
    """The E-step: log-likelihoods, and expected initial, transition and emission counts.

    Beliefs are held for spans of steps within a byte budget; the sums do not depend on it. A sequence that is
    impossible has log-likelihood -inf and adds no counts.
    """
    log_likelihood, _, gradients = _forward_backward(p, weights[None, :, None], tokens=False)
    assert gradients is not None
    initial, transition, emission = gradients
    # The adjoint is a difference, so a count of zero may come out as a rounding error below zero.
    counts = (part.clamp(min=0) for part in (initial * p.initial, transition * p.transition, emission))
    return Counts(log_likelihood, *counts)


def filtered(p: Potentials) -> Float[Tensor, "R N T K"]:
    """``p(s_t | x_1..x_t)``, the belief after each token; 0 at padding and from an impossible token on."""
    return _beliefs(p, after=True)


def predicted(p: Potentials) -> Float[Tensor, "R N T K"]:
    """``p(s_t | x_1..x_{t-1})``, the belief before each token; 0 at padding and after an impossible token."""
    return _beliefs(p, after=False)


def posterior_marginals(p: Potentials) -> Float[Tensor, "R N T K"]:
    """``p(s_t | x)``, the belief about each state given the whole sequence; 0 at padding and if x is impossible.

    They are the expected counts of a table with one row for each token.
    """
    own = torch.arange(p.index.numel(), device=p.index.device).view(p.index.shape)
    one_each = p._replace(log_emission=p.log_emission[:, p.index.flatten()], index=own)
    ones = p.log_emission.new_ones(len(p.index))
    return expected_counts(one_each, ones).emission.view(-1, *own.shape, p.log_emission.shape[-1])


class _TokenLogProb(torch.autograd.Function):
    """Forward filtering with the explicit adjoint, so that autograd keeps no tape through time."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        p = Potentials(*args)
        ctx.save_for_backward(*args)
        terms: Tensor = _forward_backward(p, None, tokens=True)[1]
        return terms.to(p.log_emission.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        p = Potentials(*ctx.saved_tensors)
        if torch.is_grad_enabled():  # this gradient will be differentiated again
            wanted = [part for part in p[:3] if part.requires_grad]
            terms = chain_tensor.differentiable(p)
            given = iter(torch.autograd.grad(terms, wanted, grad, create_graph=True, materialize_grads=True))
            return *(next(given) if part.requires_grad else None for part in p[:3]), None, None, None
        return *_forward_backward(p, grad, tokens=False)[2], None, None, None


class _LogLikelihood(torch.autograd.Function):
    """The gradient of the sum is made along with the value, and any other gradient anew."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, with_gradient: bool, *args: Any) -> Tensor:
        p = Potentials(*args)
        given = weights[None, :, None] if with_gradient else None
        log_likelihood, _, gradients = _forward_backward(p, given, tokens=False)
        ctx.save_for_backward(weights, *args, *(gradients or ()))
        return (weights * log_likelihood).to(p.log_emission.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, *saved = ctx.saved_tensors
        p, gradients = Potentials(*saved[:-3]), saved[-3:]
        if (grad == grad[:, :1]).all():
            found = [part * grad[:, :1].reshape(-1, *[1] * (part.ndim - 1)) for part in gradients]
        else:
            found = _forward_backward(p, (grad * weights)[..., None], tokens=False)[2]
        return None, None, *found, None, None, None


def _exponentiate(log_emission: Tensor) -> tuple[Tensor, Tensor]:
    """The table in probability space, each row shifted so that its largest entry is 1, and the shifts ``(R, M)``."""
    shift = log_emission.amax(dim=-1)
    shift = shift.masked_fill(~shift.isfinite(), 0.0)  # a row that is impossible in every state stays 0
    return (log_emission - shift[..., None]).exp(), shift


def _forward_backward(p: Potentials, weights: Tensor | None, tokens: bool) -> tuple[Tensor, Any, Any]:
    """As `chain_tensor.forward_backward`, also where beliefs underflow."""
    check_shapes(p, weights)
    p = p._replace(initial=p.initial.detach(), transition=p.transition.detach(), log_emission=p.log_emission.detach())
    table, shift = _exponentiate(p.log_emission)
    engine = chain_compiled if chain_compiled.suits(table) else chain_tensor
    log_likelihood, terms, gradients = engine.forward_backward(p, table, shift, weights, tokens)
    lost = log_likelihood == -torch.inf
    if lost.any():
        known = p.lengths - (terms == -torch.inf).sum(dim=-1) if tokens else p.lengths - 1
        if (lost := lost & (known < _hopeless(p))).any():
            from probseq.ops import chain_log

            log_likelihood[lost] = chain_log.again(p, lost, weights, terms, gradients)[lost]
    return log_likelihood, terms, gradients


def _hopeless(p: Potentials) -> Tensor:
    """(R, N): the first step whose token no state can emit; T where there is none."""
    steps = p.index.shape[1]
    real = torch.arange(steps, device=p.index.device) < p.lengths[:, None]
    dead = (p.log_emission.amax(dim=-1) == -torch.inf)[:, p.index] & real
    return torch.where(dead.any(dim=-1), dead.int().argmax(dim=-1), steps)


def _beliefs(p: Potentials, after: bool) -> Tensor:
    check_shapes(p)
    table = _exponentiate(p.log_emission.detach())[0]
    engine = chain_compiled if chain_compiled.suits(table) else chain_tensor
    result: Tensor = engine.beliefs(p, table, after)
    known = result.any(dim=-1).sum(dim=-1)  # steps before the belief was lost
    lost = known < p.lengths
    if lost.any() and (lost := lost & (known < _hopeless(p) + (0 if after else 1))).any():
        from probseq.ops import chain_log

        chain_log.beliefs(p, lost, after, result)
    return result
