import json
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probseq.data.vocabulary import LEVELS, Vocabulary, as_read, split_words
from probseq.errors import InputError

LETTERS = Vocabulary.build([], "letters")
BYTES = Vocabulary.build([], "byte")


def plain_letters(text: str) -> str:
    """The definition, one character at a time."""
    folded = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub("[^a-z]+", " ", "".join(c.lower() if c.isascii() else " " for c in folded)).strip()


@given(st.text(alphabet=st.sampled_from("abZ 9.\n-éßÅñ\u0301—ﬁ"), max_size=30))
@settings(deadline=None)
def test_letters_equal_their_definition(text):
    assert LETTERS.decode(LETTERS.encode(text)) == plain_letters(text)


@given(st.sampled_from([one for one in LEVELS if one != "vector"]), *[st.text("aA -\xe9\u0301\n", max_size=5)] * 2)
@settings(deadline=None)
def test_texts_of_the_same_symbols_are_read_as_one(level, text, other):
    vocabulary = Vocabulary.build([text, other, "a"], level, min_count=1)
    same = vocabulary.encode(text).tolist() == vocabulary.encode(other).tolist()
    assert (as_read(text, level) == as_read(other, level)) == same


def test_letters_are_27_with_a_first_and_the_space_last():
    assert len(LETTERS) == 27
    assert LETTERS.symbols[0] == "a"
    assert LETTERS.symbols[26] == " "
    assert LETTERS.decode(LETTERS.encode("  Café -- DÉJÀ vu!! ")) == "cafe deja vu"
    assert LETTERS.encode("...").size == 0
    assert LETTERS.unknown is None
    assert LETTERS.end is None


@given(st.text(max_size=30))
@settings(deadline=None)
def test_bytes_are_those_of_utf8(text):
    assert bytes(BYTES.encode(text).tolist()) == text.encode()
    assert BYTES.decode(BYTES.encode(text)) == text


def test_bytes_that_are_no_text_survive():
    raw = bytes(range(256))
    assert bytes(BYTES.encode(raw.decode("utf-8", "surrogateescape")).tolist()) == raw
    assert BYTES.encode("ab").dtype == np.uint8
    with pytest.raises(InputError, match="position 1 is half of a surrogate pair"):
        BYTES.encode("a\ud800")


@given(st.text(alphabet="abc 😀é", max_size=40))
@settings(deadline=None)
def test_char_replaces_what_is_rare_and_keeps_the_rest(text):
    vocabulary = Vocabulary.build([text[:10], text[10:]], "char")
    common = {c for c in text if text.count(c) >= 2}
    assert set(vocabulary.symbols) == {"<unk>"} | common
    expected = "".join(c if c in common else "<unk>" for c in text)
    assert vocabulary.decode(vocabulary.encode(text)) == expected


def test_char_beyond_the_largest_known_code_point():
    vocabulary = Vocabulary.build(["aabb"], "char")
    assert vocabulary.encode("a\U0010ffffb").tolist() == [1, 0, 2]


def test_words():
    assert split_words("Don't STOP: 3,000.5% of_it, naïve!") == (
        ["don't", "stop", ":", "3,000.5", "%", "of", "_", "it", ",", "naïve", "!"]
    )
    vocabulary = Vocabulary.build(["the cat the dog The", "cat cat mouse"], "word")
    assert vocabulary.symbols == ("<unk>", "cat", "the")
    assert vocabulary.decode(vocabulary.encode("The cat, the mouse")) == "the cat <unk> the <unk>"


def test_symbols_stand_between_spaces():
    vocabulary = Vocabulary.build(["AA B\tAA"], "symbol", end=True)
    assert vocabulary.symbols == ("AA", "B", "<end>")
    assert vocabulary.end == 2
    assert vocabulary.encode_document("B AA").tolist() == [1, 0, 2]
    with pytest.raises(InputError, match="symbol 'C' at position 1 is not among the 3 symbols"):
        vocabulary.encode("B C")


def test_a_symbol_that_was_not_seen_names_its_position():
    vocabulary = Vocabulary(("a", "b"), "char")
    assert vocabulary.encode("abba").tolist() == [0, 1, 1, 0]
    with pytest.raises(InputError, match="symbol 'é' at position 2"):
        vocabulary.encode("abéb")


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "vector"])
def test_end_is_an_ordinary_last_symbol(level):
    plain = Vocabulary.build(["aa aa"], level, min_count=1)
    ended = Vocabulary.build(["aa aa"], level, min_count=1, end=True)
    assert ended.symbols == (*plain.symbols, "<end>")
    assert ended.encode("aa").tolist() == plain.encode("aa").tolist()
    assert ended.encode_document("aa").tolist() == [*plain.encode("aa").tolist(), len(plain)]
    assert ended.decode([len(plain)]) == "<end>"


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "vector"])
def test_json_round_trip(level):
    vocabulary = Vocabulary.build(["to be or not to be " * 3], level, end=True)
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


def test_ids_have_the_smallest_type():
    many = Vocabulary(tuple(f"s{i}" for i in range(300)), "symbol")
    assert many.encode("s299").dtype == np.uint16
    assert LETTERS.encode("z").dtype == np.uint8


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Vocabulary.build([], "letter"), "unknown level 'letter'; did you mean 'letters'"),
        (lambda: Vocabulary(("a", "a"), "char"), "symbol 'a' is in the vocabulary twice"),
        (lambda: Vocabulary((), "char"), "no symbols"),
        (lambda: Vocabulary.build(["a"], "char", min_count=0), "min_count is 0"),
        (lambda: Vocabulary(("a",), "vector"), "level 'vector' is of numbers, which have no vocabulary"),
        (lambda: LETTERS.encode(["a", "b"]), "received a list; expected a text"),
        (lambda: LETTERS.decode([27]), "ids run from 27 to 27; expected 0 to 26"),
    ],
)
def test_bad_input(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()
