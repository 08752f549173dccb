"""`em`: expectation-maximization, all restarts in one tensor program."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError
from probseq.inference.acceleration import SquaremStep
from probseq.inference.device import resolve_device
from probseq.inference.em_step import EMModel, EMStep
from probseq.inference.online import OnlineStep
from probseq.inference.run import Budgets, Course, Fit, run
from probseq.models.bayesian_hmm import BayesianHMM
from probseq.models.emissions import Emission
from probseq.models.network import Network
from probseq.models.network_model import wrapped
from probseq.models.syntax_topics import SyntaxTopics
from probseq.models.topic import LDA

M = TypeVar("M", bound=EMModel)


class ObjectiveDecreased(RuntimeError):
    """EM's objective fell, which exact EM cannot do: the model's E-step and M-step disagree.

    Attributes:
        fit: the fit so far, with ``"decreased"`` among its stop reasons; the parameters before the fall are kept.
    """

    def __init__(self, message: str, fit: Fit[Any]) -> None:
        super().__init__(message)
        self.fit = fit


def em(
    model: M,
    data: Sequences,
    *,
    num_steps: int = 200,
    tol: float = 1e-6,
    seconds: float | None = None,
    accelerate: bool = False,
    minibatch: int | None = None,
    decay: float = 0.6,
    delay: float = 1.0,
    seed: int = 0,
    max_tokens: int = 2**22,
    device: str | None = None,
    progress: bool | None = None,
) -> Fit[M]:
    r"""Fit by expectation-maximization, changing `model` in place.

    The objective is :math:`\sum_i w_i \log p(x_i) + \log p(\text{parameters})` divided by the number of (weighted)
    observed tokens, in nats; of a `probseq.VariationalHMM`, a `probseq.LDA` and a `probseq.SyntaxTopics` it is the
    evidence lower bound. It never falls. Every restart is run to its own end and leaves the batch when it gets there:

    - ``converged``: the objective rose by at most `tol` times its absolute value (or times 1, if that is more);
    - ``max_steps``, ``max_seconds``, ``interrupted``: the budget ended, or Ctrl-C;
    - ``nonfinite``: the objective is not a number or minus infinity (say, impossible data); the restart goes back to
      its last parameters with a finite objective (or its first), and the others go on unharmed;
    - ``decreased``: the objective fell beyond rounding; the restart goes back to the parameters before the fall, and
      `em` raises after all restarts have ended.

    **Acceleration.** With `accelerate`, every third step tries a long step that the two before it point to (SQUAREM).
    A restart whose objective would fall keeps the short one, so the objective never falls here either. A step is one
    E-step in both cases, also where the trial failed: its entry in the history repeats the one before. Convergence is
    judged on the short steps.

    **Minibatches.** With `minibatch`, step 0 sees all sequences, and every later step that many. The M-step follows a
    running average of statistics, in which step s = 1, 2, ... has weight ``(s + delay) ** -decay``. The objective is an
    estimate from the step's sequences (its entry in the history repeats the one before where nothing of them was
    observed): it may fall, and no restart ends as ``converged`` or ``decreased``. Judge by validation data.

    **Fitting on.** A model with parameters goes on from them. The variance floor and the priors of vectors are in units
    of the data of this fit: parameters that are below the floor are raised to it first.

    Args:
        model: a model with an E-step and an M-step, for example `probseq.HMM`.
        data: the training sequences. A starting point that depends on data is made from them.
        num_steps: EM steps at most.
        tol: relative tolerance of the objective per token.
        seconds: wall-clock seconds at most, those of the starting point included.
        accelerate: try SQUAREM's long steps.
        minibatch: sequences of one step. Default: all, and with that exact EM.
        decay: of the weights of minibatches, above 0.5 and at most 1: the larger, the longer the memory.
        delay: of these weights, 1 or more: the larger, the more weight the step over all sequences keeps.
        seed: of the order in which minibatches are drawn.
        max_tokens: padded tokens in one batch of the E-step, at most; changes memory, not the result. Of vectors there
            are fewer where many states and restarts need much room.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``. Default: where the model is.
        progress: show progress. Default: only on a terminal.

    Returns:
        The `Fit`; ``history[s]`` is the objective of the parameters that step s began with.

    Raises:
        InputError: no sequences, nothing observed, a model without an E-step, a setting outside its range.
        ObjectiveDecreased: see above.

    Reference:
        A. P. Dempster, N. M. Laird, D. B. Rubin (1977), "Maximum likelihood from incomplete data via the EM algorithm";
        L. E. Baum et al. (1970), "A maximization technique occurring in the statistical analysis of probabilistic
        functions of Markov chains"; R. Varadhan, C. Roland (2008), "Simple and globally convergent methods for
        accelerating the convergence of any EM algorithm"; O. Cappé, E. Moulines (2009), "On-line
        expectation-maximization algorithm for latent data models".
    """
    _check(model, data, tol, accelerate, minibatch, decay, delay)
    budgets, course = Budgets(num_steps, seconds), Course()
    if device is not None:
        model.to(resolve_device(device))
    with course.timed():
        initialize(model, data, progress)
    step: EMStep
    if minibatch is not None:
        step = OnlineStep(model, data, max_tokens, minibatch, decay, delay, seed)
    else:
        step = (SquaremStep if accelerate else EMStep)(model, data, tol, max_tokens)
    fit = run(
        step,
        model,
        num_restarts=model.num_restarts,
        budgets=budgets,
        objective=getattr(model, "objective", "log-likelihood and log-prior per token (nats)"),
        title="em",
        progress=progress,
        course=course,
    )
    step.write_back()
    if "decreased" in fit.stop_reason:
        restarts = [r for r, why in enumerate(fit.stop_reason) if why == "decreased"]
        raise ObjectiveDecreased(f"EM's objective fell in restarts {restarts}; see the history in error.fit", fit)
    return fit


def _check(
    model: Any, data: Sequences, tol: float, accelerate: bool, minibatch: int | None, decay: float, delay: float
) -> None:
    if isinstance(model, BayesianHMM):
        raise InputError(
            "em does not climb the bound of a BayesianHMM; fit it with svi, or fit a VariationalHMM, "
            "whose bound em climbs"
        )
    if not hasattr(model, "e_step"):
        instead = wrapped(model) if isinstance(model, Network) else "fit networks with fit_gradient"
        raise InputError(f"{type(model).__name__} has no E-step; {instead}")
    check_sequences(data, "data")
    if not tol >= 0:
        raise InputError(f"tol is {tol}; expected 0 or more")
    if minibatch is not None:
        if accelerate:
            raise InputError("received accelerate and minibatch; expected one: long steps need the exact objective")
        if minibatch < 1 or not 0.5 < decay <= 1 or not 1 <= delay < math.inf:
            raise InputError(
                f"minibatch is {minibatch}, decay {decay} and delay {delay}; expected at least one sequence, a decay "
                "above 0.5 and at most 1, and a delay of 1 or more"
            )


def initialize(model: Any, data: Sequences, progress: bool | None = False) -> None:
    """Make the starting point, if it has waited for the data; else let floors and priors follow them.

    Starts that take long show their `progress`; None shows it only where stderr is a terminal.
    """
    if not getattr(model, "initialized", True):
        from probseq.inference import starts, syntax_topics, topics  # load scipy

        own: dict[type, Any] = {LDA: topics, SyntaxTopics: syntax_topics}
        if type(model) in own:
            own[type(model)].initialize(model, data, progress)
        else:
            starts.initialize(model, data)
        return
    for module in model.modules():
        if isinstance(module, Emission) and all(p.requires_grad for p in module.parameters()):
            module.rescale(data)
