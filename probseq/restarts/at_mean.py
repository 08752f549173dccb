"""One plain hidden Markov model for each restart of a posterior, so that restarts can be compared state by state."""

from __future__ import annotations

from probseq.models import emissions
from probseq.models.hmm import HMM
from probseq.models.posterior_hmm import PosteriorHMM
from probseq.models.variational import VariationalHMM


def at_mean(model: HMM | PosteriorHMM) -> HMM:
    """A posterior as the model at its mean, whose states can be renamed whatever the posterior is; others as they are.

    Of a `VariationalHMM` that is the one model that its likelihood is of; of a `PosteriorHMM`, the mean of the aligned
    draws of each restart.
    """
    if isinstance(model, PosteriorHMM):
        return model.mean_model()
    if not isinstance(model, VariationalHMM):
        return model
    names = ("num_restarts", "initial_mask", "transition_mask", "emission_groups", "fixed")
    config = model.config()
    emission = emissions.from_config(config["emission"])
    options = {name: config[name] for name in names}
    plain = HMM(model.num_states, emission, start="parameters", dtype=model.log_initial.dtype, **options)
    values = model.state_dict()
    plain.load_state_dict({name: values[name] for name in plain.state_dict()})
    plain.initialized = model.initialized
    return plain.to(model.device)
