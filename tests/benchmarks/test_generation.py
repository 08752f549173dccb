"""512 tokens of one text, and of eight at once, with the state kept from token to token, and without.

Without it, everything is read again for each token.
"""

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


def cached(model, texts, generator):
    ps.generate(model, num_sequences=texts, max_length=LENGTH, generator=generator)


def uncached(model, texts, generator):
    """As `generate`, but the state of every step is computed from the beginning."""
    symbols = torch.zeros(texts, 0, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(LENGTH):
            state = model.state_after(symbols) if symbols.shape[1] else model.initial_state(texts)
            drawn = torch.multinomial(model.next_log_prob(state)[0].exp(), 1, generator=generator)
            symbols = torch.cat([symbols, drawn], dim=1)


@pytest.mark.parametrize("texts", [1, 8])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("who", ["cached", "uncached"])
def test_generate(benchmark, name, who, texts):
    benchmark.group = f"{LENGTH} tokens, {name}, texts at once: {texts}"
    model = MODELS[name]()
    how = {"cached": cached, "uncached": uncached}[who]
    benchmark.pedantic(lambda: how(model, texts, torch.Generator().manual_seed(0)), rounds=2, warmup_rounds=1)
    benchmark.extra_info |= {"rate": texts * LENGTH / benchmark.stats["min"], "unit": "tokens/s"}
