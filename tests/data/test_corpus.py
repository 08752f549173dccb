import numpy as np
import pytest

from probseq.data.corpus import read_corpus
from probseq.errors import InputError

SENTENCE = "It was a bright cold day in April, and number {} struck thirteen.\n"


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "clock.txt"
    path.write_text("".join(SENTENCE.format(i) for i in range(300)), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    """Thirty documents whose texts do not share a line."""
    where = tmp_path / "texts"
    where.mkdir()
    for i in range(30):
        (where / f"{i:02}.txt").write_text("".join(SENTENCE.format(100 * i + j) for j in range(5)), encoding="utf-8")
    return where


def decoded(corpus, part):
    return [corpus.vocabulary.decode(one) for one in corpus.parts[part]]


@pytest.mark.parametrize("level", ["letters", "char", "byte", "word", "symbol"])
def test_a_text_at_every_level(text_file, level):
    corpus = read_corpus(text_file, level, window=20, min_count=2)
    assert corpus.name == "clock"
    assert corpus.level == level == corpus.vocabulary.level
    assert corpus.num_documents == {"train": 38, "validation": 6, "test": 6}
    assert corpus.num_symbols == len(corpus.vocabulary)
    assert "Its 50 contiguous sections count as its documents. Split by document" in corpus.description
    assert all(2 <= size <= 21 for part in corpus.parts.values() for size in part.lengths)


def test_parts_hold_the_whole_text_once(text_file):
    corpus = read_corpus(text_file, "byte", window=None)
    sections = {}
    for part, known in corpus.documents.items():
        for text, document in zip(decoded(corpus, part), known, strict=True):
            sections[int(document["name"].split()[1])] = text
    assert "".join(sections[i] for i in range(1, 51)) == text_file.read_text(encoding="utf-8")


def test_the_vocabulary_is_that_of_train(folder):
    corpus = read_corpus(folder, "word", min_count=1)
    seen = {word for text in decoded(corpus, "train") for word in text.split()}
    assert seen == set(corpus.vocabulary.symbols) - {"<unk>"}
    assert any("<unk>" in text for text in decoded(corpus, "test"))


def test_windows_know_their_document(folder):
    corpus = read_corpus(folder, "char", window=30)
    for part, data in corpus.parts.items():
        names = [document["name"] for document in corpus.documents[part]]
        for text, row in zip(decoded(corpus, part), corpus.document_of[part], strict=True):
            assert text.replace("<unk>", "") in (folder / names[row]).read_text(encoding="utf-8") or "<unk>" in text
        assert len(data) == len(corpus.document_of[part])


def test_end_closes_every_document_and_nothing_else(folder):
    corpus = read_corpus(folder, "letters", window=40, end=True)
    end = corpus.vocabulary.end
    for part, data in corpus.parts.items():
        last = [one[-1] == end for one in data]
        assert sum(last) == corpus.num_documents[part] == int((data.values == end).sum())


def test_the_same_twice_and_another_seed_differs(folder):
    first, again, other = (read_corpus(folder, "char", seed=seed) for seed in (0, 0, 1))
    assert first.test.values.tolist() == again.test.values.tolist()
    assert first.documents["test"] != other.documents["test"]


def test_limits_keep_whole_windows_evenly_spaced(text_file):
    whole = read_corpus(text_file, "letters", window=10)
    some = read_corpus(text_file, "letters", window=10, train_tokens=1000, test_tokens=200)
    assert 900 < some.train.num_tokens <= 1000
    assert 150 < some.test.num_tokens <= 200
    assert some.validation.values.tolist() == whole.validation.values.tolist()
    windows = [one.tolist() for one in whole.train]
    assert all(one.tolist() in windows for one in some.train)
    assert np.bincount(some.document_of["train"]).max() <= 4  # spread over all 38 sections
    with pytest.raises(InputError, match="test_tokens is 1; the sequences of test have"):
        read_corpus(text_file, "letters", window=10, test_tokens=1)


def test_integer_sequences_have_no_vocabulary(tmp_path):
    rows = [[i % 4, 7 if i == 5 else 1, 2] for i in range(30)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(",".join(map(str, row)) + f",{i}" for i, row in enumerate(rows)), encoding="utf-8")
    corpus = read_corpus(path)
    assert corpus.vocabulary is None
    assert corpus.level == "symbol"
    assert corpus.num_symbols == 30
    assert sorted(one.tolist() for part in corpus.parts.values() for one in part) == sorted(
        [*row, i] for i, row in enumerate(rows)
    )


def test_vectors_and_weights(tmp_path):
    rng = np.random.default_rng(0)
    lengths = np.full(20, 5)
    np.savez(tmp_path / "a.npz", values=rng.normal(size=(100, 3)), lengths=lengths, weights=np.arange(1.0, 21))
    corpus = read_corpus(tmp_path / "a.npz", window=4)
    assert corpus.level == "vector"
    assert corpus.vocabulary is None
    assert corpus.train.values.shape[1] == 3
    total = sum(float(part.weights.sum()) for part in corpus.parts.values())
    assert total == np.arange(1.0, 21).sum()  # five steps are one window: a last window of one is joined
    with pytest.raises(InputError, match="holds vectors of size 3; expected symbols"):
        _ = corpus.num_symbols


def test_ints_among_floats_are_floats(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"values": [1, 2]}\n{"values": [0.5, 2]}\n{"values": [3, 4]}\n', encoding="utf-8")
    assert read_corpus(path).level == "vector"


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (["...", "??", "!", "-"], {"level": "letters"}, "no document holds a symbol at level 'letters'"),
        (["ab", "cd", "ef"], {"min_count": 9}, "min_count is 9, and no symbol occurs more than 1 times"),
        (["ab", "cd", "ab"], {}, "corpus too small to split: it has 2 different documents"),
        (["ab", "cd", "ef"], {"level": "chars"}, "unknown level 'chars'; did you mean 'char'"),
        (["ab", "cd", "ef"], {"window": 1}, "window is 1"),
        (["ab", "cd", "ef"], {"fractions": (0.5, 0.5)}, "fractions are"),
        (["ab", "cd", "ef"], {"fractions": (0.0, 0.5)}, "fractions are"),
        (["a b", "a c", "a d"], {"level": "symbol"}, "row .: symbol '.' at position 1 is not among .* min_count=2"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, rows, options, sentence):
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text", *rows]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        read_corpus(path, **options)


def test_one_symbol_is_enough(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\nab\ncd\ne\nfg\n", encoding="utf-8")
    for end in (False, True):
        corpus = read_corpus(path, end=end)
        assert sum(part.num_tokens for part in corpus.parts.values()) == 7 + 4 * end


def test_documents_that_hold_nothing_are_left_out_with_a_warning(tmp_path):
    for i, text in enumerate(["ab ab", "cd cd", "", "ef ef", "...", "", "gh gh", ""]):
        (tmp_path / f"{i}.txt").write_text(text, encoding="utf-8")
    with pytest.warns(UserWarning, match=r"symbol at level 'letters': 2.txt, 4.txt, 5.txt and 1 more$"):
        corpus = read_corpus(tmp_path, level="letters")
    assert sum(corpus.num_documents.values()) == 4
    names = [one["name"] for part in corpus.documents.values() for one in part]
    assert sorted(names) == ["0.txt", "1.txt", "3.txt", "6.txt"]
    whole = read_corpus(tmp_path, level="char", end=True)  # and a closed document is never empty
    assert sum(whole.num_documents.values()) == 8


def test_mixed_and_short_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "ab"}\n{"text": [1, 2]}\n{"text": "cd"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="2 of 3 documents are text and the rest numbers"):
        read_corpus(path)
    path.write_text('{"values": [1, 2]}\n{"values": [3, -1]}\n{"values": [4, 5]}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2 holds the symbol -1"):
        read_corpus(path)
    path.write_text('{"values": [[1, 2], [3, 4]]}\n{"values": [0.5, 1]}\n{"values": [4, 5]}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2 has shape"):
        read_corpus(path)
