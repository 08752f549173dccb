"""What the families of real vectors have in common: the data's location and scale, priors and floors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole
from probseq.models.emissions.base import Emission, numbers
from probseq.models.emissions.diagonal import Prior
from probseq.types import Array

VARIANCE_FLOOR = 1e-12  # of the data's variance: a millionth of their standard deviation


class Reals(Emission):
    """A family of real vectors with a mean and a covariance.

    The prior is stated in observations: as if `mean_strength` of them at the data's location had been seen by every
    mean, and `covariance_strength` of them with the data's variances by every covariance. No variance is smaller than
    `variance_floor` times that of the data. Location and scale are those of the data of the last fit, which every fit
    looks at, and 0 and 1 before the first.
    """

    location: Tensor
    scale: Tensor

    def __init__(self, num_dims: int, mean_strength: float, covariance_strength: float, variance_floor: float) -> None:
        super().__init__()
        num_dims = check_whole("num_dims", num_dims)
        strengths = {"mean_strength": mean_strength, "covariance_strength": covariance_strength}
        for name, value in strengths.items():
            if not 0.0 <= value < float("inf"):
                raise InputError(f"{name} is {value}; expected 0 (maximum likelihood) or more (pseudo-observations)")
        if not 0.0 < variance_floor < 1.0:
            raise InputError(f"variance_floor is {variance_floor}; expected a part of the data's variance, above 0")
        self.num_dims, self.support = num_dims, ("reals", num_dims)
        self.mean_strength, self.covariance_strength = float(mean_strength), float(covariance_strength)
        self.variance_floor = float(variance_floor)
        self.register_buffer("location", torch.zeros(num_dims))
        self.register_buffer("scale", torch.ones(num_dims))

    def _prior_config(self) -> dict[str, Any]:
        return {
            "mean_strength": self.mean_strength,
            "covariance_strength": self.covariance_strength,
            "variance_floor": self.variance_floor,
        }

    def _prior(self, dtype: torch.dtype) -> Prior:
        return Prior(self.mean_strength, self.covariance_strength, self.variance_floor, self.scale.to(dtype))

    @property
    def _log_floor(self) -> Tensor:
        """``(D,)``: the smallest log-standard deviation of every entry."""
        return 0.5 * math.log(self.variance_floor) + self.scale.log()

    def weight(self, name: str, value: Tensor) -> Tensor:
        return torch.ones_like(value) / self.scale.square() if name == "mean" else torch.ones_like(value)

    def _look(self, data: Sequences) -> None:
        self._place(*location_and_scale(self, data))

    def _place(self, location: Tensor, scale: Tensor) -> None:
        self.location.copy_(location)
        self.scale.copy_(scale)

    def _place_given(self, means: Tensor, variances: Tensor, tril: Tensor) -> None:
        """Take location and scale from given parameters, the scale so small that the floor leaves all of them alone.

        Args:
            means: ``(M, D)``.
            variances: ``(D,)``, what the distributions vary by on average.
            tril: ``(M, D, D)`` Cholesky factors of their covariances.
        """
        scale = (variances + means.var(0, correction=0)).sqrt()
        smallest = torch.linalg.svdvals(tril / scale[:, None]).min()  # the least standard deviation in any direction
        room = smallest / math.sqrt(2 * self.variance_floor)
        self._place(means.mean(0), scale * room.clamp(max=1.0))


def finite_numbers(name: str, given: Array) -> Tensor:
    """Parameters that a user gave, in float64.

    Raises:
        InputError: a number among them is NaN or infinite.
    """
    made = numbers(given)
    if not made.isfinite().all():
        raise InputError(f"{name} hold {made[~made.isfinite()][0].item()}; expected finite numbers")
    return made


def location_and_scale(emission: Emission, data: Sequences) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation ``(D,)`` of the observed entries; 0 and 1 where there are none.

    An entry that does not vary has scale 1: it has no unit of its own.

    Raises:
        InputError: values that the family cannot make.
    """
    size = emission.support[1]
    weight, mean, squares = (torch.zeros(size, dtype=torch.float64) for _ in range(3))
    for batch in data.batches():
        emission.check_values(batch.values)
        x = batch.values.double().flatten(0, 1)
        counts = (batch.mask * batch.weights[:, None]).flatten()[:, None] * ~x.isnan()
        part = counts.sum(0)
        total = weight + part
        each = part.clamp(min=1e-300)
        center = (counts * x.nan_to_num()).sum(0) / each
        shift = center - mean
        share = part / total.clamp(min=1e-300)
        squares += (counts * (x.nan_to_num() - center).square()).sum(0) + shift.square() * weight * share
        mean += shift * share
        weight = total
    deviation = (squares / weight.clamp(min=1e-300)).sqrt()
    varies = deviation > 1e-14 * mean.abs()  # beyond rounding
    return mean, torch.where(varies, deviation, 1.0)
