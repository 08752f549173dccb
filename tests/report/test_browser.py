"""The page as a browser lays it out: at desktop and at phone width, light and dark."""

from __future__ import annotations

import html as escaping
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fake_run import fake_run

from probseq.report import render

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--hide-scrollbars", "--virtual-time-budget=10000", "--dump-dom"),
    "--window-size=1400,1000",
]
SHADE = {"dark": 0, "light": 1}  # how Blink counts them

# A browser window cannot be as narrow as a phone, so the page is measured inside a frame, and tells the outside.
FRAME = """<!DOCTYPE html><body style="margin:0">
<iframe src="report.html" style="width:{width}px;height:900px;border:0"></iframe><pre id="measured"></pre>
<script>onmessage = event => document.getElementById("measured").textContent = JSON.stringify(event.data)</script>"""
MEASURE = """<script>
var problems = [];
addEventListener("error", event => problems.push(String(event.message || event.target.outerHTML)), true);
addEventListener("load", () => {
  const root = document.documentElement, shown = element => element.getBoundingClientRect().width > 0;
  const svgs = [...document.querySelectorAll("svg")].filter(shown);
  const cut = svgs.flatMap(svg => [...svg.querySelectorAll("text")].filter(text => {
    const inner = text.getBoundingClientRect(), outer = svg.getBoundingClientRect();
    return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1 ||
      inner.bottom > outer.bottom + 1;
  }).map(text => svg.getAttribute("aria-labelledby") + ": " + text.textContent));
  const wide = [...document.querySelectorAll("main *")].filter(element => shown(element) && !element.closest(".scroll")
    && element.getBoundingClientRect().right > innerWidth + 0.5).map(element => element.outerHTML.slice(0, 80));
  const scrolling = [...document.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth + 1);
  const texts = svgs.flatMap(svg => [...svg.querySelectorAll("text")]);
  const fills = [...new Set(texts.map(text => getComputedStyle(text).fill))];
  const page = getComputedStyle(document.body).backgroundColor;
  parent.postMessage({problems, cut, wide, fills, page, svgs: svgs.length, width: innerWidth,
    content: root.scrollWidth, scrolling: scrolling.length}, "*");
});
</script>"""


@cache
def page() -> str:
    return render(fake_run())  # type: ignore[arg-type]


def measure(folder: Path, width: int, shade: str) -> dict[str, Any]:
    """What a browser finds when it lays the report out."""
    if BROWSER is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    measured = page().replace("<body>", f"<body>{MEASURE}")
    (folder / "report.html").write_text(measured, encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    profile, scheme = f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={SHADE[shade]}"
    command = [BROWSER, *FLAGS, profile, scheme, (folder / "frame.html").as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True)
    found = re.search(r'<pre id="measured">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    return dict(json.loads(escaping.unescape(found[1])))


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colors ``rgb(r, g, b)``, as WCAG defines it."""

    def luminance(color: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("width", "shade"), [(1280, "light"), (390, "light"), (390, "dark")])
def test_nothing_overflows_is_cut_or_unreadable(tmp_path: Path, width: int, shade: str) -> None:
    seen = measure(tmp_path, width, shade)
    assert seen["width"] == width
    assert seen["content"] <= width
    assert (seen["problems"], seen["wide"], seen["cut"]) == ([], [], [])
    assert seen["svgs"] == 7 + 7
    assert (contrast(seen["page"], "rgb(0, 0, 0)") > 10) == (shade == "light")
    assert min(contrast(seen["page"], fill) for fill in seen["fills"]) >= 4.5
    if width == 1280:
        assert seen["scrolling"] == 0
