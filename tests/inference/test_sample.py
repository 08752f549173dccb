import numpy as np
import pytest
import torch

import probseq as ps
from probseq.inference.sample import Sample

SYMBOLS = [[0, 1, 2, 1], [2], [1, 1, 0, 2, 0]]
MISSING = [[False, False, True, False], [False], [False, False, False, False, True]]


def small(**options):
    return Sample(ps.Sequences.from_list(SYMBOLS, weights=[1.0, 2.0, 3.0], **options), 10**6, num_symbols=3)


def neighbors(data, width):
    """Windows of observed neighbors, with their weights: the obvious way."""
    missing = data.missing if data.missing is not None else np.zeros(data.num_tokens, bool)
    for row in range(len(data)):
        for t in range(data.offsets[row], data.offsets[row + 1] - width + 1):
            if not missing[t : t + width].any():
                yield tuple(data.values[t : t + width]), data.weights[row]


@pytest.mark.parametrize("missing", [None, MISSING])
def test_counts_are_those_of_observed_neighbors_within_a_sequence(missing):
    sample = small(missing=missing)
    unigram, pairs, triples = np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3, 3))
    for width, table in ((1, unigram), (2, pairs), (3, triples)):
        for where, weight in neighbors(sample.data, width):
            table[where] += weight
    np.testing.assert_allclose(sample.mass, unigram)
    np.testing.assert_allclose(sample.pair_counts(sample.values, 3), pairs)
    found = np.zeros((3, 3, 3))
    np.add.at(found, sample.triples.symbols, sample.triples.probs)
    np.testing.assert_allclose(found, triples / triples.sum())
    assert sample.triples.num_triples == sum(1 for _ in neighbors(sample.data, 3))


def test_tokens_know_where_they_stand():
    sample = small(missing=MISSING)
    assert sample.values.tolist() == [0, 1, 1, 2, 1, 1, 0, 2]
    assert sample.first.tolist() == [True, False, False, True, True, False, False, False]
    assert sample.follows.tolist() == [False, True, False, False, False, True, True, True]
    np.testing.assert_allclose(sample.position, [0, 1 / 4, 3 / 4, 0, 0, 1 / 5, 2 / 5, 3 / 5])


def test_contexts_are_the_distributions_of_both_neighbors():
    """Symbol 1 follows 0, 2, nothing, 1; the last column stands for nothing."""
    squares = small().features ** 2
    order = np.argsort(-small().mass, kind="stable")
    left = dict(zip([*order, "none"], squares[1, :4], strict=True))
    right = dict(zip([*order, "none"], squares[1, 4:], strict=True))
    assert left == pytest.approx({0: 1 / 8, 1: 3 / 8, 2: 1 / 8, "none": 3 / 8})
    assert right == pytest.approx({0: 3 / 8, 1: 3 / 8, 2: 1 / 8, "none": 1 / 8})


def test_rare_neighbors_share_a_column():
    values = np.random.default_rng(0).permutation(np.repeat(np.arange(500), 4))
    sample = Sample(ps.Sequences.from_list([values]), 10**6, num_symbols=500)
    assert sample.features.shape == (500, 2 * 201)
    np.testing.assert_allclose((sample.features**2).sum(axis=1), 2)


def test_a_part_of_long_data_is_spread_over_it():
    data = ps.Sequences.from_list([np.arange(100_000) % 7, np.arange(50_000) % 7])
    sample = Sample(data, 10_000, num_symbols=7)
    assert 9_000 < len(sample.values) <= 10_000 + 256
    assert sample.position.max() > 0.9
    np.testing.assert_array_equal(sample.mass, np.bincount(data.values))  # counted in all of the data
    after = np.flatnonzero(sample.follows)
    np.testing.assert_array_equal((sample.values[after] - sample.values[after - 1]) % 7, 1)
    windows = sample.windows(10_000)
    assert 9_000 < windows.num_tokens <= 10_000 + 256
    assert all((np.diff(one) % 7 == 1).all() for one in windows)


def test_vectors_are_measured_in_units_of_the_data():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1000, 3)) * [1e-3, 1.0, 1e6] + [1.0, -5.0, 1e7]
    values[rng.random(values.shape) < 0.2] = np.nan
    data = ps.Sequences.from_list([values[:400], values[400:]], weights=[1.0, 4.0])
    sample = Sample(data, 10**6)
    observed = ~np.isnan(sample.values)
    weights = observed * sample.weights[:, None]
    assert (sample.features[~observed] == 0).all()
    np.testing.assert_allclose((weights * sample.features).sum(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose((weights * sample.features**2).sum(axis=0) / weights.sum(axis=0), 1)
    assert sample.mass.sum() == pytest.approx(data.num_observed @ data.weights)


def test_a_part_counts_for_the_whole():
    data = ps.Sequences.from_list([np.zeros((1000, 1)), np.ones((3000, 1))], weights=[1.0, 2.0])
    sample = Sample(data, 1000)
    assert len(sample.values) <= 1000 + 256
    assert sample.mass.sum() == pytest.approx(7000)


def test_a_dimension_that_does_not_vary_has_no_unit():
    data = ps.Sequences.from_list([np.full((5, 2), [3.0, np.nan])])
    assert (Sample(data, 100).features == 0).all()


def test_the_batch_holds_the_tokens():
    sample = small(missing=MISSING)
    batch = sample.batch(torch.device("cpu"))
    assert batch.values[0].tolist() == sample.values.tolist()


def test_nothing_observed_is_refused():
    data = ps.Sequences.from_list([[0, 1]], missing=[[True, True]])
    with pytest.raises(ps.InputError, match="no token was observed"):
        Sample(data, 10, num_symbols=2)
