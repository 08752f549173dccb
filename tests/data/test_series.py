"""Numbers at level vector: a row is a step, an empty cell is missing, and one series is split in time."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probseq.data.corpus import read_corpus
from probseq.data.series import read_series
from probseq.errors import InputError

nan = np.nan


def write(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def arrays(path, **options):
    return [document.content for document in read_series(path, **options)[0]]


TABLE = "day,a,b\n1,0.5,2\n2,,3\n3,1.5,NaN\n4,-1,5\n"


@pytest.mark.parametrize(("name", "separator"), [("x.csv", ","), ("x.tsv", "\t")])
def test_a_table_is_one_series(tmp_path, name, separator):
    documents, columns = read_series(write(tmp_path, name, TABLE.replace(",", separator)), "a,b")
    assert columns == ("a", "b")
    assert len(documents) == 1
    np.testing.assert_array_equal(documents[0].content, [[0.5, 2], [nan, 3], [1.5, nan], [-1, 5]])


def test_columns_are_read_in_the_order_they_are_named(tmp_path):
    path = write(tmp_path, "x.csv", TABLE)
    np.testing.assert_array_equal(arrays(path, column="b, day")[0][:, 0], [2, 3, nan, 5])
    assert arrays(path)[0].shape == (4, 3)


def test_ids_make_series_and_keep_the_order_of_the_file(tmp_path):
    path = write(tmp_path, "x.csv", "who,x\nb,1\na,2\nb,\na,4\nb,5\n")
    documents, columns = read_series(path, id_column="who")
    assert columns == ("x",)
    assert [document.name for document in documents] == ["who b", "who a"]
    np.testing.assert_array_equal(documents[0].content, [[1], [nan], [5]])
    np.testing.assert_array_equal(documents[1].content, [[2], [4]])


def test_a_blank_row_is_a_step_of_which_all_is_missing(tmp_path):
    np.testing.assert_array_equal(arrays(write(tmp_path, "x.csv", "x\n1\n\n3\n\n\n"))[0], [[1], [nan], [3]])


def test_a_table_without_a_header(tmp_path):
    documents, columns = read_series(write(tmp_path, "x.csv", "1,2\n3,\n5,6\n"))
    np.testing.assert_array_equal(documents[0].content, [[1, 2], [3, nan], [5, 6]])
    assert columns == ("0", "1")


def test_json_lines(tmp_path):
    lines = [{"values": [1, None, 3], "id": 7}, {"values": [[1, 2], [None, nan]]}]
    path = write(tmp_path, "x.jsonl", "\n".join(map(json.dumps, lines)))
    documents, _ = read_series(path)
    np.testing.assert_array_equal(documents[0].content, [[1], [nan], [3]])
    np.testing.assert_array_equal(documents[1].content, [[1, 2], [nan, nan]])
    assert documents[0].metadata == {"id": 7}


@pytest.mark.parametrize("values", [np.arange(6), np.arange(6.0), np.arange(12.0).reshape(6, 2)])
def test_an_array_is_one_series(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    np.testing.assert_array_equal(arrays(tmp_path / "x.npy")[0], values.reshape(6, -1))


def test_arrays_with_offsets(tmp_path):
    np.savez(tmp_path / "x.npz", values=np.array([1.0, nan, 3.0]), lengths=np.array([2, 1]), weights=np.array([1, 2]))
    documents, _ = read_series(tmp_path / "x.npz")
    np.testing.assert_array_equal(documents[0].content, [[1], [nan]])
    assert [document.weight for document in documents] == [1, 2]
    np.savez(tmp_path / "y.npz", a=np.arange(3), b=np.arange(2))
    assert [one.tolist() for one in arrays(tmp_path / "y.npz")] == [[[0], [1], [2]], [[0], [1]]]


@given(st.integers(15, 200), st.sampled_from([(0.1, 0.1), (0.2, 0.3), (0.15, 0.15)]), st.integers(2, 50))
def test_one_series_is_split_in_time_and_nothing_is_lost(tmp_path_factory, length, fractions, window):
    path = tmp_path_factory.mktemp("series") / "x.npy"
    np.save(path, np.arange(float(length)))
    corpus = read_corpus(path, "vector", window, fractions=fractions)
    joined = np.concatenate([part.values[:, 0] for part in corpus.parts.values()])
    assert joined.tolist() == list(range(length))
    assert abs(corpus.test.num_tokens - fractions[1] * length) <= 1
    assert abs(corpus.validation.num_tokens - fractions[0] * length) <= 1
    assert corpus.num_documents == {"train": 1, "validation": 1, "test": 1}
    first = corpus.documents["validation"][0]["name"]
    assert first.startswith(f"{corpus.train.num_tokens + 1} to ")


def test_a_series_too_short_for_three_parts(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(4.0))
    with pytest.raises(InputError, match="too small to split: it has length 4; expected at least 8"):
        read_corpus(tmp_path / "x.npy", "vector")


def test_a_corpus_of_a_table(tmp_path):
    rows = "".join(f"{i},{2 * i if i % 5 else ''}\n" for i in range(50))
    corpus = read_corpus(write(tmp_path, "x.csv", "a,b\n" + rows), "vector", 8)
    assert (corpus.level, corpus.num_dims, corpus.columns) == ("vector", 2, ("a", "b"))
    assert corpus.train.num_tokens == 40
    assert corpus.train.num_observed.sum() == 40
    assert int(np.isnan(corpus.train.values).sum()) == 8
    assert "split in time: the last 10% and 10% are validation and test" in corpus.description
    only = read_corpus(tmp_path / "x.csv", "vector", 8, column="b")
    assert only.train.num_observed.sum() == 32


def test_values_keep_their_units(tmp_path):
    np.save(tmp_path / "x.npy", np.linspace(1000, 2000, 30))
    corpus = read_corpus(tmp_path / "x.npy", "vector")
    assert corpus.train.values.min() == 1000
    assert corpus.test.values.max() == 2000


def test_several_series_are_split_by_document(tmp_path):
    path = write(tmp_path, "x.csv", "who,x\n" + "".join(f"{i % 9},{i}\n" for i in range(90)))
    corpus = read_corpus(path, "vector", id_column="who")
    assert corpus.num_documents == {"train": 7, "validation": 1, "test": 1}
    assert corpus.train.values.shape == (70, 1)


def test_a_series_of_one_step_is_named(tmp_path):
    path = write(tmp_path, "x.csv", "who,x\n" + "".join(f"{i % 9},{i}\n" for i in range(19)) + "z,1\n")
    with pytest.raises(InputError, match="who z has 1 step; expected at least 2"):
        read_corpus(path, "vector", id_column="who")


def test_one_series_of_symbols_is_split_in_time_too(tmp_path):
    path = write(tmp_path, "x.jsonl", json.dumps({"tokens": [0, 1, 2, 3, 4, 0, 1, 2, 3, 4] * 3}))
    corpus = read_corpus(path, "symbol")
    assert corpus.is_symbolic
    assert [part.num_tokens for part in corpus.parts.values()] == [24, 3, 3]


@pytest.mark.parametrize(
    ("name", "text", "options", "sentence"),
    [
        ("x.csv", TABLE, {"column": "a,c"}, "unknown column 'c'"),
        ("x.csv", TABLE, {"id_column": "dey"}, "unknown column 'dey'; did you mean 'day'"),
        ("x.csv", "a,b\n1,x\n", {}, "row 1 of x.csv holds 'x' in column 'b', which is no number; name the columns"),
        ("x.csv", "a,b\n1,2\n1,inf\n", {}, "x.csv has an infinite value at step 1; expected finite numbers, or NaN"),
        ("x.csv", "", {}, "x.csv is empty"),
        ("x.csv", "a,b\n", {}, "a header and no rows"),
        ("x.csv", "who,x\na,inf\n", {"id_column": "who"}, "who a has an infinite value at step 0"),
        ("x.jsonl", '{"values": ["a"]}', {}, "line 1 of x.jsonl holds .*; expected a list of numbers"),
        ("x.jsonl", '{"values": [true]}', {}, "expected a list of numbers"),
        ("x.jsonl", '{"values": "abc"}', {}, "expected a list of numbers"),
        ("x.jsonl", '{"values": []}', {}, r"shape \(0,\)"),
        ("x.jsonl", '{"values": [[1], [1, 2]]}', {}, "line 1 holds vectors of different sizes"),
        ("x.jsonl", "\n", {}, "holds no series"),
        ("x.txt", "1 2 3", {}, "unknown file type of numbers '.txt'"),
        ("x.npy", "not numpy", {}, "x.npy cannot be read as .npy; expected arrays of numbers .* no Python objects"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, name, text, options, sentence):
    with pytest.raises(InputError, match=sentence):
        read_series(write(tmp_path, name, text), **options)


@pytest.mark.parametrize("values", [np.ones((2, 3, 4)), np.array(["a"]), np.array([1j]), np.zeros((0, 2))])
def test_bad_arrays(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(InputError, match=r"x.npy is an array of .*; expected \(T,\) or \(T, D\)"):
        read_series(tmp_path / "x.npy")


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_series(tmp_path / "x.csv")


def test_python_objects_are_not_run(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="no Python objects") as error:
        read_series(tmp_path / "x.npz")
    assert "pickle" not in str(error.value)


@pytest.mark.parametrize("header", ["a,b,c\n", ""])
def test_an_empty_cell_is_missing_and_an_absent_one_a_mistake(tmp_path, header):
    path = write(tmp_path, "x.csv", header + "1,2,3\n4,5,\n,,\n7,8,9\n")
    content = read_series(path)[0][0].content
    np.testing.assert_array_equal(content, [[1, 2, 3], [4, 5, nan], [nan, nan, nan], [7, 8, 9]])
    line = 2 + bool(header)
    path = write(tmp_path, "y.csv", header + "1,2,3\n4,5\n7,8,9\n")
    with pytest.raises(InputError, match=f"line {line} of y.csv has 2 of 3 cells; expected one for each column"):
        read_series(path)


def test_arrays_of_bool_are_binary_and_lengths_are_ints(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[True, False], [False, False]]))
    np.testing.assert_array_equal(arrays(tmp_path / "x.npy")[0], [[1.0, 0.0], [0.0, 0.0]])
    np.savez(tmp_path / "x.npz", values=np.arange(3.0), lengths=np.array([2.0, 1.0]))
    with pytest.raises(InputError, match=r"x\.npz has lengths of float64; expected ints, one for each sequence"):
        read_series(tmp_path / "x.npz")
