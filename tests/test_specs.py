"""Which emission family and which model a study's settings make of a corpus."""

import numpy as np
import pytest
import torch

from probseq.compare import compare
from probseq.data.corpus import Corpus
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.inference.em import em
from probseq.models.hmm import HMM
from probseq.models.posterior_hmm import PosteriorHMM
from probseq.specs import KINDS
from probseq.specs.base import EmissionSpec
from probseq.specs.networks import NetworkSpec

SYMBOLS = Sequences.from_list([[0, 1, 2], [1, 0]])
VECTORS = Sequences.from_list([np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])])


def corpus(data, **more):
    return Corpus("mine", "vector", data, data, data, None, {}, "", **more)


def build(kind, data, **settings):
    return KINDS[kind](kind=kind, **settings).build(data, seed=0)


@pytest.mark.parametrize("kind", ["hmm", "gru", "transformer"])
@pytest.mark.parametrize(
    ("settings", "support"),
    [
        ({}, ("reals", 2)),
        ({"emission": "gaussian", "covariance": "full"}, ("reals", 2)),
        ({"emission": "gaussian-mixture", "num_components": 3}, ("reals", 2)),
        ({"emission": "poisson"}, ("counts", 2)),
        ({"emission": "bernoulli"}, ("binary", 2)),
    ],
)
def test_vectors_get_the_family_that_is_named(kind, settings, support):
    more = {"num_states": 2} if kind == "hmm" else {"num_restarts": 1}
    assert build(kind, corpus(VECTORS), **settings, **more).support == support


def test_settings_of_a_family_reach_it():
    full = build("hmm", corpus(VECTORS), num_states=2, covariance="full", covariance_strength=3.0).emission
    assert (full.covariance, full.covariance_strength) == ("full", 3.0)
    mixture = build("hmm", corpus(VECTORS), num_states=2, emission="gaussian-mixture", num_components=4).emission
    assert mixture.num_components == 4
    assert build("hmm", corpus(SYMBOLS), num_states=2, emission_concentration=1.5).emission.concentration == 1.5
    assert build("hmm", corpus(VECTORS), num_states=2, sticky=2.0, start="kmeans").sticky == 2.0


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("rnn", {"hidden_dim": 3, "num_layers": 2, "embed_dim": 4, "dropout": 0.1}),
        ("update-gate", {"hidden_dim": 3, "num_layers": 2, "embed_dim": 4, "dropout": 0.1}),
        ("gru", {"hidden_dim": 3, "num_layers": 2, "embed_dim": 4, "dropout": 0.1, "reset": "before"}),
        ("lstm", {"hidden_dim": 3, "num_layers": 2, "embed_dim": 4, "dropout": 0.1}),
        (
            "transformer",
            {"num_layers": 1, "num_heads": 2, "embed_dim": 8, "context": 6, "dropout": 0.1}
            | {"positions": "learned", "tied": False, "stride": 2},
        ),
    ],
)
def test_settings_of_a_network_reach_it(kind, settings):
    config = build(kind, corpus(SYMBOLS), **settings).config()["network"]
    assert {**config, **settings} == config
    family = {"kind", "emission", "covariance", "covariance_strength", "num_components", "emission_concentration"}
    assert set(KINDS[kind].model_fields) - set(NetworkSpec.model_fields) - family <= set(settings)


def test_settings_of_training_reach_the_fit(monkeypatch, tmp_path):
    settings = {"num_steps": 7, "num_tokens": 90, "seconds": 5.0, "snapshots": [2.0], "batch_size": 3, "accumulate": 2}
    settings |= {"learning_rate": 0.5, "weight_decay": 0.2, "warmup_steps": 4, "schedule": "constant", "patience": 3}
    settings |= {"clip_norm": 0.7, "precision": "bfloat16", "eval_every": 9}
    shape = set(EmissionSpec.model_fields) | {"dropout", "num_restarts"}
    assert set(NetworkSpec.model_fields) - shape == set(settings)
    seen = {}
    monkeypatch.setattr("probseq.specs.networks.fit_gradient", lambda *_, **options: seen.update(options))
    spec = KINDS["gru"](kind="gru", **settings)
    spec.fit(
        spec.build(corpus(SYMBOLS), seed=4), corpus(SYMBOLS), seed=4, device="cpu", progress=False, checkpoint=tmp_path
    )
    expected = {**settings, "seed": 4, "checkpoint": tmp_path, "metrics": tmp_path / "metrics.jsonl", "resume": False}
    assert {**seen, **expected} == seen


