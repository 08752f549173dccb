"""The hidden Markov model: the hidden state is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from probseq.data.sequences import Batch
from probseq.errors import InputError, unknown
from probseq.models.base import Model, restart_generator
from probseq.models.emissions import Categorical, check_concentration, dirichlet_mode, log_dirichlet
from probseq.ops import chain
from probseq.types import Array, TokenLogProb

Draw = Callable[[torch.Generator, int, int], Tensor]


def _dirichlet(generator: torch.Generator, rows: int, size: int) -> Tensor:
    """Rows drawn uniformly from the simplex: normalised exponential variables."""
    draws = torch.empty(rows, size, dtype=torch.float64).exponential_(generator=generator)
    return draws / draws.sum(dim=-1, keepdim=True)


def _near_uniform(generator: torch.Generator, rows: int, size: int) -> Tensor:
    """Rows within 1 % of uniform: close to a saddle of the likelihood, where all states are alike."""
    draws = 1 + 0.01 * torch.rand(rows, size, dtype=torch.float64, generator=generator)
    return draws / draws.sum(dim=-1, keepdim=True)


STARTS: dict[str, Draw] = {"dirichlet": _dirichlet, "near_uniform": _near_uniform}
"""How starting parameters are drawn, by name."""


class HMM(Model):
    r"""Hidden Markov model with K states and R restarts as the first axis of every parameter.

    .. math::
        p(x_1, \ldots, x_T) = \sum_{s_1 \ldots s_T} \prod_t p(s_t \mid s_{t-1}) \, p(x_t \mid s_t)

    The sum is exact, by the forward recursion. Fit with `probseq.em`.

    Args:
        num_states: K, the number of hidden states.
        emission: the emission family, for example ``Categorical(27)``.
        num_restarts: R, runs from different starting points, all fitted at once.
        seed: restart r starts from a draw that depends on ``(seed, r)`` alone.
        start: ``"dirichlet"`` (rows uniform on the simplex) or ``"near_uniform"`` (every row within 1 % of uniform,
            close to a saddle from which EM hardly moves).
        initial_concentration: of the Dirichlet prior on the initial probabilities; 1 is maximum likelihood.
        transition_concentration: of the Dirichlet prior on every row of the transition matrix.
        dtype: float64, or float32 for speed.

    Raises:
        InputError: sizes below 1, an unknown start, a concentration below 1.

    Reference:
        L. R. Rabiner (1989), "A tutorial on hidden Markov models and selected applications in speech recognition".

    Example:
        >>> from probseq import HMM, Sequences, emissions
        >>> model = HMM(num_states=2, emission=emissions.Categorical(3), num_restarts=4)
        >>> batch = Sequences.from_list([[0, 1, 2, 0]]).batch()
        >>> model.token_log_prob(batch).shape
        torch.Size([4, 1, 4])
    """

    def __init__(
        self,
        num_states: int,
        emission: Categorical,
        num_restarts: int = 1,
        seed: int = 0,
        start: str = "dirichlet",
        initial_concentration: float = 1.0,
        transition_concentration: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if num_states < 1:
            raise InputError(f"num_states is {num_states}; expected 1 or more")
        if num_restarts < 1:
            raise InputError(f"num_restarts is {num_restarts}; expected 1 or more")
        if start not in STARTS:
            raise unknown("start", start, STARTS)
        self.num_states, self.num_restarts, self.num_symbols = num_states, num_restarts, emission.num_symbols
        self.seed, self.start = seed, start
        self.initial_concentration = check_concentration("initial", initial_concentration)
        self.transition_concentration = check_concentration("transition", transition_concentration)
        draws = [self._draw(restart_generator(seed, r)) for r in range(num_restarts)]
        initial, transition, probs = (torch.stack(parts).to(dtype) for parts in zip(*draws, strict=True))
        self.log_initial = nn.Parameter(initial[:, 0].log())
        self.log_transition = nn.Parameter(transition.log())
        self.emission = emission.build(probs)

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        draw, states = STARTS[self.start], self.num_states
        return draw(generator, 1, states), draw(generator, states, states), draw(generator, states, self.num_symbols)

    @classmethod
    def from_parameters(cls, initial: Array, transition: Array, emission: Array, concentration: float = 1.0) -> HMM:
        """A model with given probabilities and one restart.

        Args:
            initial: ``(K,)``.
            transition: ``(K, K)``, rows sum to 1.
            emission: ``(K, V)``, rows sum to 1.
            concentration: of the Dirichlet priors on all of them; 1 is maximum likelihood.

        Raises:
            InputError: shapes that do not fit, or rows that are not probabilities.
        """
        initial, transition, probs = (torch.as_tensor(p, dtype=torch.float64) for p in (initial, transition, emission))
        states = initial.numel()
        if initial.ndim != 1 or transition.shape != (states, states) or probs.ndim != 2 or len(probs) != states:
            raise InputError(
                f"initial has shape {tuple(initial.shape)}, transition {tuple(transition.shape)}, "
                f"emission {tuple(probs.shape)}; expected (K,), (K, K), (K, V)"
            )
        for name, rows in (("initial", initial), ("transition", transition), ("emission", probs)):
            if not ((rows >= 0).all() and torch.allclose(rows.sum(-1), rows.new_ones(()), atol=1e-6)):
                raise InputError(f"{name} has a row that is not a probability vector; expected entries >= 0 with sum 1")
        model = cls(
            states,
            Categorical(probs.shape[1], concentration),
            initial_concentration=concentration,
            transition_concentration=concentration,
        )
        model.load_state_dict(
            {"log_initial": initial.log()[None], "log_transition": transition.log()[None],
             "emission.logits": probs.log()[None]}
        )  # fmt: skip
        return model

    def config(self) -> dict[str, Any]:
        return {
            "num_states": self.num_states,
            "emission": self.emission.config(),
            "num_restarts": self.num_restarts,
            "seed": self.seed,
            "start": self.start,
            "initial_concentration": self.initial_concentration,
            "transition_concentration": self.transition_concentration,
            "dtype": str(self.log_initial.dtype).removeprefix("torch."),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HMM:
        emission = {k: v for k, v in config["emission"].items() if k != "family"}
        return cls(**{**config, "emission": Categorical(**emission), "dtype": getattr(torch, config["dtype"])})

    @property
    def initial(self) -> Float[Tensor, "R K"]:
        """``(R, K)``: ``p(s_1)``."""
        return self.log_initial.softmax(dim=-1)

    @property
    def transition(self) -> Float[Tensor, "R K K"]:
        """``(R, K, K)``: row j is ``p(s_t | s_{t-1} = j)``."""
        return self.log_transition.softmax(dim=-1)

    @property
    def num_parameters(self) -> int:
        """Free parameters of one restart: ``K - 1 + K (K - 1)`` and those of the emissions."""
        return self.num_states**2 - 1 + self.emission.num_parameters

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        return chain.token_log_prob(*self._potentials(batch))

    def _potentials(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        self.check_symbols(batch.values)
        index = self.emission.index(batch)
        return self.initial, self.transition, self.emission.log_table(batch), index, batch.lengths

    def initial_state(self, num_sequences: int) -> Tensor:
        """The belief about the next state, ``(R, N, K)``."""
        return self.initial[:, None].expand(-1, num_sequences, -1)

    def next_log_prob(self, state: Tensor) -> Float[Tensor, "R N V"]:
        return (state @ self.emission.probs).log()

    def advance(self, state: Tensor, symbols: Int[Tensor, "N"]) -> Tensor:
        joint = state * self.emission.probs[:, :, symbols].transpose(1, 2)  # (R, N, K)
        return joint / joint.sum(dim=-1, keepdim=True) @ self.transition

    def select(self, restart: int) -> HMM:
        return self.take([self.check_restart(restart)])

    def take(self, restarts: Sequence[int]) -> HMM:
        """A copy with these restarts, in this order."""
        new = type(self).from_config({**self.config(), "num_restarts": len(restarts)})
        rows = torch.as_tensor(restarts, device=self.device)
        new.load_state_dict({name: value[rows] for name, value in self.state_dict().items()})
        return new.to(self.device)

    def put(self, restarts: Sequence[int], other: HMM) -> None:
        """Overwrite these restarts with those of `other`."""
        for name, value in self.state_dict().items():
            value[torch.as_tensor(restarts, device=self.device)] = other.state_dict()[name]

    # Paths of states

    @torch.no_grad()
    def viterbi(self, batch: Batch) -> Int[Tensor, "R N T"]:
        """The most probable path of states of each sequence; -1 at padding."""
        return chain.viterbi(*self._potentials(batch))[0]

    @torch.no_grad()
    def posterior_marginals(self, batch: Batch) -> Float[Tensor, "R N T K"]:
        """``p(s_t | x_1..x_T)`` for every t; 0 at padding."""
        return chain.posterior_marginals(*self._potentials(batch))

    @torch.no_grad()
    def sample_path(self, batch: Batch, generator: torch.Generator | None = None) -> Int[Tensor, "R N T"]:
        """One draw of each path of states from ``p(s | x)``; -1 at padding."""
        return chain.sample_paths(*self._potentials(batch), generator=generator)

    # What EM needs

    @torch.no_grad()
    def e_step(self, batch: Batch) -> chain.Counts:
        """Log-likelihood of each sequence and expected counts, weighted by the batch's weights."""
        return chain.expected_counts(*self._potentials(batch), batch.weights)

    @torch.no_grad()
    def m_step(self, counts: chain.Counts) -> None:
        """Set every parameter to its posterior mode given the expected counts."""
        initial = dirichlet_mode(counts.initial, self.initial_concentration, self.initial)
        transition = dirichlet_mode(counts.transition, self.transition_concentration, self.transition)
        self.log_initial.copy_(initial.log())
        self.log_transition.copy_(transition.log())
        self.emission.m_step(counts.emission)

    @torch.no_grad()
    def log_prior(self) -> Float[Tensor, "R"]:
        """Log-density of the priors at the parameters, without constants; 0 for maximum likelihood."""
        initial = log_dirichlet(self.initial, self.initial_concentration)
        transition = log_dirichlet(self.transition, self.transition_concentration).sum(dim=-1)
        return initial + transition + self.emission.log_prior()

    # The statement of the model

    def program(self, batch: Batch) -> None:
        """The generative program in Pyro, with every state explicit: what the engine computes, stated.

        Sites: ``initial``, ``transition``, ``emission`` (Dirichlet priors), then ``state_t`` and ``symbol_t`` for
        every t. Summing out the states (``TraceEnum_ELBO``) gives the same likelihood as `token_log_prob`. Weights of
        the batch are not part of it: Pyro scales an enumerated site by one number only.
        """
        restarts = pyro.plate("restarts", self.num_restarts, dim=-2)
        like = self.log_initial.new_ones
        row = torch.arange(self.num_restarts, device=self.device)[:, None]
        with restarts:
            initial = pyro.sample("initial", dist.Dirichlet(like(self.num_states) * self.initial_concentration))
            with pyro.plate("states", self.num_states, dim=-1):
                transition = pyro.sample(
                    "transition", dist.Dirichlet(like(self.num_states) * self.transition_concentration)
                )
                emission = pyro.sample("emission", dist.Dirichlet(like(self.num_symbols) * self.emission.concentration))
        sequences = pyro.plate("sequences", len(batch.lengths), dim=-1)
        with restarts, sequences:
            probs = initial
            for t in pyro.markov(range(batch.values.shape[1])):
                with pyro.poutine.mask(mask=t < batch.lengths):
                    state = pyro.sample(f"state_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
                    symbol = dist.Categorical(Vindex(emission)[row, state])
                    pyro.sample(f"symbol_{t}", symbol, obs=batch.values[:, t])
                    probs = Vindex(transition)[row, state]
