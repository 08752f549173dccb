"""Two numbers that stand beside the likelihood of a topic model: a bound on it, and document completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.sequences import Sequences, check_sequences
from probseq.topics.documents import has_topics

_BATCH = 2**14  # tokens


@torch.no_grad()
def beside_likelihood(model: Any, data: Sequences) -> dict[str, NDArray[np.float64]]:
    """Nats per word of documents, ``(R,)`` each, as far as the model knows them; smaller is better.

    - ``lower_bound``: minus the variational lower bound on log p(x). The model needs at most this many nats.
    - ``completion``: of every second word, given the others. It ranks topic models and is no likelihood of a document;
      NaN where no document has two words.

    Args:
        model: a model with topics, such as `probseq.LDA`; of any other there is nothing to say.
        data: documents; one of weight w counts as w.

    Raises:
        InputError: documents that the model cannot read.

    Example:
        >>> from probseq import LDA
        >>> lda = LDA.from_parameters([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]], alpha=0.1)
        >>> found = beside_likelihood(lda, Sequences.from_list([[0, 1, 0], [2, 3, 3]]))
        >>> {name: nats.round(3).tolist() for name, nats in found.items()}
        {'lower_bound': [0.969], 'completion': [0.74]}
    """
    if not has_topics(model):
        return {}
    check_sequences(data, "data")
    found = {"lower_bound": _Mean()} | ({"completion": _Mean()} if hasattr(model, "completion") else {})
    for batch in data.batches(_BATCH, device=model.device):
        found["lower_bound"].add(model.lower_bound(batch), batch.observed.sum(dim=1), batch.weights)
        if "completion" in found:
            log_prob, num_words = model.completion(batch)
            found["completion"].add(log_prob, num_words, batch.weights)
    return {name: mean.nats_per_word for name, mean in found.items()}


@dataclass
class _Mean:
    """Log-probabilities and words, summed over batches."""

    log_prob: float | Tensor = 0.0
    num_words: float = 0.0

    def add(self, log_prob: Float[Tensor, "R N"], num_words: Int[Tensor, "N"], weights: Float[Tensor, "N"]) -> None:
        self.log_prob = self.log_prob + (log_prob.double() @ weights.double()).cpu()
        self.num_words += float(num_words.double() @ weights.double())

    @property
    def nats_per_word(self) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return -np.asarray(self.log_prob) / np.float64(self.num_words)
