r"""SQUAREM: two steps of EM point the way, and one long step goes there.

From parameters :math:`\theta_0` and two EM steps :math:`\theta_1, \theta_2` follow the change
:math:`r = \theta_1 - \theta_0` and how it changes, :math:`v = (\theta_2 - \theta_1) - r`. The long step is

.. math::
    \theta' = \theta_0 + 2 a r + a^2 v, \qquad a = \max(1, \lVert r \rVert / \lVert v \rVert),

and :math:`a = 1` is :math:`\theta_2` itself. It is tried: where the objective is lower there than at
:math:`\theta_1`, the restart goes on from :math:`\theta_2`, else from an EM step after :math:`\theta'`. So the
objective never falls, and a cycle costs three E-steps, like three steps of EM.

Reference:
    R. Varadhan, C. Roland (2008), "Simple and globally convergent methods for accelerating the convergence of any EM
    algorithm".
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from probseq.data.sequences import Sequences
from probseq.inference.em_step import EMModel, EMStep, Floats, State
from probseq.inference.run import StopReason
from probseq.models.emissions.base import weight_of_log

_GROWTH = 4.0  # the longest step allowed grows by this after a success at that length, and shrinks after a failure


class SquaremStep(EMStep):
    """Of every three steps, two are EM's and the third is the trial. All restarts are in the same phase."""

    def __init__(self, model: EMModel, data: Sequences, tol: float, max_tokens: int) -> None:
        super().__init__(model, data, tol, max_tokens)
        self.longest = torch.ones(model.num_restarts, dtype=torch.float64, device=self.device)

    def __call__(self, number: int, active: list[int]) -> tuple[Floats, Mapping[int, StopReason]]:
        if number % 3 < 2:
            return super().__call__(number, active)
        self._keep(active)
        second = self._state()
        changes = self._changes(second)
        length = self._length(changes)
        self._load({name: _extrapolate(second[name], *pair, length) for name, pair in changes.items()})
        self._project()
        statistics, objective = self._e_step(number)
        sound = objective >= self.previous[active]  # False for what is not a number
        self._m_step(statistics, sound, second)
        self._learn(length, torch.as_tensor(sound, device=self.device))
        # A trial that failed has changed nothing. Convergence is judged on steps of EM alone.
        self.previous[active] = np.where(sound, objective, self.previous[active])
        return self.previous[active], {}

    def _changes(self, second: State) -> dict[str, tuple[Tensor, Tensor]]:
        """r and v of every parameter; 0 where they are not finite: a probability that is 0 stays 0."""
        start, first = self.trail
        changes = {}
        for name in second:
            r = first[name] - start[name]
            v = second[name] - first[name] - r
            usable = r.isfinite() & v.isfinite()
            changes[name] = (r.where(usable, 0.0), v.where(usable, 0.0))
        return changes

    def _length(self, changes: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """``(r,)``: a of every restart."""
        squares = torch.zeros(2, len(self.running), dtype=torch.float64, device=self.device)
        for name, pair in changes.items():
            weight = self._weight(name, self.trail[-1][name])
            squares += torch.stack([(weight * part.square()).flatten(1).sum(1) for part in pair])
        length = (squares[0] / squares[1]).sqrt().nan_to_num(1.0, posinf=torch.inf)
        return length.clamp(min=1.0).minimum(self.longest[self.running])

    def _weight(self, name: str, value: Tensor) -> Tensor:
        """How much the square of each change counts in the norms, in which no unit of measurement may enter."""
        owner, _, own = name.rpartition(".")
        if owner == "emission":
            weight: Tensor = self.current.emission.weight(own, value)  # type: ignore[attr-defined]  # of an HMM
            return weight
        return weight_of_log(value) if own.startswith("log_") else torch.ones_like(value)

    def _learn(self, length: Tensor, sound: Tensor) -> None:
        """Allow longer steps where the longest one was a success, and shorter ones where it was not."""
        longest = self.longest[self.running]
        changed = torch.where(sound, longest * _GROWTH, (longest / _GROWTH).clamp(min=1.0))
        self.longest[self.running] = torch.where(length == longest, changed, longest)


def _extrapolate(second: Tensor, r: Tensor, v: Tensor, length: Tensor) -> Tensor:
    """The long step, written from the second step on, where r and v may be 0 beside an infinite parameter."""
    a = length.to(second.dtype).view(-1, *[1] * (second.ndim - 1))
    return second + 2 * (a - 1) * r + (a.square() - 1) * v
