"""The same work given to probseq, hmmlearn and dynamax: EM steps of a categorical hidden Markov model."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from dynamax.hidden_markov_model import CategoricalHMM as DynamaxHMM
from hmmlearn.hmm import CategoricalHMM as HmmlearnHMM

import probseq as ps

SYMBOLS = 27
STEPS = 5  # EM steps in one call, so that what happens once is little of it


def sequences(num: int, length: int) -> ps.Sequences:
    return ps.Sequences.from_list(np.random.default_rng(0).integers(0, SYMBOLS, (num, length)))


def start(states: int, restarts: int = 1, dtype: torch.dtype = torch.float64) -> ps.HMM:
    family = ps.emissions.Categorical(SYMBOLS, concentration=1.1)
    options = {"initial_concentration": 1.1, "transition_concentration": 1.1}  # dynamax's own default
    return ps.HMM(states, family, num_restarts=restarts, dtype=dtype, **options)


def probseq(data: ps.Sequences, states: int, restarts: int = 1, dtype: torch.dtype = torch.float64) -> Callable:
    model = start(states, restarts, dtype)
    return lambda: ps.em(model, data, num_steps=STEPS, tol=0.0)


def hmmlearn(data: ps.Sequences, states: int) -> Callable:
    """With ``implementation="scaling"``, its faster one."""
    first = start(states)
    prior = {"startprob_prior": 1.1, "transmat_prior": 1.1, "emissionprob_prior": 1.1}
    peer = HmmlearnHMM(
        states, n_features=SYMBOLS, init_params="", n_iter=STEPS, tol=-np.inf, implementation="scaling", **prior
    )
    peer.startprob_, peer.transmat_, peer.emissionprob_ = parameters(first)
    return lambda: peer.fit(data.values[:, None], data.lengths)


def dynamax(data: ps.Sequences, states: int, restarts: int = 1) -> Callable:
    """Its own `fit_em`, compiled, over all sequences at once and mapped over restarts; float32, its default."""
    model = DynamaxHMM(states, 1, SYMBOLS)
    template, properties = model.initialize(jax.random.PRNGKey(0))
    values = jnp.asarray(data.batch().values.numpy()[..., None])
    first = start(states, restarts)

    def one(r: int):
        initial, transition, emission = (jnp.asarray(part) for part in parameters(first, r))
        return template._replace(
            initial=template.initial._replace(probs=initial),
            transitions=template.transitions._replace(transition_matrix=transition),
            emissions=template.emissions._replace(probs=emission[:, None]),
        )

    def fit(params):
        return model.fit_em(params, properties, values, num_iters=STEPS, verbose=False)[1]

    if restarts == 1:
        compiled, given = jax.jit(fit), one(0)
    else:
        compiled, given = jax.jit(jax.vmap(fit)), jax.tree.map(lambda *x: jnp.stack(x), *map(one, range(restarts)))
    return lambda: compiled(given).block_until_ready()


def parameters(model: ps.HMM, restart: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = (model.initial, model.transition, model.emission.probs)
    initial, transition, emission = (part[restart].detach().numpy() for part in parts)
    return initial, transition, emission
