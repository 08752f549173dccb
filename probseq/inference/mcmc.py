"""`nuts`: draws from the posterior of a hidden Markov model by Hamiltonian Monte Carlo, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError, check_whole
from probseq.inference.diagnostics import LEAST, ess, r_hat
from probseq.inference.markov_chain import Chain, Potential
from probseq.inference.run import Budgets, Course, Fit, StopReason, run
from probseq.models.base import restart_seed
from probseq.models.hmm import HMM
from probseq.models.input_hmm import InputHMM
from probseq.models.posterior_hmm import PosteriorHMM

Floats = NDArray[np.float64]

_BAD_WARMUP = range(20, 150)  # too many for the step size alone, too few for the metric
_GOOD_R_HAT = 1.01
_GOOD_ESS = 100  # for each chain


@dataclass(repr=False)
class Mcmc:
    """Draws of C Markov chains from one posterior, and what can be said of them.

    Attributes:
        posterior: the draws, R = 1, their states aligned, unless the data say which state is which.
        log_likelihood: ``(C, S)``, that of all data at each draw, in nats.
        divergent: ``(C, S)`` bool: where the step was too long for the curvature of the posterior.
        r_hat: for each parameter, and ``log_likelihood``, the rank-normalised split R-hat over chains, after alignment;
            NaN of what does not vary.
        ess: the same of effective sample sizes (bulk), summed over chains.
        step_size: ``(C,)``, of the leapfrog integrator, as the warm-up left it.
        acceptance: ``(C,)``, mean acceptance probability after the warm-up.
        seconds: wall-clock seconds of all, starting points and warm-up included.
        num_tokens: the observed tokens of the data, each as often as its sequence counts.
        num_warmup: steps before the draws, in which the sampler adapted.
        interrupted: whether Ctrl-C ended it early.
    """

    posterior: PosteriorHMM
    log_likelihood: Floats
    divergent: NDArray[np.bool_]
    r_hat: dict[str, Floats]
    ess: dict[str, Floats]
    step_size: Floats
    acceptance: Floats
    seconds: float
    num_tokens: float
    num_warmup: int | None = None
    interrupted: bool = False

    @property
    def num_chains(self) -> int:
        """C."""
        return len(self.log_likelihood)

    @property
    def num_samples(self) -> int:
        """S, the draws of one chain."""
        return int(self.log_likelihood.shape[1])

    @property
    def divergences(self) -> NDArray[np.int64]:
        """``(C,)``: how many draws were divergent."""
        return np.asarray(self.divergent.sum(axis=1))

    @property
    def max_r_hat(self) -> float:
        """The largest R-hat; NaN where none can be computed."""
        return _extreme(self.r_hat, np.max)

    @property
    def min_ess(self) -> float:
        """The smallest effective sample size; NaN where none can be computed."""
        return _extreme(self.ess, np.min)

    @property
    def problems(self) -> list[str]:
        """What speaks against these draws, in sentences; empty if nothing does."""
        found = []
        if np.isnan(self.max_r_hat) and self.num_samples < LEAST:
            found.append(f"{self.num_samples} draws of a chain are too few for R-hat; take at least {LEAST}")
        elif np.isnan(self.max_r_hat):
            found.append(
                f"no chain has moved in {self.num_samples} draws: every step was refused; warm up for longer, or begin "
                "elsewhere"
            )
        if self.num_warmup is not None and self.num_warmup in _BAD_WARMUP:
            found.append(
                f"num_warmup is {self.num_warmup}, of which Pyro adapts the metric on the last few steps alone; take "
                f"{_BAD_WARMUP.stop} or more, or fewer than {_BAD_WARMUP.start}"
            )
        if self.max_r_hat > _GOOD_R_HAT:
            worst = max(self.r_hat, key=lambda name: _extreme({name: self.r_hat[name]}, np.max, -np.inf))
            found.append(
                f"R-hat of {worst} is {self.max_r_hat:.3f}, above {_GOOD_R_HAT}: the chains, or the halves of one, "
                "have not drawn from the same distribution; take more samples, or look for chains in another mode"
            )
        if self.min_ess < _GOOD_ESS * self.num_chains:
            found.append(
                f"the smallest effective sample size is {self.min_ess:.0f}, below {_GOOD_ESS} for each chain, too few "
                "for means and R-hat to rely on; take more samples"
            )
        if self.divergences.any():
            found.append(
                f"{self.divergences.sum()} of {self.divergent.size} draws are divergent: the posterior is steeper "
                "somewhere than the step allows, and the chains avoid that place; raise target_acceptance"
            )
        if self.interrupted:
            found.append("Ctrl-C ended it early")
        return found

    @property
    def fit(self) -> Fit[PosteriorHMM]:
        """What `probseq.compare` and `probseq.save` take; the history is that of the draws, averaged over chains."""
        return Fit(
            model=self.posterior,
            objective="log-likelihood per token (nats)",
            history=self.log_likelihood.mean(axis=0)[:, None] / self.num_tokens,
            stop_reason=["interrupted" if self.interrupted else "max_steps"],
            seconds=self.seconds,
            details={
                "num_chains": self.num_chains,
                "max_r_hat": self.max_r_hat,
                "min_ess": self.min_ess,
                "divergences": self.divergences.tolist(),
                "problems": self.problems,
            },
        )

    def __repr__(self) -> str:
        lines = [
            f"Mcmc: {self.num_chains} chains of {self.num_samples} draws, {self.seconds:.1f} seconds",
            f"largest R-hat {self.max_r_hat:.3f}, smallest effective sample size {self.min_ess:.0f}",
            f"divergences {_listed(self.divergences, '{:d}')}, acceptance {_listed(self.acceptance, '{:.2f}')}, "
            f"step size {_listed(self.step_size, '{:.3g}')}",
        ]
        return "\n".join([*lines, *self.problems])


def nuts(
    model: HMM,
    data: Sequences,
    *,
    num_samples: int = 500,
    num_warmup: int = 500,
    num_chains: int = 2,
    seed: int = 0,
    target_acceptance: float = 0.8,
    max_tree_depth: int = 10,
    progress: bool | None = None,
) -> Mcmc:
    r"""Draw from the posterior of a hidden Markov model with the no-U-turn sampler of Pyro.

    The states are summed out by the engine, so that the chain moves in the parameters alone, without constraints: a
    table of probabilities is log-ratios, a rate its logarithm, a covariance its Cholesky factor. Target is

    .. math::
        p(\theta \mid x) \propto p(\theta) \prod_i p(x_i \mid \theta)^{w_i} .

    Every step takes the gradient over all data many times: this is for small problems, where the posterior itself is
    wanted, and a check for `probseq.svi`. Chain c begins where restart c of the model stands; if the model has fewer
    restarts, the rest begin at starting points of its own, so a model that is not fitted yet gives each chain another.
    The model is not changed, but for the location and scale of the data, which its priors may need.

    The posterior is the same under any order of the states, and chains may differ in it or change it on their way. The
    draws are aligned before anything is averaged or compared, unless the data know states: these have names. Chains
    that stand in modes which no renaming makes equal show in R-hat.

    Args:
        model: an `HMM` with proper priors, for example `probseq.BayesianHMM`.
        data: the sequences to condition on, all of them in one padded batch.
        num_samples: S, draws of each chain.
        num_warmup: steps before these, in which step size and metric adapt to the posterior: 150 or more, or fewer
            than 20, in which the step size adapts alone; between these Pyro ends with one that is badly adapted.
        num_chains: C. They take turns in one process.
        seed: chain c depends on ``(seed, c)`` alone.
        target_acceptance: the mean acceptance probability that the step size aims at; nearer to 1, steps are smaller.
        max_tree_depth: a trajectory has at most ``2 ** max_tree_depth`` leapfrog steps.
        progress: show progress. Default: only on a terminal.

    Returns:
        `Mcmc`; print it to see what speaks against it.

    Raises:
        InputError: a model without proper priors, nothing to sample, a setting outside its range, data that are
            impossible where a chain begins.
        KeyboardInterrupt: Ctrl-C before the first draw; later, the draws so far are kept.

    Reference:
        M. D. Hoffman, A. Gelman (2014), "The no-U-turn sampler: adaptively setting path lengths in Hamiltonian Monte
        Carlo"; M. Betancourt (2017), "A conceptual introduction to Hamiltonian Monte Carlo".
    """
    sizes = {"num_samples": num_samples, "num_warmup": num_warmup, "num_chains": num_chains}
    _check(model, data, {**sizes, "max_tree_depth": max_tree_depth}, target_acceptance)
    named = data.states is not None and bool((data.states >= 0).any())
    course = Course()
    with course.timed():
        starts, batch = _starts(model, data, num_chains), data.batch()
    settings = {"target_accept_prob": target_acceptance, "max_tree_depth": max_tree_depth}
    chains = [
        Chain(Potential(starts.take([c]), batch), num_warmup, restart_seed(seed, c), **settings)
        for c in range(num_chains)
    ]
    tokens = float(data.weights @ data.num_observed)

    def step(number: int, active: list[int]) -> tuple[Floats, dict[int, StopReason]]:
        return np.array([chains[c].step() / tokens for c in active]), {}

    fit = run(
        step,
        model,
        num_restarts=num_chains,
        budgets=Budgets(num_warmup + num_samples),
        objective="log-likelihood per token (nats)",
        title="nuts",
        progress=progress,
        course=course,
    )
    if len(fit.history) <= num_warmup:
        raise KeyboardInterrupt
    return _collect(chains, fit.history[num_warmup:].T * tokens, tokens, fit, named, num_warmup)


def _starts(model: HMM, data: Sequences, num_chains: int) -> HMM:
    """Where the chains begin: at the restarts of `model`, and where it has too few, at new starting points."""
    from probseq.inference.starts import initialize  # loads scipy

    initialize(model, data)
    known = range(min(model.num_restarts, num_chains))
    starts = model.take(known)
    if len(known) < num_chains:
        start = "dirichlet" if model.start == "parameters" else model.start
        more = {"num_restarts": num_chains, "start": start, "initialized": False}
        starts = type(model).from_config({**model.config(), **more}).to(model.device)
        initialize(starts, data)
        starts.put(known, model.take(known))
        for name, value in model.named_buffers():
            starts.get_buffer(name).copy_(value)  # what the priors know of the data
        for parameter in (one for part in model.fixed for one in starts._part(part)):
            parameter.data[len(known) :] = parameter.data[:1]
    return starts.cpu().double()  # a small step costs more on a device than there


def _collect(
    chains: list[Chain], log_likelihood: Floats, tokens: float, fit: Fit[HMM], named: bool, num_warmup: int
) -> Mcmc:
    from probseq.models.hmm_priors import hmm_from_sites

    draws = [one for chain in chains for one in chain.draws]
    sites = {name: torch.cat([one[name] for one in draws]) for name in draws[0]}
    model = hmm_from_sites(chains[0].potential.model, sites)
    posterior = PosteriorHMM(model, len(draws), len(chains), named).aligned()
    values = {"log_likelihood": log_likelihood}
    for name, value in posterior.parameter_draws().items():
        values[name] = value.reshape(log_likelihood.shape + value.shape[2:]).numpy()
    return Mcmc(
        posterior,
        log_likelihood,
        np.stack([chain.divergent for chain in chains]),
        {name: r_hat(value) for name, value in values.items()},
        {name: ess(value) for name, value in values.items()},
        np.array([chain.kernel.step_size for chain in chains]),
        np.array([float(chain.kernel.logging()["acc. prob"]) for chain in chains]),
        fit.seconds,
        tokens,
        num_warmup,
        "interrupted" in fit.stop_reason,
    )


def _check(model: HMM, data: Sequences, settings: dict[str, int], target_acceptance: float) -> None:
    if not isinstance(model, HMM) or isinstance(model, InputHMM):
        raise InputError(
            f"nuts draws from the posterior of an HMM without inputs; received a {type(model).__name__}; "
            "build a BayesianHMM"
        )
    check_sequences(data, "data")
    for part in data.batches():
        model.check_values(part)
    if data.states is not None:
        model.check_known(int(data.states.max()))
    for name, value in settings.items():
        least = 0 if name == "num_warmup" else 1
        check_whole(name, value, least)
    if not 0 < target_acceptance < 1:
        raise InputError(f"target_acceptance is {target_acceptance}; expected a share between 0 and 1, such as 0.8")
    from probseq.models.hmm_priors import check_proper, own_sites, prior

    check_proper(model, prior(model))
    if not own_sites(model):
        raise InputError("every part of the model is fixed, so there is nothing to draw; leave one free")


def _extreme(values: Mapping[str, Floats], of: Callable[[Floats], float], missing: float = np.nan) -> float:
    """The largest or smallest number of all, those left out that are NaN."""
    known = np.concatenate([np.ravel(value) for value in values.values()])
    known = known[~np.isnan(known)]
    return float(of(known)) if len(known) else missing


def _listed(values: NDArray[np.generic], form: str) -> str:
    return ", ".join(form.format(value) for value in values.tolist())
