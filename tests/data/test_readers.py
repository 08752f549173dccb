import json

import numpy as np
import pytest

from probseq.data.readers import read_documents
from probseq.errors import InputError


def contents(path, **options):
    return [
        one.content if isinstance(one.content, str) else one.content.tolist() for one in read_documents(path, **options)
    ]


def write(folder, name, text):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_text_line_ends_and_byte_order_mark(tmp_path):
    path = write(tmp_path, "a.txt", b"\xef\xbb\xbf" + b"one\r\ntwo\rthree\n" * 50)
    assert "".join(contents(path)) == "one\ntwo\nthree\n" * 50
    assert "".join(contents(path, level="byte")).encode("utf-8", "surrogateescape") == path.read_bytes()


def test_folder_gives_a_document_for_each_text_file(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.txt", "notes.md"):
        write(tmp_path, name, f"this is {name}")
    found = read_documents(tmp_path)
    assert [one.name for one in found] == ["a.txt", "b.txt", "sub/c.txt"]
    assert found[2].content == "this is sub/c.txt"


@pytest.mark.parametrize("key", ["text", "tokens", "values"])
def test_json_lines_find_their_key(tmp_path, key):
    path = write(tmp_path, "a.jsonl", "\n".join(json.dumps({"id": i, key: [i, i + 1]}) for i in range(3)) + "\n\n")
    assert contents(path) == [[0, 1], [1, 2], [2, 3]]
    assert read_documents(path)[2].metadata == {"id": 2}


def test_json_lines_of_every_kind(tmp_path):
    lines = [{"x": "a b"}, {"x": ["a", "b"]}, {"x": [1, 2]}, {"x": [0.5, 2]}, {"x": [[1, 2], [3, 4]]}]
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, lines)))
    assert contents(path, column="x", level="symbol") == [
        "a b",
        "a b",
        [1, 2],
        [[0.5], [2.0]],
        [[1.0, 2.0], [3.0, 4.0]],
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("[1, 2]", "line 2 is a list; expected an object"),
        ('{"body": "x"}', r"line 2 has no key 'text' \(it has body\)"),
        ('{"text": 3}', "line 2 holds a int; expected a text"),
        ('{"text": [[1], [1, 2]]}', "line 2 holds vectors of different sizes"),
        ('{"text": [1, NaN]}', "line 2 has a missing or infinite value at step 1"),
        ('{"text": [true, false]}', "line 2 holds an array of bool"),
        ('{"text": [1, "a"]}', "line 2 holds an array of"),
        ('{"tokens": ["one", "two"]}', "line 2 holds a list of tokens, which level 'char' would take apart"),
    ],
)
def test_a_malformed_json_line_is_named(tmp_path, line, sentence):
    with pytest.raises(InputError, match=sentence):
        read_documents(write(tmp_path, "a.jsonl", '{"text": "fine"}\n' + line))


def test_table_with_a_text_column(tmp_path):
    path = write(tmp_path, "a.csv", 'year,text\n1790,"Hello, you"\n1791,NA\n1792,\n')
    found = read_documents(path)
    assert [one.content for one in found] == ["Hello, you", "NA", ""]
    assert [one.name for one in found] == ["row 1", "row 2", "row 3"]
    assert found[0].metadata == {"year": "1790"}
    assert contents(path, column="year") == ["1790", "1791", "1792"]
    assert contents(write(tmp_path, "b.tsv", "body\none two\nthree\n")) == ["one two", "three"]


def test_table_of_series_with_and_without_a_header(tmp_path):
    assert contents(write(tmp_path, "a.csv", "x,y,z\n1,2,3\n4,5,\n")) == [[1, 2, 3], [4, 5]]
    assert contents(write(tmp_path, "b.csv", "1,2\n3,4,5\n6,7\n")) == [[1, 2], [3, 4, 5], [6, 7]]
    assert contents(write(tmp_path, "c.tsv", "0.5\t1.0\n2\t3.5\n")) == [[[0.5], [1.0]], [[2.0], [3.5]]]


