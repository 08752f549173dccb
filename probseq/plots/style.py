"""What all figures share: colors by meaning, type sizes, and text that can be drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probseq.models.base import SequenceModel

P = ParamSpec("P")
T = TypeVar("T")
Floats = NDArray[np.float64]

PALETTE = {
    "ink": "#1f2430",
    "muted": "#626978",
    "rule": "#dcdfe5",
    "paper": "#fffffe",
    "baseline": "#7c818c",
    "stochastic": "#c4540a",
    "deterministic": "#1a6db5",
    "state-0": "#d18800",
    "state-1": "#6b4fb3",
    "state-2": "#00876a",
    "state-3": "#c0448a",
    "state-4": "#3596c9",
    "state-5": "#7d8412",
}
"""Every color in the figures, by its meaning. The report swaps each for a variable that knows light and dark."""

MARKERS = {"baseline": "s", "stochastic": "o", "deterministic": "D"}

_STYLE: dict[str, Any] = {
    "font.family": ["sans-serif"],
    "font.size": 10,
    "text.usetex": False,
    "text.parse_math": True,
    "text.color": PALETTE["ink"],
    "axes.labelcolor": PALETTE["muted"],
    "axes.labelsize": 9,
    "axes.edgecolor": PALETTE["rule"],
    "axes.facecolor": "none",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "figure.edgecolor": "none",
    "grid.color": PALETTE["rule"],
    "grid.linewidth": 0.6,
    "savefig.facecolor": "none",
    "savefig.edgecolor": "none",
    "xtick.color": PALETTE["rule"],
    "ytick.color": PALETTE["rule"],
    "xtick.labelcolor": PALETTE["muted"],
    "ytick.labelcolor": PALETTE["muted"],
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Unit:
    """What a log-probability is shown in.

    Attributes:
        word: bits or nats.
        token: what one of them is for.
        nats: how many nats make one.
    """

    word: str
    token: str
    nats: float

    @property
    def name(self) -> str:
        """The whole: bits per token."""
        return f"{self.word} per {self.token}"


def unit_of(model: SequenceModel) -> Unit:
    """Bits per token for symbols; nats per step for vectors, whose densities count no alternatives."""
    return Unit("bits", "token", math.log(2)) if model.support[0] == "symbols" else Unit("nats", "step", 1.0)


def styled(plot: Callable[P, T]) -> Callable[P, T]:
    """Run `plot` under this package's style; the caller's settings are as they were afterwards."""

    @wraps(plot)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            return plot(*args, **kwargs)

    return inside


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, outside pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def panel_grid(count: int, width: float, columns: int, height: float = 2.15) -> tuple[Figure, list[Axes]]:
    """A figure of `count` small panels, at most `columns` side by side, each row `height` inches."""
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    height *= lines
    figure = new_figure(width, height)
    panels = [figure.add_subplot(lines, columns, i + 1) for i in range(count)]
    figure.subplots_adjust(
        left=0.68 / width, right=1 - 0.1 / width, bottom=0.42 / height, top=1 - 0.28 / height,
        wspace=0.95 * columns / width, hspace=0.55,
    )  # fmt: skip
    return figure, panels


def figure_of(axes: Axes) -> Figure:
    """The figure that `axes` are in."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise RuntimeError("these axes were taken out of their figure")
    return figure


def widen(axes: Axes, axis: Literal["x", "y"], least: float) -> None:
    """Make an axis span that much at least, so that rounding does not look like a spread."""
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    if high - low < least:
        limits = (low + high - least) / 2, (low + high + least) / 2
        axes.set(**{f"{axis}lim": limits})


def log_steps(axes: Axes) -> None:
    """A logarithmic axis of steps with a number at each decade, and at 2 and 5 times it where there is but one."""
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    low, high = np.log10(axes.get_xlim())
    if math.floor(high) <= math.ceil(low):
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(compact)
    axes.minorticks_off()


def compact(number: float, _position: float = 0) -> str:
    """A round number on an axis: ``0.001``, ``10``, ``50k``, ``2M``. Matplotlib also passes the tick's position."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def family(model: object) -> Literal["baseline", "stochastic", "deterministic"]:
    """What kind of hidden state a model has: none (or a single one), one that is drawn, or one that is computed."""
    from probseq.models.network_model import NetworkModel
    from probseq.transduction import has_states

    if isinstance(model, NetworkModel):
        return "stochastic" if has_states(model) else "deterministic"
    return "baseline" if is_counted(model) or getattr(model, "num_states", 2) == 1 else "stochastic"


def is_counted(model: object) -> bool:
    """Whether a model is fitted by counting, so that there is no course to show."""
    from probseq.models.cache import CacheUnigram
    from probseq.models.ngram import NGram, Uniform, Unigram

    return isinstance(model, (Uniform, Unigram, CacheUnigram, NGram))


def symbol_label(symbol: object) -> str:
    r"""A symbol as it can be seen: ``␣`` for a space, an escape for what cannot be printed.

    Example:
        >>> [symbol_label(s) for s in ("a", " ", "two words", chr(10), "<end>")]
        ['a', '␣', 'two words', '\\n', '<end>']
    """
    text = str(symbol)
    return "␣" if text == " " else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def visible(text: str) -> str:
    r"""Text with its control characters as escapes, for a page; line ends and tabs stay.

    Example:
        >>> visible("a\x00b")
        'a\\x00b'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def label(text: object, longest: int = 20) -> str:
    """`text` for matplotlib: visible, cut in the middle, and with no dollar read as mathematics."""
    shown = symbol_label(text)
    if len(shown) > longest:
        shown = f"{shown[: longest // 2]}…{shown[1 - longest + longest // 2 :]}"
    return shown.replace("$", r"\$")
