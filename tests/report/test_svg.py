"""Figures inside a page: their own ids, the page's colors and font, escaped text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from fake_run import NUMBERS, fake_comparison
from matplotlib.figure import Figure

from probseq import plots
from probseq.models.ngram import Uniform
from probseq.report.svg import inline_svg


def ranking(name: str = "uniform") -> Figure:
    return plots.plot_ranking(fake_comparison({name: Uniform(27)}, {name: NUMBERS["uniform"]}))


def test_two_figures_share_no_id_and_every_reference_resolves() -> None:
    ids: list[str] = []
    for key in ("first", "second"):
        root = ElementTree.fromstring(inline_svg(ranking(), key, "A title", "More"))
        own = [e.get("id", "") for e in root.iter() if e.get("id")]
        used = re.findall(r"#([\w.-]+)", " ".join(v for e in root.iter() for v in e.attrib.values()))
        assert used
        assert set(used) <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_it_scales_and_says_what_it_is() -> None:
    root = ElementTree.fromstring(inline_svg(ranking(), "key", "A <title>", "More & more"))
    assert set(root.attrib) == {"viewBox", "role", "aria-labelledby"}
    assert root.findtext("title") == "A <title>"
    assert root.findtext("desc") == "More & more"
    assert root.get("aria-labelledby") == "key-title key-desc"


def test_colors_and_font_are_the_page_s() -> None:
    text = str(inline_svg(ranking(), "key", "A title"))
    assert "var(--ink)" in text
    assert not re.search(r"#[0-9a-f]{6}\b|font-family|DejaVu|metadata|<style|xmlns|<\?xml", text)


def test_the_same_figure_gives_the_same_text() -> None:
    assert inline_svg(ranking(), "key", "t") == inline_svg(ranking(), "key", "t")


@pytest.mark.parametrize("name", ["<script>x</script>", "a&b", "$a$", "語る", "nul\x00", '"quoted"'])
def test_names_are_text(name: str) -> None:
    text = inline_svg(ranking(name), "key", "A title")
    assert "<script" not in text
    shown = [e.text for e in ElementTree.fromstring(text).iter("text")]
    assert name.replace("\x00", "\\x00") in shown
