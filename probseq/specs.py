"""What a study says about one model: a class per kind, with its settings, `build` and `fit`.

A new kind is one class here and one line in `ModelSpec`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probseq.data.corpus import Corpus
from probseq.inference.counts import fit_counts
from probseq.inference.em import em
from probseq.inference.gradient import fit_gradient
from probseq.inference.run import Fit
from probseq.models import emissions
from probseq.models.autoregressive import Autoregressive, Network
from probseq.models.base import Model
from probseq.models.hmm import HMM
from probseq.models.ngram import NGram, Uniform, Unigram
from probseq.models.recurrent import GRU, LSTM, RNN
from probseq.models.transformer import Transformer

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

_UNLIMITED_STEPS = 10**6  # where only seconds are given


class Settings(BaseModel):
    """Values out of a TOML file: no unknown keys, no silent conversions, nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BaseSpec(Settings):
    """What every kind can do."""

    @model_validator(mode="before")
    @classmethod
    def _seconds_alone(cls, values: Any) -> Any:
        """A budget in seconds alone is not cut short by the default number of steps."""
        if isinstance(values, dict) and values.get("seconds") is not None and "num_steps" in cls.model_fields:
            return {"num_steps": _UNLIMITED_STEPS, **values}
        return values

    def build(self, num_symbols: int, seed: int) -> Model:
        """The model at its starting points."""
        raise NotImplementedError

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        """Fit `model` to the training part; only choices are made on the validation part."""
        raise NotImplementedError


class CountSpec(BaseSpec):
    """What is fitted by counting."""

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        return fit_counts(model, corpus.train, corpus.validation)


class UniformSpec(CountSpec):
    """Every symbol has probability 1 / V."""

    kind: Literal["uniform"] = "uniform"

    def build(self, num_symbols: int, seed: int) -> Model:
        return Uniform(num_symbols)


class UnigramSpec(CountSpec):
    """Every symbol has its share of the training data."""

    kind: Literal["unigram"] = "unigram"
    concentration: Positive = Field(1.0, description="added to every count")

    def build(self, num_symbols: int, seed: int) -> Model:
        return Unigram(num_symbols, concentration=self.concentration)


class NGramSpec(CountSpec):
    """Interpolated Kneser-Ney; the order is chosen on validation."""

    kind: Literal["ngram"] = "ngram"
    max_order: Count = Field(8, description="the highest order that is tried")

    def build(self, num_symbols: int, seed: int) -> Model:
        return NGram(num_symbols, max_order=self.max_order)


class HMMSpec(BaseSpec):
    """A hidden Markov model with categorical emissions, fitted by EM.

    The concentrations are those of Dirichlet priors. A little above 1, so that a symbol or a step that training never
    saw keeps a positive probability.
    """

    kind: Literal["hmm"] = "hmm"
    num_states: Count
    num_restarts: Count = Field(10, description="runs from different starting points, all kept")
    start: str = Field("dirichlet", description="how starting points are drawn")
    initial_concentration: Annotated[float, Field(ge=1)] = 1.1
    transition_concentration: Annotated[float, Field(ge=1)] = 1.1
    emission_concentration: Annotated[float, Field(ge=1)] = 1.1
    tol: Annotated[float, Field(ge=0)] = Field(1e-6, description="stop at a smaller gain, relative to the objective")
    num_steps: Count = Field(200, description="EM steps at most; a million where only seconds is set")
    seconds: Positive | None = Field(None, description="wall-clock budget of all restarts together")

    def build(self, num_symbols: int, seed: int) -> Model:
        return HMM(
            num_states=self.num_states,
            emission=emissions.Categorical(num_symbols, concentration=self.emission_concentration),
            num_restarts=self.num_restarts,
            seed=seed,
            start=self.start,
            initial_concentration=self.initial_concentration,
            transition_concentration=self.transition_concentration,
        )

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        return em(
            model,
            corpus.train,
            num_steps=self.num_steps,
            tol=self.tol,
            seconds=self.seconds,
            device=device,
            progress=progress,
        )


class NetworkSpec(BaseSpec):
    """What every network shares: restarts, and the settings of AdamW with warm-up and cosine decay."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    num_restarts: Count = Field(3, description="runs from different starting points, all kept")
    num_steps: Count = Field(2000, description="updates at most; a million where only seconds is set")
    seconds: Positive | None = Field(None, description="wall-clock budget of all restarts together")
    batch_size: Count = Field(64, description="sequences in one update")
    learning_rate: Positive = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: Positive = Field(1.0, description="the largest norm of a network's gradient")
    eval_every: Count = Field(100, description="updates between two looks at the validation data")
    patience: Count = Field(5, description="looks in a row without improvement before a restart stops")

    def network(self, num_symbols: int) -> Callable[[], Network]:
        """A function that makes one fresh network."""
        raise NotImplementedError

    def build(self, num_symbols: int, seed: int) -> Model:
        return Autoregressive.from_seed(self.network(num_symbols), num_restarts=self.num_restarts, seed=seed)

    def fit(self, model: Any, corpus: Corpus, *, seed: int, device: str, progress: bool | None) -> Fit[Any]:
        return fit_gradient(
            model,
            corpus.train,
            validation=corpus.validation,
            num_steps=self.num_steps,
            seconds=self.seconds,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup_steps,
            schedule=self.schedule,
            clip_norm=self.clip_norm,
            patience=self.patience,
            eval_every=self.eval_every,
            seed=seed,
            device=device,
            progress=progress,
        )


class RecurrentSpec(NetworkSpec):
    """What the recurrent networks share."""

    hidden_dim: Count = 128
    num_layers: Count = 1
    embed_dim: Count | None = Field(None, description="default: one-hot up to 256 symbols, else the hidden size")
    layer: ClassVar[Callable[..., Network]]

    def network(self, num_symbols: int) -> Callable[[], Network]:
        return lambda: type(self).layer(
            num_symbols,
            hidden_dim=self.hidden_dim,
            num_layers=self.num_layers,
            embed_dim=self.embed_dim,
            dropout=self.dropout,
        )


class RNNSpec(RecurrentSpec):
    """An Elman network: h_t = tanh(W x_t + U h_{t-1} + b)."""

    kind: Literal["rnn"] = "rnn"
    layer = RNN


class GRUSpec(RecurrentSpec):
    """A network of gated recurrent units."""

    kind: Literal["gru"] = "gru"
    layer = GRU


class LSTMSpec(RecurrentSpec):
    """A long short-term memory."""

    kind: Literal["lstm"] = "lstm"
    layer = LSTM


class TransformerSpec(NetworkSpec):
    """A decoder-only transformer."""

    kind: Literal["transformer"] = "transformer"
    num_layers: Count = 2
    num_heads: Count = 4
    embed_dim: Count = 128
    context: Count = Field(256, description="tokens that one position attends to, itself included")
    learning_rate: Positive = 1e-3

    def network(self, num_symbols: int) -> Callable[[], Network]:
        return lambda: Transformer(
            num_symbols,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            embed_dim=self.embed_dim,
            context=self.context,
            dropout=self.dropout,
        )


ModelSpec = Annotated[
    UniformSpec | UnigramSpec | NGramSpec | HMMSpec | RNNSpec | GRUSpec | LSTMSpec | TransformerSpec,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[BaseSpec]] = {
    spec.model_fields["kind"].default: spec
    for spec in (UniformSpec, UnigramSpec, NGramSpec, HMMSpec, RNNSpec, GRUSpec, LSTMSpec, TransformerSpec)
}
