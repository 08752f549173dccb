"""Every example runs with ``--smoke`` and prints a comparison."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_with_smoke(path, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(path), "--smoke"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "nats/token" in done.stdout
    assert not list(tmp_path.iterdir())  # an example leaves nothing behind


def test_a_table_of_the_user(tmp_path):
    rows = "".join(f"{t},{10 * (t // 20 % 2) + t % 3},{'' if t == 7 else t % 5}\n" for t in range(200))
    (tmp_path / "my.csv").write_text("day,level,rest\n" + rows, encoding="utf-8")
    command = [sys.executable, EXAMPLES[0].parent / "hmm_series.py", "my.csv", "--column", "level,rest", "--smoke"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "level" in done.stdout
    assert "steps    181 to    200: state" in done.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 100
