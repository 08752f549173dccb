"""What tells the states of a hidden Markov model apart: masks, emission groups, and parts that no fit changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from probseq.models.hmm import HMM

_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-5}  # two numbers this near one another are the same


class Structure(NamedTuple):
    """What an order of the states has to keep, so that it is another name for the same model.

    Attributes:
        apart: ``(R, K, K)``: whether state j of a restart can not come to place i, whatever comes to the other places.
        own: ``(R, K, K)``: a number for each pair of states; pairs with different numbers do not replace one another.
        target: ``(R, K, K)``: the same for each pair of places.
    """

    apart: Bool[Tensor, "R K K"]
    own: Float[Tensor, "R K K"]
    target: Float[Tensor, "R K K"]

    def kept(self, order: Int[Tensor, "R K"]) -> Bool[Tensor, "R"]:
        """Whether state ``order[r, i]`` may come to place i, for all i together."""
        rows = torch.arange(len(order), device=order.device)[:, None, None]
        placed = self.own[rows, order[:, :, None], order[:, None, :]]
        return ~self.apart.gather(2, order[:, :, None]).any((1, 2)) & (placed == self.target).all((1, 2))


def structure(model: HMM, anchor: HMM) -> Structure:
    """What an order must keep that puts the states of each restart in the places of a reference's."""
    size = (model.num_restarts, model.num_states, model.num_states)
    same = model.groups[:, None] == model.groups
    code = (model.transition_mask + 2 * same).double()
    own, target = code.expand(size), code.expand(size)
    marks = [model.initial_mask, code.diagonal(), *(code.sort(dim=d)[0].movedim(d, 1) for d in (0, 1))]
    apart = torch.stack([_differ(mark[None], mark[None]) for mark in marks]).any(0).expand(size)
    for part, of_model, of_anchor in _fixed(model, anchor):
        if part == "transition":
            classes = _classes(of_model, of_anchor)
            factor = 1 + float(max(own.max(), target.max()))
            own, target = own + factor * classes[0], target + factor * classes[1]
        else:
            apart = apart | _differ(of_anchor, of_model)
    return Structure(apart, own, target)


def _fixed(model: HMM, anchor: HMM) -> Iterator[tuple[str, Tensor, Tensor]]:
    """What no fit changes: its part, and the numbers of restarts and reference, by state or by pair of states."""
    from probseq.models.parameter_names import parameters

    if not model.fixed:
        return
    other = parameters(anchor)
    for name, value in parameters(model).items():
        part = next((part for part in ("initial", "transition") if name.startswith(part)), "emission")
        if part not in model.fixed:
            continue
        own, given = value.detach(), other[name].detach()
        if part == "transition" and own.ndim == 4:  # weights of inputs, one table for each input
            yield from ((part, one, that) for one, that in zip(own.unbind(3), given.unbind(3), strict=True))
        else:
            yield part, own, given


def _differ(given: Tensor, own: Tensor) -> Bool[Tensor, "R K K"]:
    """Whether the row of a place, ``(1, K, ...)``, is another than that of a state, ``(R, K, ...)``."""
    given, own = (one.reshape(*one.shape[:2], -1) for one in (given, own))
    if not given.is_floating_point():
        return (given[:, :, None] != own[:, None]).any(-1)
    near = _ROUNDING[own.dtype]
    return ~torch.isclose(given[:, :, None], own[:, None], rtol=near, atol=near).all(-1)


def _classes(own: Tensor, given: Tensor) -> tuple[Float[Tensor, "R K K"], Float[Tensor, "R K K"]]:
    """A number for each value, equal for values that are equal to rounding."""
    both = torch.cat([own.flatten(1), given.flatten(1).expand(len(own), -1)], dim=1)
    ordered, order = both.sort(dim=1)
    steps = ordered.diff(dim=1) > _ROUNDING[own.dtype]
    classes = torch.zeros_like(both).scatter(1, order[:, 1:], steps.cumsum(1).to(both.dtype)).double()
    size = own[0].numel()
    return classes[:, :size].view_as(own), classes[:, size:].view_as(own)
