"""Drawing sequences from any model, one token at a time: `generate`, and `stream` for those who want to watch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole
from probseq.inference.run import Fit
from probseq.models.base import Model, State, evaluating, evaluation_mode, training_modules


@dataclass(frozen=True)
class Drawn:
    """One step of N sequences.

    Attributes:
        values: ``(N,)`` symbols or ``(N, D)`` vectors.
        log_prob: ``(N,)`` float64, ``log p(x_t | x_<t)`` under the model in nats, whatever the temperature; of vectors
            None, because they are drawn without their density.
        running: ``(N,)`` bool, False where a sequence had ended before this step: its value there means nothing.
        stopped: ``(N,)`` bool, True where this step's symbol ended the sequence.
    """

    values: NDArray[Any]
    log_prob: NDArray[np.float64] | None
    running: NDArray[np.bool_]
    stopped: NDArray[np.bool_]


@dataclass(frozen=True)
class Generated:
    """What `generate` drew.

    Attributes:
        sequences: N sequences, each begins with the prefix and ends with its stop symbol, if it met one.
        log_prob: ``(N,)`` float64, the log-probability (of vectors: log-density) in nats of what follows the prefix,
            given the prefix, under the model as it is, whatever the temperature.
        num_given: the length of the prefix.
        stopped: ``(N,)`` bool, True where a stop symbol ended the sequence.
    """

    sequences: Sequences
    log_prob: NDArray[np.float64]
    num_given: int
    stopped: NDArray[np.bool_]


def generate(
    model: Model | Fit[Any],
    prefix: ArrayLike | None = None,
    num_sequences: int = 1,
    max_length: int = 256,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | Iterable[int] | None = None,
    generator: torch.Generator | None = None,
) -> Generated:
    r"""Continue a prefix, with any model that has one restart.

    Each token is drawn from :math:`p(x_t \mid x_{<t})^{1 / \tau}`, normalized over the symbols that `top_k` and `top_p`
    leave. The model keeps its state from token to token (a belief, hidden units, keys and values), so that the price of
    a token does not grow with what was drawn before it, but for the keys of a transformer, up to its context. Beyond
    the context, a transformer with learned or sinusoidal positions reads its window anew, for every token where its
    stride is 1.

    Args:
        model: with one restart: ``ps.select(model, r)``.
        prefix: what every sequence begins with: symbols, or vectors ``(T, D)``.
        num_sequences: N.
        max_length: tokens in each at most, the prefix included.
        temperature: :math:`\tau`. At 1 the draws are the model's, below 1 they are bolder, and 0 takes the most
            probable symbol.
        top_k: keep this many most probable symbols.
        top_p: keep the most probable symbols that together have at least this probability, after the temperature and
            `top_k`.
        stop: a symbol, or several, that end a sequence; it is the last of its sequence.
        generator: the source of randomness, on the model's device.

    Raises:
        InputError: more than one restart, a setting outside its range, a setting of symbols for a model of vectors, or
            a prefix that does not fit or has probability 0.

    Reference:
        A. Holtzman et al. (2020), "The curious case of neural text degeneration", for `top_p`.

    Example:
        >>> from probseq import HMM
        >>> model = HMM.from_parameters([1, 0], [[0, 1], [1, 0]], [[1, 0, 0], [0, 0.5, 0.5]])
        >>> drawn = generate(model, prefix=[0], max_length=4, generator=torch.Generator().manual_seed(0))
        >>> drawn.sequences[0].tolist(), drawn.log_prob.round(4).tolist()
        ([0, 2, 0, 1], [-1.3863])
    """
    model, choice = checked_model(model), Choice(temperature, top_k, top_p)
    prefix, drawing = _begin(model, prefix, num_sequences, max_length, choice, stop, generator)
    with evaluation_mode(model):  # at once: step by step it would take a fifth of a small network's time
        given, steps = prefix.cpu().numpy(), list(drawing)
    rows = [np.array([*given, *(step.values[n] for step in steps if step.running[n])]) for n in range(num_sequences)]
    sequences = Sequences.from_list(rows)
    stopped = np.zeros(num_sequences, dtype=bool) if not steps else np.any([step.stopped for step in steps], axis=0)
    return Generated(sequences, _log_prob(model, sequences, len(given), steps), len(given), stopped)


def stream(
    model: Model | Fit[Any],
    prefix: ArrayLike | None = None,
    num_sequences: int = 1,
    max_length: int = 256,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | Iterable[int] | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Drawn]:
    """The steps of `generate` one by one, as they are drawn; it ends with the last sequence. Arguments as there.

    Example:
        >>> from probseq import Uniform
        >>> [step.log_prob.round(2).tolist() for step in stream(Uniform(2), max_length=3)]
        [[-0.69], [-0.69], [-0.69]]
    """
    choice = Choice(temperature, top_k, top_p)
    return _begin(checked_model(model), prefix, num_sequences, max_length, choice, stop, generator)[1]


@dataclass(frozen=True)
class Choice:
    """Which symbols may be drawn, and how boldly; see `generate`."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}; expected 0 (the most probable symbol) or more")
        if self.top_k is not None:
            check_whole("top_k", self.top_k)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; expected more than 0 and at most 1")

    def probs(self, log_prob: Float[Tensor, "N V"]) -> Float[Tensor, "N V"]:
        """What is drawn from."""
        if self == Choice():
            return log_prob.exp()
        if self.temperature == 0:
            return torch.zeros_like(log_prob).scatter_(-1, log_prob.argmax(dim=-1, keepdim=True), 1.0)
        gap = log_prob - log_prob.max(dim=-1, keepdim=True).values
        probs = (gap / self.temperature).masked_fill(gap == 0, 0.0).softmax(dim=-1)  # 0 by almost 0 is NaN
        ranked, order = probs.sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            ranked = ranked / ranked[:, : self.top_k].sum(dim=-1, keepdim=True)
            ranked[:, self.top_k :] = 0.0
        if self.top_p is not None and self.top_p < 1:  # a sum of all, rounded, may reach 1 before its end
            ranked[ranked.cumsum(dim=-1) - ranked >= self.top_p] = 0.0
        return torch.zeros_like(probs).scatter_(-1, order, ranked)