def test_long_table_groups_rows_by_id_in_file_order(tmp_path):
    path = write(tmp_path, "a.csv", "who,t,x\nb,1,0.5\na,1,1.5\nb,2,2.5\n")
    assert contents(path, id_column="who", column="x") == [[[0.5], [2.5]], [[1.5]]]
    assert contents(path, id_column="who") == [[[1.0, 0.5], [2.0, 2.5]], [[1.0, 1.5]]]
    assert [one.name for one in read_documents(path, id_column="who")] == ["who b", "who a"]
    words = write(tmp_path, "b.csv", "who,word\nb,hello\na,good\nb,you\n")
    assert contents(words, id_column="who") == ["hello\nyou", "good"]
    ints = write(tmp_path, "c.csv", "who,n\nb,3\na,1\nb,4\n")
    assert contents(ints, id_column="who") == [[3, 4], [1]]


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("a,b\n1,x\n", {}, "row 1 of a.csv holds 'x', which is no number; name the text column with --column"),
        ("a,b\n1,2\n", {"column": "text"}, "unknown column 'text'"),
        ("who,x\nb,1\n", {"id_column": "whom"}, "unknown column 'whom'; did you mean 'who'"),
        ("who,x,y\nb,1,z\n", {"id_column": "who"}, "who b has 'z' in column 'y'"),
        ("a,b\n,2\n", {}, "row 1 of a.csv has an empty cell before its end"),
        ("a,b\n1,2,3\n", {}, "more columns than its header"),
        ("a,b\n1,2\n1,2,3\n", {}, "is no table"),
        ("a,b,c\n1,2,3\n\n4,5\n", {}, "line 4 of a.csv has 2 of 3 cells; expected one for each column, empty where"),
        ('text,b\n"two\nlines",3\nx\n', {}, "line 4 of a.csv has 1 of 2 cells"),
        ("text\n", {}, "a header and no rows"),
        ("a,b\n1.5,inf\n", {}, "row 1 has a missing or infinite value at step 1"),
    ],
)
def test_bad_tables(tmp_path, text, options, sentence):
    with pytest.raises(InputError, match=sentence):
        read_documents(write(tmp_path, "a.csv", text), **options)


def test_arrays_flat_and_one_by_one(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, values=np.arange(5), offsets=np.array([0, 2, 5]), weights=np.array([1.0, 2.0]))
    assert contents(path) == [[0, 1], [2, 3, 4]]
    assert [one.weight for one in read_documents(path)] == [1, 2]
    np.savez(path, values=np.ones((3, 2), dtype=np.float32), lengths=np.array([1, 2]))
    assert contents(path) == [[[1, 1]], [[1, 1], [1, 1]]]
    np.savez(path, first=np.array([3, 1]), second=np.array([2]))
    assert contents(path) == [[3, 1], [2]]


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"values": np.arange(4), "offsets": np.array([0, 5])}, "offsets from 0 to 5; expected 0 to 4"),
        ({"values": np.arange(4), "offsets": np.array([0, 3, 2, 4])}, "offsets that do not rise"),
        ({"values": np.arange(4), "lengths": np.array([1.5, 2.5])}, "lengths of float64; expected ints, one for"),
        ({"values": np.arange(4), "lengths": np.array([2, 2]), "weights": np.ones(3)}, r"weights of shape \(3,\)"),
        ({"a": np.array(["x", "y"])}, "a holds an array of"),
        ({"a": np.array([{}], dtype=object)}, "cannot be read as .npz"),
    ],
)
def test_bad_arrays(tmp_path, arrays, sentence):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=sentence):
        read_documents(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"good \xff bad" * 90, r"is not UTF-8 text \(byte 0xff at offset 5\); convert it"),
        ("a.csv", b"text\ncaf\xe9\n", "is not UTF-8 text"),
        ("a.docx", b"x", "unknown file type '.docx'"),
        ("a.npz", b"no zip", "cannot be read as .npz"),
    ],
)
def test_bad_files(tmp_path, name, content, sentence):
    with pytest.raises(InputError, match=sentence):
        read_documents(write(tmp_path, name, content))


def test_missing_files_and_folders_without_text(tmp_path):
    with pytest.raises(InputError, match="there is no file or folder"):
        read_documents(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"holds no \.txt file"):
        read_documents(tmp_path)
