"""How many restarts find a known transducer again, by EM where all is a table and by gradients with networks?

Run it with `python examples/transducer.py`; `--smoke` does the same with next to no data.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import probseq as ps

END = 12  # of the target
NEAR = 1.02  # times the exact entropy


def tables(order: int, jumps: tuple[int, int]) -> Callable[[ps.Corpus, int, bool], ps.Fit]:
    """EM for tables of emissions and jumps."""

    def fit(corpus: ps.Corpus, num_restarts: int, smoke: bool) -> ps.Fit:
        sizes = corpus.num_source_symbols, corpus.num_symbols
        model = ps.AlignmentHMM(*sizes, order=order, jumps=jumps, end=END, num_restarts=num_restarts)
        return ps.em(model, corpus.train, num_steps=3 if smoke else 60)

    return fit


def networks(emission: str = "state", **options: object) -> Callable[[ps.Corpus, int, bool], ps.Fit]:
    """The gradient of the same sum, for networks that make the tables.

    Unless `emission` says otherwise neither the symbols nor, with positions, the next step depend on what was written.
    """

    def fit(corpus: ps.Corpus, num_restarts: int, smoke: bool) -> ps.Fit:
        sizes = corpus.num_source_symbols, corpus.num_symbols
        build = lambda: ps.HMMDecoder(*sizes, emission=emission, hidden_dim=16, **options)
        model = ps.Conditional.from_seed(build, num_restarts)
        settings = {"num_steps": 5 if smoke else 600, "batch_size": 64, "learning_rate": 0.02}
        return ps.fit_gradient(model, corpus.train, corpus.validation, **settings)

    return fit


FITS = {
    "tables, jumps 0 to 2": tables(1, (0, 2)),
    "tables, jumps -2 to 3": tables(1, (-2, 3)),
    "tables, jumps from the diagonal": tables(0, (-2, 3)),
    "networks, jumps 0 to 2": networks(states="alignment", jumps=(0, 2)),
    "networks, jumps -2 to 3": networks(states="alignment", jumps=(-2, 3)),
    "networks, order 0": networks(states="alignment", order=0),
    "networks, order 0, recurrent": networks("recurrent", states="alignment", order=0),
    "networks, 32 latent states": networks(states="latent", num_states=32),
    "networks, 32 latent, recurrent": networks("recurrent", states="latent", num_states=32),
}


def main() -> None:
    """A row for each way of fitting: the best and the worst restart, and how many are near the exact entropy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="next to no data")
    smoke = parser.parse_args().smoke
    corpus = ps.load_corpus("transducer", num_sequences=50 if smoke else 2000)
    # The mean of 200 targets is a percent or two off the entropy by chance; that of 8,000 is not.
    test = ps.load_corpus("transducer", num_sequences=50 if smoke else 10_000, seed=1).train
    entropy, truth = corpus.truth.entropy_rate, -corpus.truth.log_prob(test).sum() / test.num_tokens
    print(f"exact entropy: {entropy:.4f} nats/token; the truth needs {truth:.4f} for {len(test)} fresh targets\n")
    print(f"{'':32}{'best':>9}{'worst':>9}{'best/entropy':>14}{'within 2 %':>12}{'seconds':>9}")
    for name, fit in FITS.items():
        begin, num_restarts = time.monotonic(), 2 if smoke else 10 if name.startswith("tables") else 5
        nats = ps.evaluate(fit(corpus, num_restarts, smoke), test).nats_per_token
        near = f"{np.sum(nats <= NEAR * entropy)} of {num_restarts}"
        numbers = f"{nats.min():9.4f}{nats.max():9.4f}{nats.min() / entropy:14.4f}{near:>12}"
        print(f"{name:32}{numbers}{time.monotonic() - begin:9.1f}")


if __name__ == "__main__":
    main()
