"""`model_choice`: how many states, or which of several models, by held-out data, AIC and BIC."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.evaluate import evaluate
from probseq.inference.run import Fit
from probseq.models.base import SequenceModel
from probseq.models.posterior_hmm import PosteriorHMM
from probseq.restarts.summary import RestartSummary

if TYPE_CHECKING:
    import pandas as pd


def model_choice(
    fits: Mapping[Any, Fit[Any] | SequenceModel], data: Sequences, held_out: Sequences | None = None
) -> pd.DataFrame:
    r"""A table with a row for each model: what its fit to `data` costs in parameters, and what it gives other data.

    .. math::
        \mathrm{AIC} = -2 \log L + 2 m, \qquad \mathrm{BIC} = -2 \log L + m \log n

    L is the likelihood of `data` under the restart that gives them the highest, m the number of free parameters
    (`num_parameters`: what masks, sharing and fixed parts take away is not counted), and n the number of observed
    tokens. Smaller is better of both, and of ``held_out_nats_per_token``, which is of the same restart. AIC and BIC
    compare maximum-likelihood fits to the same data; a probability that has come out as 0 is counted as a free one all
    the same.

    Args:
        fits: by number of states, or by any other label, the fit or the fitted model.
        data: what the models were fitted to.
        held_out: data that no model has seen.

    Returns:
        A table with the labels as its index and the columns ``num_parameters``, ``restart``, ``log_likelihood`` (nats),
        ``aic``, ``bic`` and, where `held_out` is given, ``held_out_nats_per_token``. ``table["bic"].idxmin()`` is the
        choice of BIC.

    Raises:
        InputError: no models, models of different observations, an average over a posterior, or a likelihood that is
            not exact.

    Reference:
        H. Akaike (1974), "A new look at the statistical model identification"; G. Schwarz (1978), "Estimating the
        dimension of a model".

    Example:
        >>> from probseq import HMM, Sequences, em, emissions
        >>> data = Sequences.from_list([[0, 0, 0, 0, 1, 1, 1, 1] * 8])
        >>> fits = {K: em(HMM(K, emissions.Categorical(2), num_restarts=5), data) for K in (1, 2, 3)}
        >>> int(model_choice(fits, data)["bic"].idxmin())
        2
    """
    import pandas as pd

    if not isinstance(fits, Mapping):
        raise InputError(f"received a {type(fits).__name__}; expected fits by label, for example {{2: fit, 3: other}}")
    models = {label: fit.model if isinstance(fit, Fit) else fit for label, fit in fits.items()}
    supports = {model.support for model in models.values()}
    if len(supports) != 1:
        raise InputError(f"received models of {sorted(supports) or 'nothing'}; expected at least one, all of one kind")
    rows = [_row(label, model, data, held_out) for label, model in models.items()]
    return pd.DataFrame(rows, index=pd.Index(models, name="model"))


def _row(label: Any, model: SequenceModel, data: Sequences, held_out: Sequences | None) -> dict[str, Any]:
    if isinstance(model, PosteriorHMM):
        raise InputError(
            f"{label} is an average over draws from a posterior, which has no number of free parameters, so no AIC or "
            "BIC; expected maximum-likelihood fits: compare posteriors by held-out data, with probseq.compare"
        )
    score = evaluate(model, data)
    if score.likelihood != "exact":
        raise InputError(
            f"the likelihood of {label} is {score.likelihood}; expected an exact one, as AIC and BIC need it"
        )
    best = RestartSummary.from_score(score).best
    log_likelihood, m = float(score.elpd[best]), model.num_parameters
    row = {
        "num_parameters": m,
        "restart": best,
        "log_likelihood": log_likelihood,
        "aic": -2 * log_likelihood + 2 * m,
        "bic": -2 * log_likelihood + m * math.log(score.total_tokens),
    }
    if held_out is not None:
        row["held_out_nats_per_token"] = float(np.asarray(evaluate(model.select(best), held_out).nats_per_token)[0])
    return row
