"""`to_arviz`: a posterior, or the restarts of a fit, as ArviZ wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.sequences import Sequences, check_sequences
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError, unknown
from probseq.evaluate import evaluate
from probseq.export_arrays import OBSERVED, WHY_SEQUENCES, from_arrays
from probseq.inference.mcmc import Mcmc
from probseq.inference.run import Fit
from probseq.models.alignment import align
from probseq.models.hmm import HMM
from probseq.models.parameter_names import axes, parameters
from probseq.models.posterior_hmm import PosteriorHMM
from probseq.restarts.at_mean import at_mean
from probseq.restarts.summary import final_values
from probseq.topics import has_topics, topic_agreement, topic_shares

_CELLS = 2**22  # draws times padded tokens of one pass over the data
_DIMS = {
    "length": ("sequence",),
    "weight": ("sequence",),
    "history": ("step",),
    "validation": ("validation_step",),
    "log_prob": ("sequence",),
}
_TOPICS = {"topics": ("topic", "symbol"), "alpha": ("topic",), "eta": (), "document_topics": ("sequence", "topic")}


def to_arviz(
    result: Fit[Any] | Mcmc | PosteriorHMM,
    data: Sequences | None = None,
    *,
    vocabulary: Vocabulary | Sequence[str] | None = None,
    restart: int | None = None,
    num_draws: int = 400,
    seed: int = 0,
    unit: str = "sequence",
) -> Any:
    r"""A fit or a posterior as ArviZ data: an ``InferenceData`` in ArviZ 0.x, an ``xarray.DataTree`` in 1.x.

    ==================  ==========================================================================================
    ``posterior``       draws of ``initial`` (state), ``transition`` (state, state_to) and the emission's parameters,
                        (chain, draw, ...)
    ``log_likelihood``  :math:`\log p(x_i \mid \theta_s)` in nats, (chain, draw, sequence), the states summed out
                        exactly; where states of a sequence are known, its probability together with them
    ``observed_data``   the sequences ``x``, (sequence, time); padded and missing: -1 of symbols, NaN of vectors
    ``sample_stats``    of `probseq.nuts`: ``diverging`` and ``step_size`` of each draw
    ``constant_data``   ``length`` and ``weight`` of each sequence
    ``restarts``        of a `Fit`: the final ``objective`` (on validation, where weights were chosen by that), its
                        ``history``, ``num_steps``, ``stop_reason``, the parameters, and ``log_prob`` of the data,
                        (restart, ...)
    ==================  ==========================================================================================

    A fit by EM or by gradients is one point for each restart: it has no posterior, and ``az.loo`` nothing to work on.
    Restarts are not chains: they did not draw from one distribution, and no R-hat compares them. The states of all
    draws and restarts are aligned, unless the data say which state is which. The topics of a `probseq.LDA` are aligned
    too: ``topics`` (topic, symbol), ``alpha`` and ``eta``, and with data ``document_topics`` (sequence, topic).

    ``az.loo`` leaves out whole sequences; of fewer than 30 draws it cannot say how good it is. It takes them
    for draws from the exact posterior; of a variational one it is as good as the approximation.

    Args:
        result: what `probseq.nuts` returns, a `PosteriorHMM`, or a `Fit`. The `Fit` of a model that has a posterior
            (`BayesianHMM`, `VariationalHMM`) gives draws from it too.
        data: the sequences that the posterior was conditioned on, each counting once. Default: no ``log_likelihood``.
        vocabulary: labels of the symbols. Default: their numbers.
        restart: whose draws become the ``posterior``. Default: the only one; of a `Fit`, that with the largest
            objective.
        num_draws: how many draws from the posterior of a `Fit`.
        seed: of these draws.
        unit: what ``az.loo`` will leave out, ``"sequence"``.

    Raises:
        InputError: nothing that can be exported; a posterior of several restarts of which none is chosen; other data
            than `probseq.nuts` had; weights, or a sequence that a draw finds impossible; a unit that is not the
            sequence.

    Reference:
        A. Vehtari, A. Gelman, J. Gabry (2017), "Practical Bayesian model evaluation using leave-one-out
        cross-validation and WAIC".

    Example:
        >>> from probseq import HMM, PosteriorHMM, Sequences, emissions, to_arviz
        >>> data = Sequences.from_list([[0, 1, 0], [1, 1], [0, 0, 1, 0]])
        >>> posterior = PosteriorHMM(HMM(2, emissions.Categorical(2), num_restarts=50), num_draws=50)
        >>> exported = to_arviz(posterior, data, vocabulary="ab")
        >>> dict(exported["log_likelihood"].sizes)
        {'chain': 1, 'draw': 50, 'sequence': 3}
        >>> exported["posterior"]["probs"].sel(symbol="b").dims
        ('chain', 'draw', 'state')
    """
    _check(result, unit)
    source = result.posterior if isinstance(result, Mcmc) else result
    fit = source if isinstance(source, Fit) else None
    chosen = _choose(source, restart)
    posterior = _posterior(source, chosen, num_draws, seed)
    if data is not None:
        check_sequences(data, "data")
        _check_weights(data, posterior)
    draws = {} if posterior is None else _of_draws(posterior, _ordered(posterior, result, chosen, data), data)
    if isinstance(result, Mcmc) and data is not None:
        _check_same_data(result, draws["log_likelihood"])
    return from_arrays(
        **draws,
        observed=None if data is None else {OBSERVED: _padded(data)},
        constant=None if data is None else {"length": data.lengths, "weight": data.weights},
        restarts=None if fit is None else _of_restarts(fit, chosen, data),
        sample_stats=_of_sampler(result) if isinstance(result, Mcmc) else None,
        dims=_dims(source, data),
        coords=_coords(source, vocabulary),
        attrs={"inference_library": "probseq"} | ({} if fit is None else {"objective": fit.objective}),
    )


def _check(result: object, unit: str) -> None:
    if not isinstance(result, (Fit, Mcmc, PosteriorHMM)):
        raise InputError(
            f"received a {type(result).__name__}; expected a Fit, a PosteriorHMM or what nuts returns, for example "
            "to_arviz(ps.nuts(model, data), data)"
        )
    if unit == "token":
        raise InputError(f"unit is 'token'; expected 'sequence', because {WHY_SEQUENCES}")
    if unit != "sequence":
        raise unknown("unit", unit, ["sequence"])


def _check_weights(data: Sequences, posterior: PosteriorHMM | None) -> None:
    if posterior is not None and (data.weights != 1).any():
        row = int((data.weights != 1).argmax())
        raise InputError(
            f"sequence {row} has weight {data.weights[row]:g}; expected 1, because ArviZ counts every sequence once: "
            "give each sequence as often as it counts"
        )


def _check_same_data(result: Mcmc, log_likelihood: NDArray[np.float64]) -> None:
    found = log_likelihood.sum(axis=2)
    differ = np.argwhere(~np.isclose(found, result.log_likelihood, rtol=1e-6))
    if len(differ):
        chain, draw = differ[0]
        raise InputError(
            f"the log-likelihood of these data under draw {draw} of chain {chain} is {found[chain, draw]:.6g}, and "
            f"nuts found {result.log_likelihood[chain, draw]:.6g}; expected the sequences that nuts had, which "
            "az.loo leaves out one by one: score others with evaluate"
        )


def _choose(result: Fit[Any] | PosteriorHMM, restart: int | None) -> int:
    """The restart whose draws are exported, and whose order of states is that of all."""
    if restart is None and isinstance(result, Fit):
        final = -final_values(result)
        return int(np.argmax(np.where(np.isfinite(final), final, -np.inf)))
    model = result.model if isinstance(result, Fit) else result
    if restart is None and model.num_restarts > 1:
        raise InputError(
            f"the posterior has {model.num_restarts} restarts; restarts are not chains, because they did not draw from "
            "one distribution: choose one with restart=..."
        )
    chosen: int = model.check_restart(restart or 0)
    return chosen


def _posterior(result: Fit[Any] | PosteriorHMM, chosen: int, num_draws: int, seed: int) -> PosteriorHMM | None:
    """Draws of the chosen restart; None where there is no posterior."""
    if isinstance(result, PosteriorHMM):
        return result.select(chosen)
    if isinstance(result.model, PosteriorHMM):
        return result.model.select(chosen)
    if not hasattr(result.model, "posterior"):
        return None
    drawn: PosteriorHMM = result.model.select(chosen).posterior(num_draws, seed)
    return drawn


def _say_names(data: Sequences | None) -> bool:
    """Whether the data say which state is which; then no state is given another name."""
    return data is not None and data.states is not None


def _ordered(posterior: PosteriorHMM, result: object, chosen: int, data: Sequences | None) -> PosteriorHMM:
    """The same draws with their states in one order; `nuts` has found one."""
    if _say_names(data) or isinstance(result, Mcmc):
        return posterior
    model = getattr(result, "model", None)
    return posterior.aligned(at_mean(model).select(chosen) if isinstance(model, HMM) else None)


@torch.no_grad()
def _of_draws(posterior: PosteriorHMM, ordered: PosteriorHMM, data: Sequences | None) -> dict[str, Any]:
    """The groups that hold something for each draw."""
    from probseq.models.hmm_priors import log_likelihood  # loads Pyro

    named = {name: _by_chain(posterior, value) for name, value in parameters(ordered.draws).items()}
    if data is None:
        return {"posterior": named}
    size, device = max(1, _CELLS // posterior.num_draws), posterior.device
    batches = data.batches(size, sort_by_length=False, device=device)
    scores = torch.cat([log_likelihood(posterior.draws, {}, batch) for batch in batches], dim=1)
    return {"posterior": named, "log_likelihood": _by_chain(posterior, scores)}


def _by_chain(posterior: PosteriorHMM, values: Tensor) -> NDArray[Any]:
    """``(C S, ...)`` to ``(C, S, ...)``."""
    array = _array(values)
    return array.reshape(posterior.num_chains, -1, *array.shape[1:])


def _of_sampler(result: Mcmc) -> dict[str, NDArray[Any]]:
    """Under the names that ArviZ's plots look for."""
    step_size = np.broadcast_to(result.step_size[:, None], result.divergent.shape)
    return {"diverging": result.divergent, "step_size": step_size}


