"""Small Bayesian models of every family, and the densities of their priors by torch.distributions alone."""

import numpy as np
import torch
from torch.distributions import Beta, Dirichlet, Gamma, MultivariateNormal, Normal, Wishart

import probseq as ps
from probseq.models.emissions import dense

E = ps.emissions
FAMILIES = {
    "categorical": E.Categorical(3),
    "bernoulli": E.Bernoulli(2),
    "poisson": E.Poisson(2),
    "diag": E.Gaussian(2),
    "full": E.Gaussian(2, covariance="full"),
}
ROWS = [np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])]


def data_for(name: str) -> ps.Sequences:
    return ps.Sequences.from_list([[0, 1, 2, 1], [2, 1], [1]] if name == "categorical" else ROWS)


def log_prior(model, sites) -> torch.Tensor:
    """``(R,)`` by torch.distributions alone."""
    stay = 0.5 * torch.eye(2, dtype=torch.float64)
    total = Dirichlet(torch.full((2,), 0.7, dtype=torch.float64)).log_prob(sites["initial"])
    total = total + Dirichlet(1.8 + stay).log_prob(sites["transition"]).sum(-1)
    bank, c = model.emission, torch.tensor(1.3, dtype=torch.float64)
    if isinstance(bank, E.Categorical):
        return total + Dirichlet(c.expand(3)).log_prob(sites["probs"]).sum(-1)
    if isinstance(bank, E.Bernoulli):
        return total + Beta(c, c).log_prob(sites["probs"]).sum((-2, -1))
    if isinstance(bank, E.Poisson):
        return total + Gamma(c * bank.location, c).log_prob(sites["rates"]).sum((-2, -1))
    if "precision" in sites:
        of_precision = Gamma(c / 2, c / 2 * bank.scale.square()).log_prob(sites["precision"])
        of_mean = Normal(bank.location, (c * sites["precision"]).rsqrt()).log_prob(sites["mean"])
        return total + (of_precision + of_mean).sum((-2, -1))
    tril = dense.unpack(sites["packed_tril"], 2)
    precision = torch.cholesky_inverse(tril)
    degrees = c + 1
    of_precision = Wishart(degrees, torch.diag(1 / (degrees * bank.scale.square()))).log_prob(precision)
    of_precision = of_precision + jacobian(sites["packed_tril"])
    of_mean = MultivariateNormal(bank.location, (tril @ tril.mT) / c).log_prob(sites["mean"])
    return total + (of_precision + of_mean).sum(-1)


def jacobian(packed: torch.Tensor) -> torch.Tensor:
    """log |d precision / d packed|, by autograd, of matrices of size 2."""

    def precision(numbers):
        inverse = torch.cholesky_inverse(dense.unpack(numbers, 2))
        return inverse[[0, 1, 1], [0, 0, 1]]

    flat = packed.reshape(-1, 3)
    rows = [torch.autograd.functional.jacobian(precision, row).slogdet().logabsdet for row in flat]
    return torch.stack(rows).view(packed.shape[:-1])
