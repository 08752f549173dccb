"""What a model of sequences must answer, and what it gets for free.

`SequenceModel` is the contract as a structural type: anything that has these members can be evaluated, compared and
sampled. `Model` is the base class that most models use: give it an `emission`, write `token_log_prob`, `initial_state`,
`advance`, `select`, `config` and one of `next_log_prob` and `draw_next`, and get `sample`, `device` and saving.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import ArrayLike
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole
from probseq.models.emissions.base import Emission
from probseq.types import Likelihood, TokenLogProb

State = Any
"""What a model remembers of the past: a belief over states, hidden units, keys and values. Opaque to the caller."""


@runtime_checkable
class SequenceModel(Protocol):
    """The likelihood contract. `R = num_restarts` is an axis of every answer, also when it is 1."""

    num_restarts: int
    likelihood: Likelihood

    @property
    def support(self) -> tuple[str, int]:
        """What it scores: ``("symbols", V)``, or vectors of D numbers: ``"binary"``, ``"counts"`` or ``"reals"``."""

    @property
    def num_parameters(self) -> int:
        """Free parameters of one restart."""

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        """``(R, N, T)``: ``log p(x_t | x_<t)`` in nats, 0 at padding and where x_t is missing.

        The sum over t is ``log p(x)``; for real vectors it is a log-density. What is missing is integrated out, or
        refused by a model that cannot do that.
        """

    def initial_state(self, num_sequences: int) -> State:
        """What is known before the first token."""

    def next_log_prob(self, state: State) -> Float[Tensor, "R N V"]:
        """``(R, N, V)``: log-probability of every next symbol, given the state. For models of symbols only."""

    def draw_next(self, state: State, generator: torch.Generator | None = None) -> Shaped[Tensor, "N *D"]:
        """A draw of the next observation of each sequence, ``(N,)`` or ``(N, D)``, given the state (R = 1)."""

    def advance(self, state: State, values: Shaped[Tensor, "N *D"]) -> State:
        """The state after `values`, ``(N,)`` symbols or ``(N, D)`` vectors, were observed."""

    def select(self, restart: int) -> SequenceModel:
        """The model with that restart only (R = 1)."""

    def sample(
        self,
        num_sequences: int,
        max_length: int,
        *,
        prefix: ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Sequences:
        """`num_sequences` draws of `max_length` tokens, each beginning with `prefix`."""


def restart_generator(seed: int, restart: int) -> torch.Generator:
    """The source of randomness of one restart: a function of ``(seed, restart)`` alone, never of R."""
    return torch.Generator().manual_seed(restart_seed(seed, restart))


def restart_seed(seed: int, restart: int) -> int:
    """One seed from two numbers, such that neighbors are unrelated.

    Raises:
        InputError: a negative seed.
    """
    if seed < 0:
        raise InputError(f"seed is {seed}; expected 0 or more")
    return int(np.random.SeedSequence([seed, restart]).generate_state(1, np.uint64)[0] >> 1)


def training_modules(model: object) -> list[nn.Module]:
    """The modules of the model that are in training mode."""
    return [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []


@contextmanager
def evaluating(modules: list[nn.Module]) -> Iterator[None]:
    """Evaluation mode for modules in training mode, and after that training mode again."""
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module in modules:
            module.training = True


def evaluation_mode(model: object) -> AbstractContextManager[None]:
    """Evaluation mode for every module of the model, and after that the mode each was in."""
    return evaluating(training_modules(model))


class Model(nn.Module):
    """Base class of the models in this package. See `SequenceModel` for what a subclass has to write.

    Attributes:
        emission: the family of the observations. It says what they may be, and it may hold parameters.
        vocabulary: the digest of the vocabulary of the data that it has seen; None where that is not known.
        source_vocabulary: of pairs, that of the sources.
    """

    likelihood: Likelihood = "exact"
    num_restarts: int = 1
    emission: Emission
    vocabulary: str | None = None
    source_vocabulary: str | None = None

    def extra_repr(self) -> str:
        settings = self.config().items()
        return ", ".join(f"{name}={value!r}" for name, value in settings if isinstance(value, (int, float, str)))

    @property
    def support(self) -> tuple[str, int]:
        return self.emission.support

    @property
    def num_symbols(self) -> int:
        """V for a model of symbols, 0 for one of vectors."""
        return self.emission.num_symbols

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        raise NotImplementedError

    def initial_state(self, num_sequences: int) -> State:
        raise NotImplementedError

    def next_log_prob(self, state: State) -> Float[Tensor, "R N V"]:
        raise NotImplementedError

    def draw_next(self, state: State, generator: torch.Generator | None = None) -> Shaped[Tensor, "N *D"]:
        probs = self.possible_log_prob(state).exp()
        return torch.multinomial(probs, 1, generator=generator)[:, 0]

    def possible_log_prob(self, state: State) -> Float[Tensor, "N V"]:
        """`next_log_prob` of one restart, to draw from.

        Raises:
            InputError: nothing is possible after what was given.
        """
        log_prob = self.next_log_prob(state)[0]
        if not (log_prob.amax(dim=-1) > -math.inf).all():  # NaN is not greater either
            raise InputError("the prefix has probability 0 under this model; give another, or fit with a prior")
        return log_prob

    def advance(self, state: State, values: Shaped[Tensor, "N *D"]) -> State:
        raise NotImplementedError

    def state_after(self, values: Shaped[Tensor, "N T *D"]) -> State:
        """The state after all of `values`, at least one step, were observed from the beginning."""
        state = self.initial_state(len(values))
        for step in values.unbind(dim=1):
            state = self.advance(state, step)
        return state

    def state_of(self, given: Shaped[Tensor, "T *D"], num_sequences: int) -> State:
        """The state of sequences that all begin with `given`."""
        repeated = given.expand(num_sequences, *given.shape)
        return self.state_after(repeated) if len(given) else self.initial_state(num_sequences)

    def select(self, restart: int) -> Model:
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Plain values (JSON) from which `from_config` builds a model of the same shape."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Model:
        """The inverse of `config`; parameters are whatever the constructor gives."""
        return cls(**config)

    @property
    def num_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters()) // self.num_restarts

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")

    def check_restart(self, restart: int) -> int:
        """`restart` itself if it names one of the R restarts.

        Raises:
            InputError: it does not.
        """
        if not 0 <= restart < self.num_restarts:
            raise InputError(f"restart {restart} of {self.num_restarts}; expected 0 to {self.num_restarts - 1}")
        return restart

    def check_single(self) -> None:
        """Raise `InputError` unless there is one restart only."""
        if self.num_restarts != 1:
            raise InputError(f"the model has {self.num_restarts} restarts; select one first: ps.select(model, r)")

    def check_values(self, batch: Batch) -> None:
        """Raise `InputError` unless all values are observations that this model can score.

        The first vocabulary that a model sees is its own, and data of another one are refused: a probability of other
        words, or of what is left without other stop words, shares no table with it.
        """
        if not isinstance(batch, Batch):
            remedy = (
                "call data.batch()" if isinstance(batch, Sequences) else "make one: Sequences.from_list(...).batch()"
            )
            raise InputError(f"received a {type(batch).__name__} where a Batch is expected; {remedy}")
        self.emission.check_values(batch.values)
        if None not in (batch.vocabulary, self.vocabulary) and batch.vocabulary != self.vocabulary:
            raise InputError(
                f"the data are of another vocabulary than the {type(self).__name__} has seen before; expected the same "
                "one, because only probabilities of the same tokens share a table: take both from one corpus, with one "
                "level, min_count and list of stop words"
            )
        self.vocabulary = self.vocabulary or batch.vocabulary

    def check_complete(self, batch: Batch) -> None:
        """Raise `InputError` if an observation is missing: for models that have to see each one to go on."""
        values = batch.values
        if (values.isnan() if values.is_floating_point() else values < 0).any():
            raise InputError(
                f"the data have missing observations, and {type(self).__name__} needs every one to predict the next; "
                "take an HMM, which integrates over what is missing, or leave those sequences out"
            )

    def check_possible(self, batch: Batch) -> None:
        """Raise `ImpossibleError` for a sequence that no parameters make possible; a fit asks before it begins.

        Such a sequence scores -inf, and no step makes it more probable. Most models know of none.
        """

    @torch.no_grad()
    def sample(
        self,
        num_sequences: int,
        max_length: int,
        *,
        prefix: ArrayLike | None = None,
        generator: torch.Generator | None = None,
    ) -> Sequences:
        """Draw sequences one token at a time from ``p(x_t | x_<t)``.

        Args:
            num_sequences: how many.
            max_length: tokens in each, the prefix included.
            prefix: what every draw begins with: symbols, or vectors ``(T, D)``.
            generator: the source of randomness, on the model's device.

        Raises:
            InputError: more than one restart (select one first), or a prefix that does not fit.
        """
        given = self.check_drawing(num_sequences, max_length, prefix, generator)
        with evaluation_mode(self):
            return self._draw(num_sequences, max_length, given, generator)

    def check_drawing(
        self, num_sequences: int, max_length: int, prefix: ArrayLike | None, generator: torch.Generator | None = None
    ) -> Shaped[Tensor, "T *D"]:
        """The prefix as the values of a batch, nothing where there is none.

        Raises:
            InputError: more than one restart, nothing to draw, a prefix that does not fit, or no generator.
        """
        self.check_single()
        given = self._given(prefix)
        check_whole("num_sequences", num_sequences)
        if check_whole("max_length", max_length) < len(given):
            raise InputError(
                f"max_length is {max_length} and the prefix has {len(given)}; expected at least as long as the prefix"
            )
        if not isinstance(generator, torch.Generator | None):
            raise InputError(f"generator is {generator!r}; expected torch.Generator().manual_seed(0) or the like")
        return given

    def _given(self, prefix: ArrayLike | None) -> Tensor:
        if np.ndim(np.asarray(prefix)) == 0 and prefix is not None:
            raise InputError(
                f"the prefix does not fit: it is {prefix!r}; expected symbols, such as vocabulary.encode(text), or "
                "vectors (T, D)"
            )
        if prefix is None or not len(np.asarray(prefix)):
            return torch.empty(0)
        try:
            batch = Sequences.from_list([np.asarray(prefix)]).batch(device=self.device)
            self.check_values(batch)
        except InputError as error:
            raise InputError(f"the prefix does not fit: {error}") from None
        return batch.values[0]

    def _draw(self, num_sequences: int, max_length: int, given: Tensor, generator: torch.Generator | None) -> Sequences:
        drawn = [one.expand(num_sequences, *given.shape[1:]) for one in given]
        state = self.state_of(given, num_sequences)
        while len(drawn) < max_length:
            drawn.append(self.draw_next(state, generator))
            if len(drawn) < max_length:
                state = self.advance(state, drawn[-1])
        return Sequences.from_list(torch.stack(drawn, dim=1).cpu().numpy())
