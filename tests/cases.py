"""One row for each model: how to build a small one and how to fit it. `test_contract.py` runs every law on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from kinds import BINARY, COUNTS, PLANE, REALS, SYMBOLS, Kind

import probseq as ps
from probseq.inference.em import initialize


@dataclass(frozen=True)
class Case:
    """A model under the contract.

    Attributes:
        name: shown by pytest.
        build: (num_restarts, seed) -> model, in its default precision.
        fit: (model, train, validation) -> Fit, short.
        kind: what it scores.
        restarts: False for models that have only one.
        baseline: True for models that are not asked to beat those that ignore the order.
        gaps: True for models that integrate over what is missing.
    """

    name: str
    build: Callable[[int, int], Any]
    fit: Callable[[Any, ps.Sequences, ps.Sequences], ps.Fit]
    kind: Kind = SYMBOLS
    restarts: bool = True
    baseline: bool = False
    gaps: bool = False

    def model(self, num_restarts: int = 2, seed: int = 0) -> Any:
        """A model in float64 with parameters that are not degenerate, and in the units of its data."""
        model = self.build(num_restarts if self.restarts else 1, seed)
        if isinstance(model, (ps.Unigram, ps.CacheUnigram, ps.NGram)):  # without counts they are uniform
            ps.fit_counts(model, ps.Sequences.from_list([[0, 1, 2, 0, 0, 2, 1, 0], [1, 0, 0, 2], [0]]))
        if isinstance(model, ps.Autoregressive):
            model.observe(self.kind.structured(20, 9))
        if isinstance(model, (ps.HMM, ps.LDA, ps.SyntaxTopics)):
            initialize(model, self.kind.structured(20, 9))
        return model.double().eval()


def _gradient(model, train, validation):
    return ps.fit_gradient(
        model, train, validation, num_steps=60, batch_size=16, learning_rate=0.02, warmup_steps=5, eval_every=30
    )


def _em(model, train, validation):
    return ps.em(model, train, num_steps=30)


def _svi(model, train, validation):
    return ps.svi(model, train, num_steps=40, learning_rate=0.2, batch_size=20)


def _counts(model, train, validation):
    return ps.fit_counts(model, train, validation)


def _net(name: str, factory: Callable[[], Any], kind: Kind = SYMBOLS) -> Case:
    return Case(name, lambda restarts, seed: ps.Autoregressive.from_seed(factory, restarts, seed), _gradient, kind)


def _hmm(name: str, emission: Any, kind: Kind = SYMBOLS, model: type[ps.HMM] = ps.HMM, **options: Any) -> Case:
    return Case(
        name,
        lambda restarts, seed: model(3, emission, num_restarts=restarts, seed=seed, **options),
        _svi if model is ps.BayesianHMM else _em,
        kind,
        gaps=True,
    )


def _posterior(name: str, emission: Any, kind: Kind = SYMBOLS) -> Case:
    """Four draws for each restart; a fit by variational Bayes puts others in their place."""

    def build(num_restarts: int, seed: int) -> ps.PosteriorHMM:
        draws = ps.HMM(3, emission, num_restarts=4 * num_restarts, seed=seed)
        initialize(draws, kind.structured(20, 9))
        return ps.PosteriorHMM(draws, num_draws=4)

    def fit(model: ps.PosteriorHMM, train: ps.Sequences, validation: ps.Sequences) -> ps.Fit:
        numbers = [first // 4 for first in model.draws.numbers[::4]]
        start = ps.VariationalHMM(3, emission, num_restarts=max(numbers) + 1).take(numbers)
        fit = _em(start, train, validation)
        model.draws.load_state_dict(start.posterior(4).draws.state_dict())
        return replace(fit, model=model)

    return Case(name, build, fit, kind, gaps=True)


@dataclass(frozen=True)
class ConditionalCase:
    """A model with a source, of 4 source symbols and 3 target symbols, the last of each the end symbol.

    Attributes:
        name: shown by pytest.
        build: (num_restarts, seed) -> model, in its default precision.
        fit: (model, train, validation) -> Fit, short, of pairs.
        in_contract: whether its targets given a source are a row of the contract too.
    """

    name: str
    build: Callable[[int, int], Any]
    fit: Callable[[Any, ps.Sequences, ps.Sequences], ps.Fit] = _gradient
    in_contract: bool = True

    def model(self, num_restarts: int = 2, seed: int = 0) -> Any:
        """A model in float64."""
        return self.build(num_restarts, seed).double().eval()

    @property
    def given(self) -> Case:
        """Its targets, the source fixed: an ordinary model of sequences."""

        def fit(model: Any, train: ps.Sequences, validation: ps.Sequences) -> ps.Fit:
            return replace(self.fit(model.model, with_source(train), with_source(validation)), model=model)

        return Case(self.name, lambda restarts, seed: self.build(restarts, seed).given(SOURCE), fit)


SOURCE = ps.Sequences.from_list([[1, 0, 2, 3]])


def with_source(data: ps.Sequences) -> ps.Sequences:
    """The same source for every sequence."""
    return ps.Sequences(data.values, data.offsets, data.weights, SOURCE[np.zeros(len(data), dtype=np.int64)])


def _seq2seq(name: str, factory: Callable[[], Any], **options: Any) -> ConditionalCase:
    return ConditionalCase(name, lambda restarts, seed: ps.Conditional.from_seed(factory, restarts, seed), **options)


def _gently(model, train, validation):
    return ps.fit_gradient(model, train, validation, num_steps=60, batch_size=16, learning_rate=0.01, warmup_steps=20)


CONDITIONAL = [
    _seq2seq("bottleneck", lambda: ps.Seq2Seq(4, 3, attention=None, hidden_dim=8, num_layers=2), in_contract=False),
    _seq2seq(
        "attention-dot",
        lambda: ps.Seq2Seq(4, 3, attention="dot", cell="gru", hidden_dim=8, embed_dim=4, dropout=0.1),
    ),
    _seq2seq(
        "attention-additive",
        lambda: ps.Seq2Seq(4, 3, attention="additive", bidirectional=False, hidden_dim=8),
        in_contract=False,
    ),
    _seq2seq(
        "transformer-seq2seq", lambda: ps.TransformerSeq2Seq(4, 3, num_layers=1, num_heads=2, embed_dim=16), fit=_gently
    ),
    _seq2seq(
        "hmm-decoder-latent",
        lambda: ps.HMMDecoder(4, 3, states="latent", num_states=3, num_components=2, hidden_dim=8, dropout=0.1),
    ),
    _seq2seq("hmm-decoder-alignment", lambda: ps.HMMDecoder(4, 3, states="alignment", hidden_dim=8)),
    _seq2seq(
        "hmm-decoder-order-0",
        lambda: ps.HMMDecoder(4, 3, states="alignment", order=0, cell="gru", hidden_dim=8),
        in_contract=False,
    ),
    _seq2seq(
        "hmm-decoder-monotone",
        lambda: ps.HMMDecoder(
            4, 3, states="alignment", monotone=True, emission="previous", num_components=2, hidden_dim=8
        ),
        in_contract=False,
    ),
    ConditionalCase(
        "alignment-hmm", lambda r, s: ps.AlignmentHMM(4, 3, num_restarts=r, seed=s, concentration=1.1), _em
    ),
    ConditionalCase(
        "hmm-decoder-bayesian",
        lambda r, s: ps.BayesianHMMDecoder(4, 3, num_restarts=r, seed=s, states="alignment", hidden_dim=8),
        _svi,
        in_contract=False,
    ),
]

families = ps.emissions
CASES = [
    Case("uniform", lambda r, s: ps.Uniform(3), _counts, restarts=False, baseline=True, gaps=True),
    Case("unigram", lambda r, s: ps.Unigram(3), _counts, restarts=False, baseline=True, gaps=True),
    Case("cache", lambda r, s: ps.CacheUnigram(3), _counts, restarts=False, baseline=True, gaps=True),
    Case("ngram", lambda r, s: ps.NGram(3, max_order=4), _counts, restarts=False),
    _hmm("hmm", families.Categorical(3, concentration=1.1)),
    _hmm(
        "hmm-map",
        families.Categorical(3, concentration=1.1),
        initial_concentration=1.5,
        transition_concentration=2.0,
    ),
    _hmm("hmm-bernoulli", families.Bernoulli(2), BINARY),
    _hmm("hmm-poisson", families.Poisson(1), COUNTS),
    _hmm("hmm-gaussian", families.Gaussian(1), REALS),
    _hmm("hmm-gaussian-diag", families.Gaussian(2), PLANE),
    _hmm("hmm-gaussian-full", families.Gaussian(2, covariance="full"), PLANE),
    _hmm("hmm-gaussian-tied", families.Gaussian(2, covariance="tied"), PLANE),
    _hmm("hmm-gaussian-spherical", families.Gaussian(2, covariance="spherical"), PLANE),
    _hmm("hmm-mixture", families.GaussianMixture(1, num_components=2), REALS),
    _hmm("hmm-variational", families.Categorical(3), model=ps.VariationalHMM, transition_concentration=0.5),
    _hmm("hmm-variational-gaussian", families.Gaussian(2, covariance="full"), PLANE, model=ps.VariationalHMM),
    _posterior("hmm-posterior", families.Categorical(3)),
    _posterior("hmm-posterior-gaussian", families.Gaussian(1), REALS),
    _hmm("hmm-bayesian", families.Categorical(3), model=ps.BayesianHMM, transition_concentration=0.5),
    _hmm("hmm-bayesian-structured", families.Gaussian(1), REALS, model=ps.BayesianHMM, guide="structured"),
    Case("lda", lambda r, s: ps.LDA(2, 3, r, s, start="documents"), _em, baseline=True, gaps=True),
    Case("syntax-topics", lambda r, s: ps.SyntaxTopics(2, 3, 3, r, s, num_particles=128, num_replicates=2), _em),
    _net("rnn", lambda: ps.RNN(3, hidden_dim=8, num_layers=2)),
    _net("update-gate", lambda: ps.UpdateGateRNN(3, hidden_dim=8)),
    _net("update-gate-3-layers", lambda: ps.UpdateGateRNN(3, hidden_dim=8, num_layers=3, embed_dim=4, dropout=0.1)),
    _net("gru", lambda: ps.GRU(3, hidden_dim=8, num_layers=2, embed_dim=4)),
    _net("gru-reset-before", lambda: ps.GRU(3, hidden_dim=8, num_layers=2, reset="before")),
    _net("lstm", lambda: ps.LSTM(3, hidden_dim=8)),
    _net("lstm-3-layers", lambda: ps.LSTM(3, hidden_dim=8, num_layers=3, embed_dim=4, dropout=0.1)),
    _net("transformer", lambda: ps.Transformer(3, num_layers=2, num_heads=2, embed_dim=16, context=32, tied=False)),
    _net(
        "transformer-short-context",
        lambda: ps.Transformer(3, num_layers=2, num_heads=2, embed_dim=16, context=3, dropout=0.1),
    ),
    _net(
        "transformer-learned",
        lambda: ps.Transformer(3, 1, num_heads=2, embed_dim=16, context=8, positions="learned", stride=6),
    ),
    _net(
        "transformer-sinusoidal",
        lambda: ps.Transformer(3, 1, 2, embed_dim=16, context=8, positions="sinusoidal", tied=False, stride=6),
    ),
    _net("gru-bernoulli", lambda: ps.GRU(hidden_dim=8, emission=families.Bernoulli(2)), BINARY),
    _net("rnn-poisson", lambda: ps.RNN(hidden_dim=8, emission=families.Poisson(1)), COUNTS),
    _net("lstm-gaussian", lambda: ps.LSTM(hidden_dim=8, emission=families.Gaussian(1)), REALS),
    _net("gru-mixture", lambda: ps.GRU(hidden_dim=8, embed_dim=4, emission=families.GaussianMixture(1, 2)), REALS),
    _net(
        "transformer-gaussian",
        lambda: ps.Transformer(
            num_layers=1, num_heads=2, embed_dim=16, context=8, emission=families.Gaussian(2, covariance="full")
        ),
        PLANE,
    ),
    _net("rnn-gaussian-tied", lambda: ps.RNN(hidden_dim=8, emission=families.Gaussian(2, covariance="tied")), PLANE),
    *(case.given for case in CONDITIONAL if case.in_contract),
]
