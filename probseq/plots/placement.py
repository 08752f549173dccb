"""Where a label can stand: boxes in points, and the first place that covers nothing."""

from __future__ import annotations

from collections.abc import Sequence

from probseq.plots.style import Floats

Box = tuple[float, float, float, float]  # left, bottom, right, top


def box_around(middle: Floats, wide: float, high: float) -> Box:
    """A box with its middle there."""
    x, y = float(middle[0]), float(middle[1])
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def best_place(boxes: Sequence[Box], taken: Sequence[Box], frame: Box) -> int:
    """The index of the first box that covers the least and is cut the least.

    Args:
        boxes: places to choose from.
        taken: what must not be covered.
        frame: what is outside is cut.
    """
    costs = [clash(box, taken, frame) for box in boxes]
    return costs.index(min(costs))


def clash(box: Box, taken: Sequence[Box], frame: Box) -> float:
    """The area that `box` shares with what is taken, and how far it sticks out of the frame."""
    shared = 0.0
    for left, bottom, right, top in taken:
        shared += max(0.0, min(box[2], right) - max(box[0], left)) * max(0.0, min(box[3], top) - max(box[1], bottom))
    outside = sum(max(0.0, frame[i] - box[i]) + max(0.0, box[i + 2] - frame[i + 2]) for i in (0, 1))
    return shared + 100 * outside
