"""The page: everything is there, nothing from outside, all text is text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from fake_run import NASTY, fake_comparison, fake_models, fake_run

from probseq.data.vocabulary import Vocabulary
from probseq.models.ngram import Uniform
from probseq.report import render

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Tags, ids, references and texts of a page; raises where tags are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            self.references += re.findall(r"(?:^|url\()#([\w.-]+)", value or "") if name != "style" else []
            assert not name.startswith("on")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


@pytest.fixture(scope="module")
def html() -> str:
    return render(fake_run())  # type: ignore[arg-type]


def test_it_tells_the_story_in_order(html: str) -> None:
    sections = re.findall(r'<section id="(\w+)">', html)
    expected = ["ranking", "restarts", "sensitivity", "learning", "samples", "states", "cost", "method", "fits", "data"]
    assert sections == [*expected, "repeat"]
    assert re.findall(r'<a href="#(\w+)">', html) == sections
    for words in ("18 of its 20 restarts do", "probseq compare study.toml", "num_states = 2", "5 min 2 s", "torch"):
        assert words in html


def test_it_is_well_formed_and_small(html: str) -> None:
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert page.tags.count("svg") == 7 * 2 + 7
    assert page.tags.count("title") == 1 + 7 * 2 + 7
    assert "script" not in page.tags
    assert len(html.encode()) < 1_000_000


def test_nothing_comes_from_outside(html: str) -> None:
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?[^"'#\s]""", html)
    assert not re.search(r"@import|url\((?!#)|https?://", html)


def test_the_same_run_gives_the_same_page(html: str) -> None:
    assert render(fake_run()) == html  # type: ignore[arg-type]


def hostile_run() -> Any:
    """A run whose every text tries to leave its place."""
    run = fake_run(Vocabulary(tuple(f"{NASTY}{i}" for i in range(27)), "symbol"))
    models = {f"{name}{NASTY}": model for name, model in fake_models().items() if name in ("unigram", "hmm-16", "gru")}
    numbers = dict(zip(models, [(4.0, 0.0, 1.0), (3.0, 0.1, 2.0), (2.0, 0.1, 3.0)], strict=True))
    run.comparison = fake_comparison(models, numbers)
    run.fits, run.samples = run.comparison.fits, dict.fromkeys(models, NASTY)
    run.environment = {NASTY: NASTY}
    run.study.name = NASTY
    run.study.models = dict.fromkeys([*models, f"late{NASTY}"])
    run.study.model_dump = lambda **_: {"name": NASTY}
    object.__setattr__(run.corpus, "name", NASTY)
    object.__setattr__(run.corpus, "description", NASTY)
    return run


def test_text_from_the_data_stays_text() -> None:
    page = Page(html := render(hostile_run()))
    assert "script" not in page.tags
    assert "<script" not in html
    assert page.texts["pre"].count(NASTY) == 3
    assert any(NASTY in text for text in page.texts["code"])
    assert any(NASTY in text for text in page.texts["strong"])


def test_bounds_and_estimates_are_marked_and_explained() -> None:
    run = fake_run()
    run.comparison = fake_comparison(fake_models(), lstm="lower bound", gru="estimate")
    html = render(run)  # type: ignore[arg-type]
    row = re.search(r'title="lstm">.*?</tr>', html, re.DOTALL)
    assert row is not None
    assert "≤ 2." in row[0]
    assert "<td>–</td><td>lower bound</td>" in row[0]
    assert "A bound has no perplexity" in html
    assert "was estimated by sampling" in html
    assert "in nats per token: gru unknown and unknown" in html


def test_failures_are_visible() -> None:
    run = fake_run()
    run.fits["hmm-64"].stop_reason[0] = "nonfinite"
    html = render(run)  # type: ignore[arg-type]
    assert '<div class="notice" role="note">' in html
    assert '<span class="bad">1 × non-finite</span>' in html
    assert "4 × converged" in html


def test_a_time_limit_is_no_promise_of_the_same_numbers() -> None:
    run = fake_run()
    assert "the same numbers; only the times differ" in " ".join(render(run).split())  # type: ignore[arg-type]
    run.fits["gru"].stop_reason[0] = "max_seconds"
    told = " ".join(render(run).split())  # type: ignore[arg-type]
    assert "the same numbers, but for gru: a time limit ended its runs" in told
    assert "only the times differ" not in told


def test_a_run_of_one_baseline_has_only_what_there_is_to_show() -> None:
    run = fake_run(vocabulary=None)
    run.comparison = fake_comparison({"uniform": Uniform(27)})
    run.fits, run.samples = run.comparison.fits, {}
    run.study.models = run.fits
    html = render(run)  # type: ignore[arg-type]
    assert re.findall(r'<section id="(\w+)">', html) == ["ranking", "cost", "method", "fits", "data", "repeat"]
    assert Page(html).tags.count("svg") == 4
    assert "runner-up" not in html
    assert "Stochastic models" not in html
