"""Where does EM get to from here? A hundred restarts of every starting point, on letters and on a series of returns.

Run it with `python examples/starting_points.py`; `--smoke` does the same with next to no data.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

import probseq as ps
from probseq.inference.starts import STRATEGIES, initialize


@dataclass(frozen=True)
class Budget:
    """How much data, how many restarts, and how long to fit."""

    tokens: int = 20_000
    num_restarts: int = 100
    num_steps: int = 1000


SMOKE = Budget(tokens=600, num_restarts=3, num_steps=60)
CLOSE = 1e-3  # nats per token: an optimum this near the best is the best


@dataclass(frozen=True)
class Result:
    """100 fits from one kind of starting point: nats per token at the start, on the way and at the end."""

    begin: np.ndarray
    after_50: np.ndarray
    end: np.ndarray
    steps: np.ndarray
    seconds: float


def fit(start: str, data: ps.Sequences, emission: ps.emissions.Emission, num_states: int, budget: Budget) -> Result:
    """Maximum likelihood from 100 starting points of one kind; making them is part of the time."""
    begin = time.perf_counter()
    model = ps.HMM(num_states, emission, num_restarts=budget.num_restarts, start=start)
    initialize(model, data)
    history = ps.em(model, data, num_steps=budget.num_steps, tol=1e-7).history
    seconds = time.perf_counter() - begin
    best_so_far = np.fmax.accumulate(history)  # it never falls; a restart that has stopped stays where it is
    return Result(
        history[0], best_so_far[min(50, len(history) - 1)], best_so_far[-1], np.isfinite(history).sum(0), seconds
    )


def show(title: str, results: dict[str, Result]) -> None:
    """One row for every starting point."""
    best = max(result.end.max() for result in results.values())
    print(f"\n{title}: log-likelihood in nats/token\n")
    print("| start | begin | step 50 | end: worst | median | best | share at the best | steps | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, result in results.items():
        numbers = [np.median(result.begin), np.median(result.after_50)]
        numbers += [result.end.min(), np.median(result.end), result.end.max()]
        share, steps = (result.end > best - CLOSE).mean(), np.median(result.steps)
        cells = [*(f"{x:.4f}" for x in numbers), f"{share:.0%}", f"{steps:.0f}", f"{result.seconds:.0f}"]
        print(f"| `{name}` | {' | '.join(cells)} |")


def main() -> None:
    """Two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="next to no data")
    budget = SMOKE if parser.parse_args().smoke else Budget()
    letters = ps.load_corpus("sotu", level="letters", train_tokens=budget.tokens)
    symbols = ps.emissions.Categorical(letters.num_symbols)
    results = {start: fit(start, letters.train, symbols, 4, budget) for start in STRATEGIES}
    show(f"4 states, {letters.train.num_tokens:,} letters", results)
    returns, reals = ps.load_corpus("sp500").train, ps.emissions.Gaussian(1)
    names = [start for start in STRATEGIES if start != "spectral"]  # the moments are those of symbols
    results = {start: fit(start, returns, reals, 4, budget) for start in names}
    show(f"4 states, {returns.num_tokens:,} daily returns", results)


if __name__ == "__main__":
    main()
