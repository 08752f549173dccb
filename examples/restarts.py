"""What do a hundred restarts of one model tell? How often the best is found, and what fewer runs would have found.

Run it with `python examples/restarts.py`; `--smoke` does the same with next to no data, `--out FOLDER` draws figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import probseq as ps
from probseq import plots
from probseq.plots.states import state_given_symbol

STARTS = ("dirichlet", "near_uniform", "kmeans", "race")


def letters(start: str, corpus: ps.Corpus, num_restarts: int, num_steps: int) -> ps.Sensitivity:
    """Maximum likelihood with two states from many starting points of one kind."""
    model = ps.HMM(2, ps.emissions.Categorical(corpus.num_symbols), num_restarts=num_restarts, start=start)
    fit = ps.em(model, corpus.train, num_steps=num_steps, tol=1e-10, accelerate=True)  # optima count only at the end
    return ps.sensitivity(fit, corpus.validation)


def network(corpus: ps.Corpus, num_restarts: int, num_steps: int) -> ps.Sensitivity:
    """The same question to the seeds of a small network."""
    net = ps.Autoregressive.from_seed(lambda: ps.GRU(corpus.num_symbols, hidden_dim=16), num_restarts, seed=0)
    options = {"num_steps": num_steps, "learning_rate": 0.01, "eval_every": max(1, num_steps // 5)}
    return ps.sensitivity(ps.fit_gradient(net, corpus.train, corpus.validation, **options))


def show(found: dict[str, ps.Sensitivity]) -> None:
    """One row for each kind of run; of fewer than five, what five would find is not known."""
    columns = {"best": 9, "spread": 9, "found": 8, "1 run": 9, "5 runs": 9, "optima": 20, "same state": 12}
    print(f"{'nats/token':14}" + "".join(f"{name:>{width}}" for name, width in columns.items()))
    for name, one in found.items():
        expected = one.expected_best
        five = f"{expected[4]:.4f}" if len(expected) >= 5 else "-"
        agreement = "-" if one.mean_agreement is None else f"{one.mean_agreement:.0%}"
        print(
            f"{name:14}{one.nats_per_token[one.best]:9.4f}{one.spread:9.4f}{one.hit_rate():8.0%}"
            f"{expected[0]:9.4f}{five:>9}{one.optima_label or '-':>20}{agreement:>12}"
        )


def show_states(one: ps.Sensitivity, vocabulary: ps.Vocabulary, rows: int = 3) -> None:
    """The letters that go with a in the best restarts of different optima, best first."""
    for optimum in range(min(rows, one.num_optima or 0)):
        members = np.flatnonzero(one.optimum == optimum)
        behind = state_given_symbol(one.model, int(members[0]))[1].argmax(axis=0)
        with_a = "".join(s for s, state in zip(vocabulary.symbols, behind, strict=True) if state == behind[0])
        print(f"optimum {optimum}, {len(members)} restarts, in one state with a: {with_a.replace(' ', '␣')}")


def main() -> None:
    """A table, the states of the best optima, and figures if wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="next to no data")
    parser.add_argument("--out", type=Path, help="a folder for figures")
    arguments = parser.parse_args()
    tokens, restarts, steps = (600, 3, 20) if arguments.smoke else (20_000, 100, 2000)
    corpus = ps.load_corpus("sotu", level="letters", window=128, train_tokens=tokens, validation_tokens=tokens // 2)
    found = {start: letters(start, corpus, restarts, steps) for start in STARTS}
    found["gru"] = network(corpus, min(restarts, 5), min(steps, 500))
    show(found)
    show_states(found["dirichlet"], corpus.vocabulary)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        plots.plot_final_values(found).savefig(arguments.out / "final-values.svg")
        plots.plot_best_of(found).savefig(arguments.out / "best-of.svg")
        plots.plot_traces(found).savefig(arguments.out / "traces.svg")
        drawn = plots.plot_aligned_parameters(found["dirichlet"], corpus.vocabulary)
        drawn.savefig(arguments.out / "aligned.svg")


if __name__ == "__main__":
    main()