def _begin(
    model: Model,
    prefix: ArrayLike | None,
    num: int,
    max_length: int,
    choice: Choice,
    stop: int | Iterable[int] | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Iterator[Drawn]]:
    """The prefix ``(T,)`` or ``(T, D)``, and the steps after it; what can be refused is refused here."""
    given = model.check_drawing(num, max_length, prefix, generator)
    ends = stop_symbols(stop, model.num_symbols)
    if not model.num_symbols and (choice != Choice() or ends):
        raise InputError("temperature, top_k, top_p and stop are for models of symbols, and this one is of vectors")
    return given, _steps(model, given, num, max_length, choice, ends, generator)


@torch.no_grad()
def _steps(
    model: Model,
    given: Tensor,
    num: int,
    max_length: int,
    choice: Choice,
    ends: list[int],
    generator: torch.Generator | None,
) -> Iterator[Drawn]:
    modules = training_modules(model)
    with evaluating(modules):
        state = model.state_of(given, num)
    running = np.ones(num, dtype=bool)
    for t in range(len(given), max_length):
        with evaluating(modules):  # between two steps the model is as its owner left it
            values, log_prob = _draw(model, state, choice, generator)
            state = model.advance(state, values) if t + 1 < max_length else None
        drawn = values.cpu().numpy()
        stopped = running & (np.isin(drawn, ends) if ends else False)
        yield Drawn(drawn, log_prob, running, stopped)
        running = running & ~stopped
        if not running.any():
            return


def _draw(
    model: Model, state: State, choice: Choice, generator: torch.Generator | None
) -> tuple[Tensor, NDArray[np.float64] | None]:
    """The next observation of each sequence, and the log-probability of symbols."""
    if not model.num_symbols:
        return model.draw_next(state, generator), None
    log_prob = model.possible_log_prob(state)
    values = torch.multinomial(choice.probs(log_prob), 1, generator=generator)
    return values[:, 0], log_prob.gather(-1, values)[:, 0].double().cpu().numpy()


def _log_prob(model: Model, sequences: Sequences, num_given: int, steps: list[Drawn]) -> NDArray[np.float64]:
    if not model.num_symbols:  # vectors are drawn without their density, so they are scored
        with torch.no_grad(), evaluation_mode(model):
            terms = model.token_log_prob(sequences.batch(device=model.device))[0, :, num_given:]
        return np.asarray(terms.double().sum(dim=-1).cpu().numpy())
    total = np.zeros(len(sequences))
    for step in steps:
        assert step.log_prob is not None  # a model of symbols gives it
        total[step.running] += step.log_prob[step.running]
    return total


def checked_model(model: Model | Fit[Any]) -> Model:
    """The model itself, or that of a fit.

    Raises:
        InputError: it is neither.
    """
    model = model.model if isinstance(model, Fit) else model
    if not isinstance(model, Model):
        raise InputError(f"received a {type(model).__name__} to generate from; expected a model or a Fit")
    return model


def stop_symbols(stop: int | Iterable[int] | None, num_symbols: int) -> list[int]:
    """The symbols that end a sequence.

    Raises:
        InputError: one that is not of the vocabulary.
    """
    several: list[Any]
    try:
        several = [] if stop is None else list(stop)  # type: ignore[arg-type]
    except TypeError:  # one symbol: an int, or a number of numpy or torch
        several = [stop]
    symbols = [check_whole("stop", one.item() if isinstance(one, Tensor) else one, least=0) for one in several]
    for one in symbols:
        if num_symbols and one >= num_symbols:
            raise InputError(f"stop is the symbol {one}; expected 0 to {num_symbols - 1}")
    return symbols
