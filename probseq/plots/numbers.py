"""Numbers as a person reads them."""

from __future__ import annotations

import math

MISSING = "–"
_HUGE = 1e9
_NOTHING = 5e-7  # what six decimals show as 0
_TINY = 1e-5  # below it, a difference is only said to be small


def decimals(value: float, digits: int = 3) -> str:
    """A fixed number of decimals.

    Example:
        >>> decimals(2.21549), decimals(float("inf")), decimals(float("nan"))
        ('2.215', '∞', '–')
        >>> decimals(4.2270660141e22)  # of a fit that went astray, whose digits say nothing
        '4.227e+22'
    """
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if abs(value) >= _HUGE:
        return f"{value:.3e}".replace("-", "−")
    return f"{value:,.{digits}f}".replace("-", "−")


def significant(value: float) -> str:
    """A small difference with as many decimals as it needs, three at least.

    Example:
        >>> significant(0.28512), significant(0.0004321), significant(0.0)
        ('0.285', '0.00043', '0.000')
        >>> significant(7.5e-7)  # more decimals than a person reads
        '< 0.00001'
    """
    if 0 < abs(value) < _TINY:
        return f"< {decimals(_TINY, 5)}"
    if not math.isfinite(value) or value == 0:
        return decimals(value)
    return decimals(value, min(max(3, 1 - math.floor(math.log10(abs(value)))), 6))


def interval(low: float, high: float) -> str:
    """Two numbers, to the first digit in which they differ; one where six decimals do not tell them apart.

    Example:
        >>> interval(2.941, 2.950), interval(0.0033, 0.0037), interval(0.0135, 0.0135 + 3e-13)
        ('2.941 – 2.950', '0.0033 – 0.0037', '0.013')
    """
    if not high - low > _NOTHING:
        return decimals(low)
    digits = _digits(high - low)
    return f"{decimals(low, digits)} – {decimals(high, digits)}"


def with_error(value: float, error: float) -> str:
    """A value and its standard error, both to the first digit of the error, three decimals at least.

    Example:
        >>> with_error(2.21549, 0.0044), with_error(0.00702, 0.00091), with_error(0.5, float("inf"))
        ('2.215 ± 0.004', '0.0070 ± 0.0009', '0.500 ± ∞')
        >>> with_error(4.755, 1e-16)  # rounding
        '4.755 ± 0.000'
    """
    digits = _digits(error)
    return f"{decimals(value, digits)} ± {decimals(error, digits)}"


def _digits(size: float) -> int:
    """Decimals to the first digit of a size: three to six."""
    return min(max(3, math.ceil(-math.log10(size))), 6) if math.isfinite(size) and size > _NOTHING else 3


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds.

    Example:
        >>> duration(0.004), duration(41.2), duration(301.5)
        ('< 0.1 s', '41 s', '5 min 2 s')
    """
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 0.1:
        return "< 0.1 s"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count(number: int, what: str) -> str:
    """A number and its noun.

    Example:
        >>> count(1, "restart"), count(2000, "restart")
        ('1 restart', '2,000 restarts')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listing(items: list[str]) -> str:
    """Words in a row.

    Example:
        >>> listing(["a", "e", "i"]), listing(["a"])
        ('a, e and i', 'a')
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
