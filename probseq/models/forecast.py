"""What comes after a sequence: the predictive distribution of a hidden Markov model, steps ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.emissions import Categorical, Emission

if TYPE_CHECKING:
    from probseq.models.hmm import HMM

_HALVINGS = 100  # of the interval that a quantile is searched in: to the last bit of a float64


class Forecast(NamedTuple):
    """The predictive mean of every dimension, its variance, and an interval of the chosen level."""

    mean: Float[Tensor, "R N H D"]
    variance: Float[Tensor, "R N H D"]
    lower: Float[Tensor, "R N H D"]
    upper: Float[Tensor, "R N H D"]


def states_ahead(model: HMM, batch: Batch, num_steps: int) -> Float[Tensor, "R N H K"]:
    """``p(s_{T+h} | x_1..x_T)`` for h = 1 to `num_steps`, after the end of each sequence.

    States that the batch knows count as observed.

    Raises:
        InputError: fewer than one step, or a sequence that is impossible.
    """
    if num_steps < 1:
        raise InputError(f"num_steps is {num_steps}; expected 1 or more")
    filtered = model.filtered(batch)
    rows = torch.arange(len(batch.lengths), device=batch.lengths.device)
    belief = filtered[:, rows, batch.lengths - 1]  # (R, N, K)
    if (lost := ~belief.any(dim=-1)).any():
        raise InputError(
            f"sequences {batch.index[lost.any(dim=0)].tolist()} are impossible under this model (restarts "
            f"{lost.any(dim=1).nonzero()[:, 0].tolist()}), so nothing can be forecast from them; leave them out, or "
            "fit with a prior"
        )
    ahead = []
    for _ in range(num_steps):
        belief = belief @ model.transition
        ahead.append(belief)
    return torch.stack(ahead, dim=2)


def symbols_ahead(model: HMM, batch: Batch, num_steps: int) -> Float[Tensor, "R N H V"]:
    """``p(x_{T+h} | x_1..x_T)`` of every symbol.

    Raises:
        InputError: a model of vectors, fewer than one step, or a sequence that is impossible.
    """
    if not isinstance(model.emission, Categorical):
        raise InputError("this model emits vectors; forecast them with forecast")
    states = states_ahead(model, batch, num_steps)
    return torch.einsum("rnhk,rkv->rnhv", states, model.emission.probs[:, model.groups])


def forecast(model: HMM, batch: Batch, num_steps: int, level: float = 0.9) -> Forecast:
    """Mean, variance and central interval of ``p(x_{T+h} | x_1..x_T)``, dimension by dimension.

    The predictive distribution is a mixture over states, so an interval is exact and need not be symmetric.

    Raises:
        InputError: a model of symbols, fewer than one step, a level outside (0, 1), or a sequence that is impossible.
    """
    _check_vectors(model, level)
    raw = {name: value[:, model.groups] for name, value in model.emission.raw.items()}
    return _of_mixture(model.emission, states_ahead(model, batch, num_steps), raw, level)


def forecast_of_draws(draws: HMM, batch: Batch, num_steps: int, level: float, shares: Tensor) -> Forecast:
    """The same of a mixture of models, ``shares`` ``(R, S, N)``: one large mixture over draws and states."""
    _check_vectors(draws, level)
    restarts, num_draws = shares.shape[:2]
    size = restarts, num_draws
    states = states_ahead(draws, batch, num_steps)
    ahead = states.reshape(*size, *states.shape[1:]) * shares[..., None, None]
    weight = ahead.movedim(1, 3).flatten(3)  # (R, N, H, S K)
    raw = {name: value[:, draws.groups] for name, value in draws.emission.raw.items()}
    joined = {name: value.reshape(*size, *value.shape[1:]).flatten(1, 2) for name, value in raw.items()}
    return _of_mixture(draws.emission, weight, joined, level)


def _check_vectors(model: HMM, level: float) -> None:
    if isinstance(model.emission, Categorical):
        raise InputError("this model emits symbols, which have no mean; take symbols_ahead")
    if not 0 < level < 1:
        raise InputError(f"level is {level}; expected a share between 0 and 1, for example 0.9")


def _of_mixture(emission: Emission, shares: Float[Tensor, "R N H M"], raw: dict[str, Tensor], level: float) -> Forecast:
    """Of M components with these shares and these parameters ``(R, M, ...)``."""
    weight, raw = shares[..., None], {name: value[:, None, None] for name, value in raw.items()}
    mean, variance = emission.moments(raw)  # (R, 1, 1, M, D)
    center = (weight * mean).sum(-2)
    spread = (weight * (variance + (mean - center[..., None, :]) ** 2)).sum(-2)
    reach = 40 * variance.sqrt() + 1
    bracket = ((mean - reach).amin(-2).expand_as(center), (mean + reach).amax(-2).expand_as(center))

    def cdf(values: Tensor) -> Tensor:
        return (weight * emission.cdf(raw, values[..., None, :])).sum(-2)

    integral = emission.support[0] != "reals"
    lower, upper = (_quantile(cdf, q, bracket, integral) for q in ((1 - level) / 2, (1 + level) / 2))
    return Forecast(center, spread, lower, upper)


def _quantile(cdf: Callable[[Tensor], Tensor], q: float, bracket: tuple[Tensor, Tensor], integral: bool) -> Tensor:
    """The smallest value whose cumulative probability is at least `q`, by bisection."""
    low, high = bracket
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = cdf(middle) >= q
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high.floor() if integral else high
