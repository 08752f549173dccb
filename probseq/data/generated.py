"""Data drawn from distributions that are known, so that a model's likelihood can be held against the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.corpus import Corpus, Truth, assemble
from probseq.data.parts import split_rows
from probseq.data.preparation import Preparation
from probseq.data.sequences import Sequences
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError

Array = NDArray[np.float64]


Values = NDArray[Any]
"""What is observed at one step of n sequences: symbols ``(n,)`` or vectors ``(n, D)``."""


def markov_log_prob(
    initial: Array, transition: Array, emission: Array | Callable[[Values], Array], sequences: Sequences
) -> Array:
    """``(N,)``: ``log p(x)`` of each sequence under an HMM, by the scaled forward recursion.

    Args:
        initial: ``(K,)`` probabilities of the first state.
        transition: ``(K, K)`` rows sum to 1.
        emission: ``(K, V)`` rows sum to 1; or a function from n values to their probabilities or densities ``(n, K)``.
        sequences: N sequences.
    """
    likelihood = (lambda x: emission[:, x].T) if isinstance(emission, np.ndarray) else emission
    longest = int(sequences.lengths.max())
    total = np.zeros(len(sequences))
    belief = np.tile(initial, (len(sequences), 1))  # (N, K)
    for t in range(longest):
        alive = sequences.lengths > t
        joint = belief[alive] * likelihood(sequences.values[sequences.offsets[:-1][alive] + t])
        scale = joint.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            total[alive] += np.log(scale)
            belief[alive] = np.nan_to_num(joint / scale[:, None]) @ transition
    return total


def stationary(transition: Array) -> Array:
    """``(K,)``: the distribution over states that one step leaves as it is."""
    num_states = len(transition)
    equations = np.vstack([transition.T - np.eye(num_states), np.ones(num_states)])
    return np.asarray(np.linalg.lstsq(equations, np.append(np.zeros(num_states), 1.0), rcond=None)[0])


def entropy_bounds(transition: Array, emission: Array, length: int) -> tuple[float, float]:
    """Bounds on the entropy rate of a stationary HMM in nats per token, by enumeration of all sequences of `length`.

    ``H(X_n | X_1 .. X_{n-1}, S_1) <= rate <= H(X_n | X_1 .. X_{n-1})``, and both converge to the rate.

    Reference: T. Cover, J. Thomas, "Elements of Information Theory", section 4.5 (functions of Markov chains).
    """
    num_symbols = emission.shape[1]

    def block_entropy(initial: Array, n: int) -> float:
        grid = np.indices((num_symbols,) * n).reshape(n, -1).T
        log_prob = markov_log_prob(initial, transition, emission, Sequences.from_list(grid))
        possible = log_prob[np.isfinite(log_prob)]
        return -float((np.exp(possible) * possible).sum())

    def rate(initial: Array) -> float:
        return block_entropy(initial, length) - block_entropy(initial, length - 1)

    start = stationary(transition)
    return float(sum(p * rate(one) for p, one in zip(start, np.eye(len(start)), strict=True))), rate(start)


def draw_markov(
    initial: Array,
    transition: Array,
    emission: Array | Callable[[np.random.Generator, NDArray[np.int64]], Array],
    num_sequences: int,
    length: int,
    seed: int,
) -> Sequences:
    """`num_sequences` draws of `length` tokens from an HMM.

    Args:
        initial, transition: as in `markov_log_prob`.
        emission: ``(K, V)``; or a function that draws vectors ``(n, D)``, given n states.
        num_sequences, length: how many, and how long each is.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)

    def draw(probs: Array) -> NDArray[np.int64]:
        above = rng.random(num_sequences)[:, None] >= probs.cumsum(axis=1)[:, :-1]
        return np.asarray(above.sum(axis=1))

    state = draw(np.tile(initial, (num_sequences, 1)))
    steps: list[NDArray[Any]] = []
    for _ in range(length):
        drawn = draw(emission[state]).astype(np.uint8) if isinstance(emission, np.ndarray) else emission(rng, state)
        steps.append(drawn)
        state = draw(transition[state])
    return Sequences.from_list(np.stack(steps, axis=1))


def known_corpus(
    sequences: Sequences,
    log_prob: Callable[[Sequences], Array],
    preparation: Preparation,
    *,
    name: str,
    description: str,
    parameters: dict[str, Any],
    symbols: str = "",
    entropy_rate: float | None = None,
) -> Corpus:
    """Independent draws as a corpus, split by position, with the truth about its test part; no symbols: vectors."""
    return assemble(
        split_rows(sequences, preparation),
        preparation,
        name=name,
        vocabulary=Vocabulary(tuple(symbols.split()), "symbol") if symbols else None,
        description=f"{description} The sequences are independent draws; the first are train, the last test.",
        truth=lambda test: Truth(log_prob, -float(log_prob(test).sum()) / test.num_tokens, entropy_rate, parameters),
    )


def _markov_corpus(
    transition: Array, emission: Array, sequences: Sequences, preparation: Preparation, **rest: Any
) -> Corpus:
    initial = stationary(transition)
    parameters = {"initial": initial, "transition": transition, "emission": emission} | rest.pop("parameters", {})
    return known_corpus(
        sequences,
        lambda data: markov_log_prob(initial, transition, emission, data),
        preparation,
        parameters=parameters,
        **rest,
    )


