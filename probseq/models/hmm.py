"""The hidden Markov model: the hidden state is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole, unknown
from probseq.models import emissions
from probseq.models.alignment import permute
from probseq.models.base import restart_generator
from probseq.models.draws import DRAWS, START_NAMES, draw_dirichlet
from probseq.models.emissions import Categorical, Emission, check_concentration
from probseq.models.forecast import Forecast, forecast, symbols_ahead
from probseq.models.markov import MarkovModel
from probseq.models.masks import check_groups, check_mask
from probseq.models.stacked import Stacked
from probseq.ops import chain, paths
from probseq.ops.log_product import log_product
from probseq.types import Array

PARTS = ("initial", "transition", "emission")


class Statistics(NamedTuple):
    """What the E-step finds, summed over the (weighted) sequences of a batch; batches add up."""

    log_likelihood: Float[Tensor, "R N"]
    initial: Float[Tensor, "R K"]
    transition: Float[Tensor, "R K K"]
    emission: Float[Tensor, "R G Q"]


class HMM(Stacked, MarkovModel):
    r"""Hidden Markov model with K states and R restarts as the first axis of every parameter.

    .. math::
        p(x_1, \ldots, x_T) = \sum_{s_1 \ldots s_T} \prod_t p(s_t \mid s_{t-1}) \, p(x_t \mid s_t)

    The sum is exact, by the forward recursion. Fit with `probseq.em`. Observations that are missing are summed or
    integrated out; states that are known (``Sequences.states``) condition the E-step and the paths, never the score.

    Args:
        num_states: K, the number of hidden states.
        emission: the emission family, for example ``Categorical(27)`` or ``Gaussian(2)``.
        num_restarts: R, runs from different starting points, all fitted at once.
        seed: restart r starts from a draw that depends on ``(seed, r)`` alone.
        start: how the starting point is found: ``"dirichlet"`` (rows uniform on the simplex), ``"near_uniform"``
            (within 1 % of uniform, close to a saddle from which EM hardly moves), ``"unigram"``, ``"kmeans"``,
            ``"race"``, ``"spectral"`` or ``"parameters"``; see `probseq.inference.starts`. A start that looks at data
            is made by the first fit.
        initial_concentration: of the Dirichlet prior on the initial probabilities; 1 is maximum likelihood.
        transition_concentration: of the Dirichlet prior on every row of the transition matrix.
        sticky: added to the concentration of staying in a state: a prior that favors long stays.
        initial_mask: ``(K,)`` bool, the states that a sequence may begin in. Default: all.
        transition_mask: ``(K, K)`` bool, the steps that are possible, see `probseq.masks`. Default: all.
        fixed: the parts that no fit changes, among ``"initial"``, ``"transition"`` and ``"emission"``.
        emission_groups: ``(K,)``: states with the same number (0, 1, ...) share one emission distribution.
        dtype: float64, or float32 for speed.

    Raises:
        InputError: sizes below 1, an unknown start, a concentration below 1, masks or groups that do not fit.

    Reference:
        L. R. Rabiner (1989), "A tutorial on hidden Markov models and selected applications in speech recognition".

    Example:
        >>> from probseq import HMM, Sequences, emissions
        >>> model = HMM(num_states=2, emission=emissions.Categorical(3), num_restarts=4)
        >>> batch = Sequences.from_list([[0, 1, 2, 0]]).batch()
        >>> model.token_log_prob(batch).shape
        torch.Size([4, 1, 4])
    """

    groups: Tensor
    initial_mask: Tensor
    transition_mask: Tensor

    def __init__(
        self,
        num_states: int,
        emission: Emission,
        num_restarts: int = 1,
        seed: int = 0,
        start: str = "dirichlet",
        initial_concentration: float = 1.0,
        transition_concentration: float = 1.0,
        sticky: float = 0.0,
        initial_mask: Array | None = None,
        transition_mask: Array | None = None,
        fixed: Iterable[str] = (),
        emission_groups: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        num_states, num_restarts = check_whole("num_states", num_states), check_whole("num_restarts", num_restarts)
        _check_family(emission)
        if dtype not in (torch.float64, torch.float32):
            raise InputError(f"dtype is {dtype!r}; expected torch.float64 or torch.float32")
        if start not in START_NAMES:
            raise unknown("start", start, START_NAMES)
        self.num_states, self.num_restarts = num_states, num_restarts
        self.seed, self.start, self.fixed = seed, start, _check_fixed(fixed)
        self.numbers = list(range(num_restarts))  # each restart's number, from which its starting point is drawn
        self.initial_concentration = check_concentration("initial", initial_concentration)
        self.transition_concentration = check_concentration("transition", transition_concentration)
        if not 0 <= sticky < float("inf"):
            raise InputError(f"sticky is {sticky}; expected 0 or more")
        self.sticky = float(sticky)
        self.register_buffer("initial_mask", check_mask("initial", initial_mask, (num_states,)), persistent=False)
        self.register_buffer(
            "transition_mask", check_mask("transition", transition_mask, (num_states, num_states)), persistent=False
        )
        self.register_buffer("groups", check_groups(emission_groups, num_states), persistent=False)
        self._alone = torch.equal(self.groups, torch.arange(num_states))  # state k has emission distribution k
        self.emission = emission.build(num_restarts, int(self.groups.max()) + 1, dtype)
        self.initialized = start in DRAWS and isinstance(emission, Categorical)
        self._draw_start(dtype)
        for part in self.fixed:
            for parameter in self._part(part):
                parameter.requires_grad_(False)

    def _draw_start(self, dtype: torch.dtype) -> None:
        """Random parameters; those of the emissions only where these are symbols."""
        draw, states = DRAWS.get(self.start, draw_dirichlet), self.num_states
        rows = []
        for r in range(self.num_restarts):
            generator = restart_generator(self.seed, r)
            sizes = [(1, states), (states, states)]
            if isinstance(self.emission, Categorical):
                sizes.append((int(self.groups.max()) + 1, self.num_symbols))
            rows.append([draw(generator, *size) for size in sizes])
        initial, transition, *probs = (torch.stack(parts).to(dtype) for parts in zip(*rows, strict=True))
        self.log_initial = nn.Parameter((initial[:, 0] * self.initial_mask).log().log_softmax(dim=-1))
        self.log_transition = nn.Parameter((transition * self.transition_mask).log().log_softmax(dim=-1))
        if isinstance(self.emission, Categorical):
            self.emission.logits.data.copy_(probs[0].log())

    def _part(self, name: str) -> list[nn.Parameter]:
        parts = {"initial": [self.log_initial], "transition": [self.log_transition]}
        return parts.get(name) or list(self.emission.parameters())

    @classmethod
    def from_parameters(
        cls, initial: Array, transition: Array, emission: Array | Emission, concentration: float = 1.0, **options: Any
    ) -> HMM:
        """A model with given probabilities, the same ones in every restart.

        Args:
            initial: ``(K,)``.
            transition: ``(K, K)``, rows sum to 1.
            emission: ``(K, V)`` probabilities of symbols, rows sum to 1; or a family with parameters, for example
                ``Gaussian.from_parameters(means, covariances)``.
            concentration: of the Dirichlet priors on all tables of probabilities; 1 is maximum likelihood.
            options: as for the model itself, for example masks, ``fixed``, ``sticky`` or ``dtype``. With
                ``emission_groups``, the emission has a row for each group.

        Raises:
            InputError: shapes that do not fit, rows that are not probabilities, or what a mask forbids.
        """
        if "start" in options:
            raise InputError("from_parameters starts from the parameters that are given; leave start out")
        initial, transition = (torch.as_tensor(p, dtype=torch.float64) for p in (initial, transition))
        if not isinstance(emission, Emission):
            emission = Categorical.from_parameters(emission, concentration)
        states = initial.numel()
        _check_built(emission)
        rows, groups = next(iter(emission.raw.values())).shape[:2], options.get("emission_groups")
        num_rows = states if groups is None else len(set(groups))
        if initial.ndim != 1 or transition.shape != (states, states) or rows != (1, num_rows):
            raise InputError(
                f"initial has shape {tuple(initial.shape)}, transition {tuple(transition.shape)}, and the emission "
                f"{rows[1]} states; expected (K,), (K, K) and K, or one for each emission group"
            )
        for name, table in (("initial", initial), ("transition", transition)):
            if not ((table >= 0).all() and torch.allclose(table.sum(-1), table.new_ones(()), atol=1e-6)):
                raise InputError(f"{name} has a row that is not a probability vector; expected entries >= 0 with sum 1")
        priors = {"initial_concentration": concentration, "transition_concentration": concentration}
        model = cls(states, emission, start="parameters", **{**priors, **options})
        for name, table in (("initial", initial), ("transition", transition)):
            if (table.cpu() * ~getattr(model, f"{name}_mask")).any():
                raise InputError(f"{name} is above 0 where {name}_mask forbids it; expected 0 there")
        given = {"log_initial": initial.log()[None], "log_transition": transition.log()[None]}
        given |= {f"emission.{name}": value for name, value in emission.named_parameters()}
        rows_of = {name: value.expand(model.num_restarts, *value.shape[1:]) for name, value in given.items()}
        buffers = {f"emission.{name}": value for name, value in emission.named_buffers()}
        model.load_state_dict({**model.state_dict(), **rows_of, **buffers})
        model.initialized = True
        return model

    def config(self) -> dict[str, Any]:
        masks = {"initial_mask": self.initial_mask, "transition_mask": self.transition_mask}
        return {
            "num_states": self.num_states,
            "emission": self.emission.config(),
            "num_restarts": self.num_restarts,
            "seed": self.seed,
            "start": self.start,
            "initial_concentration": self.initial_concentration,
            "transition_concentration": self.transition_concentration,
            "sticky": self.sticky,
            **{name: None if mask.all() else mask.tolist() for name, mask in masks.items()},
            "fixed": list(self.fixed),
            "emission_groups": self.groups.tolist(),
            "dtype": str(self.log_initial.dtype).removeprefix("torch."),
            "initialized": self.initialized,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> HMM:
        arguments = {k: v for k, v in config.items() if k != "initialized"}
        family = emissions.from_config(config["emission"])
        model = cls(**{**arguments, "emission": family, "dtype": getattr(torch, config["dtype"])})
        model.initialized = config["initialized"]
        return model

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
        """Free parameters of one restart: those that masks allow and no fit leaves alone, less one for each row."""
        free = {
            "initial": int(self.initial_mask.sum()) - 1,
            "transition": int(self.transition_mask.sum()) - self.num_states,
            "emission": self.emission.num_parameters,
        }
        return sum(number for part, number in free.items() if part not in self.fixed)

    # The likelihood

    def potentials(self, batch: Batch) -> chain.Potentials:
        self.check_values(batch)
        return chain.Potentials(
            initial=self.initial[:, None],
            transition=self.transition[:, None],
            log_emission=self._by_state(self.emission.log_table(batch)),
            index=self.emission.index(batch),
            lengths=batch.lengths,
        )

    def initial_state(self, num_sequences: int) -> Float[Tensor, "R N K"]:
        """The logarithm of the belief about the next state; -inf throughout after something impossible."""
        return self.initial.log()[:, None].expand(-1, num_sequences, -1)

    def next_log_prob(self, state: Float[Tensor, "R N K"]) -> Float[Tensor, "R N V"]:
        if not isinstance(self.emission, Categorical):
            raise InputError("only a model of symbols has a probability for each next symbol; draw with draw_next")
        return log_product(state, self.emission.logits.log_softmax(dim=-1)[:, self.groups])

    def draw_next(self, state: Float[Tensor, "R N K"], generator: torch.Generator | None = None) -> Tensor:
        belief = state[0].exp()
        if not belief.any(dim=-1).all():
            raise InputError("the prefix has probability 0 under this model; give another, or fit with a prior")
        drawn = self.groups[torch.multinomial(belief, 1, generator=generator)[:, 0]]
        return self.emission.draw({name: value[0, drawn] for name, value in self.emission.raw.items()}, generator)

    def advance(self, state: Float[Tensor, "R N K"], values: Tensor) -> Float[Tensor, "R N K"]:
        batch = one_step(values)
        table = self._by_state(self.emission.log_table(batch)[:, self.emission.index(batch)[:, 0]])  # (R, N, K)
        joint = state + table
        total = joint.logsumexp(dim=-1, keepdim=True)
        return log_product(joint - total.masked_fill(total == -torch.inf, 0.0), self.transition.log())

    @torch.no_grad()
    def simulate(self, num_sequences: int, length: int, generator: torch.Generator | None = None) -> Sequences:
        """Draw sequences together with their states, which are in ``Sequences.states`` (R = 1).

        Raises:
            InputError: more than one restart, or nothing to draw.
        """
        self.check_single()
        if num_sequences < 1 or length < 1:
            raise InputError(f"received num_sequences {num_sequences} and length {length}; expected 1 or more of both")
        nothing_seen = chain.Potentials(
            initial=self.initial[:, None],
            transition=self.transition[:, None],
            log_emission=torch.zeros_like(self.initial[:, None]),
            index=torch.zeros(num_sequences, length, dtype=torch.int64, device=self.device),
            lengths=torch.full((num_sequences,), length, device=self.device),
        )
        path = paths.sample_paths(nothing_seen, generator)[0]  # (N, T)
        raw = {name: value[0, self.groups[path]] for name, value in self.emission.raw.items()}
        values = self.emission.draw(raw, generator)
        return Sequences.from_list(list(values.cpu().numpy()), states=list(path.cpu().numpy()))

    @torch.no_grad()
    def forecast(self, batch: Batch, num_steps: int, level: float = 0.9) -> Forecast:
        """What follows each sequence of vectors: see `probseq.models.forecast.forecast`."""
        return forecast(self, batch, num_steps, level)

    @torch.no_grad()
    def symbols_ahead(self, batch: Batch, num_steps: int) -> Float[Tensor, "R N H V"]:
        """The probability of every symbol, 1 to H steps after the end of each sequence."""
        return symbols_ahead(self, batch, num_steps)

    # Restarts

    def permute(self, permutations: Array) -> HMM:
        """The same model with its states in another order; no likelihood changes, and paths are renamed.

        Args:
            permutations: ``(R, K)``, for example from `probseq.align`, or ``(K,)`` for all restarts: the state
                ``permutations[r, i]`` becomes state i.

        Raises:
            InputError: rows that are no permutations, or an order that masks or emission groups do not allow.
        """
        return permute(self, permutations)

    @property
    def state_axes(self) -> dict[str, str]:
        """For every parameter the axes after R that run over states (K) or emission groups (G)."""
        shared = {f"emission.{name}" for name in self.emission.shared}
        names = [f"emission.{name}" for name, _ in self.emission.named_parameters()]
        return {"log_initial": "K", "log_transition": "KK", **{n: "" if n in shared else "G" for n in names}}

    # What EM needs

    @torch.no_grad()
    def e_step(self, batch: Batch) -> Statistics:
        """Log-likelihood of each sequence (and its known states) and expected statistics, weighted."""
        return self._expect(self.potentials(batch), batch)

    def _expect(self, potentials: chain.Potentials, batch: Batch) -> Statistics:
        if batch.states is None:
            counts = chain.expected_counts(potentials, batch.weights)
            emission = counts.emission
        else:
            pinned, rows = self.pin(potentials, batch.states)
            counts = chain.expected_counts(pinned, batch.weights)
            emission = torch.zeros_like(potentials.log_emission).index_add_(1, rows, counts.emission)
        return Statistics(
            counts.log_likelihood,
            counts.initial[:, 0],
            counts.transition[:, 0],
            self.emission.statistics(self._by_group(emission), batch),
        )

    def _by_state(self, table: Float[Tensor, "R M G"]) -> Float[Tensor, "R M K"]:
        return table if self._alone else table[..., self.groups]

    def _by_group(self, counts: Float[Tensor, "R M K"]) -> Float[Tensor, "R M G"]:
        if self._alone:
            return counts
        total = counts.new_zeros(*counts.shape[:2], int(self.groups.max()) + 1)
        return total.index_add_(2, self.groups, counts)

    @torch.no_grad()
    def m_step(self, statistics: Statistics) -> None:
        """Set every parameter that is not fixed to its posterior mode given the expected statistics."""
        if "initial" not in self.fixed:
            self.log_initial.copy_(self._mode(statistics.initial + self._excess()[0], self.initial).log())
        if "transition" not in self.fixed:
            self.log_transition.copy_(self._mode(statistics.transition + self._excess()[1], self.transition).log())
        if "emission" not in self.fixed:
            self.emission.m_step(statistics.emission)

    @staticmethod
    def _mode(counts: Tensor, previous: Tensor) -> Tensor:
        """Rows of counts to probabilities; a row without any count keeps its previous value."""
        total = counts.sum(dim=-1, keepdim=True)
        return torch.where(total > 0, counts / total.masked_fill(total == 0, 1.0), previous)

    def _excess(self) -> tuple[Float[Tensor, "K"], Float[Tensor, "K K"]]:
        """What the Dirichlet priors add to counts: concentration - 1 where the mask allows it."""
        like = self.log_initial
        initial = (self.initial_concentration - 1) * self.initial_mask.to(like.dtype)
        stay = self.sticky * torch.eye(self.num_states, dtype=like.dtype, device=like.device)
        return initial, (self.transition_concentration - 1 + stay) * self.transition_mask

    def log_prior(self) -> Float[Tensor, "R"]:
        """Log-density of the priors at the parameters, without constants; 0 for maximum likelihood."""
        initial, transition = self._excess()
        # Not xlogy, whose gradient is not a number where a probability is 0.
        of_initial = torch.where(initial > 0, initial * self.log_initial.log_softmax(dim=-1), 0.0)
        of_transition = torch.where(transition > 0, transition * self.log_transition.log_softmax(dim=-1), 0.0)
        return of_initial.sum(-1) + of_transition.sum((-2, -1)) + self.emission.log_prior()

    # The statement of the model

    def program(self, batch: Batch) -> None:
        """The generative program in Pyro, with every state explicit; see `probseq.models.hmm_program`."""
        from probseq.models.hmm_program import program

        program(self, batch)


def one_step(values: Tensor) -> Batch:
    """A batch in which every sequence is one observation, ``(N,)`` or ``(N, D)``."""
    ones = torch.ones(len(values), dtype=torch.int64, device=values.device)
    return Batch(values[:, None], ones, ones.double(), torch.arange(len(values), device=values.device))


def _check_family(emission: object) -> None:
    if isinstance(emission, type) and issubclass(emission, Emission):
        raise InputError(f"emission is the class {emission.__name__}; expected a family: {emission.__name__}(...)")
    if not isinstance(emission, Emission):
        raise InputError(f"emission is {emission!r}; expected a family, for example emissions.Categorical(27)")


def _check_built(emission: Emission) -> None:
    if not all(isinstance(getattr(emission, name, None), Tensor) for name in emission.shapes):
        family = type(emission).__name__
        raise InputError(f"the emission has no parameters; make it by emissions.{family}.from_parameters(...)")


def _check_fixed(fixed: Iterable[str]) -> tuple[str, ...]:
    if isinstance(fixed, str):
        raise InputError(f"fixed is {fixed!r}; expected a list of parts, such as [{fixed!r}]")
    names = tuple(fixed)
    for name in names:
        if name not in PARTS:
            raise unknown("part", name, PARTS)
    return names
