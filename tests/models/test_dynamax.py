"""The forward recursion against dynamax's: log-likelihoods and filtered beliefs of the same parameters."""

import warnings

import numpy as np
import pytest
import torch

import probseq as ps

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of its own dependencies when it is imported
    import jax
    from dynamax.hidden_markov_model import (
        BernoulliHMM,
        CategoricalHMM,
        DiagonalGaussianHMM,
        GaussianHMM,
        PoissonHMM,
        SharedCovarianceGaussianHMM,
        SphericalGaussianHMM,
    )

K, D, T = 4, 2, 30


def parameters():
    """Initial and transition probabilities, means and covariances."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(K, D, D))
    covariances = factors @ factors.transpose(0, 2, 1) + np.eye(D)
    return rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(K), size=K), rng.normal(size=(K, D)), covariances


INITIAL, TRANSITION, MEANS, COVARIANCES = parameters()
VARIANCES = COVARIANCES.diagonal(axis1=1, axis2=2)
SYMBOLS = np.random.default_rng(1).dirichlet(np.ones(5), size=K)
FAMILIES = {
    "categorical": (
        ps.emissions.Categorical.from_parameters(SYMBOLS),
        lambda: CategoricalHMM(K, 1, 5),
        {"probs": SYMBOLS[:, None]},
    ),
    "bernoulli": (
        ps.emissions.Bernoulli.from_parameters(SYMBOLS[:, :D]),
        lambda: BernoulliHMM(K, D),
        {"probs": SYMBOLS[:, :D]},
    ),
    "poisson": (
        ps.emissions.Poisson.from_parameters(np.exp(MEANS)),
        lambda: PoissonHMM(K, D),
        {"rates": np.exp(MEANS)},
    ),
    "full": (
        ps.emissions.Gaussian.from_parameters(MEANS, COVARIANCES, covariance="full"),
        lambda: GaussianHMM(K, D),
        {"means": MEANS, "covs": COVARIANCES},
    ),
    "tied": (
        ps.emissions.Gaussian.from_parameters(MEANS, COVARIANCES[0], covariance="tied"),
        lambda: SharedCovarianceGaussianHMM(K, D),
        {"means": MEANS, "cov": COVARIANCES[0]},
    ),
    "diag": (
        ps.emissions.Gaussian.from_parameters(MEANS, VARIANCES, covariance="diag"),
        lambda: DiagonalGaussianHMM(K, D),
        {"means": MEANS, "scale_diags": np.sqrt(VARIANCES)},
    ),
    "spherical": (
        ps.emissions.Gaussian.from_parameters(MEANS, VARIANCES[:, 0], covariance="spherical"),
        lambda: SphericalGaussianHMM(K, D),
        {"means": MEANS, "scales": np.sqrt(VARIANCES[:, 0])},
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_filtering_equals_dynamax(name):
    emission, build, given = FAMILIES[name]
    model = ps.HMM.from_parameters(INITIAL, TRANSITION, emission)
    drawn = model.simulate(1, T, generator=torch.Generator().manual_seed(0))
    data = ps.Sequences.from_list([drawn.values])  # without the states, which would be known
    batch = data.batch()
    template = build().initialize(jax.random.PRNGKey(0))[0]
    with jax.enable_x64(True):
        initial, transition, *emissions = map(jax.numpy.asarray, (INITIAL, TRANSITION, *given.values()))
        theirs = template._replace(
            initial=template.initial._replace(probs=initial),
            transitions=template.transitions._replace(transition_matrix=transition),
            emissions=template.emissions._replace(**dict(zip(given, emissions, strict=True))),
        )
        posterior = build().filter(theirs, jax.numpy.asarray(batch.values[0].numpy().reshape(T, -1)))
        log_likelihood, filtered = float(posterior.marginal_loglik), np.asarray(posterior.filtered_probs)
    np.testing.assert_allclose(ps.evaluate(model, data).log_prob[0, 0], log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(model.filtered(batch)[0, 0].numpy(), filtered, atol=1e-9)
