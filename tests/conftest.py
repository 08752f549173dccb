"""Shared settings: one thread for determinism, a cache directory of the tests' own."""

import signal

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# A shell starts background jobs with Ctrl-C ignored, and the tests that press it would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("probseq", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("probseq")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path_factory):
    """No test reads or fills the user's cache, and none depends on the random state another left behind."""
    monkeypatch.setenv("PROBSEQ_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
