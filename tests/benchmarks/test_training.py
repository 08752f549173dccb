"""Thirty optimizer steps, against the shortest plain loop that does the same. The figures in brackets are ratios."""

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
ROUNDS = {"rounds": 5, "warmup_rounds": 1}  # the first round of a process also builds what torch keeps


@pytest.mark.parametrize("name", NETWORKS)
def test_probseq(benchmark, name):
    benchmark.group = f"{STEPS} training steps, {name}"
    model = ps.Autoregressive([NETWORKS[name]()])
    benchmark.pedantic(lambda: ps.fit_gradient(model, DATA, num_steps=STEPS, batch_size=BATCH), **ROUNDS)


@pytest.mark.parametrize("name", NETWORKS)
def test_plain_loop(benchmark, name):
    benchmark.group = f"{STEPS} training steps, {name}"
    net = NETWORKS[name]()
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

    benchmark.pedantic(train, **ROUNDS)
