"""Topics on a map, and topics in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.errors import InputError
from probseq.plots.placement import Box, best_place, box_around, clash
from probseq.plots.style import PALETTE, Floats, figure_of, label, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probseq.topics import TopicReading

_AREA = 0.16  # of the map, that all circles take together
_ROW = 0.36  # inches for one topic in time
_LETTER = 5.0  # points that one letter takes at size 8, about
_LEADER = {"arrowstyle": "-", "color": PALETTE["muted"], "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0}
_SPOTS = np.array(  # of a name: the center, or on rings around it
    [(0.0, 0.0), *((r * np.cos(a), r * np.sin(a)) for r in (13, 22, 31) for a in np.arange(8) * np.pi / 4)]
)


@styled
def plot_topic_map(reading: TopicReading, width: float = 8.5, num_words: int = 3) -> Figure:
    """The topics in the plane, like beside like; the area of a circle is the topic's share of all words.

    Distances are near to the Jensen-Shannon distances between the distributions of words. The fuller a circle, the more
    of the other restarts have found the topic again; an empty one is luck. The words of a topic stand where there is
    room, the largest topics first.

    Args:
        reading: what `probseq.topics.read_topics` returned.
        width: inches.
        num_words: words written at a topic.
    """
    height = min(width, 5.5) * 0.8
    figure = new_figure(width, height)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    points, shares, again = reading.points, reading.prevalence, _again(reading)
    sizes = shares * _AREA * width * height * 72**2  # points squared
    order = reading.order
    x, y = points[order].T
    colors = [(PALETTE["stochastic"], 0.08 + 0.62 * again[k]) for k in order]
    axes.scatter(x, y, s=sizes[order], c=colors, edgecolors=PALETTE["stochastic"], linewidths=0.9)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.22, 0.2)
    axes.set_axis_off()
    words = [" ".join([str(k), *(label(w, 12) for w in reading.words["relevance"][k][:num_words])]) for k in order]
    _name_circles(axes, points[order], np.sqrt(sizes[order]) / 2, [str(k) for k in order], words)
    return figure


def _name_circles(axes: Axes, centers: Floats, radii: Floats, names: Sequence[str], words: Sequence[str]) -> None:
    """Write each name in its circle, or beside it with a line; the words where they cover no text, or not at all."""
    axes.autoscale_view()
    axes.apply_aspect()
    scale = figure_of(axes).dpi / 72
    points = axes.transData.transform(centers) / scale
    x0, y0, x1, y1 = (float(side) / scale for side in axes.bbox.extents)
    frame = (x0, y0, x1, y1)
    taken: list[Box] = []
    for name, center, point in zip(names, centers, points, strict=True):
        boxes = [box_around(point + spot, _LETTER * len(name) + 2, 9) for spot in _SPOTS]
        best = best_place(boxes, taken, frame)
        taken.append(boxes[best])
        _write(axes, name, center, _SPOTS[best], 8, _LEADER if best else None)
    circles = [box_around(point, 1.8 * radius, 1.8 * radius) for point, radius in zip(points, radii, strict=True)]
    for text, center, point, radius in zip(words, centers, points, radii, strict=True):
        half = 0.85 * _LETTER * len(text) / 2
        below, right = radius + 5, radius + half + 3
        spots = [(0, -below), (0, below), (right, 0), (-right, 0), (right, -8), (-right, -8), (right, 8), (-right, 8)]
        places = {spot: box_around(point + spot, 2 * half, 8) for spot in spots}
        free = [spot for spot, box in places.items() if clash(box, taken, frame) == 0]
        if free:
            best = best_place([places[spot] for spot in free], circles, frame)  # those of others would claim the words
            taken.append(places[free[best]])
            _write(axes, text, center, free[best], 7, None)


def _write(axes: Axes, text: str, center: Floats, spot: Any, size: float, leader: dict[str, Any] | None) -> None:
    at, offset = (center[0], center[1]), (spot[0], spot[1])
    axes.annotate(
        text, at, offset, textcoords="offset points", ha="center", va="center", fontsize=size, color=PALETTE["ink"],
        arrowprops=leader,
    )  # fmt: skip


def _again(reading: TopicReading) -> Floats:
    """``(K,)``: the share of the other restarts that have a topic again; 1 where there are none."""
    others = reading.agreement.num_others
    return reading.agreement.found / others if others else np.ones(reading.num_topics)


@styled
def plot_topics_over_time(reading: TopicReading, width: float = 8.5, max_topics: int = 20) -> Figure:
    """The share of each topic among the words of each span of time, one line of the page for each topic.

    All have one scale, the largest share of all. Topics stand in the order of the middle of their words, the earliest
    first.

    Args:
        reading: what `probseq.topics.read_topics` returned, with `times`.
        width: inches.
        max_topics: those with the largest share of all words, at most so many.

    Raises:
        InputError: a reading without times.
    """
    if reading.spans is None or reading.over_time is None:
        raise InputError("the topics were read without times; give read_topics the year of each document: times=...")
    spans, table = reading.spans, reading.over_time
    shown = reading.order[:max_topics]
    middle = [np.average(spans, weights=table[:, k]) if table[:, k].any() else 0.0 for k in shown]
    rows = shown[np.argsort(middle, kind="stable")]
    height = 0.45 + _ROW * (len(rows) + 0.3)
    figure = new_figure(width, height)
    left = 2.0 if width >= 6 else 1.35
    bottom = 0.3 / height
    axes = figure.add_axes((left / width, bottom, 1 - (left + 0.15) / width, 1 - bottom - 0.05))
    scale = 0.92 / float(table[:, rows].max())
    for place, k in enumerate(rows):
        base = -float(place)
        axes.fill_between(spans, base, base + scale * table[:, k], color=PALETTE["stochastic"], alpha=0.75, linewidth=0)
        axes.plot(spans, np.full(len(spans), base), color=PALETTE["rule"], linewidth=0.6)
    words = [reading.words["relevance"][k][: 3 if width >= 6 else 2] for k in rows]
    names = [f"{k}  {label(' '.join(one), 24 if width >= 6 else 16)}" for k, one in zip(rows, words, strict=True)]
    axes.set_yticks(-np.arange(len(rows)), names)
    axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=PALETTE["ink"])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(0.1 - len(rows), 1.05)
    axes.set_xlim(spans.min(), spans.max() if len(spans) > 1 else spans.min() + 1)
    return figure
