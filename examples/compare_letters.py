"""An n-gram, a hidden Markov model and an LSTM on the same letters: which gives them the higher probability?

Run it with `python examples/compare_letters.py`; `--smoke` does the same with next to no data.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch

import probseq as ps


@dataclass(frozen=True)
class Budget:
    """How much data, and how long to fit."""

    train_tokens: int = 200_000
    test_tokens: int = 50_000
    num_states: int = 8
    hidden_dim: int = 64
    em_steps: int = 40
    gradient_steps: int = 300


SMOKE = Budget(5_000, 2_000, num_states=2, hidden_dim=8, em_steps=10, gradient_steps=10)


def load(budget: Budget) -> ps.Corpus:
    """State of the Union addresses in letters, split by document."""
    return ps.load_corpus(
        "sotu",
        level="letters",
        train_tokens=budget.train_tokens,
        validation_tokens=budget.test_tokens,
        test_tokens=budget.test_tokens,
    )


def fit(corpus: ps.Corpus, budget: Budget) -> dict[str, ps.Fit]:
    """No hidden state, one that is drawn, one that is computed; the last two from several starts."""
    symbols = corpus.num_symbols
    emission = ps.emissions.Categorical(symbols, concentration=1.1)
    hmm = ps.HMM(budget.num_states, emission, num_restarts=20, seed=0)
    lstm = ps.Autoregressive.from_seed(lambda: ps.LSTM(symbols, budget.hidden_dim), num_restarts=3, seed=0)
    return {
        "ngram": ps.fit_counts(ps.NGram(symbols), corpus.train, corpus.validation),
        "hmm": ps.em(hmm, corpus.train, num_steps=budget.em_steps),
        "lstm": ps.fit_gradient(
            lstm,
            corpus.train,
            corpus.validation,
            num_steps=budget.gradient_steps,
            batch_size=32,
            learning_rate=1e-2,
            warmup_steps=30,
            eval_every=50,
        ),
    }


def show_restarts(fits: dict[str, ps.Fit], corpus: ps.Corpus) -> None:
    """How much the starting point matters, on the validation part."""
    for name, result in fits.items():
        summary = ps.best_restart(result.model, corpus.validation)
        nats = sorted(summary.nats_per_token.tolist())
        print(
            f"{name:6} restart {summary.best:2} is best of {len(nats):2}: "
            f"{nats[0]:.4f} nats per letter, the worst has {nats[-1]:.4f}"
        )


def show_samples(table: ps.Comparison, corpus: ps.Corpus) -> None:
    """The same beginning, continued by the chosen restart of each model."""
    prefix = corpus.vocabulary.encode("the people ")
    for name in table.ranking:
        model = ps.select(table.models[name], table.chosen[name])
        generator = torch.Generator(model.device).manual_seed(0)
        drawn = model.sample(1, 72, prefix=prefix, generator=generator)
        print(f"{name:6} {corpus.vocabulary.decode(drawn[0])}")


def main() -> None:
    """Load, fit, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="next to no data and very short fits")
    budget = SMOKE if parser.parse_args().smoke else Budget()
    corpus = load(budget)
    fits = fit(corpus, budget)
    show_restarts(fits, corpus)
    table = ps.compare(fits, validation=corpus.validation, test=corpus.test)
    print(f"\n{table}\n")
    show_samples(table, corpus)


if __name__ == "__main__":
    main()
