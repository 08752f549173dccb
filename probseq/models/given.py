"""What every model with a source shares: `ConditionalModel`, and `Given`, such a model with its sources fixed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.models.base import Model, State
from probseq.models.emissions import Emission
from probseq.types import TokenLogProb


class ConditionalModel(Model):
    r"""A model of targets y given their sources x, :math:`p(y \mid x) = \prod_t p(y_t \mid y_{<t}, x)`.

    The sources are the ``source`` of a data set. Sources and targets end with the end symbol, which is scored like any
    other symbol: so the probabilities of all targets that end sum to 1, and an empty source or target is the end symbol
    alone.

    A subclass writes `token_log_prob` (of batches with a source), `state_given`, `next_log_prob`, `advance`,
    `take_rows`, `select` and `config`, and has `num_source_symbols`.

    Attributes:
        num_source_symbols: how many symbols the source is of.
    """

    num_source_symbols: int

    def given(self, source: Batch | Sequences) -> Given:
        r"""The model of targets, :math:`p(\cdot \mid x)`, with the sources fixed.

        Args:
            source: one source for all sequences, or one for each sequence.

        Raises:
            InputError: no sources, or symbols that this model does not know.
        """
        return Given(self, source)

    def state_given(self, source: Batch) -> State:
        """What is known before the first symbol of each target; each source is read once, here."""
        raise NotImplementedError

    def take_rows(self, state: State, rows: Int[Tensor, "M"]) -> State:
        """The state of these sequences, in this order; one may be taken more than once."""
        raise NotImplementedError

    def check_values(self, batch: Batch) -> None:
        super().check_values(batch)
        if batch.source is None:
            raise InputError(
                f"the data have no source, and {type(self).__name__} conditions on one; give it: "
                "Sequences.from_list(targets, source=Sequences.from_list(sources))"
            )
        self.check_source(batch.source)

    def check_source(self, source: Batch) -> None:
        """Raise `InputError` unless the sources are symbols that this model knows."""
        values, largest = source.values, self.num_source_symbols - 1
        if values.ndim != 2:
            raise InputError(f"the source holds vectors of {values.shape[-1]} numbers; expected symbols 0 to {largest}")
        if (values < 0).any():
            raise InputError("the source has missing symbols, and every one is needed; leave those pairs out")
        if (values > largest).any():
            raise InputError(f"the source holds the symbol {int(values.max())}; expected 0 to {largest}")
        if None not in (source.vocabulary, self.source_vocabulary) and source.vocabulary != self.source_vocabulary:
            raise InputError(
                f"the sources are of another vocabulary than the {type(self).__name__} has seen before; expected the "
                "same one: take both from one corpus"
            )
        self.source_vocabulary = self.source_vocabulary or source.vocabulary

    def initial_state(self, num_sequences: int) -> State:
        raise InputError("what comes next depends on a source that is not given; take model.given(source)")


class Given(Model):
    r"""A conditional model with its sources fixed: :math:`p(\cdot \mid x)`, a model of sequences like any other.

    So it can be scored, sampled and searched: `probseq.generate`, `probseq.stream` and `probseq.beam_search` take it.

    Args:
        model: the conditional model.
        source: one source for all sequences, or one for each: row i of a data set goes with source i.

    Raises:
        InputError: no sources, or symbols that the model does not know.

    Example:
        >>> from probseq import Conditional, Seq2Seq, Sequences, evaluate
        >>> model = Conditional.from_seed(lambda: Seq2Seq(5, 3, hidden_dim=8), num_restarts=2, seed=0)
        >>> given = model.given(Sequences.from_list([[3, 0, 4]]))
        >>> given.support, evaluate(given, Sequences.from_list([[0, 2], [2]])).log_prob.shape
        (('symbols', 3), (2, 2))
    """

    def __init__(self, model: ConditionalModel, source: Batch | Sequences) -> None:
        super().__init__()
        source = source.batch() if isinstance(source, Sequences) else source
        if not isinstance(source, Batch):
            raise InputError(f"received a {type(source).__name__} as source; expected Sequences or a Batch of symbols")
        model.check_source(source)
        self.model, self.source = model, source
        self.likelihood, self.num_restarts = model.likelihood, model.num_restarts
        self.vocabulary, self.training = model.vocabulary, model.training

    @property
    def emission(self) -> Emission:  # type: ignore[override]
        return self.model.emission

    def config(self) -> dict[str, Any]:
        rows = zip(self.source.values.tolist(), self.source.lengths.tolist(), strict=True)
        return {
            "model": {"class": type(self.model).__name__, **self.model.config()},
            "source": [row[:length] for row, length in rows],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Given:
        from probseq.models import MODELS

        arguments = dict(config["model"])
        model = MODELS[arguments.pop("class")].from_config(arguments)
        if not isinstance(model, ConditionalModel):
            raise InputError(f"a {type(model).__name__} has no source")
        return model.given(Sequences.from_list(config["source"]))

    def select(self, restart: int) -> Given:
        model: Any = self.model.select(restart)
        chosen = Given(model, self.source)
        chosen.vocabulary = self.vocabulary
        return chosen

    def check_count(self, num_sequences: int) -> None:
        """Raise `InputError` unless there is one source for so many sequences, or one for each."""
        count = len(self.source.values)
        if count not in (1, num_sequences):
            raise InputError(
                f"received {num_sequences} sequences and {count} sources; expected one source, or one each"
            )

    def check_values(self, batch: Batch) -> None:
        super().check_values(batch)
        self.check_complete(batch)

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        self.check_values(batch)
        count = len(self.source.values)
        rows = batch.index if count > 1 else torch.zeros_like(batch.index)
        if int(rows.max()) >= count:
            raise InputError(f"sequence {int(rows.max())} has no source: {count} were given; expected one, or one each")
        return self.model.token_log_prob(replace(batch, source=self.source.to(self.device).take(rows)))

    def initial_state(self, num_sequences: int) -> State:
        self.check_count(num_sequences)
        state = self.model.state_given(self.source.to(self.device))
        if len(self.source.values) == num_sequences:
            return state
        return self.take_rows(state, torch.zeros(num_sequences, dtype=torch.int64))

    def next_log_prob(self, state: State) -> Float[Tensor, "R N V"]:
        return self.model.next_log_prob(state)

    def advance(self, state: State, values: Int[Tensor, "N"]) -> State:
        return self.model.advance(state, values)

    def part(self, rows: Int[Tensor, "M"]) -> Given:
        """The same model with these of its sources, in this order."""
        return Given(self.model, self.source.take(rows))

    def take_rows(self, state: State, rows: Int[Tensor, "M"]) -> State:
        """The state of these sequences, in this order; one may be taken more than once."""
        return self.model.take_rows(state, rows.to(self.device))


def given_source(batch: Batch) -> Batch:
    """The sources of a batch that `ConditionalModel.check_values` has seen."""
    assert batch.source is not None
    return batch.source


def take_rows(state: State, rows: Int[Tensor, "M"]) -> State:
    """These rows of every tensor in a state of tuples and lists."""
    if isinstance(state, Tensor):
        return state[rows]
    if isinstance(state, (list, tuple)):
        parts = [take_rows(part, rows) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
    return state
