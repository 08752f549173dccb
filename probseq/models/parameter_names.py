"""What the parameters of a hidden Markov model are called where they are shown, and what their axes are."""

from __future__ import annotations

from torch import Tensor

from probseq.errors import InputError
from probseq.models.emissions import Bernoulli, Categorical, Emission, Gaussian, GaussianMixture, Poisson
from probseq.models.hmm import HMM

Axes = tuple[str, ...]

_CHAIN: dict[str, Axes] = {"initial": ("state",), "transition": ("state", "state_to")}
_DRIVEN: dict[str, Axes] = {"initial_weights": ("state", "input"), "transition_weights": ("state", "state_to", "input")}


def parameters(model: HMM) -> dict[str, Tensor]:
    """The probabilities of every restart, and the parameters of its emissions, by state: ``(R, K, ...)``.

    Those of the emissions are ``probs`` (`Categorical`, `Bernoulli`), ``rates`` (`Poisson`), ``means`` with
    ``variances`` or ``covariances`` (`Gaussian`), and ``weights``, ``means`` and ``variances`` (`GaussianMixture`).

    Raises:
        InputError: a family that is not one of these.
    """
    chain = {name: getattr(model, name) for name in _names(model)}
    return {**chain, **{name: value[:, model.groups] for name, (value, _) in _emission(model.emission).items()}}


def axes(model: HMM) -> dict[str, Axes]:
    """What the axes of each of them after R are called."""
    return {**_names(model), **{name: ("state", *own) for name, (_, own) in _emission(model.emission).items()}}


def _names(model: HMM) -> dict[str, Axes]:
    return {**_CHAIN, **{name: own for name, own in _DRIVEN.items() if hasattr(model, name)}}


def _emission(bank: Emission) -> dict[str, tuple[Tensor, Axes]]:
    """Parameters ``(R, G, ...)`` and the names of the axes after G."""
    match bank:
        case Categorical():
            return {"probs": (bank.probs, ("symbol",))}
        case Bernoulli():
            return {"probs": (bank.probs, ("dimension",))}
        case Poisson():
            return {"rates": (bank.rates, ("dimension",))}
        case GaussianMixture():
            spread = {"means": bank.means, "variances": bank.variances}
            vectors = {name: (value, ("component", "dimension")) for name, value in spread.items()}
            return {"weights": (bank.weights, ("component",)), **vectors}
        case Gaussian(covariance="diag" | "spherical"):
            variances = bank.covariances.diagonal(dim1=-2, dim2=-1)
            return {"means": (bank.means, ("dimension",)), "variances": (variances, ("dimension",))}
        case Gaussian():
            covariances = (bank.covariances, ("dimension", "dimension_to"))
            return {"means": (bank.means, ("dimension",)), "covariances": covariances}
    raise InputError(
        f"{type(bank).__name__} is not among the families of probseq.emissions, and its parameters have no names"
    )
