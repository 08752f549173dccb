"""A matplotlib figure as an SVG element to put into a page."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from probseq.plots.style import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIABLES = {color: f"var(--{name})" for name, color in PALETTE.items()}
_COLOR = re.compile(r"#[0-9a-f]{6}\b")
_FONT = re.compile(r"font: ([\d.]+px) [^;]*|font-family: [^;]*;? ?")  # how matplotlib writes it depends on its version
_DIGITS = re.compile(r"(\.\d\d)\d+")
_REFERENCE = re.compile(r"#([\w.-]+)")


def inline_svg(figure: Figure, key: str, title: str, description: str = "") -> Markup:
    """`figure` as an SVG element that scales with the page, takes its colors and font from it, and has a title.

    Args:
        figure: what is drawn.
        key: unique in the page; every id in the element begins with it, because a page shares ids between elements.
        title: what a screen reader says.
        description: more of it.
    """
    root = ElementTree.fromstring(_draw(figure, key))
    for element in root.iter():
        _adapt(element, key)
    _drop_unused(root)
    labels = {tag: text for tag, text in (("title", title), ("desc", description)) if text}
    for place, (tag, text) in enumerate(labels.items()):
        child = ElementTree.Element(tag, {"id": f"{key}-{tag}"})
        child.text = text
        root.insert(place, child)
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update(viewBox=view, role="img", **{"aria-labelledby": " ".join(f"{key}-{tag}" for tag in labels)})
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # built, and so escaped, by ElementTree


def _draw(figure: Figure, key: str) -> str:
    import matplotlib

    target = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # the same input gives the same bytes
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts count, not ours
        figure.savefig(target, format="svg", metadata=nothing)
    return target.getvalue()


def _adapt(element: ElementTree.Element, key: str) -> None:
    """Names without namespaces, ids that are this figure's own, the page's colors and font, and two decimals."""
    element.tag = element.tag.rpartition("}")[2]
    for full in list(element.attrib):
        name, value = full.rpartition("}")[2], element.attrib.pop(full)
        if name == "id":
            value = f"{key}-{value}"
        elif name in ("href", "clip-path"):
            value = value.replace("#", f"#{key}-")
        elif name == "style":
            value = _FONT.sub(lambda found: f"font-size: {found[1]}" if found[1] else "", value)
            value = _COLOR.sub(lambda found: _VARIABLES.get(found[0], found[0]), value)
        else:
            value = " ".join(_DIGITS.sub(r"\1", value).split())
        element.set(name, value)
    if element.text is not None and not element.text.strip():
        element.text = None
    element.tail = None


def _drop_unused(root: ElementTree.Element) -> None:
    """Leave out what the page does not need: metadata, a style that would reach the whole page, unreferenced ids."""
    used = {
        found for element in root.iter() for name in ("href", "clip-path")
        for found in _REFERENCE.findall(element.get(name, ""))
    }  # fmt: skip
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
        if parent.get("id") not in used:
            parent.attrib.pop("id", None)
