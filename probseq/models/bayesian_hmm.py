"""`BayesianHMM`: a hidden Markov model whose posterior is searched with the states summed out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole, unknown
from probseq.models.emissions import Emission
from probseq.models.guided import OBJECTIVE, Guided
from probseq.models.hmm import HMM
from probseq.models.posterior_hmm import PosteriorHMM
from probseq.models.variational import VariationalHMM
from probseq.types import Array

if TYPE_CHECKING:
    from probseq.models.guides import OwnNoise

GUIDE_NAMES = ("mean_field", "structured")
_SCALE = 0.1  # standard deviation of every coordinate at the start, as a belief that rests on 100 observations has
_MAX_COORDINATES = 1000  # whose covariance has a million numbers


class BayesianHMM(Guided, VariationalHMM):
    r"""Hidden Markov model with a posterior over its parameters, fitted with `probseq.svi` or `probseq.nuts`.

    The posterior is approximated by a family q, the guide, and the objective is the evidence lower bound

    .. math::
        \mathrm{E}_{\theta \sim q} \left[ \log p(x \mid \theta) + \log p(\theta) - \log q(\theta) \right] \le \log p(x),

    in which :math:`p(x \mid \theta)` is the exact likelihood: the engine sums out the states, so nothing is assumed of
    them. That is what differs from `VariationalHMM`, whose bound takes states and parameters for independent and is
    lower at the same q. The priors are the same, and so is the family ``"mean_field"``.

    All that a hidden Markov model has is there as well: `token_log_prob`, `viterbi`, `sample` and the rest are those of
    the HMM at the guide's location, the mean of ``"mean_field"``. `posterior` gives the predictive distribution.

    Args:
        num_states: K.
        emission: `Categorical`, `Bernoulli`, `Poisson`, or `Gaussian` with ``"diag"`` or ``"full"`` covariance, without
            a prior of its own.
        initial_concentration: of the Dirichlet prior on the initial probabilities; above 0.
        transition_concentration: of the Dirichlet prior on every row of the transition matrix; above 0.
        emission_concentration: the strength of the prior on an emission distribution, above 0; see
            `probseq.models.conjugate`.
        guide: ``"mean_field"``, conjugate distributions that are independent of one another; or ``"structured"``, a
            joint normal over all parameters. The second costs a covariance matrix of F numbers, where F is the number
            of free parameters, and suits models of up to a few hundred. There is no amortised guide: the states, which
            are all that belongs to one sequence alone, are summed out, so there is nothing left to amortise.
        **options: as for `HMM`: ``num_restarts``, ``seed``, ``start``, ``sticky``, masks, ``fixed``,
            ``emission_groups``, ``dtype``. What is fixed is known: it has no posterior.

    Raises:
        InputError: an unknown guide, too many parameters for ``"structured"``, what `VariationalHMM` refuses.

    Reference:
        M. D. Hoffman, D. M. Blei, C. Wang, J. Paisley (2013), "Stochastic variational inference"; A. Kucukelbir,
        D. Tran, R. Ranganath, A. Gelman, D. M. Blei (2017), "Automatic differentiation variational inference".

    Example:
        >>> from probseq import BayesianHMM, Sequences, emissions, svi
        >>> data = Sequences.from_list([[0, 1, 0, 1, 0, 1], [1, 0, 1, 0]])
        >>> model = BayesianHMM(2, emissions.Categorical(2), num_restarts=3)
        >>> svi(model, data, num_steps=5).objective
        'evidence lower bound per token (nats), estimated'
        >>> model.elbo(data, num_particles=10).shape
        torch.Size([3])
    """

    objective = OBJECTIVE

    def __init__(
        self,
        num_states: int,
        emission: Emission,
        initial_concentration: float = 1.0,
        transition_concentration: float = 1.0,
        emission_concentration: float = 1.0,
        guide: str = "mean_field",
        **options: Any,
    ) -> None:
        if guide not in GUIDE_NAMES:
            raise unknown("guide", guide, GUIDE_NAMES)
        concentrations = initial_concentration, transition_concentration, emission_concentration
        super().__init__(num_states, emission, *concentrations, **options)
        self.guide = guide
        if guide == "structured":
            self._add_normal()

    def _add_normal(self) -> None:
        """The covariance of the coordinates, as a diagonal and a unit-triangular factor."""
        size = self.num_parameters
        if size > _MAX_COORDINATES:
            raise InputError(
                f"guide 'structured' needs the covariance of {size} parameters; expected {_MAX_COORDINATES} or fewer; "
                "take guide 'mean_field'"
            )
        like = self.log_initial.new_zeros(self.num_restarts, size)
        self.guide_log_scale = nn.Parameter(like.fill_(_SCALE).log(), requires_grad=False)
        self.guide_factor = nn.Parameter(like.new_zeros(*like.shape, size), requires_grad=False)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "guide": self.guide}

    def guide_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What `probseq.svi` changes, by name."""
        of_part = {"initial": ("log_initial",), "transition": ("log_transition",), "emission": ("emission.", "log_em")}
        known = tuple(start for part in self.fixed for start in of_part[part])
        unused = "_strength" if self.guide != "mean_field" else "guide_"
        for name, parameter in self.named_parameters():
            if not name.startswith(known) and unused not in name:
                yield name, parameter

    def guide_bound(
        self, batch: Batch, noise: OwnNoise, num_sequences: int | None = None, num_particles: int = 1
    ) -> Float[Tensor, "S R"]:
        from probseq.models import guides  # loads Pyro

        return guides.elbo(self, batch, noise, num_sequences, num_particles)

    def check_data(self, data: Sequences) -> None:
        super().check_data(data)
        if data.states is not None:
            self.check_known(int(data.states.max()))

    def posterior(self, num_draws: int = 100, seed: int = 0) -> PosteriorHMM:
        """Draws from the guide of each restart, and the average of their likelihoods.

        Args:
            num_draws: S, the draws of each restart.
            seed: those of restart r depend on ``(seed, r)`` alone.

        Raises:
            InputError: fewer than one draw, a negative seed, or a start that no fit has made yet.
        """
        check_whole("num_draws", num_draws)
        self.check_initialized()
        if self.guide == "mean_field":
            return super().posterior(num_draws, seed)
        from probseq.models import guides, hmm_priors  # loads Pyro

        return PosteriorHMM(hmm_priors.hmm_from_sites(self, guides.structured_draws(self, num_draws, seed)), num_draws)

    def permute(self, permutations: Array) -> HMM:
        """As `HMM.permute`, for the guide ``"mean_field"``.

        Raises:
            InputError: the guide is not ``"mean_field"``; permutations that do not fit.
        """
        if self.guide != "mean_field":
            raise InputError("a guide that is 'structured' has no order of states; align the draws of posterior()")
        return super().permute(permutations)
