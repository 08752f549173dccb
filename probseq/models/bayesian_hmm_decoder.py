"""`BayesianHMMDecoder`: an `HMMDecoder` with a posterior over the tables that all sources share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from probseq.data.batch import Batch
from probseq.errors import InputError, check_whole
from probseq.models.base import State
from probseq.models.conditional import Conditional
from probseq.models.emissions import Emission
from probseq.models.given import ConditionalModel, take_rows
from probseq.models.guided import OBJECTIVE, Guided
from probseq.models.hmm_decoder import HMMDecoder
from probseq.types import TokenLogProb

if TYPE_CHECKING:
    from probseq.models.guides import OwnNoise

_TABLES = {
    "latent": ("hidden.table", "hidden.transition"),
    "alignment": ("hidden.start", "hidden.jump.bias", "hidden.head.weight", "hidden.head.bias"),
}
"""What has a posterior: with latent states emissions and transitions, with positions jumps and emissions."""

_SCALE = 0.1  # standard deviation of every number at the start
_WEIGHT_SHARE = 0.1  # of the learning rate, for all that has no posterior


class BayesianHMMDecoder(Guided, ConditionalModel):
    r"""An `HMMDecoder` with a posterior over the tables that all sources share, fitted with `probseq.svi`.

    The tables :math:`\theta` are the scores of emissions and transitions, or of jumps, before they meet what the source
    says and are normalized. Each has a normal prior; a Dirichlet would be one of probabilities, and these scores are
    those of no distribution alone. The posterior is approximated by independent normals q, and all other weights w, of
    the encoder for example, are points. What is climbed is

    .. math::
        \mathrm{E}_{\theta \sim q} \left[ \log p(y \mid x, \theta, w) \right] - \mathrm{KL}(q(\theta) \,\|\, p(\theta)),

    in which states and components are summed out exactly. Everything else is said by the networks at the mean of q.

    Args:
        num_source_symbols: how many symbols the source is of.
        num_symbols: V, how many the target is of.
        num_restarts: R, all fitted at once.
        seed: restart r starts from a draw that depends on ``(seed, r)`` alone.
        prior_scale: the standard deviation of the prior, in nats.
        **options: as for `HMMDecoder`, without dropout.

    Raises:
        InputError: a scale that is not positive, dropout, what `HMMDecoder` refuses.

    Reference:
        D. P. Kingma, M. Welling (2014), "Auto-encoding variational Bayes"; G. Roeder, Y. Wu, D. Duvenaud (2017),
        "Sticking the landing: simple, lower-variance gradient estimators for variational inference".

    Example:
        >>> from probseq import BayesianHMMDecoder, Sequences, svi
        >>> data = Sequences.from_list([[0, 1, 2]], source=Sequences.from_list([[3, 0, 4]]))
        >>> model = BayesianHMMDecoder(5, 3, num_restarts=2, hidden_dim=8)
        >>> svi(model, data, num_steps=5).objective
        'evidence lower bound per token (nats), estimated'
    """

    objective = OBJECTIVE
    start, initialized = "random", True

    def __init__(
        self,
        num_source_symbols: int,
        num_symbols: int,
        *,
        num_restarts: int = 1,
        seed: int = 0,
        prior_scale: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__()
        self.num_restarts, self.seed = check_whole("num_restarts", num_restarts), seed
        if not 0 < prior_scale < math.inf:
            raise InputError(f"prior_scale is {prior_scale}; expected a positive number")
        if options.get("dropout"):
            raise InputError(f"dropout is {options['dropout']}; expected none: what is shared has a prior instead")
        self.num_source_symbols, self.prior_scale = num_source_symbols, prior_scale
        self.numbers = list(range(num_restarts))  # each restart's number, on which its noise depends
        build = lambda: HMMDecoder(num_source_symbols, num_symbols, **options)
        nets: list[Any] = Conditional.from_seed(build, num_restarts, seed).nets
        rows = [dict(net.named_parameters()) for net in nets]
        stacked = {_key(name): torch.stack([row[name].detach() for row in rows]) for name in rows[0]}
        own = stacked.keys() & {_key(name) for name in _TABLES[nets[0].states]}
        scales = {key: torch.full_like(stacked[key], _SCALE).log() for key in sorted(own)}
        self.weights = nn.ParameterDict({key: nn.Parameter(value) for key, value in stacked.items()})
        self.log_scales = nn.ParameterDict({key: nn.Parameter(v, requires_grad=False) for key, v in scales.items()})
        self._shape: tuple[HMMDecoder] = (nets[0].to("meta"),)  # its own parameters are none of the model's

    @property
    def emission(self) -> Emission:  # type: ignore[override]
        return self._shape[0].emission

    def config(self) -> dict[str, Any]:
        own = {"num_restarts": self.num_restarts, "seed": self.seed, "prior_scale": self.prior_scale}
        return {**{name: value for name, value in self._shape[0].config().items() if name != "dropout"}, **own}

    @property
    def num_parameters(self) -> int:
        """Free parameters of one restart's network."""
        return sum(value[0].numel() for value in self.weights.values())

    # The likelihood, at the mean

    def call(self, restart: int, method: str, *args: Any, tables: dict[str, Tensor] | None = None) -> Any:
        """What a method of this restart's network returns, where `tables` takes the place of the mean."""
        own = {_name(key): value[restart] for key, value in self.weights.items()} | (tables or {})
        net = _Method(self._shape[0].train(self.training))
        return functional_call(net, {f"net.{name}": value for name, value in own.items()}, (method, *args))

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        self.check_values(batch)
        return torch.stack([self.call(r, "token_log_prob", batch) for r in range(self.num_restarts)])

    def check_values(self, batch: Batch) -> None:
        super().check_values(batch)
        self.check_complete(batch)

    def check_possible(self, batch: Batch) -> None:
        self._shape[0].check_possible(batch)

    def state_given(self, source: Batch) -> list[State]:
        return [self.call(r, "initial_state", source) for r in range(self.num_restarts)]

    def next_log_prob(self, state: list[State]) -> Float[Tensor, "R N V"]:
        return torch.stack([self.call(r, "next_log_prob", one) for r, one in enumerate(state)])

    def advance(self, state: list[State], values: Int[Tensor, "N"]) -> list[State]:
        return [self.call(r, "advance", one, values) for r, one in enumerate(state)]

    def take_rows(self, state: list[State], rows: Int[Tensor, "M"]) -> list[State]:
        taken: list[State] = take_rows(state, rows)
        return taken

    def networks(self, num_draws: int | None = None, seed: int = 0) -> Conditional:
        """Plain networks: at the mean of each restart, or S draws of each restart's posterior in a row.

        Args:
            num_draws: S. Default: one, the mean.
            seed: the draws of restart r depend on ``(seed, r)`` alone.

        Raises:
            InputError: no draws, or a negative seed.
        """
        none: list[dict[str, Tensor]] = [{}] * self.num_restarts
        tables = none if num_draws is None else self._draws(check_whole("num_draws", num_draws), seed)
        nets, size = [], len(tables) // self.num_restarts
        for number, drawn in enumerate(tables):
            own = {_name(key): value[number // size].detach() for key, value in self.weights.items()}
            net = deepcopy(self._shape[0]).to_empty(device=self.device).to(next(iter(own.values())).dtype)
            net.load_state_dict(own | drawn)
            nets.append(net.train(self.training))
        model = Conditional(nets)
        model.vocabulary, model.source_vocabulary = self.vocabulary, self.source_vocabulary
        return model

    @torch.no_grad()
    def _draws(self, num_draws: int, seed: int) -> list[dict[str, Tensor]]:
        from probseq.models.guides import OwnNoise  # loads Pyro

        noise, drawn = OwnNoise(self.numbers, seed), []
        moved = {
            _name(key): self.weights[key][:, None] + scale.exp()[:, None] * noise.normals(_repeated(scale, num_draws))
            for key, scale in self.log_scales.items()
        }
        for r in range(self.num_restarts):
            drawn += [{name: value[r, s] for name, value in moved.items()} for s in range(num_draws)]
        return drawn

    # What svi needs

    def guide_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.named_parameters()

    def rate_share(self, name: str) -> float:
        return 1.0 if name.split(".", 1)[1] in self.log_scales else _WEIGHT_SHARE

    def guide_bound(
        self, batch: Batch, noise: OwnNoise, num_sequences: int | None = None, num_particles: int = 1
    ) -> Float[Tensor, "S R"]:
        from probseq.models import hmm_decoder_guide  # loads Pyro

        return hmm_decoder_guide.elbo(self, batch, noise, num_sequences, num_particles)


class _Method(nn.Module):
    """A network whose `forward` is any of its methods."""

    def __init__(self, net: HMMDecoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, method: str, *args: Any) -> Any:
        return getattr(self.net, method)(*args)


def _repeated(like: Float[Tensor, "R *B"], num_draws: int) -> Float[Tensor, "R S *B"]:
    return like[:, None].expand(-1, num_draws, *like.shape[1:])


def _key(name: str) -> str:
    """A parameter's name as a key, which may hold no dot."""
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")
