"""Small fits with checkpoints, ways to stop them, and what it means that two are the same."""

import numpy as np
import pytest
import torch

import probseq as ps

SETTINGS = {"num_steps": 24, "batch_size": 8, "learning_rate": 0.02, "warmup_steps": 4, "eval_every": 5, "patience": 2}


def counting(num=30, seed=0, symbols=4):
    rng = np.random.default_rng(seed)
    rows = [np.cumsum(rng.choice([1, 2], p=[0.9, 0.1], size=rng.integers(4, 12))) % symbols for _ in range(num)]
    return ps.Sequences.from_list(rows, source=ps.Sequences.from_list([row[::2] for row in rows]))


def gru(restarts=2, hidden_dim=6, dropout=0.2, symbols=4):
    return ps.Autoregressive.from_seed(lambda: ps.GRU(symbols, hidden_dim=hidden_dim, dropout=dropout), restarts)


def transformer():
    sizes = {"num_layers": 1, "num_heads": 2, "embed_dim": 8, "context": 6}
    return ps.Autoregressive.from_seed(lambda: ps.Transformer(4, **sizes, positions="learned", dropout=0.2), 2)


def lstm():
    return ps.Autoregressive.from_seed(lambda: ps.LSTM(4, hidden_dim=6, num_layers=2, dropout=0.2), 2)


def update_gate():
    return ps.Autoregressive.from_seed(lambda: ps.UpdateGateRNN(4, hidden_dim=6, dropout=0.2), 2)


def seq2seq():
    return ps.Conditional.from_seed(lambda: ps.Seq2Seq(4, 4, attention="dot", hidden_dim=6, dropout=0.2), 2)


def hmm():
    return ps.HMM(2, ps.emissions.Categorical(4, concentration=1.1), num_restarts=2)


def fit(folder, model=None, **options):
    return ps.fit_gradient(
        gru() if model is None else model,
        counting(),
        counting(10, seed=1),
        **{**SETTINGS, "checkpoint": folder, "checkpoint_every": 3, **options},
    )


class Stop(Exception):
    """Stands for whatever ends a process."""


def fit_until(monkeypatch, step, folder, model=None, **options):
    """A fit that is torn from the machine in the middle of a step."""
    update = torch.optim.AdamW.step
    calls = []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == step:
            raise Stop
        return update(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", dies)
        with pytest.raises(Stop):
            fit(folder, model, **options)


def same_files(one, other, name="step-*"):
    found = [sorted(folder.glob(name)) for folder in (one, other)]
    assert [path.name for path in found[0]] == [path.name for path in found[1]] != []
    for first, second in zip(*found, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


def same_fit(one, other):
    for name in ("history", "validation", "validation_steps"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    assert np.array_equal(one.details["gradient_norm"], other.details["gradient_norm"], equal_nan=True)
    assert one.stop_reason == other.stop_reason
    for (key, first), second in zip(one.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.equal(first, second), key
