"""Starting points of a hidden Markov model, by name.

EM and gradients climb from where they begin and reach different optima from different points. Each strategy here sets
the parameters of one restart, and depends on ``(seed, restart)`` and the data alone:

- ``dirichlet``: probabilities uniform on the simplex; vectors are shared out among K random observations.
- ``near_uniform``: all states alike, but for 1 %: close to a saddle from which EM hardly moves.
- ``unigram``: every state has the distribution of all data, perturbed.
- ``kmeans``: states are clusters of vectors, or of symbols that have the same neighbors.
- ``race``: 8 Dirichlet starts make 10 steps of EM on a part of the data, and the best one goes on.
- ``spectral``: the method of moments (symbols only); where it fails it warns, and the start is ``dirichlet``.
- ``parameters``: what was given, unchanged.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax
from torch import Tensor

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.inference.clustering import kmeans, squared_distances
from probseq.inference.sample import Sample
from probseq.inference.spectral import RankError, spectral
from probseq.models.base import restart_seed
from probseq.models.emissions import Categorical
from probseq.models.hmm import HMM, Statistics
from probseq.models.input_hmm import InputHMM

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Strategy = Callable[[HMM, Sample, np.random.Generator], None]

_MAX_SYMBOLS = 2**20  # tokens that are looked at
_MAX_VECTORS = 100_000
_MAX_CELLS = 2**22  # entries of a table of tokens and states
_NOISE = 0.1  # how much of a start that the data suggest is drawn at random, so that restarts differ
_RACE_STARTS, _RACE_STEPS, _RACE_TOKENS = 8, 10, 10_000


@torch.no_grad()
def initialize(model: HMM, data: Sequences) -> None:
    """Set the model's parameters by its strategy ``model.start``, once.

    Parts that are fixed stay as they are, and what a mask forbids stays at zero.

    Args:
        model: a model whose ``initialized`` is False; others are left alone.
        data: the training data.

    Raises:
        InputError: nothing was observed, data that the model cannot score, ``spectral`` for vectors.
    """
    if model.initialized:
        return
    if model.start not in STRATEGIES:
        raise InputError(
            f"start is {model.start!r} and no parameters were given; build the model by HMM.from_parameters(...), or "
            "take a start that looks at the data, such as 'kmeans'"
        )
    for batch in data.batches():
        model.emission.check_values(batch.values)
    model.emission.observe(data)
    vectors = max(20 * model.num_states, min(_MAX_VECTORS, _MAX_CELLS // model.num_states))
    sample = Sample(data, _MAX_SYMBOLS if data.is_symbolic else vectors, model.num_symbols)
    failures = []
    for r, number in enumerate(model.numbers):
        one = model.take([r])
        try:
            STRATEGIES[model.start](one, sample, np.random.default_rng(restart_seed(model.seed, number)))
        except RankError as reason:
            failures.append(str(reason))
        model.put([r], one)
    if failures:
        warnings.warn(
            f"start {model.start!r} failed in {len(failures)} of {model.num_restarts} restarts, which begin as with "
            f"'dirichlet': {failures[0]}",
            stacklevel=3,
        )
    model.initialized = True


def dirichlet(model: HMM, sample: Sample, rng: np.random.Generator) -> None:
    """Probabilities uniform on the simplex; each vector goes, by nearness, to one of K randomly chosen ones."""
    _draw_chain(model, rng)
    banks = _num_banks(model)
    if sample.data.is_symbolic:
        _set_symbols(model, _simplex(rng, banks, model.num_symbols))
        return
    points, probs = sample.features, sample.mass / sample.mass.sum()
    chosen = rng.choice(len(points), size=banks, p=probs, replace=len(points) < banks)
    nearness = -squared_distances(points, points[chosen]) / (2 * points.shape[1])
    _set_emission(model, sample, softmax(nearness, axis=1))
    if "emission" not in model.fixed:
        model.emission.scatter(torch.Generator().manual_seed(int(rng.integers(2**63))))


def near_uniform(model: HMM, sample: Sample, rng: np.random.Generator) -> None:
    """All states within 1 % of one another: those of vectors have the data's moments, moved by 1 % of their scale.

    The chain, and all of a model of symbols, is as the model's constructor drew it.
    """
    _set_emission(model, sample, _leaning(sample.features, _num_banks(model), 0.01, rng))


def unigram(model: HMM, sample: Sample, rng: np.random.Generator) -> None:
    """Every state has the distribution of all data, perturbed: symbols are shared out among the states at random.

    For vectors, each state leans in a random direction by half a standard deviation.
    """
    _draw_chain(model, rng)
    banks = _num_banks(model)
    if sample.data.is_symbolic:
        _set_emission(model, sample, _simplex(rng, model.num_symbols, banks))
    else:
        _set_emission(model, sample, _leaning(sample.features, banks, 0.5, rng))


def clusters(model: HMM, sample: Sample, rng: np.random.Generator) -> None:
    """States are clusters: of vectors in units of their scale, or of symbols with like neighbors on both sides.

    Clusters are numbered by when they occur, which suits a chain that goes from left to right; where states are known,
    each cluster gets the number of the state that it shares most of them with. Transitions follow from
    counts of neighboring clusters. These counts, and the clusters of symbols, are mixed with 10 % of noise.
    """
    banks = _num_banks(model)
    found = kmeans(sample.features, sample.mass, banks, rng)
    found = _rank(found[sample.rows], sample, banks)[found]
    found = _named(found[sample.rows], sample, model)[found]
    shares = np.eye(banks)[found]
    _set_emission(model, sample, _with_noise(shares, rng) if sample.data.is_symbolic else _mixed(shares))
    if "emission" in model.fixed:  # the states are given, and the clusters are not them
        return
    labels = found[sample.rows]
    # A cluster's counts are shared equally among the states with its emission distribution.
    share = np.eye(banks)[model.groups.cpu().numpy()]  # (K, G)
    share /= share.sum(axis=0)
    initial = share @ np.bincount(labels, sample.weights * sample.first, minlength=banks)
    transition = share @ sample.pair_counts(labels, banks) @ share.T
    _set_chain(model, _with_noise(initial, rng), _with_noise(transition, rng))


def race(model: HMM, sample: Sample, rng: np.random.Generator) -> None:
    """The best of 8 Dirichlet starts after 10 steps of EM on a part of the data goes on from where it got to.

    Raises:
        InputError: a model without an E-step.
    """
    if isinstance(model, InputHMM):
        raise InputError("start 'race' runs EM, which an InputHMM has not; use kmeans, unigram or dirichlet")
    data = sample.windows(_RACE_TOKENS)
    part = Sample(data, data.num_tokens, sample.num_symbols)
    starters = model.take([0] * _RACE_STARTS)
    for number in range(_RACE_STARTS):
        dirichlet(model, part, rng)
        starters.put([number], model)
    scores = _run_em(starters, data, _RACE_STEPS)
    if not scores.isfinite().any():  # masks that the data contradict; the last start is as good as any
        return
    model.put([0], starters.take([int(scores.nan_to_num(nan=-torch.inf).argmax())]))
    if isinstance(model.emission, Categorical):  # what the part did not have is not impossible
        _set_symbols(model, _mixed(model.emission.probs[0].double().cpu().numpy(), sample.mass))


def moments(model: HMM, sample: Sample, rng: np.random.Generator) -> None:
    """The method of moments, see `probseq.inference.spectral`, mixed with 1 % of what is never impossible.

    Raises:
        RankError: the moments do not determine the states.
    """
    if not sample.data.is_symbolic:
        raise InputError("start 'spectral' needs symbols and received vectors; use kmeans, race or dirichlet")
    free = bool(model.initial_mask.all() and model.transition_mask.all()) and _num_banks(model) == model.num_states
    if not free or model.fixed:
        raise RankError("moments cannot follow masks, fixed parts or shared emissions")
    initial, transition, probs = spectral(sample.triples, model.num_symbols, model.num_states, rng)
    _set_chain(model, _mixed(initial), _mixed(transition))
    _set_symbols(model, _mixed(probs, sample.mass))


STRATEGIES: dict[str, Strategy] = {
    "dirichlet": dirichlet,
    "near_uniform": near_uniform,
    "unigram": unigram,
    "kmeans": clusters,
    "race": race,
    "spectral": moments,
}
"""Every start that sets parameters, by name: a model with one restart, what it may look at, and its randomness."""


def _run_em(model: HMM, data: Sequences, num_steps: int) -> Tensor:
    """``(R,)``: log-likelihood and log-prior after so many steps of EM."""
    for _ in range(num_steps):
        model.m_step(_expected(model, data))
    return _expected(model, data).log_likelihood + model.log_prior()


def _expected(model: HMM, data: Sequences) -> Statistics:
    total: Statistics | None = None
    for batch in data.batches(_RACE_TOKENS, device=model.device):
        one = model.e_step(batch)
        one = one._replace(log_likelihood=one.log_likelihood @ batch.weights)
        total = one if total is None else Statistics(*map(torch.add, total, one))
    assert total is not None  # a sample has tokens
    return total


def _num_banks(model: HMM) -> int:
    """G: how many emission distributions the states have between them."""
    return int(model.groups.max()) + 1


def _draw_chain(model: HMM, rng: np.random.Generator) -> None:
    states = model.num_states
    _set_chain(model, _simplex(rng, 1, states)[0], _simplex(rng, states, states))


def _set_chain(model: HMM, initial: Floats, transition: Floats) -> None:
    """Initial and transition probabilities, as far as masks and fixed parts allow."""
    tables = {
        "initial": (model.log_initial, model.initial_mask, initial),
        "transition": (model.log_transition, model.transition_mask, transition),
    }
    for part, (parameter, mask, probs) in tables.items():
        if part not in model.fixed:
            given = torch.from_numpy(probs).to(parameter)
            parameter[0] = (given * mask).log().log_softmax(dim=-1)


def _set_symbols(model: HMM, probs: Floats) -> None:
    """Emission probabilities ``(G, V)`` of symbols."""
    if "emission" not in model.fixed and isinstance(model.emission, Categorical):
        model.emission.logits[0] = torch.from_numpy(probs).to(model.emission.logits).log()


def _set_emission(model: HMM, sample: Sample, shares: Floats) -> None:
    """An M-step of the emissions from made-up responsibilities ``(rows, G)``."""
    if "emission" in model.fixed:
        return
    counts = torch.from_numpy(shares * sample.mass[:, None])[None].to(model.log_initial)
    model.emission.m_step(model.emission.statistics(counts, sample.batch(model.device)))


def _leaning(points: Floats, num_banks: int, amount: float, rng: np.random.Generator) -> Floats:
    """``(M, G)``: responsibilities that move each mean in a random direction by about `amount` standard deviations."""
    shares: Floats = softmax(amount * points @ rng.standard_normal((points.shape[1], num_banks)), axis=1)
    return shares


def _rank(labels: Ints, sample: Sample, num_labels: int) -> Ints:
    """``(G,)``: the place of each label in the order of the mean positions of its tokens; those without come last."""
    total = np.bincount(labels, sample.weights, minlength=num_labels)
    place = np.bincount(labels, sample.weights * sample.position, minlength=num_labels)
    return np.argsort(np.argsort(np.where(total > 0, place / total.clip(min=1e-300), np.inf), kind="stable"))


def _named(labels: Ints, sample: Sample, model: HMM) -> Ints:
    """``(G,)``: a new number for each label, such that as many tokens as possible have that of their known state."""
    banks = _num_banks(model)
    if sample.states is None or int(sample.states.max()) >= model.num_states:  # the latter is refused by the fit
        return np.arange(banks)
    known = sample.states >= 0
    shared = np.zeros((banks, banks))
    np.add.at(shared, (labels[known], model.groups.cpu().numpy()[sample.states[known]]), sample.weights[known])
    stay = 1e-9 * sample.weights.min() * np.eye(banks)  # what the known states leave open stays as it is
    assigned: Ints = linear_sum_assignment(shared + stay, maximize=True)[1]
    return assigned


def _simplex(rng: np.random.Generator, rows: int, size: int) -> Floats:
    """Rows drawn uniformly from the simplex."""
    return rng.dirichlet(np.ones(size), size=rows)


def _with_noise(counts: Floats, rng: np.random.Generator) -> Floats:
    """Rows of counts as probabilities, mixed with 10 % of a random row; a row without counts is random."""
    total = counts.sum(axis=-1, keepdims=True)
    noise = rng.dirichlet(np.ones(counts.shape[-1]), size=counts.shape[:-1])
    return np.where(total > 0, (1 - _NOISE) * counts / np.where(total > 0, total, 1.0) + _NOISE * noise, noise)


def _mixed(probs: Floats, other: Floats | None = None) -> Floats:
    """Rows of probabilities with 1 % of another row (default: uniform), so that EM can leave what looks impossible."""
    other = np.ones(probs.shape[-1]) if other is None else other
    mixed: Floats = 0.99 * probs + 0.01 * other / other.sum()
    return mixed