def test_a_corpus_may_have_a_family_of_its_own():
    counts = corpus(VECTORS, emission="poisson")
    assert build("iid", counts).support == ("counts", 2)
    assert build("lstm", counts).support == ("counts", 2)
    assert build("iid", counts, emission="gaussian").support == ("reals", 2)


def test_symbols_are_categorical():
    for kind, more in (("hmm", {"num_states": 2}), ("iid", {}), ("gru", {})):
        assert build(kind, corpus(SYMBOLS), **more).support == ("symbols", 3)


@pytest.mark.parametrize(
    ("data", "settings", "sentence"),
    [
        (VECTORS, {"emission": "categorical"}, "emission 'categorical', and corpus 'mine' holds vectors of size 2"),
        (
            SYMBOLS,
            {"emission": "gaussian"},
            "emission 'gaussian', and corpus 'mine' holds symbols; expected cat",
        ),
        (VECTORS, {"emission": "poisson", "covariance": "full"}, "covariance is a setting of emission 'gaussian', not"),
        (
            VECTORS,
            {"num_components": 2},
            "num_components is a setting of emission 'gaussian-mixture', not",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["iid", "lstm"])
def test_a_family_that_does_not_fit_is_one_sentence(kind, data, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        build(kind, corpus(data), **settings)


@pytest.mark.parametrize("kind", ["uniform", "unigram", "cache", "ngram", "lda"])
def test_counting_is_of_symbols(kind):
    with pytest.raises(InputError, match=f"kind '{kind}' is of symbols, and corpus 'mine' holds vectors of size 2"):
        build(kind, corpus(VECTORS))


def test_iid_is_one_distribution_for_every_step():
    """The maximum of the likelihood has the mean and the variance of the data (up to the prior, which is left out)."""
    rng = np.random.default_rng(0)
    data = corpus(Sequences.from_list([rng.normal(3, 2, (500, 1))]))
    model = build("iid", data, covariance_strength=0.0)
    assert isinstance(model, HMM)
    assert model.num_states == 1
    em(model, data.train, progress=False)
    assert float(model.emission.means[0, 0, 0].detach()) == pytest.approx(data.train.values.mean(), abs=1e-9)
    order = model.token_log_prob(data.train.batch())[0, 0].detach().numpy()
    z = (data.train.values[:, 0] - data.train.values.mean()) / data.train.values.std()
    np.testing.assert_allclose(order, -(z**2) / 2 - np.log(data.train.values.std()) - np.log(2 * np.pi) / 2, atol=1e-9)


@pytest.mark.parametrize("kind", ["vb-hmm", "svi-hmm"])
@pytest.mark.parametrize("data", [SYMBOLS, VECTORS], ids=["symbols", "vectors"])
def test_a_posterior_is_scored_as_an_average_over_draws(kind, data):
    settings = {"num_states": 2, "num_restarts": 3, "num_steps": 2, "num_draws": 4, "transition_concentration": 0.5}
    spec = KINDS[kind](kind=kind, **settings)
    model = spec.build(corpus(data), seed=0)
    assert (model.transition_concentration, model.num_restarts) == (0.5, 3)
    fit = spec.fit(model, corpus(data), seed=1, device="cpu", progress=False)
    assert fit.history.shape == (2, 3)
    assert isinstance(fit.model, PosteriorHMM)
    assert (fit.model.num_restarts, fit.model.num_draws) == (3, 4)
    again = model.posterior(4, 1).token_log_prob(data.batch())
    assert torch.equal(fit.model.token_log_prob(data.batch()), again)


def test_all_ways_to_fit_one_model_stand_side_by_side():
    """EM, MAP, VB, SVI with both guides: one table, the posteriors marked as averages over draws."""
    short = {"num_states": 2, "num_restarts": 2, "num_steps": 5}
    kinds = {
        "em": KINDS["hmm"](kind="hmm", initial_concentration=1.0, transition_concentration=1.0, **short),
        "map": KINDS["hmm"](kind="hmm", transition_concentration=2.0, **short),
        "vb": KINDS["vb-hmm"](kind="vb-hmm", num_draws=5, **short),
        "svi": KINDS["svi-hmm"](kind="svi-hmm", num_draws=5, batch_size=1, **short),
        "normal": KINDS["svi-hmm"](kind="svi-hmm", num_draws=5, guide="structured", **short),
    }
    data = corpus(SYMBOLS)
    built = {name: spec.build(data, seed=0) for name, spec in kinds.items()}
    fits = {n: s.fit(built[n], data, seed=0, device="cpu", progress=False) for n, s in kinds.items()}
    table = compare(fits, validation=SYMBOLS, test=SYMBOLS)
    assert set(table.chosen) == set(kinds)
    assert all(fit.seconds > 0 for fit in fits.values())
    assert "svi 5" in repr(table)
    assert "log-mean-exp" in repr(table)


def test_settings_of_a_topic_model_reach_it():
    settings = {"num_topics": 2, "num_restarts": 3, "start": "documents", "alpha": 0.3, "eta": 0.2, "num_particles": 5}
    spec = KINDS["lda"](kind="lda", num_steps=2, fixed=["alpha"], num_replicates=2, **settings)
    model = spec.build(corpus(SYMBOLS), seed=4)
    assert {name: model.config()[name] for name in ("num_topics", "num_restarts", "start", "seed")} == {
        "num_topics": 2, "num_restarts": 3, "start": "documents", "seed": 4
    }  # fmt: skip
    assert (model.num_particles, model.num_replicates, model.num_symbols) == (5, 2, 3)
    fit = spec.fit(model, corpus(SYMBOLS), seed=4, device="cpu", progress=False)
    assert fit.history.shape == (2, 3)
    np.testing.assert_allclose(fit.model.alpha, 0.3)
    online = spec.model_copy(update={"minibatch": 1}).fit(
        spec.build(corpus(SYMBOLS), seed=4), corpus(SYMBOLS), seed=4, device="cpu", progress=False
    )
    assert (online.history[-1] != fit.history[-1]).any()


def test_settings_of_topics_and_syntax_reach_the_model():
    settings = {
        "num_topics": 2,
        "num_classes": 3,
        "num_restarts": 3,
        "transition_concentration": 0.3,
        "eta": 0.2,
        "num_particles": 5,
    }
    spec = KINDS["syntax-topics"](kind="syntax-topics", num_steps=2, start="random", **settings)
    model = spec.build(corpus(SYMBOLS), seed=4)
    assert {**model.config(), **settings, "seed": 4, "start": "random", "num_symbols": 3} == model.config()
    assert spec.fit(model, corpus(SYMBOLS), seed=4, device="cpu", progress=False).history.shape == (2, 3)
    with pytest.raises(InputError, match="kind 'syntax-topics' is of symbols"):
        build("syntax-topics", corpus(VECTORS), num_topics=2, num_classes=2)


def test_a_cache_is_counted_and_its_strength_chosen():
    spec = KINDS["cache"](kind="cache", concentration=0.5)
    fit = spec.fit(spec.build(corpus(SYMBOLS), 0), corpus(SYMBOLS), seed=0, device="cpu", progress=False)
    assert fit.model.concentration == 0.5
    assert fit.details["strength"] > 0
