"""The topic model as a generative program in Pyro, with the topic of every word explicit: what is computed, stated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from probseq.data.batch import Batch
from probseq.ops.topics import draw_words

if TYPE_CHECKING:
    from probseq.models.topic import LDA


class Word(dist.TorchDistribution):  # type: ignore[misc]
    """A word of a topic: one row of a table. No row is copied for a word.

    Args:
        topics: ``(R, K, V)`` probabilities.
        topic: ``(*B, R, N, T)`` numbers of topics.
    """

    arg_constraints: ClassVar[dict[str, object]] = {}
    support = dist.constraints.nonnegative_integer

    def __init__(self, topics: Tensor, topic: Tensor) -> None:
        self.topics, self.topic = topics, topic
        super().__init__(topic.shape, validate_args=False)

    def _row(self) -> Tensor:
        return torch.arange(len(self.topics), device=self.topics.device)[:, None, None]

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """A word for each topic."""
        labels = self._row() * self.topics.shape[1] + self.topic.expand(*sample_shape, *self.batch_shape)
        return draw_words(self.topics.flatten(0, 1), labels)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.topics[self._row(), self.topic, value].log()

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> Word:
        return Word(self.topics, self.topic.expand(batch_shape))


def program(model: LDA, batch: Batch) -> None:
    """Sites: ``topics`` (R, K), ``theta`` (R, N), and for every word ``topic`` and ``word`` (R, N, T).

    The plates are ``restarts``, ``topics_plate`` or ``documents``, and ``words``. Words that were not observed are
    masked. Weights of the batch are not part of it: Pyro scales an enumerated site as a whole only.
    """
    restarts = pyro.plate("restarts", model.num_restarts, dim=-3)
    alpha, eta = model.alpha[:, None, None], model.eta[:, :, None].expand(-1, 1, model.num_symbols)[:, None]
    with restarts, pyro.plate("topics_plate", model.num_topics, dim=-2):
        table = pyro.sample("topics", dist.Dirichlet(eta))  # (R, K, 1, V)
    documents = pyro.plate("documents", len(batch.lengths), dim=-2)
    with restarts, documents:
        theta = pyro.sample("theta", dist.Dirichlet(alpha))  # (R, N, 1, K)
        with pyro.plate("words", batch.values.shape[1], dim=-1):
            topic = pyro.sample("topic", dist.Categorical(theta), infer={"enumerate": "parallel"})
            with pyro.poutine.mask(mask=batch.observed):
                pyro.sample("word", Word(table[:, :, 0], topic), obs=batch.values.clamp(min=0))
