"""The names of states: which state of one restart is which of another, and how to rename them.

The likelihood of a hidden Markov model does not know its states by name: any permutation of them is the same model. So
nothing that has a state in it can be compared between restarts, or averaged over draws, before the states are matched.
"""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probseq.errors import InputError
from probseq.models.state_names import structure
from probseq.ops.alignment import match
from probseq.types import Array

if TYPE_CHECKING:
    from probseq.models.hmm import HMM

_MAX_TURNS = 50  # far more than it takes: each one lowers the cost
_LEAST = 1e-10  # a smaller improvement is rounding, and would let two equal orders take turns for ever
_FORBIDDEN = 1e6  # more than any assignment of states can cost
_APART = 1e3  # the same for two entries; not more, so that small differences are not rounded away


@torch.no_grad()
def align(model: HMM, reference: HMM | int = 0) -> Int[Tensor, "R K"]:
    r"""The permutation of the states of every restart that makes it most alike to a reference.

    Sought is the permutation p with the smallest

    .. math::
        \sum_i d(B^0_i, B_{p_i}) + \tfrac12 \sum_i |\pi^0_i - \pi_{p_i}|
        + \tfrac12 \sum_{ij} |A^0_{ij} - A_{p_i p_j}|,

    where d is the Hellinger distance of emission distributions (see `Emission.distances`) and the rest are total
    variations. The last term ties the places of two states together, so the assignment is solved in turns, each with
    the transitions as the one before has put them, and ended by exchanges of two states; of two beginnings, with and
    without transitions, the better end is taken. No exchange of two states improves the result, and a permutation of
    the reference itself is found exactly; of models that have little in common, the best permutation may be missed.

    Masks, emission groups and parts that are `fixed` may tell states apart. No order is returned that does not keep
    the masks, move groups as a whole, and give every fixed part the numbers that the reference has there. A restart for
    which no such order was found keeps the one it has, and so does one whose parameters are not finite.

    Args:
        model: R restarts.
        reference: a restart of `model`, or another model of the same kind with one restart.

    Returns:
        ``(R, K)``, for `HMM.permute`: the state ``p[r, i]`` of restart r is what the reference calls state i.

    Raises:
        InputError: a model that is no `HMM`, no such restart, or a reference with other states, other observations, or
            several restarts.

    Reference:
        M. Stephens (2000), "Dealing with label switching in mixture models".

    Example:
        >>> from probseq import HMM
        >>> one = HMM.from_parameters([1, 0], [[0.9, 0.1], [0.4, 0.6]], [[0.8, 0.2], [0.1, 0.9]])
        >>> align(one.permute([1, 0]), one)
        tensor([[1, 0]])
    """
    anchor = _check_reference(model, reference)
    order = torch.arange(model.num_states, device=model.device).repeat(model.num_restarts, 1)
    names = structure(model, anchor)
    linear = _linear_cost(model, anchor, names.apart)
    finite = (linear.isfinite().all((1, 2)) & model.transition.isfinite().all((1, 2))).nonzero()[:, 0]
    if len(finite):
        # Tables that differ by whole numbers where the names do: an order that does not keep them costs far too much.
        own = model.transition.double() + _APART * names.own
        problem = _Problem(linear[finite], own[finite], (anchor.transition.double() + _APART * names.target)[finite])
        found = [_by_swaps(problem, _in_turns(problem, match(cost))) for cost in (problem.first(), problem.linear)]
        found.append(_by_swaps(problem, order[finite]))
        order[finite] = _cheapest(problem, found)
    return order.where(names.kept(order)[:, None], torch.arange(model.num_states, device=model.device))