def hmm(preparation: Preparation, num_sequences: int = 1000, length: int = 256) -> Corpus:
    """A four-state HMM over four symbols that no finite context describes: runs of b and c are multiples of three long.

    State 0 emits a or d; states 1, 2 and 3 all emit b or c, and are always passed in that order. The successors of
    every state emit different symbols, so the state is known once an a or d was seen, and the entropy rate is
    ``sum_i pi_i H(row i of transition @ emission)`` with ``pi`` stationary.

    Reference: a generalisation of the even process; J. Crutchfield, D. Feldman, "Regularities unseen, randomness
    observed" (2003).
    """
    transition = np.array([[0.4, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0.7, 0.3, 0, 0]])
    emission = np.array([[0.7, 0, 0, 0.3], [0, 0.8, 0.2, 0], [0, 0.5, 0.5, 0], [0, 0.2, 0.8, 0]])
    following = transition @ emission
    terms = np.where(following > 0, following * np.log(np.where(following > 0, following, 1)), 0)
    return _markov_corpus(
        transition,
        emission,
        draw_markov(stationary(transition), transition, emission, num_sequences, length, preparation.seed),
        preparation,
        name="hmm",
        symbols="a b c d",
        description="Drawn from a known HMM with four states and an entropy rate in closed form, started stationary.",
        entropy_rate=-float(stationary(transition) @ terms.sum(axis=1)),
    )


def casino(preparation: Preparation, num_sequences: int = 1000, length: int = 256) -> Corpus:
    """The occasionally dishonest casino: a fair die that is now and then exchanged for a loaded one.

    The entropy rate has no closed form. Faces 1 to 5 say the same about the die, so it is the rate of "six or not"
    plus ``p(not six) log 5``; the former is bracketed by enumeration (`entropy_bounds`), and the middle is given.

    Reference: R. Durbin, S. Eddy, A. Krogh, G. Mitchison, "Biological Sequence Analysis" (1998), chapter 3.
    """
    transition = np.array([[0.95, 0.05], [0.1, 0.9]])
    emission = np.array([[1 / 6] * 6, [0.1] * 5 + [0.5]])
    initial = stationary(transition)
    not_six = emission[:, :5].sum(axis=1)
    within = float(initial @ not_six) * math.log(5)
    binary = np.stack([not_six, 1 - not_six], axis=1)
    lower, upper = (bound + within for bound in entropy_bounds(transition, binary, 14))
    return _markov_corpus(
        transition,
        emission,
        draw_markov(initial, transition, emission, num_sequences, length, preparation.seed),
        preparation,
        name="casino",
        symbols="1 2 3 4 5 6",
        description="Rolls of the occasionally dishonest casino of Durbin, Eddy, Krogh and Mitchison, started "
        f"stationary. Its entropy rate is bracketed numerically: {lower:.6f} to {upper:.6f} nats.",
        entropy_rate=(lower + upper) / 2,
        parameters={"entropy_rate_bounds": (lower, upper)},
    )


def gaussian_hmm(preparation: Preparation, num_sequences: int = 200, length: int = 256) -> Corpus:
    """Three states that emit points of the plane; two share a mean and differ in their variance alone.

    The entries are independent given the state: ``x_d | k ~ Normal(mean_kd, scale_kd^2)``.
    """
    transition = np.array([[0.95, 0.04, 0.01], [0.03, 0.95, 0.02], [0.02, 0.03, 0.95]])
    mean, scale = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, -1.0]]), np.array([[0.5, 0.5], [2.0, 2.0], [1.0, 0.5]])

    def density(x: Values) -> Array:
        z = (x[:, None] - mean) / scale  # (n, K, D)
        return np.asarray(np.exp(-(z**2 + np.log(2 * math.pi * scale**2)).sum(axis=2) / 2))

    return _vector_corpus(
        transition,
        density,
        lambda rng, state: rng.normal(mean[state], scale[state]),
        preparation,
        (num_sequences, length),
        name="gaussian-hmm",
        description="Drawn from a known HMM with three states and Gaussian emissions in the plane, started stationary.",
        parameters={"mean": mean, "scale": scale},
    )


def poisson_hmm(preparation: Preparation, num_sequences: int = 200, length: int = 256) -> Corpus:
    """Three states that emit counts: ``x | k ~ Poisson(rate_k)`` with rates 2, 10 and 25."""
    transition = np.array([[0.9, 0.08, 0.02], [0.05, 0.9, 0.05], [0.02, 0.08, 0.9]])
    rate = np.array([2.0, 10.0, 25.0])
    log_factorial = np.vectorize(math.lgamma, otypes=[np.float64])

    corpus = _vector_corpus(
        transition,
        lambda x: np.exp(x * np.log(rate) - rate - log_factorial(x + 1)),
        lambda rng, state: rng.poisson(rate[state]).astype(np.float64)[:, None],
        preparation,
        (num_sequences, length),
        name="poisson-hmm",
        description="Drawn from a known HMM with three states and Poisson emissions, started stationary.",
        parameters={"rate": rate},
    )
    return replace(corpus, emission="poisson")


def _vector_corpus(
    transition: Array,
    density: Callable[[Values], Array],
    emit: Callable[[np.random.Generator, NDArray[np.int64]], Array],
    preparation: Preparation,
    size: tuple[int, int],
    *,
    parameters: dict[str, Any],
    **rest: Any,
) -> Corpus:
    initial = stationary(transition)
    return known_corpus(
        draw_markov(initial, transition, emit, *size, preparation.seed),
        lambda data: markov_log_prob(initial, transition, density, data),
        preparation,
        parameters={"initial": initial, "transition": transition} | parameters,
        **rest,
    )


def check_uncut(preparation: Preparation, longest: int, name: str) -> None:
    """Raise `InputError` if windows would cut sequences whose probability is known only as a whole."""
    if preparation.window is not None and preparation.window < longest:
        raise InputError(
            f"window is {preparation.window}; sequences of {name!r} have up to {longest} tokens and must stay whole: "
            f"give a window of {longest} or more, or None"
        )
