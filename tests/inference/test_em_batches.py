"""The room that an E-step takes follows a budget, and its results do not depend on it."""

import numpy as np
import pytest
import torch

import probseq as ps
from probseq.inference import em_step

STATES, RESTARTS = 3, 4
ROW = 3 * STATES * 8  # bytes that one restart holds for one token
LENGTHS = {"many": [5, 9, 7, 3, 8, 9, 2, 6, 4, 9], "one long": [60, 4]}


def series(lengths):
    rng = np.random.default_rng(0)
    return ps.Sequences.from_list([rng.normal(size=(n, 2)) + 3 * rng.integers(0, 2, (n, 1)) for n in lengths])


def model(emission):
    return ps.HMM(STATES, emission, num_restarts=RESTARTS, start="kmeans" if emission.num_symbols == 0 else "dirichlet")


@pytest.fixture
def seen(monkeypatch):
    """Restarts and tokens of every E-step."""
    calls, plain = [], ps.HMM.e_step

    def noted(self, batch):
        calls.append((self.num_restarts, batch.mask.numel()))
        return plain(self, batch)

    monkeypatch.setattr(ps.HMM, "e_step", noted)
    return calls


@pytest.mark.parametrize("options", [{}, {"accelerate": True}, {"minibatch": 2}], ids=str)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_results_do_not_depend_on_the_budget(monkeypatch, seen, lengths, options):
    data, fitted = series(LENGTHS[lengths]), []
    for budget in (2**30, 20 * ROW * RESTARTS):
        monkeypatch.setattr(em_step, "_TABLE_BYTES", budget)
        fitted.append(model(ps.emissions.Gaussian(2)))
        seen.clear()
        ps.em(fitted[-1], data, num_steps=5, **options)
        assert all(restarts * tokens * ROW <= budget for restarts, tokens in seen)
    split = {restarts for restarts, _ in seen}
    assert split == ({RESTARTS} if lengths == "many" else {1, RESTARTS})
    for one, other in zip(*(m.parameters() for m in fitted), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_symbols_share_a_table_and_are_not_split(monkeypatch, seen):
    monkeypatch.setattr(em_step, "_TABLE_BYTES", 1)
    ps.em(model(ps.emissions.Categorical(3)), ps.Sequences.from_list([[0, 1, 2]] * 9), num_steps=1)
    assert seen == [(RESTARTS, 27)]
