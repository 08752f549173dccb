"""The exception that a user's input can cause, and the sentence it carries."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one sentence for a person: what was received, what was expected, what to do.
    The command line prints it without a traceback and exits with code 2.
    """


class ImpossibleError(InputError):
    """A sequence is impossible whatever the parameters of a model are.

    Args:
        row: of the sequence, in its data set.
        fault: what it has that makes it impossible.
        name: what a person calls the sequence. Default: by its row.
    """

    def __init__(self, row: int, fault: str, name: str | None = None) -> None:
        super().__init__(f"{name or f'sequence {row}'} has {fault}")
        self.row, self.fault = row, fault

    def named(self, name: str) -> ImpossibleError:
        """The same of a sequence that has a name."""
        return ImpossibleError(self.row, self.fault, name)


def unknown(kind: str, received: str, valid: Iterable[str]) -> InputError:
    """An `InputError` for a name that is not among `valid`, with the closest valid one.

    Args:
        kind: what was asked for, for example ``"preset"``.
        received: the name that was given.
        valid: every name that would have been accepted.

    Example:
        >>> str(unknown("preset", "leters", ["letters", "quick"]))
        "unknown preset 'leters'; did you mean 'letters'? (valid: letters, quick)"
    """
    names = sorted(valid)
    close = difflib.get_close_matches(received.lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return InputError(f"unknown {kind} {received!r}{hint} (valid: {', '.join(names)})")


def check_whole(name: str, value: object, least: int = 1) -> int:
    """`value` as an int.

    Raises:
        InputError: it is no whole number, or one that is too small.

    Example:
        >>> check_whole("num_states", 3)
        3
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; expected a whole number, {least} or more")
    if value < least:
        raise InputError(f"{name} is {value}; expected {least} or more")
    return int(value)
