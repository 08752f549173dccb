"""Emission families: how a state, or a network's output, becomes a distribution over observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probseq.errors import unknown
from probseq.models.emissions.base import Emission
from probseq.models.emissions.bernoulli import Bernoulli
from probseq.models.emissions.categorical import Categorical
from probseq.models.emissions.dirichlet import check_concentration, dirichlet_mode, log_dirichlet
from probseq.models.emissions.gaussian import Gaussian
from probseq.models.emissions.mixture import GaussianMixture
from probseq.models.emissions.poisson import Poisson

FAMILIES: dict[str, type[Emission]] = {
    family.__name__: family for family in (Categorical, Bernoulli, Poisson, Gaussian, GaussianMixture)
}
"""Every family, by name."""


def from_config(config: Mapping[str, Any]) -> Emission:
    """The family with the name ``config["family"]`` and these arguments: the inverse of ``Emission.config``.

    Raises:
        InputError: no family of that name.
    """
    arguments = dict(config)
    name = arguments.pop("family")
    if name not in FAMILIES:
        raise unknown("emission family", name, FAMILIES)
    return FAMILIES[name](**arguments)


__all__ = [
    "FAMILIES",
    "Bernoulli",
    "Categorical",
    "Emission",
    "Gaussian",
    "GaussianMixture",
    "Poisson",
    "check_concentration",
    "dirichlet_mode",
    "from_config",
    "log_dirichlet",
]
