"""512 tokens of one text, with the state kept from token to token, and without: everything is read again each time."""

import pytest
import torch

import probseq as ps

LENGTH = 512
MODELS = {
    "gru": lambda: ps.Autoregressive([ps.GRU(65, hidden_dim=256)]),
    "lstm": lambda: ps.Autoregressive([ps.LSTM(65, hidden_dim=256)]),
    "transformer": lambda: ps.Autoregressive(
        [ps.Transformer(65, num_layers=4, num_heads=4, embed_dim=128, context=LENGTH)]
    ),
}


def cached(model, generator):
    ps.generate(model, max_length=LENGTH, generator=generator)


def uncached(model, generator):
    """As `generate`, but the state of every step is computed from the beginning."""
    symbols = torch.zeros(1, 0, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(LENGTH):
            state = model.state_after(symbols) if symbols.shape[1] else model.initial_state(1)
            drawn = torch.multinomial(model.next_log_prob(state)[0].exp(), 1, generator=generator)
            symbols = torch.cat([symbols, drawn], dim=1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("who", ["cached", "uncached"])
def test_generate(benchmark, name, who):
    benchmark.group = f"{LENGTH} tokens, {name}"
    model = MODELS[name]()
    how = {"cached": cached, "uncached": uncached}[who]
    benchmark.pedantic(lambda: how(model, torch.Generator().manual_seed(0)), rounds=3, warmup_rounds=1)
    benchmark.extra_info |= {"rate": LENGTH / benchmark.stats["min"], "unit": "tokens/s"}
