"""Blocks of optimizer steps, against the shortest plain loop that does the same.

The two take turns, and who begins changes from round to round, so that whatever else the machine does slows both alike.
The ratio is the median over the rounds.
"""

import time
from statistics import median

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import probseq as ps

DATA = ps.Sequences.from_list(np.random.default_rng(0).integers(0, 27, (400, 256)))
NETWORKS = {
    "rnn": lambda: ps.RNN(27, hidden_dim=128),
    "gru": lambda: ps.GRU(27, hidden_dim=128),
    "lstm": lambda: ps.LSTM(27, hidden_dim=128),
    "transformer": lambda: ps.Transformer(27, num_layers=2, num_heads=4, embed_dim=64),
}
STEPS, BATCH = 30, 16
ROUNDS, WARMUP = 15, 1  # the first round of a process also builds what torch keeps
MOST = 1.05


def fit(net):
    """All that `fit_gradient` does, what it looks at before the first step included."""
    model = ps.Autoregressive([net])
    return lambda: ps.fit_gradient(model, DATA, num_steps=STEPS, batch_size=BATCH)


def plain_loop(net):
    values = torch.from_numpy(DATA.values.reshape(-1, 256))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)

    def train():
        for _ in range(STEPS):
            targets = values[torch.randint(len(values), (BATCH,))]
            inputs = torch.cat([torch.full((BATCH, 1), 27), targets[:, :-1]], dim=1)
            loss = F.cross_entropy(net(inputs)[0].flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()

    return train


def in_turns(ours, theirs):
    """Seconds of a block of each, round by round."""
    seconds = {ours: [], theirs: []}
    for number in range(WARMUP + ROUNDS):
        for block in (ours, theirs) if number % 2 else (theirs, ours):
            begin = time.perf_counter()
            block()
            seconds[block].append(time.perf_counter() - begin)
    return seconds[ours][WARMUP:], seconds[theirs][WARMUP:]


@pytest.mark.parametrize("name", NETWORKS)
def test_training_takes_no_longer_than_a_plain_loop(name, capsys):
    ours, theirs = in_turns(fit(NETWORKS[name]()), plain_loop(NETWORKS[name]()))
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    ratio, low, high = median(ratios), ratios[ROUNDS // 4], ratios[-1 - ROUNDS // 4]
    with capsys.disabled():
        print(f"\n\n{STEPS} training steps, {name}: probseq {median(ours):.2f} s, plain loop {median(theirs):.2f} s")
        print(f"  ratio {ratio:.3f}, half of the {ROUNDS} rounds between {low:.3f} and {high:.3f}")
    assert ratio <= MOST
