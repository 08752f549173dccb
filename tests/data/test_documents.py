import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq.data.documents import (
    PARTS,
    Document,
    cut_sections,
    split_documents,
    split_positions,
    warn_of_giant,
)
from probseq.errors import InputError


def documents(texts):
    return [Document(text, f"row {i}") for i, text in enumerate(texts, start=1)]


@given(st.lists(st.text("ab", min_size=1, max_size=6), min_size=3, max_size=30), st.integers(0, 3))
@settings(deadline=None)
def test_every_document_is_in_one_part_and_no_text_in_two(texts, seed):
    if len(set(texts)) < 3:
        with pytest.raises(InputError, match="too small to split"):
            split_documents(documents(texts), (0.1, 0.1), seed)
        return
    split = split_documents(documents(texts), (0.1, 0.1), seed)
    assert sorted(i for rows in split.values() for i in rows) == list(range(len(texts)))
    found = [{texts[i] for i in split[part]} for part in PARTS]
    assert all(found)
    assert not found[0] & found[1]
    assert not found[0] & found[2]
    assert not found[1] & found[2]


def test_the_split_depends_on_contents_and_seed_but_not_on_order_or_names():
    texts = [f"text number {i}" for i in range(40)]

    def test_part(order, seed):
        given = [Document(texts[i], f"name {n}") for n, i in enumerate(order)]
        return {given[i].content for i in split_documents(given, (0.1, 0.1), seed)["test"]}

    forward = range(40)
    assert test_part(forward, 0) == test_part(reversed(forward), 0)
    assert test_part(forward, 0) != test_part(forward, 1)


def test_fractions_count_characters():
    texts = [chr(97 + i) * 100 for i in range(20)]
    split = split_documents(documents(texts), (0.2, 0.1), 0)
    assert {part: len(rows) for part, rows in split.items()} == {"train": 14, "validation": 4, "test": 2}


def test_three_documents_of_any_size_are_enough():
    for seed in range(6):
        split = split_documents(documents(["a", "b", "c" * 1000]), (0.1, 0.1), seed)
        assert [len(split[part]) for part in PARTS] == [1, 1, 1]


def test_a_giant_that_is_held_out_is_warned_of():
    given = documents(["a" * 10, "b" * 10, "c" * 10, "d" * 70])
    for part in PARTS:
        split = {name: [i for i in range(3) if (i == 0) == (name == "train")] for name in PARTS}
        split[part] = [*split[part], 3]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_of_giant(given, split)
        expected = (
            f"row 4 holds 70% of all data and is in {part}, so that 10.0% is left to train on; cut it into several"
        )
        assert [str(one.message).startswith(expected) for one in caught] == [True] * (part != "train")
    even = documents(["a" * 10, "b" * 10])
    warn_of_giant(even, {"test": [0], "validation": [1], "train": []})


def test_arrays_are_told_apart_by_content_type_and_shape():
    ints = [np.arange(6), np.arange(6), np.arange(6).astype(float), np.arange(6).reshape(3, 2)]
    digests = [Document(one, "").digest for one in ints]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_positions():
    assert split_positions(107, (0.1, 0.1)) == (86, 96)
    with pytest.raises(InputError, match="too small to split: it has length 3"):
        split_positions(3, (0.1, 0.1))


@pytest.mark.parametrize("line", ["one line of it\n", "words without an end ", "x"])
def test_sections_are_contiguous_and_about_equal(line):
    text = line * (20_000 // len(line))
    sections = [document.content for document in cut_sections(text, "a.txt")]
    assert "".join(sections) == text
    assert len(sections) == 50
    assert max(map(len, sections)) < 1.1 * min(map(len, sections))
    if line != "x":
        assert all(section.endswith(line[-1]) for section in sections)


def test_a_text_that_repeats_itself_can_be_split():
    sections = cut_sections("na" * 5000, "a.txt")
    assert all(split_documents(sections, (0.1, 0.1), 0).values())


def test_small_texts_have_fewer_sections():
    assert len(cut_sections("ab " * 100, "a.txt")) == 4
    with pytest.raises(InputError, match=r"too small to split: a.txt is 30 characters long; expected at least 192"):
        cut_sections("ab " * 10, "a.txt")


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.4), st.integers(0, 40))
def test_a_corpus_too_small_is_told_how_many_it_needs(validation, test, length):
    try:
        split_positions(length, (validation, test))
    except InputError as error:
        least = int(str(error).rpartition(" ")[2])
        assert least > length
        split_positions(least, (validation, test))  # is enough


def test_the_digest_of_a_pair_is_of_both():
    sources = [None, "", "a", "c"]
    assert len({Document("b", "x", source=source).digest for source in sources}) == len(sources)
