"""How many E-steps EM needs with and without SQUAREM's long steps: ``python examples/accelerated_em.py``."""

import argparse
import copy

import numpy as np

import probseq as ps

GAPS = (1e-3, 1e-5)


def series(num: int, seed: int = 0) -> ps.Sequences:
    """Three states that overlap, seen with noise: 200 steps in each sequence."""
    rng = np.random.default_rng(seed)
    states = [np.cumsum(rng.random(200) < 0.1) % 3 for _ in range(num)]
    return ps.Sequences.from_list([rng.normal(1.5 * s[:, None], 1.0) for s in states])


def steps_to(fit: ps.Fit, gap: float) -> float:
    """The median over restarts of the E-steps until the objective is within `gap` of where the restart ends."""
    runs = [curve[:num] for curve, num in zip(fit.history.T, fit.num_steps, strict=True)]
    return float(np.median([1 + np.argmax(run >= run[-1] - gap) for run in runs]))


def row(name: str, model: ps.HMM, data: ps.Sequences, num_steps: int) -> str:
    """One line of the table."""
    fits = [ps.em(copy.deepcopy(model), data, num_steps=num_steps, tol=1e-9, accelerate=a) for a in (False, True)]
    cells = [f"{steps_to(fit, gap):.0f}" for gap in GAPS for fit in fits]
    ends = [f"{np.nanmax(fit.history, axis=0).mean():.5f}" for fit in fits]
    return f"| {' | '.join([name, *cells, *ends])} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a minute's work in a second")
    smoke = parser.parse_args().smoke
    restarts, num_steps, size = (2, 9, 2) if smoke else (10, 3000, 200)
    letters = ps.load_corpus("sotu", level="letters", window=256).train[:size]
    reals = series(2 if smoke else 20)
    symbols, options = ps.emissions.Categorical, {"num_restarts": restarts}
    prior = {"initial_concentration": 1.1, "transition_concentration": 1.1}
    print("Median E-steps until the objective is within so many nats/token of a restart's end, and the mean end\n")
    print("| model | EM, 1e-3 | SQUAREM | EM, 1e-5 | SQUAREM | EM, mean end | SQUAREM |")
    print("|---|---|---|---|---|---|---|")
    print(row("letters, K = 8, maximum likelihood", ps.HMM(8, symbols(27), **options), letters, num_steps))
    print(row("letters, K = 8, MAP", ps.HMM(8, symbols(27, 1.1), **prior, **options), letters, num_steps))
    print(row("letters, K = 8, variational", ps.VariationalHMM(8, symbols(27), **options), letters, num_steps))
    for states in (3, 5):
        model = ps.HMM(states, ps.emissions.Gaussian(1), **options)
        print(row(f"series, Gaussian, K = {states}", model, reals, num_steps))


if __name__ == "__main__":
    main()
