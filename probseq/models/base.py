"""What a model of sequences must answer, and what it gets for free.

`SequenceModel` is the contract as a structural type: anything that has these members can be evaluated, compared and
sampled. `Model` is the base class that most models use: write `token_log_prob`, the three state methods, `select` and
`config`, and get `sample`, `device` and saving.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from probseq.data.sequences import Batch, Sequences
from probseq.errors import InputError
from probseq.types import Likelihood, TokenLogProb

State = Any
"""What a model remembers of the past: a belief over states, hidden units, keys and values. Opaque to the caller."""


@runtime_checkable
class SequenceModel(Protocol):
    """The likelihood contract. `R = num_restarts` is an axis of every answer, also when it is 1."""

    num_restarts: int
    num_symbols: int
    likelihood: Likelihood

    @property
    def num_parameters(self) -> int:
        """Free parameters of one restart."""

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        """``(R, N, T)``: ``log p(x_t | x_<t)`` in nats, 0 at padding. The sum over t is ``log p(x)``."""

    def initial_state(self, num_sequences: int) -> State:
        """What is known before the first token."""

    def next_log_prob(self, state: State) -> Float[Tensor, "R N V"]:
        """``(R, N, V)``: log-probability of every next symbol, given the state."""

    def advance(self, state: State, symbols: Int[Tensor, "N"]) -> State:
        """The state after `symbols` (N,) were observed."""

    def select(self, restart: int) -> SequenceModel:
        """The model with that restart only (R = 1)."""

    def sample(
        self,
        num_sequences: int,
        max_length: int,
        *,
        prefix: Sequence[int] | None = None,
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


class Model(nn.Module):
    """Base class of the models in this package. See `SequenceModel` for what a subclass has to write."""

    likelihood: Likelihood = "exact"
    num_restarts: int = 1
    num_symbols: int

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        raise NotImplementedError

    def initial_state(self, num_sequences: int) -> State:
        raise NotImplementedError

    def next_log_prob(self, state: State) -> Float[Tensor, "R N V"]:
        raise NotImplementedError

    def advance(self, state: State, symbols: Int[Tensor, "N"]) -> State:
        raise NotImplementedError

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

    def check_symbols(self, values: Tensor) -> None:
        """Raise `InputError` unless all `values` are symbols this model knows."""
        if values.ndim != 2 or values.is_floating_point():
            raise InputError(f"this model scores symbols (N, T); received {values.dtype} {tuple(values.shape)}")
        if values.numel() and (high := int(values.max())) >= self.num_symbols:
            raise InputError(
                f"symbol {high} is outside the model's {self.num_symbols} symbols (0 to {self.num_symbols - 1}); "
                "encode the data with the vocabulary that the model was fitted with"
            )

    @torch.no_grad()
    def sample(
        self,
        num_sequences: int,
        max_length: int,
        *,
        prefix: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Sequences:
        """Draw sequences one symbol at a time from ``p(x_t | x_<t)``.

        Args:
            num_sequences: how many.
            max_length: tokens in each, the prefix included.
            prefix: symbols that every draw begins with.
            generator: the source of randomness, on the model's device.

        Raises:
            InputError: more than one restart (select one first), or a prefix that does not fit.
        """
        if self.num_restarts != 1:
            raise InputError(f"the model has {self.num_restarts} restarts; select one first: ps.select(model, r)")
        given = np.asarray([] if prefix is None else prefix, dtype=np.int64)
        if num_sequences < 1 or max_length < max(1, len(given)):
            raise InputError(
                f"received num_sequences {num_sequences}, max_length {max_length} and a prefix of {len(given)}; "
                "expected at least one sequence, at least as long as the prefix"
            )
        if len(given) and not 0 <= given.min() <= given.max() < self.num_symbols:
            raise InputError(f"the prefix has symbols outside 0 to {self.num_symbols - 1}")
        training = self.training
        try:
            return self.eval()._draw_symbols(num_sequences, max_length, given, generator)
        finally:
            self.train(training)

    def _draw_symbols(
        self, num_sequences: int, max_length: int, given: NDArray[np.int64], generator: torch.Generator | None
    ) -> Sequences:
        drawn = torch.empty(num_sequences, max_length, dtype=torch.int64, device=self.device)
        state = self.initial_state(num_sequences)
        for t in range(max_length):
            if t < len(given):
                drawn[:, t] = int(given[t])
            else:
                probs = self.next_log_prob(state)[0].exp()  # (N, V)
                if not probs.isfinite().all():
                    raise InputError("the prefix has probability 0 under this model; give another, or fit with a prior")
                drawn[:, t] = torch.multinomial(probs, 1, generator=generator)[:, 0]
            if t + 1 < max_length:
                state = self.advance(state, drawn[:, t])
        return Sequences.from_list(drawn.cpu().numpy())
