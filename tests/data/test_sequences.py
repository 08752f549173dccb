import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq.data.sequences import Sequences
from probseq.errors import InputError

ragged = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=8)


def test_from_list_round_trips_symbols_and_vectors():
    data = Sequences.from_list([[0, 1, 2], [3]])
    assert [one.tolist() for one in data] == [[0, 1, 2], [3]]
    assert data.is_symbolic
    assert data.num_tokens == 4
    assert data.lengths.tolist() == [3, 1]
    vectors = Sequences.from_list([np.ones((2, 3)), np.zeros((1, 3))])
    assert not vectors.is_symbolic
    assert vectors[0].shape == (2, 3)
    assert vectors.num_tokens == 3


def test_negative_and_impossible_positions():
    data = Sequences.from_list([[0, 1], [2], [3, 4]])
    assert data[-1].tolist() == [3, 4]
    with pytest.raises(IndexError, match="sequence 3 of 3"):
        data[3]


def test_selection_keeps_weights_and_source():
    source = Sequences.from_list([[7], [8], [9]])
    data = Sequences.from_list([[0], [1, 1], [2]], weights=[1, 2, 3], source=source)
    some = data[np.array([2, 1])]
    assert [one.tolist() for one in some] == [[2], [1, 1]]
    assert some.weights.tolist() == [3, 2]
    assert some.source is not None
    assert [one.tolist() for one in some.source] == [[9], [8]]
    assert [one.tolist() for one in data[np.array([True, False, True])]] == [[0], [2]]


@pytest.mark.parametrize(
    ("values", "offsets", "weights", "sentence"),
    [
        (np.array([1, 2]), [0, 1, 1, 2], None, "sequence 1 has length 0; expected at least 1 token"),
        (np.array([1, -2]), [0, 2], None, "symbol -2 is negative"),
        (np.array([1, 2]), [0, 3], None, "offsets run from 0 to 3; expected 0 to 2"),
        (np.array([1.0, 2.0]), [0, 2], None, "expected symbols"),
        (np.ones((2, 0)), [0, 2], None, "expected symbols"),
        (np.array([[1.0], [np.inf]]), [0, 2], None, "step 1 of all holds an infinite value; expected finite numbers"),
        (np.array([1, 2]), [0, 1, 2], [1.0], "weights have shape"),
        (np.array([1, 2]), [0, 1, 2], [1.0, 0.0], "finite and positive"),
        (np.array([1, 2]), [0, 1, 2], [1.0, np.nan], "finite and positive"),
    ],
)
def test_bad_input_is_one_sentence(values, offsets, weights, sentence):
    with pytest.raises(InputError, match=sentence):
        Sequences(values, np.asarray(offsets), None if weights is None else np.asarray(weights))


