"""A run as `run_study` returns it, with plausible numbers and nothing fitted: the report is tested alone."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from probseq.compare import Comparison
from probseq.data.corpus import Corpus
from probseq.data.sequences import Sequences
from probseq.data.vocabulary import Vocabulary
from probseq.evaluate import Score
from probseq.inference.counts import fit_counts
from probseq.inference.run import Fit
from probseq.models.autoregressive import Autoregressive
from probseq.models.emissions import Categorical
from probseq.models.hmm import HMM
from probseq.models.ngram import NGram, Uniform, Unigram
from probseq.models.recurrent import GRU, LSTM, RNN
from probseq.models.transformer import Transformer

LETTERS = Vocabulary.build([], "letters")
NASTY = "</pre><script>alert(1)</script>&"
LOST = (4, 11)  # the restarts of hmm-2 that ended elsewhere
# bits per token, spread over restarts, seconds
NUMBERS = {
    "uniform": (4.755, 0.0, 0.001),
    "unigram": (4.094, 0.0, 0.01),
    "ngram": (2.318, 0.0, 3.1),
    "hmm-2": (3.958, 0.002, 9.0),
    "hmm-16": (3.291, 0.05, 38.0),
    "hmm-64": (2.903, 0.02, 64.0),
    "rnn": (2.402, 0.012, 31.0),
    "gru": (2.221, 0.006, 44.0),
    "lstm": (2.214, 0.007, 41.0),
    "transformer": (2.306, 0.02, 52.0),
}
_FREQUENCY = (
    *(6.5, 1.2, 2.6, 3.0, 10.2, 1.9, 1.4, 4.1, 6.0, 0.13, 0.4, 3.1, 2.0),
    *(6.1, 6.3, 1.7, 0.1, 5.1, 5.2, 8.1, 2.1, 0.9, 1.2, 0.2, 1.5, 0.06, 17.0),
)  # per cent


def emissions(separates: bool) -> torch.Tensor:
    """Two states over the 27 letters: vowels and the space against consonants, or an even number against an odd one."""
    frequency = torch.tensor(_FREQUENCY, dtype=torch.float64)
    inside = [c in "aeiou" if separates else i % 2 == 1 for i, c in enumerate(LETTERS.symbols)]
    first = torch.tensor([0.97 if one else 0.02 for one in inside])
    first[-1], first[24] = 0.73, 0.55
    rows = torch.stack([frequency * first, frequency * (1 - first)])
    return rows / rows.sum(dim=-1, keepdim=True)


def two_state_hmm(num_restarts: int = 20, lost: tuple[int, ...] = LOST) -> HMM:
    """An HMM whose restarts separate vowels from consonants, but for those in `lost`."""
    model = HMM(2, Categorical(27), num_restarts)
    table = torch.stack([emissions(r not in lost) for r in range(num_restarts)])
    steps = torch.tensor([[0.21, 0.79], [0.70, 0.30]], dtype=torch.float64).expand(num_restarts, 2, 2)
    model.load_state_dict({**model.state_dict(), "emission.logits": table.log(), "log_transition": steps.log()})
    return model


def fake_models() -> dict[str, Any]:
    """Unfitted models of each kind, small, with the numbers of restarts of the preset."""
    models: dict[str, Any] = {"uniform": Uniform(27), "unigram": Unigram(27), "ngram": counted_ngram()}
    models |= {"hmm-2": two_state_hmm(), "hmm-16": HMM(16, Categorical(27), 20), "hmm-64": HMM(64, Categorical(27), 5)}
    nets: dict[str, Any] = {"rnn": RNN(27, 198), "gru": GRU(27, 112), "lstm": LSTM(27, 96)}
    nets["transformer"] = Transformer(27, num_layers=2, num_heads=2, embed_dim=44, context=256)
    return models | {name: Autoregressive([copy.deepcopy(net) for _ in range(3)]) for name, net in nets.items()}


def counted_ngram() -> NGram:
    """An n-gram of a short random text."""
    text = np.random.default_rng(0).integers(0, 27, 3000)
    return fit_counts(NGram(27, max_order=3), Sequences.from_list([text])).model


def fake_fit(name: str, model: Any, bits: np.ndarray, seconds: float, rng: np.random.Generator) -> Fit[Any]:
    """A course from the uniform distribution to `bits`, EM's with stops at different steps, a gradient's with noise."""
    restarts = len(bits)
    if restarts == 1:
        return Fit(model, "log-likelihood per token (nats)", -bits[None] * math.log(2), ["converged"], seconds)
    steps = np.arange(1, (201 if name.startswith("hmm") else 1501))[:, None]
    speed = rng.uniform(0.7, 1.6, restarts)
    stops = rng.integers(60, 200, restarts) if name.startswith("hmm") else len(steps)
    left = [1 / (1 + (at / 12) ** speed) for at in (1, steps, stops)]  # of the way to go: at first, on the way, at last
    course = bits + (4.3 - bits) * (left[1] - left[2]) / (left[0] - left[2])
    if name.startswith("hmm"):
        history = np.where(steps <= stops, -course * math.log(2), np.nan)
        return Fit(model, "log-posterior per token (nats)", history, ["converged"] * restarts, seconds)
    looks = steps[99::100, 0]
    noise = rng.normal(0, 0.05, course.shape)
    return Fit(
        model, "log-likelihood per token (nats)", -(course + noise) * math.log(2), ["max_steps"] * restarts, seconds,
        looks, -(course[looks - 1] + 0.03) * math.log(2),
    )  # fmt: skip


def fake_score(bits: np.ndarray, likelihood: Any, rng: np.random.Generator) -> Score:
    """200 sequences of 256 tokens with a mean of `bits` per token; some are harder than others, for every model."""
    lengths = np.full(200, 256)
    hard = np.random.default_rng(1).normal(0, 0.03, len(lengths))
    noise = rng.normal(0, 0.004, (len(bits), len(lengths)))
    nats = bits[:, None] * math.log(2) * (1 + hard - hard.mean() + noise - noise.mean(axis=1, keepdims=True))
    return Score(-nats * lengths, lengths, np.ones(len(lengths)), likelihood)


def fake_comparison(models: dict[str, Any], numbers: dict[str, Any] | None = None, **likelihood: str) -> Comparison:
    """A comparison of these models with these numbers; likelihoods that are not exact are given by name."""
    rng = np.random.default_rng(0)
    test, fits = {}, {}
    for name, model in models.items():
        mean, spread, seconds = (numbers or NUMBERS)[name]
        bits = mean + np.abs(rng.normal(0, spread, model.num_restarts))
        bits[list(LOST) if name == "hmm-2" else []] += 0.094
        test[name] = fake_score(bits, likelihood.get(name, "exact"), rng)
        fits[name] = fake_fit(name, model, bits, seconds, rng)
    chosen = {name: int(np.argmin(score.nats_per_token)) for name, score in test.items()}
    return Comparison(models, test, test, chosen, fits)


def fake_corpus(vocabulary: Vocabulary | None = LETTERS) -> Corpus:
    """200 windows of 256 random letters in each part."""
    symbols = np.random.default_rng(0).integers(0, 27, 200 * 256).astype(np.uint8)
    part = Sequences(symbols, np.arange(201) * 256)
    documents = {"train": 199, "validation": 25, "test": 25}
    level = "symbol" if vocabulary is None else vocabulary.level
    return Corpus("sotu", level, part, part, part, vocabulary, documents, "State of the Union addresses, by document.")


class FakeStudy:
    """As much of a `Study` as the report reads."""

    name = "letters"
    seed = 0
    models = dict.fromkeys(NUMBERS)

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """The study as plain values."""
        data = {"corpus": "sotu", "window": 256}
        return {"name": "letters", "seed": 0, "data": data, "models": {"hmm-2": {"kind": "hmm", "num_states": 2}}}


def fake_run(vocabulary: Vocabulary | None = LETTERS) -> SimpleNamespace:
    """The whole run, with the ten models of the preset."""
    comparison = fake_comparison(fake_models())
    words = "the president of the united states and the congress shall have the power to secure the peace "
    return SimpleNamespace(
        study=FakeStudy(), corpus=fake_corpus(vocabulary), fits=comparison.fits, comparison=comparison, seconds=301.5,
        environment={"probseq": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "device": "cpu", "threads": "2"},
        samples={name: (words * 4)[i : i + 300] for i, name in enumerate(comparison.models)}, interrupted=False,
        counted=None,
        errors={},
    )  # fmt: skip


if __name__ == "__main__":
    import sys
    from pathlib import Path

    from probseq.report import render

    Path(sys.argv[1]).write_text(render(fake_run()), encoding="utf-8")  # type: ignore[arg-type]