@torch.no_grad()
def _of_restarts(fit: Fit[Any], chosen: int, data: Sequences | None) -> dict[str, NDArray[Any]]:
    """What there is of each restart."""
    found = {
        "objective": -final_values(fit),
        "history": fit.history.T,
        "num_steps": fit.num_steps,
        "stop_reason": np.array(fit.stop_reason),
    }
    if fit.validation is not None:
        found["validation"] = fit.validation.T
    if data is not None:
        found["log_prob"] = evaluate(fit.model, data).log_prob
    if isinstance(fit.model, HMM):
        model = at_mean(fit.model)
        ordered = model if _say_names(data) else model.permute(align(model, chosen))
        found |= {name: _array(value) for name, value in parameters(ordered).items()}
    if has_topics(fit.model):
        found |= _of_topics(fit.model, chosen, data)
    return found


def _of_topics(model: Any, chosen: int, data: Sequences | None) -> dict[str, NDArray[Any]]:
    """The parameters of every restart, its topics in the places of those of the chosen one that they resemble."""
    order = topic_agreement(model, chosen).permutations
    rows = np.arange(len(order))[:, None]
    found = {"topics": _array(model.topics)[rows, order], "alpha": _array(model.alpha)[rows, order]}
    if model.eta.ndim == 2:  # one for all topics
        found["eta"] = _array(model.eta)[:, 0]
    if data is not None:
        found["document_topics"] = np.take_along_axis(topic_shares(model, data), order[:, None], axis=2)
    return found


