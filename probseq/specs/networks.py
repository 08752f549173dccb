"""Models whose hidden state is computed, fitted by gradient ascent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from probseq.data.corpus import Corpus
from probseq.inference.gradient import Diverged, fit_gradient
from probseq.inference.run import Fit
from probseq.models.autoregressive import Autoregressive, Network
from probseq.models.base import Model
from probseq.models.recurrent import GRU, LSTM, RNN, UpdateGateRNN
from probseq.models.transformer import Transformer
from probseq.specs.base import BaseSpec, Count, EmissionSpec, Positive

METRICS = "metrics.jsonl"


class GradientSpec(BaseSpec):
    """What every network shares: restarts, and the settings of AdamW with warm-up and cosine decay."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    num_restarts: Count = Field(3, description="runs from different starting points, all kept")
    num_steps: Count = Field(2000, description="updates at most; no limit where only another budget is set")
    num_tokens: Count | None = Field(None, description="training tokens at most")
    seconds: Positive | None = Field(None, description="wall-clock budget of all restarts together")
    snapshots: list[Positive] | None = Field(
        None, description="seconds after which a copy is set aside, which is compared as NAME-at-60s"
    )
    batch_size: Count = Field(64, description="sequences in one batch")
    accumulate: Count = Field(1, description="batches in one update")
    learning_rate: Positive = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: Positive = Field(1.0, description="the largest norm of a network's gradient; inf does not clip")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="of matrix products; auto: bfloat16 where a self-test finds it 1.1 times as fast"
    )
    eval_every: Count = Field(100, description="updates between two looks at the validation data")
    patience: Count = Field(5, description="looks in a row without improvement before a restart stops")

    def fit(
        self,
        model: Any,
        corpus: Corpus,
        *,
        seed: int,
        device: str,
        progress: bool | None,
        checkpoint: Path | None = None,
        resume: bool = False,
        tensorboard: Path | None = None,
    ) -> Fit[Any]:
        """As for every kind; with `checkpoint`, its folder also gets ``metrics.jsonl``. See `fit_gradient`."""
        names = ["num_steps", "num_tokens", "seconds", "batch_size", "accumulate", "learning_rate", "weight_decay"]
        names += ["warmup_steps", "schedule", "clip_norm", "precision", "patience", "eval_every"]
        try:
            return fit_gradient(
                model,
                corpus.train,
                validation=corpus.validation,
                **{name: getattr(self, name) for name in names},
                seed=seed,
                device=device,
                progress=progress,
                vocabulary=corpus.vocabulary,
                checkpoint=checkpoint,
                resume=resume,
                metrics=None if checkpoint is None else checkpoint / METRICS,
                tensorboard=tensorboard,
                snapshots=self.snapshots or (),
            )
        except Diverged as error:  # the other models of a study go on; the table and the report say what became of it
            return error.fit


class NetworkSpec(GradientSpec, EmissionSpec):
    """What the networks share that predict a sequence from its own past."""

    def network(self, corpus: Corpus) -> Callable[[], Network]:
        """A function that makes one fresh network."""
        raise NotImplementedError

    def build(self, corpus: Corpus, seed: int) -> Model:
        return Autoregressive.from_seed(self.network(corpus), num_restarts=self.num_restarts, seed=seed)


class RecurrentSpec(NetworkSpec):
    """What the recurrent networks share."""

    own: ClassVar[tuple[str, ...]] = ()  # settings of this kind alone

    hidden_dim: Count = 128
    num_layers: Count = 1
    embed_dim: Count | None = Field(
        None, description="default: one-hot up to 256 symbols, else the hidden size; vectors as they are"
    )
    layer: ClassVar[Callable[..., Network]]

    def network(self, corpus: Corpus) -> Callable[[], Network]:
        return lambda: type(self).layer(
            emission=self.family(corpus),
            hidden_dim=self.hidden_dim,
            num_layers=self.num_layers,
            embed_dim=self.embed_dim,
            dropout=self.dropout,
            **{name: getattr(self, name) for name in self.own},
        )


class RNNSpec(RecurrentSpec):
    """An Elman network: h_t = tanh(W x_t + U h_{t-1} + b)."""

    kind: Literal["rnn"] = "rnn"
    layer = RNN


class UpdateGateSpec(RecurrentSpec):
    """A tanh network with a memory behind one gate."""

    kind: Literal["update-gate"] = "update-gate"
    layer = UpdateGateRNN


class GRUSpec(RecurrentSpec):
    """A network of gated recurrent units."""

    kind: Literal["gru"] = "gru"
    reset: Literal["after", "before"] = Field("after", description="the reset gate acts after the product, or before")
    layer = GRU
    own = ("reset",)


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
    positions: Literal["rotary", "learned", "sinusoidal"] = "rotary"
    tied: bool = Field(True, description="the output weights are the embedding")
    stride: Count = Field(1, description="of learned or sinusoidal positions: how far a full window moves on")
    learning_rate: Positive = 1e-3

    def network(self, corpus: Corpus) -> Callable[[], Network]:
        return lambda: Transformer(
            emission=self.family(corpus),
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            embed_dim=self.embed_dim,
            context=self.context,
            dropout=self.dropout,
            positions=self.positions,
            tied=self.tied,
            stride=self.stride,
        )
