"""Simulation-based calibration: where parameters come from the prior, their rank among draws is uniform.

Draw parameters from the prior, data from the parameters, and from the posterior of these data L draws: the number of
draws below the parameter is uniform on 0 to L, for every function of both that does not depend on the names of the
states (S. Talts et al. 2018, "Validating Bayesian inference algorithms with simulation-based calibration").
"""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import probseq as ps
from probseq.inference.markov_chain import Chain, Potential
from probseq.models.hmm_priors import hmm_from_sites, prior, sample_sites
from probseq.ops import chain

NUM, RANKS, BINS = 100, 19, 10  # data sets, draws that the truth is ranked among
SHORT, LONG = 10, 50  # tosses in a data set
SETTINGS = {"target_accept_prob": 0.7, "max_tree_depth": 4}


class Simulated(Potential):
    """One posterior for every restart: restart r has data of its own, drawn from parameters that the prior drew."""

    def __init__(self, length):
        model = ps.HMM(2, ps.emissions.Categorical(2), num_restarts=NUM)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.truth = sample_sites(model, prior(model))
        source, generator = hmm_from_sites(model, self.truth), torch.Generator().manual_seed(1)
        self.data = [source.select(r).sample(1, length, generator=generator) for r in range(NUM)]
        super().__init__(model, ps.Sequences.from_list([one[0] for one in self.data]).batch())

    def log_likelihood(self, sites):
        """``(R,)``, each restart of its own sequence: step t takes row t of the restart's own table."""
        of_tokens = sites["probs"].log().gather(2, self.batch.values[:, None].expand(-1, 2, -1)).mT  # (R, T, K)
        length = of_tokens.shape[1]
        index, lengths = torch.arange(length)[None], torch.tensor([length])
        potentials = chain.Potentials(
            sites["initial"][:, None], sites["transition"][:, None], of_tokens, index, lengths
        )
        return chain.token_log_prob(potentials)[:, 0].sum(-1)

    def functions(self, sites):
        """What does not depend on the names of states; ``(R,)`` each."""
        return {
            "log-likelihood": self.log_likelihood(sites),
            "probability of staying": sites["transition"].diagonal(dim1=1, dim2=2).sum(-1),
            "smaller probability of symbol 0": sites["probs"][..., 0].amin(-1),
            "larger probability of symbol 0": sites["probs"][..., 0].amax(-1),
        }

    def uniform(self, draws):
        """The p-value of a chi-square test of the ranks, for each function; draws are sites ``(R, ...)``."""
        truth, found = self.functions(self.truth), [self.functions(one) for one in draws]
        assert len(draws) == RANKS
        ranks = {name: sum(one[name] < value for one in found).numpy() for name, value in truth.items()}
        counts = {name: np.bincount(one * BINS // (RANKS + 1), minlength=BINS) for name, one in ranks.items()}
        for name, one in counts.items():
            print(f"{name:32} p {chisquare(one).pvalue:8.2g}  data sets by rank {one.tolist()}")
        return {name: chisquare(one).pvalue for name, one in counts.items()}


@pytest.fixture(scope="module")
def simulated():
    return Simulated(SHORT)


@pytest.fixture(scope="module")
def longer():
    return Simulated(LONG)


@torch.no_grad()
def test_the_likelihood_is_that_of_each_restarts_own_data(simulated):
    source = hmm_from_sites(simulated.model, simulated.truth)
    expected = source.token_log_prob(simulated.batch).sum(-1).diagonal()
    torch.testing.assert_close(simulated.log_likelihood(simulated.truth), expected, atol=1e-10, rtol=0)


def test_nuts_is_calibrated(simulated):
    """All posteriors at once, as one chain over their product; every fourth draw counts.

    The smallest of the four p-values is 0.097 with these seeds; without the Jacobian of the constraints, 1e-22.
    The warm-up is too short to adapt to the shape of the posterior: near the prior, a common step size is enough.
    """
    sampler = Chain(simulated, num_warmup=15, seed=3, **SETTINGS)
    for _ in range(15 + 4 * RANKS):
        sampler.step()
    assert min(simulated.uniform(sampler.draws[3::4]).values()) > 0.01


@torch.no_grad()
def test_variational_bayes_is_not(simulated):
    """It takes states and parameters for independent, and its posterior is too narrow: of staying, p is 8e-8."""
    fits = []
    for r, data in enumerate(simulated.data):
        model = ps.VariationalHMM(2, ps.emissions.Categorical(2), seed=r)
        ps.em(model, data, num_steps=15)
        fits.append(model.posterior(RANKS, seed=r).draws)
    draws = [
        {
            "initial": torch.cat([one.initial[s : s + 1] for one in fits]),
            "transition": torch.cat([one.transition[s : s + 1] for one in fits]),
            "probs": torch.cat([one.emission.probs[s : s + 1] for one in fits]),
        }
        for s in range(RANKS)
    ]
    assert min(simulated.uniform(draws).values()) < 1e-3


def svi_p_values(data, guide, monkeypatch):
    """One run of SVI whose restart r sees nothing but data set r: to p-values, as `Simulated.uniform`."""
    alone = lambda model, sites, batch: torch.diag(data.log_likelihood(sites))
    monkeypatch.setattr("probseq.models.hmm_priors.log_likelihood", alone)
    model = ps.BayesianHMM(2, ps.emissions.Categorical(2), num_restarts=NUM, guide=guide)
    everything = ps.Sequences.from_list([one[0] for one in data.data])
    ps.svi(model, everything, num_steps=300)
    sites = model.posterior(RANKS, seed=5).parameter_draws()
    with torch.no_grad():
        return data.uniform([{name: value[:, s] for name, value in sites.items()} for s in range(RANKS)])


def test_svi_is_not_and_less_so_with_a_joint_normal(longer, monkeypatch):
    """It cannot say that one coin or the other is the higher one, and puts both near their mean.

    The smallest p-values are 3e-12 with independent parts and 8e-5 with a joint normal.
    """
    independent, joint = (svi_p_values(longer, guide, monkeypatch) for guide in ("mean_field", "structured"))
    assert min(independent.values()) < 1e-6
    assert min(independent.values()) < 1e-3 * min(joint.values())
    assert independent["probability of staying"] > 1e-3, "states are summed out, so this is not too sure as in VB"
