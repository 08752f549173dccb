"""What is read off models of pairs is what the models say, pair by pair."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import probseq as ps
from probseq.ops import chain_conditional
from probseq.transduction import (
    WordComponents,
    has_attention,
    has_positions,
    has_states,
    length_bins,
    most_probable_path,
    num_components,
    read_alignment,
    read_components,
    rows_of_sources,
    state_posterior,
)

END, SOURCE_END = 2, 3
SOURCES = [[1, 0, 2, 3], [3], [1, 0, 2, 3], [0, 0, 1, 2, 3], [3]]
TARGETS = [[0, 1, 2], [1, 2], [1, 0, 0, 2], [2], [2]]
PAIRS = ps.Sequences.from_list(TARGETS, source=ps.Sequences.from_list(SOURCES))


def conditional(net, **options):
    sizes = {} if net is ps.TransformerSeq2Seq else {"hidden_dim": 6}
    return ps.Conditional.from_seed(lambda: net(4, 3, **sizes, **options), seed=0).eval()


MODELS = {
    "bottleneck": conditional(ps.Seq2Seq, attention=None),
    "attention": conditional(ps.Seq2Seq),
    "transformer": conditional(ps.TransformerSeq2Seq, num_layers=1, num_heads=2, embed_dim=8),
    "latent": conditional(ps.HMMDecoder, states="latent", num_states=3, num_components=2),
    "align": conditional(ps.HMMDecoder),
    "align-mixed": conditional(ps.HMMDecoder, states="alignment", num_components=2),
    "table": ps.AlignmentHMM(4, 3),
}


def test_what_each_kind_has():
    kinds = {name: (has_attention(m), has_states(m), has_positions(m)) for name, m in MODELS.items()}
    assert kinds == {
        "bottleneck": (False, False, False),
        "attention": (True, False, False),
        "transformer": (True, False, False),
        "latent": (False, True, False),
        "align": (False, True, True),
        "align-mixed": (False, True, True),
        "table": (False, True, True),
    }
    assert [num_components(m) for m in MODELS.values()] == [1, 1, 1, 2, 1, 2, 1]


@pytest.mark.parametrize("name", ["attention", "transformer", "align", "align-mixed", "table"])
def test_alignments_are_those_of_the_pair(name):
    for i in range(len(PAIRS)):
        found = read_alignment(name, MODELS[name], PAIRS[[i]])
        assert found.weights.shape == (len(TARGETS[i]), len(SOURCES[i]))
        np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-5)
        assert found.is_drawn == has_positions(MODELS[name])
        if found.path is not None:
            assert (found.weights[range(len(found.path)), found.path] > 0).all()


def test_positions_of_a_batch_are_those_of_its_pairs():
    for name in ("align", "table"):
        paths, posterior = (of(MODELS[name], PAIRS.batch()) for of in (most_probable_path, state_posterior))
        for i in range(len(PAIRS)):
            alone = read_alignment(name, MODELS[name], PAIRS[[i]])
            assert paths[i, : len(TARGETS[i])].tolist() == alone.path.tolist()
            assert (paths[i, len(TARGETS[i]) :] == -1).all()
            inner = posterior[i, : len(TARGETS[i]), : len(SOURCES[i])]
            np.testing.assert_allclose(inner.detach().numpy(), alone.weights, atol=1e-6)


@pytest.mark.parametrize("net", [ps.Seq2Seq, ps.HMMDecoder])
def test_dropout_is_off_where_a_model_is_read(net):
    model = conditional(net, dropout=0.9, **({"attention": "dot"} if net is ps.Seq2Seq else {"states": "alignment"}))
    expected = [read_alignment("a", model, PAIRS[[i]]) for i in range(len(PAIRS))]
    for i, one in enumerate(expected):
        found = read_alignment("a", model.train(), PAIRS[[i]])
        np.testing.assert_array_equal(found.weights, one.weights)
        np.testing.assert_array_equal(found.path, one.path)
    assert model.training


@pytest.mark.parametrize("name", ["bottleneck", "latent"])
def test_without_positions_there_is_no_alignment(name):
    with pytest.raises(ps.InputError, match=f"{name} has no attention and no positions; expected a model"):
        read_alignment(name, MODELS[name], PAIRS[[0]])


def test_one_pair_at_a_time():
    with pytest.raises(ps.InputError, match="received 5 sequences; expected one, with its source"):
        read_alignment("align", MODELS["align"], PAIRS)
    with pytest.raises(ps.InputError, match="received 1 sequences; expected one, with its source"):
        read_alignment("align", MODELS["align"], ps.Sequences.from_list([[1, 2]]))


def test_sources_are_told_apart_and_keep_their_order():
    assert [rows.tolist() for rows in rows_of_sources(PAIRS)] == [[0, 2], [1, 4], [3]]
    with pytest.raises(ps.InputError, match="the sequences have no sources; expected pairs"):
        rows_of_sources(ps.Sequences.from_list([[1]]))


def test_components_follow_bayes():
    """The prior is one for all targets of a source, and turns into the posterior by what each chain says of them."""
    vocabulary, sources = ps.Vocabulary(("A", "B", "<end>"), "symbol"), ps.Vocabulary(("a", "b", "c", "<end>"), "char")
    model = MODELS["latent"]
    words = read_components(model, PAIRS, vocabulary, sources)
    assert [(word.source, word.targets) for word in words] == [("bac", ["A B", "B A A"]), ("", ["B", ""])]
    for word, rows in zip(words, [[0, 2], [1, 4]], strict=True):
        batch = PAIRS[rows].batch()
        weights, chain, emission = model.nets[0].chains(batch)
        alone = chain_conditional.token_log_prob(chain, emission, batch.lengths).sum(dim=-1)
        joint = (weights + alone).exp().T.detach().double().numpy()
        np.testing.assert_allclose(word.prior, weights[:, 0].exp().detach(), atol=1e-6)
        np.testing.assert_allclose(word.posterior, joint / joint.sum(axis=1, keepdims=True), atol=1e-5)


def test_components_of_a_mixture_alone():
    vocabulary = ps.Vocabulary(("A", "B", "<end>"), "symbol")
    with pytest.raises(ps.InputError, match="the model has one component; expected a mixture"):
        read_components(MODELS["align"], PAIRS, vocabulary, vocabulary)
    assert read_components(MODELS["latent"], PAIRS[[0, 1, 3]], vocabulary, vocabulary) == []


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60), st.integers(1, 20))
def test_bins_hold_every_pair_once_and_enough_of_them(lengths, min_pairs):
    lengths = np.array(lengths)
    bins = length_bins(lengths, min_pairs)
    assert ((bins.first[bins.bin_of] <= lengths) & (lengths <= bins.last[bins.bin_of])).all()
    held = np.bincount(bins.bin_of, minlength=len(bins.first))
    assert (held >= min(min_pairs, len(lengths))).all()
    assert (bins.first[1:] > bins.last[:-1]).all()
    values = torch.rand(len(lengths), generator=torch.Generator().manual_seed(0)).double().numpy()
    np.testing.assert_allclose(bins.ratio(values, np.ones(len(lengths))) @ held, values.sum())


def test_no_lengths():
    with pytest.raises(ps.InputError, match="received no lengths; expected that of at least one source"):
        length_bins(np.array([], dtype=np.int64))


def test_components_separate_targets_that_come_from_different_chains():
    prior, close, far = np.array([0.5, 0.5]), [[0.9, 0.1], [0.6, 0.4]], [[0.9, 0.1], [0.4, 0.6]]
    assert not WordComponents("read", ["R IY D", "R EH D"], prior, np.array(close)).separated
    assert WordComponents("read", ["R IY D", "R EH D"], prior, np.array(far)).separated


@pytest.mark.parametrize("read", [most_probable_path, state_posterior])
def test_models_without_states_have_no_path(read):
    with pytest.raises(ps.InputError, match=r"^a Seq2Seq has no hidden states; expected an AlignmentHMM, or a C"):
        read(MODELS["attention"], PAIRS.batch())
    with pytest.raises(ps.InputError, match=r"^a Unigram has no hidden states"):
        read(ps.Unigram(3), PAIRS.batch())
