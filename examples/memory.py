"""What can each model remember? Four generated tasks with exact answers, accuracy and nats against distance.

    python examples/memory.py                 # ten minutes on two cores
    python examples/memory.py --out memory    # and figures, and the numbers as a table

Brackets: of which kind is the one to be closed? Agreement: is the verb singular or plural, whatever nouns stand
between? Copy: which letter stood there before the delay? Parity: was the number of ones even? Every network gets the
same seconds, and three starts that are all shown; of brackets, accuracy by depth is printed too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import probseq as ps
from probseq import plots
from probseq.data.questions import ask, tasks
from probseq.diagnostics import recall
from probseq.plots.style import family

HIDDEN = 48
NETWORKS: dict[str, Callable[[int], Any]] = {
    "rnn": lambda v: ps.RNN(v, hidden_dim=HIDDEN),
    "update-gate": lambda v: ps.UpdateGateRNN(v, hidden_dim=HIDDEN),
    "gru": lambda v: ps.GRU(v, hidden_dim=HIDDEN),
    "lstm": lambda v: ps.LSTM(v, hidden_dim=HIDDEN),
    "transformer": lambda v: ps.Transformer(v, num_layers=2, num_heads=4, embed_dim=HIDDEN, context=32),
}


def fitted(corpus: ps.Corpus, num_restarts: int, seconds: float) -> dict[str, ps.Fit]:
    """Every model, from `num_restarts` starts."""
    train, validation, size = corpus.train, corpus.validation, corpus.num_symbols
    fits = {"n-gram": ps.fit_counts(ps.NGram(size), train, validation)}
    hmm = ps.HMM(HIDDEN, ps.emissions.Categorical(size, 1.1), num_restarts, transition_concentration=1.1)
    fits["hmm"] = ps.em(hmm, train, num_steps=10**6, seconds=seconds)
    for name, make in NETWORKS.items():
        nets = ps.Autoregressive.from_seed(lambda make=make: make(size), num_restarts)
        options = {"learning_rate": 5e-3, "batch_size": 64, "eval_every": 50, "patience": 10**6}
        fits[name] = ps.fit_gradient(nets, train, validation, seconds=seconds, **options)
    return fits


def study(task: str, num_sequences: int, num_restarts: int, seconds: float) -> tuple[pd.DataFrame, dict[str, str]]:
    """One row for each model, seed and distance; and the family of each model."""
    corpus = ps.load_corpus(task, num_sequences=num_sequences)
    questions = ask(task, corpus.test)
    fits = fitted(corpus, num_restarts, seconds)
    rows = []
    for name, fit in fits.items():
        nats = ps.evaluate(fit.model, corpus.test).nats_per_token
        spread = " to ".join(f"{one:.4f}" for one in sorted({nats.min(), nats.max()}))
        print(
            f"{task:10} {name:12} {spread:18} nats/token, the truth {corpus.truth.test_nats_per_token:.4f}", flush=True
        )
        found = recall(fit.model, questions)
        if len(found.depths) > 1:
            levels = "  ".join(f"{d}: {np.median(found.at_depth(d)[0]):.2f}" for d in found.depths)
            print(f"{'':23} accuracy by depth of the brackets {levels}", flush=True)
        for distance in found.distances:
            for seed, (accuracy, cost) in enumerate(zip(*found.at(distance), strict=True)):
                rows.append((task, name, seed, distance, accuracy, cost))
    count = questions.answers.shape[1]
    rows += [(task, "chance", 0, d, 1 / count, np.log(count)) for d in np.unique(questions.distance)]
    return (
        pd.DataFrame(rows, columns=["task", "model", "seed", "distance", "accuracy", "nats"]),
        {name: family(fit.model) for name, fit in fits.items()},
    )


def main() -> None:
    """The table, and figures if wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="next to no data and time")
    parser.add_argument("--seconds", type=float, default=20.0, help="for every fit of a model to a task")
    parser.add_argument("--out", type=Path, help="a folder for figures and the table")
    arguments = parser.parse_args()
    settings = (200, 1, 0.05) if arguments.smoke else (10_000, 3, arguments.seconds)
    found = [study(task, *settings) for task in tasks()]
    table, families = pd.concat([rows for rows, _ in found]), found[0][1]
    shown = table[table["model"] != "chance"].groupby(["task", "model", "distance"], sort=False)["accuracy"].median()
    for task in tasks():
        print(f"\n{task}: accuracy by distance, the median of the starts")
        print(shown[task].unstack().round(2).to_string())
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(arguments.out / "memory.csv", index=False)
        for measure in ("accuracy", "nats"):
            figure = plots.plot_memory(table, families, measure)
            figure.savefig(arguments.out / f"memory-{measure}.svg", bbox_inches="tight")


if __name__ == "__main__":
    main()
