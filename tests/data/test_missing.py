"""Tokens that were not observed and states that are known: nothing is lost on the way to a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from probseq.data.sequences import Sequences
from probseq.errors import InputError

nan = np.nan


@st.composite
def data_sets(draw):
    """Symbols or vectors with missing tokens and known states, and the same as lists of rows."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    total = sum(lengths)
    missing = draw(hnp.arrays(bool, total))
    states = draw(hnp.arrays(np.int64, total, elements=st.integers(-1, 3)))
    if draw(st.booleans()):
        values = draw(
            hnp.arrays(draw(st.sampled_from([np.uint8, np.int64, np.uint64])), total, elements=st.integers(0, 9))
        )
    else:
        values = draw(hnp.arrays(np.float64, (total, 2), elements=st.sampled_from([nan, 0.0, -1.5])))
    data = Sequences(values, np.cumsum([0, *lengths]), missing=missing, states=states)
    absent = missing if values.ndim == 1 else missing | np.isnan(values).all(axis=1)
    shown = values.astype(np.float64)
    shown[missing] = -1 if values.ndim == 1 else nan
    return data, shown, absent, states


@given(data_sets())
def test_values_say_what_is_missing(case):
    data, shown, absent, _ = case
    np.testing.assert_array_equal(np.asarray(data.values, dtype=np.float64), shown)
    assert (data.missing is None) == (not absent.any())
    expected = [int((~absent[i:j]).sum()) for i, j in zip(data.offsets[:-1], data.offsets[1:], strict=True)]
    assert data.num_observed.tolist() == expected
    assert data.num_tokens == len(shown)


@given(data_sets(), st.integers(2, 4), st.randoms())
def test_selections_windows_and_batches_carry_everything(case, window, random):
    data, _, absent, states = case
    rows = np.array(random.choices(range(len(data)), k=3))
    for part, index in ((data[rows], rows), (data, np.arange(len(data))), (data[:0], rows[:0])):
        flat = [np.arange(data.offsets[i], data.offsets[i + 1]) for i in index]
        places = np.concatenate(flat) if flat else np.zeros(0, dtype=int)
        np.testing.assert_array_equal(part.values, data.values[places])
        np.testing.assert_array_equal(part.states, states[places])
        np.testing.assert_array_equal(
            np.zeros(len(places), bool) if part.missing is None else part.missing, absent[places]
        )
    windows = data.windows(window)
    assert windows.num_observed.sum() == data.num_observed.sum()
    np.testing.assert_array_equal(windows.states, states)
    seen = 0
    for batch in windows.batches(max_tokens=8):
        assert (batch.observed & ~batch.mask).sum() == 0
        assert batch.observed.sum(dim=1).tolist() == windows.num_observed[batch.index.numpy()].tolist()
        assert (batch.states[~batch.mask] == -1).all()
        for values, known, length, row in zip(batch.values, batch.states, batch.lengths, batch.index, strict=True):
            np.testing.assert_array_equal(values[:length].numpy(), windows[int(row)])
            begin = windows.offsets[row]
            np.testing.assert_array_equal(known[:length].numpy(), states[begin : begin + length])
            assert (values[length:] == 0).all()
            seen += int(length)
    assert seen == data.num_tokens


@given(data_sets())
def test_saved_and_loaded(tmp_path_factory, case):
    data, *_ = case
    folder = tmp_path_factory.mktemp("data")
    Sequences.from_list([[1], [2]], missing=[[True], [False]], states=[[0], [1]]).save(folder)
    data.save(folder)
    again = Sequences.load(folder)
    for name in ("values", "offsets", "weights", "missing", "states"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name))
    assert again.values.dtype == data.values.dtype


def test_large_arrays_with_missing_tokens_stay_mapped(tmp_path, monkeypatch):
    Sequences.from_list([[1, 2, 3]], missing=[[False, True, False]]).save(tmp_path / "symbols")
    Sequences.from_list([[[1.0], [nan]]]).save(tmp_path / "vectors")
    monkeypatch.setattr("probseq.data.sequences._MEMORY_MAP_BYTES", 10)
    for kind in ("symbols", "vectors"):
        loaded = Sequences.load(tmp_path / kind)
        assert isinstance(loaded.values, np.memmap)
        assert loaded.num_observed.tolist() == [len(loaded.values) - 1]


def test_nothing_known_costs_nothing():
    data = Sequences.from_list([[0, 1], [2]], missing=[[False, False], [False]])
    assert data.missing is None
    assert data.batch().states is None
    assert data.batch().observed.tolist() == data.batch().mask.tolist()


def test_single_entries_may_be_missing():
    data = Sequences.from_list([[[1.0, nan], [nan, nan], [0.0, 2.0]]])
    assert data.batch().observed.tolist() == [[True, False, True]]
    assert data.batch().values.isnan().tolist() == [[[False, True], [True, True], [False, False]]]


def test_a_batch_moves_with_its_states():
    data = Sequences.from_list([[0, 1]], states=[[1, -1]], source=Sequences.from_list([[3]]))
    moved = data.batch().to("cpu")
    assert moved.states.tolist() == [[1, -1]]


def test_all_of_a_sequence_may_be_missing():
    data = Sequences.from_list([[3, 3], [1]], missing=[[True, True], [False]])
    assert data.num_observed.tolist() == [0, 1]
    assert [one.tolist() for one in data] == [[-1, -1], [1]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"missing": np.array([True, False])}, r"missing is an array of bool with shape \(2,\); expected bool \(3,\)"),
        ({"missing": np.array([1, 0, 1])}, "missing is an array of int64"),
        ({"states": np.array([0, 1])}, r"states are an array of int64 with shape \(2,\); expected ints \(3,\)"),
        ({"states": np.array([0.0, 1.0, 1.0])}, "states are an array of float64"),
        ({"states": np.array([0, -2, 1])}, "states hold -2; expected 0 to K - 1, or -1"),
        (
            {"missing": np.array([True, False, False])},
            "symbol -1 is negative; expected ids 0 to V - 1, or missing=True",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Sequences(np.array([-1, 2, -1]) if "missing" in options else np.array([0, 2, 1]), np.array([0, 3]), **options)


@pytest.mark.parametrize("name", ["missing", "states"])
def test_lists_are_as_long_as_their_sequences(name):
    with pytest.raises(
        InputError, match=rf"{name} has lists of shapes \(1,\), \(2,\); expected one as long .* \(2,\), \(1,\)"
    ):
        Sequences.from_list([[1, 2], [3]], **{name: [[0], [1, 1]]})
    with pytest.raises(InputError, match=f"{name} has lists"):
        Sequences.from_list([[1, 2], [3]], **{name: [[0, 1]]})
    assert len(Sequences.from_list([], **{name: []})) == 0