class _Problem(NamedTuple):
    """A quadratic assignment for each restart: costs by state, and transitions that are to look alike."""

    linear: Float[Tensor, "R K K"]
    transition: Float[Tensor, "R K K"]
    target: Float[Tensor, "R K K"]

    def placed(self, order: Int[Tensor, "R K"]) -> Float[Tensor, "R K K"]:
        rows = torch.arange(len(order), device=order.device)[:, None, None]
        return self.transition[rows, order[:, :, None], order[:, None, :]]

    def cost(self, order: Int[Tensor, "R K"]) -> Float[Tensor, "R"]:
        of_states = self.linear.gather(2, order[:, :, None]).sum((1, 2))
        return of_states + 0.5 * (self.placed(order) - self.target).abs().sum((1, 2))

    def first(self) -> Float[Tensor, "R K K"]:
        """Costs of pairs while no place is known: what is the same in whatever order the others come."""
        own, given = self.transition, self.target
        stay = (given.diagonal(dim1=1, dim2=2)[:, :, None] - own.diagonal(dim1=1, dim2=2)[:, None]).abs()
        return (
            self.linear
            + stay
            + _distances(given.sort(2)[0], own.sort(2)[0])
            + _distances(given.mT.sort(2)[0], own.mT.sort(2)[0])
        )

    def given(self, order: Int[Tensor, "R K"]) -> Float[Tensor, "R K K"]:
        """Costs of pairs while the states that they lead to and come from are where `order` has put them."""
        own = self.transition
        there = order[:, None, :].expand_as(own)
        rows, columns = own.gather(2, there), own.mT.gather(2, there)
        return self.linear + _distances(self.target, rows) + _distances(self.target.mT, columns)

    def swaps(self, order: Int[Tensor, "R K"]) -> Float[Tensor, "R K K"]:
        """How the cost changes if the states in two places change them, exactly."""
        own, given = self.placed(order), self.target
        costs = self.linear.gather(2, order[:, None, :].expand_as(own))
        costs = costs + _distances(given, own) + _distances(given.mT, own.mT)
        stay = costs.diagonal(dim1=1, dim2=2)
        change = costs + costs.mT - stay[:, :, None] - stay[:, None]
        # These sums leave columns in place while they exchange rows, and rows while they exchange columns: right but
        # for the four entries in which both happen.
        signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=change.dtype, device=change.device)
        for sign, wanted in zip(signs, _corners(given), strict=True):
            change = change + 0.5 * torch.einsum("c,crij->rij", sign * signs, (wanted - _corners(own)).abs())
        return change


def _corners(table: Float[Tensor, "r K K"]) -> Float[Tensor, "4 r K K"]:
    """For each pair i, j the entries ii, ij, ji and jj."""
    diagonal = table.diagonal(dim1=1, dim2=2)
    first, last = diagonal[:, :, None].expand_as(table), diagonal[:, None].expand_as(table)
    return torch.stack([first, table, table.mT, last])


def _distances(given: Tensor, own: Tensor) -> Float[Tensor, "R K K"]:
    """Half the sum of absolute differences between the rows of one and of the other."""
    result: Tensor = 0.5 * torch.cdist(given.expand_as(own).contiguous(), own.contiguous(), p=1.0)
    return result


def _in_turns(problem: _Problem, order: Int[Tensor, "R K"]) -> Int[Tensor, "R K"]:
    """Assignments one after another, each with the transitions where the one before has put them."""
    cost = problem.cost(order)
    for _ in range(_MAX_TURNS):
        new = match(problem.given(order))
        better = problem.cost(new) < cost - _LEAST
        if not better.any():
            break
        order = torch.where(better[:, None], new, order)
        cost = problem.cost(order)
    return order


