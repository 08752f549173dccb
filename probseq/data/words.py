"""Words: how a text is cut into them, and which of them carry little meaning."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable

from probseq.errors import InputError

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+(?:[.,]\d+)*|[^\w\s]|_")

ENGLISH = frozenset(
    """
    a about above after again against all almost alone along already also although always am among an and another any
    anyone anything are around as at away back be became because become becomes been before behind being below beside
    besides between beyond both but by came can cannot come could did do does doing done down during each either else
    enough ever every everyone everything few first for from further gave get give given go goes going gone got had has
    have having he hence her here hereby herein hers herself him himself his how however i if in indeed into is it its
    itself just last least less let like made make makes making many may me might mine more moreover most much must my
    myself neither never nevertheless next no nobody none nor not nothing now of off often on once one only onto or
    other others otherwise ought our ours ourselves out over own per perhaps put quite rather really said same saw say
    see seem seems seen shall she should since so some somebody something sometimes soon still such take taken than
    that the thee their theirs them themselves then there thereby therefore therein thereof these they thing things
    this those thou though through throughout thus thy to together too took toward towards two under unless until up
    upon us very was way we well went were what whatever when whence where whereas wherein whether which while who
    whole whom whose why will with within without would yet you your yours yourself yourselves
    """.split()  # noqa: SIM905  (a list of strings could not be read)
)
"""Words of English grammar, lower-cased."""

PUNCTUATION = frozenset({*string.punctuation, *"\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u00a7\u00b7\u2022"})

_LISTS = {"english": ENGLISH | {f"{w}n't" for w in ("do", "does", "did", "is", "are", "was", "were", "wo", "would")},
          "punctuation": PUNCTUATION}  # fmt: skip


def split_words(text: str) -> list[str]:
    r"""The words, numbers and punctuation marks of a text, lower-cased.

    A token is one of: a run of letters, which may hold apostrophes (``don't``); a run of digits, which may hold points
    and commas (``1,000.5``); or any other single character that is no space. The pattern is
    ``[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[.,]\d+)*|[^\w\s]|_``, applied to the NFC form.

    Example:
        >>> split_words("Don't pay $1,000!")
        ["don't", 'pay', '$', '1,000', '!']
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


def stop_words(names: str | Iterable[str]) -> tuple[str, ...]:
    """Lists of stop words by name (``english``, ``punctuation``), and other words as they are, as one sorted list.

    Args:
        names: of lists, and words; or one text, with commas between them.

    Raises:
        InputError: a name with a capital letter or a space in it, which is no token and would remove nothing.

    Example:
        >>> len(stop_words(["english"])) > 200, stop_words(["congress"])
        (True, ('congress',))
        >>> stop_words("congress, senate")
        ('congress', 'senate')
    """
    found: set[str] = set()
    for name in [one.strip() for one in names.split(",")] if isinstance(names, str) else names:
        if name not in _LISTS and split_words(name) != [name]:
            raise InputError(
                f"the stop word {name!r} is no token; expected a lower-cased word, or a list: {', '.join(_LISTS)}"
            )
        found |= _LISTS.get(name, {name})
    return tuple(sorted(found))


def of_no_list(words: Iterable[str]) -> list[str]:
    """Those among stop words that stand in no list, so that somebody has named each of them."""
    return [word for word in words if not any(word in known for known in _LISTS.values())]
