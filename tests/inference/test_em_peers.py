"""From equal starts, every step of EM equals hmmlearn's."""

import numpy as np
import pytest
from hmmlearn.hmm import CategoricalHMM, GaussianHMM, PoissonHMM

import probseq as ps

INITIAL, TRANSITION = np.array([0.5, 0.3, 0.2]), np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])
MEANS = np.array([[0.0, 0.0], [2.0, -1.0], [-1.0, 3.0]])
LENGTHS = [40, 1, 25, 60]
PLAIN = {"init_params": "", "n_iter": 1, "tol": -np.inf}


def path(rng):
    """A path of states whose runs are long, for every sequence."""
    return np.concatenate([np.cumsum(rng.random(n) < 0.2) % 3 for n in LENGTHS])


def categorical(rng):
    probs = rng.dirichlet(np.ones(5), 3)
    values = np.array([rng.choice(5, p=probs[s]) for s in path(rng)])
    peer = CategoricalHMM(3, n_features=5, **PLAIN)
    peer.emissionprob_ = rng.dirichlet(np.ones(5), 3)
    emission = ps.emissions.Categorical.from_parameters(peer.emissionprob_)
    return values[:, None], peer, emission, {"emissionprob_": lambda bank: bank.probs}


def gaussian(rng, covariance):
    values = MEANS[path(rng)] + rng.normal(size=(sum(LENGTHS), 2)) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    peer = GaussianHMM(3, covariance, means_weight=0, covars_prior=0, covars_weight=0, min_covar=0, **PLAIN)
    peer.means_ = MEANS + rng.normal(size=(3, 2))
    peer.covars_ = {
        "diag": rng.uniform(0.5, 2, (3, 2)),
        "full": np.array([np.eye(2) * scale + 0.2 for scale in (0.5, 1.0, 2.0)]),
        "spherical": np.array([0.5, 1.0, 2.0]),
        "tied": np.array([[1.0, 0.2], [0.2, 2.0]]),
    }[covariance]
    emission = ps.emissions.Gaussian.from_parameters(peer.means_, peer._covars_, covariance, variance_floor=1e-12)
    read = {
        "diag": lambda bank: bank.covariances.diagonal(dim1=-2, dim2=-1),
        "full": lambda bank: bank.covariances,
        "spherical": lambda bank: bank.covariances.diagonal(dim1=-2, dim2=-1),  # which hmmlearn repeats for every entry
        "tied": lambda bank: bank.covariances[:, 0],
    }[covariance]
    return values, peer, emission, {"means_": lambda bank: bank.means, "_covars_": read}  # its covars_ is expanded


def poisson(rng):
    values = rng.poisson(np.array([[1.0, 9.0], [4.0, 4.0], [12.0, 1.0]])[path(rng)])
    peer = PoissonHMM(3, lambdas_prior=0.0, lambdas_weight=0.0, **PLAIN)
    peer.lambdas_ = rng.uniform(1, 10, (3, 2))
    emission = ps.emissions.Poisson.from_parameters(peer.lambdas_)
    return values, peer, emission, {"lambdas_": lambda bank: bank.rates}


@pytest.mark.parametrize("kind", ["categorical", "diag", "full", "spherical", "tied", "poisson"])
def test_every_step_equals_hmmlearn(kind):
    rng = np.random.default_rng(4)
    made = {"categorical": categorical, "poisson": poisson}.get(kind, lambda rng: gaussian(rng, kind))
    values, peer, emission, parameters = made(rng)
    peer.startprob_, peer.transmat_ = INITIAL, TRANSITION
    model = ps.HMM.from_parameters(INITIAL, TRANSITION, emission)
    offsets = np.cumsum([0, *LENGTHS])
    data = ps.Sequences(values[:, 0] if kind == "categorical" else values.astype(float), offsets)
    for _ in range(12):
        expected = peer.score(values, LENGTHS) / len(values)
        fit = ps.em(model, data, num_steps=1, tol=0)
        assert fit.history[0, 0] == pytest.approx(expected, abs=1e-9)
        peer.fit(values, LENGTHS)
        ours = {"startprob_": model.initial, "transmat_": model.transition}
        ours |= {name: read(model.emission) for name, read in parameters.items()}
        for name, value in ours.items():
            np.testing.assert_allclose(value[0].detach(), getattr(peer, name), atol=1e-7, err_msg=name)
