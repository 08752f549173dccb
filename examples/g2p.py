"""How is a word pronounced? Attention against a decoder that is a hidden Markov model, on letters and phones.

Run it with `python examples/g2p.py` (it needs `pip install 'probseq[data]'`); `--smoke` does the same with next to no
data. `--words tomato,either` names the words that are pronounced at the end.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import probseq as ps
from probseq.transduction import most_probable_path

JUMPS = (-2, 3)


@dataclass(frozen=True)
class Budget:
    """How much data, how long to fit, and how large."""

    test_tokens: int = 20_000
    seconds: float = 120
    hidden_dim: int = 128
    num_restarts: int = 2


SMOKE = Budget(test_tokens=500, seconds=2, hidden_dim=8, num_restarts=1)


def load(smoke: bool, budget: Budget) -> ps.Corpus:
    """Words and their pronunciations, split by word; for a smoke test, letters out of a known transducer."""
    if smoke:
        return ps.load_corpus("transducer", num_sequences=300)
    return ps.load_corpus("cmudict", validation_tokens=8_000, test_tokens=budget.test_tokens)


def fit(corpus: ps.Corpus, budget: Budget) -> dict[str, ps.Fit]:
    """Two decoders with the same encoder: the one averages vectors, the other probabilities."""
    sizes = (corpus.num_source_symbols, corpus.num_symbols)
    nets = {
        "attention": lambda: ps.Seq2Seq(*sizes, attention="dot", hidden_dim=budget.hidden_dim),
        "align": lambda: ps.HMMDecoder(*sizes, states="alignment", jumps=JUMPS, hidden_dim=budget.hidden_dim),
    }
    fits = {}
    for name, net in nets.items():
        fits[name] = ps.fit_gradient(
            ps.Conditional.from_seed(net, num_restarts=budget.num_restarts, seed=0),
            corpus.train,
            corpus.validation,
            seconds=budget.seconds,
            batch_size=128,
            learning_rate=5e-3,
            warmup_steps=30,
            eval_every=50,
        )
    return fits


def pronounce(model: ps.Conditional, corpus: ps.Corpus, words: list[str], num_best: int = 3) -> None:
    """The most probable pronunciations of each word, and where each phone comes from."""
    read, write = corpus.source_vocabulary, corpus.vocabulary
    sources = ps.Sequences.from_list([read.encode_document(word) for word in words])
    found = ps.beam_search(model.given(sources), 8, 40, write.end, num_best=num_best)
    pairs = ps.Sequences.from_list(list(found.sequences), source=sources[found.row])
    paths = most_probable_path(model, pairs.batch())
    for i, row in enumerate(found.row):
        letters = [read.symbols[sources[row][s]] for s in paths[i] if s >= 0]
        phones = [write.symbols[v] for v in found.sequences[i]]
        joined = " ".join(f"{phone}({letter})" for phone, letter in zip(phones, letters, strict=True))
        print(f"{words[row]:12} {found.log_prob[i]:7.2f} nats  {joined}")


def main() -> None:
    """Load, fit, compare, and pronounce a few words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="next to no data and very short fits")
    parser.add_argument("--words", default="thoughtful,tomato,either,psalm", help="words with commas between them")
    arguments = parser.parse_args()
    budget = SMOKE if arguments.smoke else Budget()
    corpus = load(arguments.smoke, budget)
    fits = fit(corpus, budget)
    table = ps.compare(fits, validation=corpus.validation, test=corpus.test)
    print(f"\n{table}\n")
    words = ["a b c", "d e f"] if arguments.smoke else arguments.words.split(",")
    pronounce(ps.select(table.models["align"], table.chosen["align"]), corpus, words)


if __name__ == "__main__":
    main()
