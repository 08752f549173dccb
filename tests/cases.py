"""One row for each model: how to build a small one and how to fit it. `test_contract.py` runs every law on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import probseq as ps


@dataclass(frozen=True)
class Case:
    """A model under the contract.

    Attributes:
        name: shown by pytest.
        build: (num_symbols, num_restarts, seed) -> model, in its default precision.
        fit: (model, train, validation) -> Fit, short.
        restarts: False for models that have only one.
        baseline: True for models that are not asked to beat the unigram.
    """

    name: str
    build: Callable[[int, int, int], Any]
    fit: Callable[[Any, ps.Sequences, ps.Sequences], ps.Fit]
    restarts: bool = True
    baseline: bool = False

    def model(self, num_symbols: int = 3, num_restarts: int = 2, seed: int = 0) -> Any:
        """A model in float64 with parameters that are not degenerate."""
        model = self.build(num_symbols, num_restarts if self.restarts else 1, seed)
        if isinstance(model, (ps.Unigram, ps.NGram)):  # without counts they are uniform
            data = ps.Sequences.from_list([[0, 1, 2, 0, 0, 2, 1, 0], [1, 0, 0, 2], [0]])
            ps.fit_counts(model, data)
        return model.double().eval()


def _gradient(model, train, validation):
    return ps.fit_gradient(
        model, train, validation, num_steps=60, batch_size=16, learning_rate=0.02, warmup_steps=5, eval_every=30
    )


def _network(factory: Callable[[int], Any]) -> Callable[[int, int, int], Any]:
    return lambda symbols, restarts, seed: ps.Autoregressive.from_seed(lambda: factory(symbols), restarts, seed)


def _em(model, train, validation):
    return ps.em(model, train, num_steps=30)


def _counts(model, train, validation):
    return ps.fit_counts(model, train, validation)


def _hmm(**options: Any) -> Callable[[int, int, int], Any]:
    return lambda symbols, restarts, seed: ps.HMM(
        3, ps.emissions.Categorical(symbols, concentration=1.1), num_restarts=restarts, seed=seed, **options
    )


CASES = [
    Case("uniform", lambda v, r, s: ps.Uniform(v), _counts, restarts=False, baseline=True),
    Case("unigram", lambda v, r, s: ps.Unigram(v), _counts, restarts=False, baseline=True),
    Case("ngram", lambda v, r, s: ps.NGram(v, max_order=4), _counts, restarts=False),
    Case("hmm", _hmm(), _em),
    Case("hmm-map", _hmm(initial_concentration=1.5, transition_concentration=2.0), _em),
    Case("rnn", _network(lambda v: ps.RNN(v, hidden_dim=8)), _gradient),
    Case("gru", _network(lambda v: ps.GRU(v, hidden_dim=8)), _gradient),
    Case("lstm", _network(lambda v: ps.LSTM(v, hidden_dim=8)), _gradient),
    Case(
        "lstm-2-layers", _network(lambda v: ps.LSTM(v, hidden_dim=8, num_layers=2, embed_dim=4, dropout=0.1)), _gradient
    ),
    Case(
        "transformer",
        _network(lambda v: ps.Transformer(v, num_layers=2, num_heads=2, embed_dim=16, context=32)),
        _gradient,
    ),
    Case(
        "transformer-short-context",
        _network(lambda v: ps.Transformer(v, num_layers=2, num_heads=2, embed_dim=16, context=3)),
        _gradient,
    ),
]