def test_bad_lists():
    with pytest.raises(InputError, match=r"sequence 1 has shape \(0,\)"):
        Sequences.from_list([[1], []])
    with pytest.raises(InputError, match="sequence 1 has shape"):
        Sequences.from_list([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(InputError, match="source has 1 sequences; expected 2"):
        Sequences.from_list([[1], [2]], source=Sequences.from_list([[0]]))


@given(ragged, st.integers(2, 5))
@settings(deadline=None)
def test_windows_lose_nothing_and_stay_inside_sequences(lists, length):
    data = Sequences.from_list(lists, weights=np.arange(1.0, len(lists) + 1))
    windows = data.windows(length)
    assert windows.values.tolist() == data.values.tolist()
    assert set(data.offsets) <= set(windows.offsets)
    owner = np.searchsorted(data.offsets, windows.offsets[:-1], side="right") - 1
    assert windows.weights.tolist() == data.weights[owner].tolist()
    for row, size in zip(owner, windows.lengths, strict=True):
        assert size <= length or (size == length + 1 and data.lengths[row] % length == 1)
        assert size >= 2 or data.lengths[row] == 1


def test_windows_refuse_what_they_would_break():
    data = Sequences.from_list([[1, 2, 3]])
    with pytest.raises(InputError, match="window is 1; expected 2 or more"):
        data.windows(1)
    pair = Sequences.from_list([[1, 2]], source=data)
    with pytest.raises(InputError, match="window is 2; the longest sequence with a source has 3 tokens and must stay"):
        Sequences.from_list([[1, 2, 3]], source=data).windows(2)
    assert pair.windows(2) is pair


@given(ragged, st.integers(1, 20), st.booleans(), st.booleans())
@settings(deadline=None)
def test_batches_hold_every_sequence_once(lists, max_tokens, sort, shuffle):
    data = Sequences.from_list(lists)
    seen = []
    for batch in data.batches(max_tokens, sort_by_length=sort, shuffle=shuffle, seed=3):
        assert batch.values.numel() <= max_tokens or len(batch.lengths) == 1
        assert batch.num_tokens == int(batch.mask.sum())
        assert (batch.values[~batch.mask] == 0).all()
        for values, size, row in zip(batch.values, batch.lengths, batch.index, strict=True):
            assert values[:size].tolist() == lists[row]
            seen.append(int(row))
    assert sorted(seen) == list(range(len(lists)))


def test_shuffle_depends_on_the_seed_alone():
    data = Sequences.from_list([[i] for i in range(50)])

    def order(seed):
        return [batch.index.tolist() for batch in data.batches(shuffle=True, batch_size=5, seed=seed)]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_batch_takes_the_source_along():
    data = Sequences.from_list([[0], [1, 1]], source=Sequences.from_list([[5, 6], [7]]))
    batch = data.batch(np.array([1, 0]))
    assert batch.source is not None
    assert batch.source.values.tolist() == [[7, 0], [5, 6]]
    with pytest.raises(InputError, match="at least one sequence"):
        data.batch(np.array([], dtype=int))


def test_batches_of_pairs_count_the_sources_and_put_like_ones_together():
    rng = np.random.default_rng(0)
    lists, sources = ([[1] * n for n in rng.integers(1, most, 200)] for most in (5, 30))
    data = Sequences.from_list(lists, source=Sequences.from_list(sources))
    rows = []
    for batch in data.batches(100, shuffle=True):
        assert batch.source is not None
        assert max(batch.values.numel(), batch.source.values.numel()) <= 100 or len(batch.lengths) == 1
        order = list(zip(batch.lengths.tolist(), batch.source.lengths.tolist(), strict=True))
        assert order == sorted(order, reverse=True)
        rows += batch.index.tolist()
    assert sorted(rows) == list(range(200))


def test_save_and_load(tmp_path, monkeypatch):
    data = Sequences.from_list([[0, 1, 2], [3]], weights=[1, 2], source=Sequences.from_list([[4], [5]]))
    data.save(tmp_path / "data")
    again = Sequences.load(tmp_path / "data")
    assert [one.tolist() for one in again] == [[0, 1, 2], [3]]
    assert again.weights.tolist() == [1, 2]
    assert again.source is not None
    assert again.source.values.tolist() == [4, 5]
    monkeypatch.setattr("probseq.data.sequences._MEMORY_MAP_BYTES", 10)
    mapped = Sequences.load(tmp_path / "data")
    assert isinstance(mapped.values, np.memmap)
    assert mapped.batch().values.tolist() == data.batch().values.tolist()
    with pytest.raises(InputError, match="no sequences in"):
        Sequences.load(tmp_path / "nothing")


def test_what_was_saved_before_is_gone_and_nothing_else(tmp_path):
    pairs = Sequences.from_list([[0, 1]], source=Sequences.from_list([[2]]))
    pairs.save(tmp_path)
    Sequences.from_list([[0, 1]]).save(tmp_path)
    assert Sequences.load(tmp_path).source is None
    assert not (tmp_path / "source").exists()
    pairs.save(tmp_path)
    (tmp_path / "source" / "notes.txt").write_text("mine")
    Sequences.from_list([[0, 1]]).save(tmp_path)
    assert Sequences.load(tmp_path).source is None
    assert [path.name for path in (tmp_path / "source").iterdir()] == ["notes.txt"]


def test_rows_of_a_batch_keep_their_sources():
    targets, sources = [[0, 1, 2], [3], [4, 5]], [[1], [2, 3], [4, 5, 6]]
    data = Sequences.from_list(targets, weights=[1, 2, 3], source=Sequences.from_list(sources))
    for rows in (torch.tensor([2, 1, 1]), slice(1, 2)):
        found, number = data.batch().take(rows), np.arange(3)[rows]
        expected = data[number].batch()
        assert found.values.tolist() == expected.values.tolist()
        assert found.weights.tolist() == expected.weights.tolist()
        assert found.source.values.tolist() == expected.source.values.tolist()
        assert found.index.tolist() == number.tolist()


@pytest.mark.parametrize(
    ("sequence", "sentence"),
    [
        (np.array([0.1, 0.2, 0.3]), r"expected ints \(T,\), or, for a series .* vectors \(T, 1\): x\[:, None\]"),
        ([[1.0, 2.0], [3.0]], "sequence 0 has vectors of different sizes"),
        ("abc", "sequence 0 has shape"),
        (["a", "b"], "sequence 0 is an array of <U1; expected ints .* such as Vocabulary.encode gives"),
        ([[1 + 2j]], "sequence 0 is an array of complex128; expected ints"),
        (np.array([["2020-01-01"]], dtype="datetime64[D]"), r"sequence 0 is an array of datetime64\[D\]; expected"),
        ([[None]], "sequence 0 is an array of object"),
        ([True, False], "sequence 0 is an array of bool"),
    ],
)
def test_what_is_no_sequence_is_one_sentence(sequence, sentence):
    with pytest.raises(InputError, match=sentence):
        Sequences.from_list([sequence])


def test_lists_are_arrays():
    data = Sequences([3, 1], [0, 2])  # type: ignore[arg-type]
    assert data.values.tolist() == [3, 1]
    assert Sequences.from_list([[[True], [False]]]).values.tolist() == [[1.0], [0.0]]
    with pytest.raises(InputError, match="offsets are an array of float64"):
        Sequences([3, 1], [0, 1.5, 2])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected symbols"):
        Sequences(["a", "b"], [0, 2])  # type: ignore[arg-type]