def _array(value: Tensor) -> NDArray[Any]:
    return value.detach().double().cpu().numpy()


def _padded(data: Sequences) -> NDArray[Any]:
    """``(N, T)`` symbols or ``(N, T, D)`` numbers; what is no observation is -1 or NaN."""
    batch = data.batch()
    values = batch.values.numpy()
    values[~batch.mask.numpy()] = -1 if data.is_symbolic else np.nan
    return values


def _dims(result: Fit[Any] | PosteriorHMM, data: Sequences | None) -> dict[str, tuple[str, ...]]:
    """The axes of every variable after those that all of its group have."""
    model = result.model if isinstance(result, Fit) else result
    model = model.draws if isinstance(model, PosteriorHMM) else model
    own = axes(model) if isinstance(model, HMM) else _TOPICS if has_topics(model) else {}
    symbols = data is None or data.is_symbolic
    return {**_DIMS, **own, OBSERVED: ("sequence", "time") if symbols else ("sequence", "time", "dimension")}


def _coords(result: Fit[Any] | PosteriorHMM, vocabulary: Vocabulary | Sequence[str] | None) -> dict[str, Any]:
    coords: dict[str, Any] = {}
    if vocabulary is not None:
        coords["symbol"] = list(vocabulary.symbols if isinstance(vocabulary, Vocabulary) else vocabulary)
    if isinstance(result, Fit):
        coords["restart"] = getattr(result.model, "numbers", range(result.model.num_restarts))
        coords["validation_step"] = result.validation_steps
    return coords