def _by_swaps(problem: _Problem, order: Int[Tensor, "R K"]) -> Int[Tensor, "R K"]:
    """Exchange the two states for which that lowers the cost most, as long as there are two."""
    restarts, states = order.shape
    rows = torch.arange(restarts, device=order.device)
    while states > 1:
        gain, pair = problem.swaps(order).flatten(1).min(dim=1)
        if not (gain < -_LEAST).any():
            break
        one, other = torch.where(gain < -_LEAST, torch.stack([pair // states, pair % states]), 0)
        order = order.clone()
        order[rows, one], order[rows, other] = order[rows, other], order[rows, one]
    return order


def _check_reference(model: HMM, reference: HMM | int) -> HMM:
    from probseq.models.hmm import HMM

    if not isinstance(model, HMM):
        remedy = (
            "give its model: align(fit.model)" if isinstance(getattr(model, "model", None), HMM) else "it has no states"
        )
        raise InputError(f"received a {type(model).__name__}; expected an HMM, with states that have names; {remedy}")
    if not isinstance(reference, (HMM, Integral)):
        raise InputError(f"the reference is a {type(reference).__name__}; expected an HMM or the number of a restart")
    anchor = reference if isinstance(reference, HMM) else model.select(int(reference))
    if anchor.num_restarts != 1 or anchor.num_states != model.num_states or anchor.support != model.support:
        raise InputError(
            f"the reference has {anchor.num_restarts} restarts and {anchor.num_states} states and scores "
            f"{anchor.support}; expected 1 restart, {model.num_states} states and {model.support}: select a restart"
        )
    if type(anchor.emission) is not type(model.emission):
        raise InputError(
            f"the reference has {type(anchor.emission).__name__} emissions and the model "
            f"{type(model.emission).__name__}; expected the same family"
        )
    return anchor


def _linear_cost(model: HMM, anchor: HMM, apart: Bool[Tensor, "R K K"]) -> Float[Tensor, "R K K"]:
    """What it costs to put a state in a place, but for transitions."""
    initial = (anchor.initial[:, :, None] - model.initial[:, None]).abs()
    groups = model.groups
    between = model.emission.distances(anchor.emission.raw, model.emission.raw)  # (R, G, G)
    cost = (0.5 * initial + between[:, groups][:, :, groups]).double() + _FORBIDDEN * apart
    if int(groups.max()) + 1 == model.num_states or not cost.isfinite().all():
        return cost
    member = (groups == torch.arange(int(groups.max()) + 1, device=groups.device)[:, None]).double()  # (G, K)
    barred = member @ apart.double() @ member.mT / member.sum(1)  # how many of its states can not come, each place
    never = (barred >= member.sum(1)[:, None]) | (member.sum(1)[:, None] != member.sum(1))
    found = match(between.double() + _FORBIDDEN * never)  # the group that comes to the place of each
    return cost + _FORBIDDEN * (groups[None, None, :] != found[:, groups][:, :, None])


def _cheapest(problem: _Problem, found: list[Int[Tensor, "R K"]]) -> Int[Tensor, "R K"]:
    """Of several orders the one that costs least, the first of those that differ by rounding."""
    best, cost = found[0], problem.cost(found[0])
    for order in found[1:]:
        better = problem.cost(order) < cost - _LEAST
        best, cost = torch.where(better[:, None], order, best), torch.where(better, problem.cost(order), cost)
    return best


def permute(model: HMM, permutations: Array) -> HMM:
    """What `HMM.permute` does."""
    order = torch.as_tensor(permutations, dtype=torch.int64, device=model.device)
    order = _check_permutations(model, order.expand(model.num_restarts, -1) if order.ndim == 1 else order)
    new = model.take(range(model.num_restarts))
    rows = torch.arange(model.num_restarts, device=model.device)[:, None]
    orders = {"K": order, "G": _order_of_groups(model, order)}
    for name, value in new.named_parameters():
        axes = model.state_axes[name]
        if axes:
            by = orders[axes[0]]
            value.data = value.data[rows, by]
        if len(axes) == 2:
            value.data = value.data[rows[:, None], torch.arange(model.num_states)[:, None], by[:, None]]
    return new


def _check_permutations(model: HMM, order: Int[Tensor, "R K"]) -> Int[Tensor, "R K"]:
    every = torch.arange(model.num_states, device=order.device)
    shape = (model.num_restarts, model.num_states)
    if tuple(order.shape) != shape or not torch.equal(order.sort(dim=1)[0], every.expand(shape)):
        raise InputError(
            f"permutations have shape {tuple(order.shape)}; expected {shape}, each row the numbers 0 to "
            f"{model.num_states - 1} in some order"
        )
    masks = model.transition_mask[order[:, :, None], order[:, None, :]], model.initial_mask[order]
    if not (masks[0] == model.transition_mask).all() or not (masks[1] == model.initial_mask).all():
        raise InputError("the masks of this model tell these states apart; expected an order that keeps the masks")
    return order


def _order_of_groups(model: HMM, order: Int[Tensor, "R K"]) -> Int[Tensor, "R G"]:
    """The emission group that comes to the place of each group."""
    moved, groups = model.groups[order], model.groups.expand(order.shape)
    found = torch.zeros(len(order), int(model.groups.max()) + 1, dtype=torch.int64, device=order.device)
    found = found.scatter(1, groups, moved)
    if not torch.equal(found.gather(1, groups), moved):
        raise InputError("the permutations tear emission groups apart; expected an order that moves groups as a whole")
    return found
