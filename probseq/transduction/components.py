"""Which chain of a mixture the targets of one source come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.data.sources import rows_of_sources
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError
from probseq.models.base import evaluation_mode
from probseq.models.conditional import Conditional

Floats = NDArray[np.float64]
MAX_COMPONENTS = 6  # that can be told apart by color


@dataclass(frozen=True)
class WordComponents:
    """One source with several targets, and the chains of a mixture that they come from.

    Attributes:
        source: as text.
        targets: as text.
        prior: ``(M,)``, ``p(m | x)``.
        posterior: ``(n, M)``, ``p(m | x, y)`` of each target.
    """

    source: str
    targets: list[str]
    prior: Floats
    posterior: Floats

    @property
    def separated(self) -> bool:
        """Whether two of the targets most probably come from different chains."""
        return len(set(self.posterior.argmax(axis=1).tolist())) > 1


def num_components(model: Any) -> int:
    """How many chains a model mixes; 1 where it mixes none."""
    return int(getattr(model.nets[0], "num_components", 1)) if isinstance(model, Conditional) else 1


@torch.no_grad()
def component_posterior(model: Conditional, batch: Batch) -> Float[Tensor, "N M"]:
    """``p(m | x, y)`` of every chain of a mixture (R = 1)."""
    net: Any = model.nets[0]
    posterior: Tensor = net.posterior_components(batch)
    return posterior


@torch.no_grad()
def read_components(
    model: Conditional, data: Sequences, vocabulary: Vocabulary, sources: Vocabulary
) -> list[WordComponents]:
    """The sources that have several targets, and how much of each target comes from which chain.

    Args:
        model: a mixture of chains; R = 1.
        data: pairs.
        vocabulary, sources: what the symbols of targets and of sources mean.

    Raises:
        InputError: a model that mixes nothing, or pairs without sources.
    """
    if num_components(model) < 2:
        raise InputError("the model has one component; expected a mixture: HMMDecoder(..., num_components=4)")
    several = [rows for rows in rows_of_sources(data) if len(rows) > 1]
    if not several:
        return []
    part = data[np.concatenate(several)]
    prior, posterior = np.empty((2, len(part), num_components(model)))
    net: Any = model.nets[0]
    with evaluation_mode(model):
        for batch in part.batches(device=model.device):
            prior[batch.index.cpu()] = net.chains(batch).log_weights.T.exp().double().cpu()
            posterior[batch.index.cpu()] = component_posterior(model, batch).double().cpu()
    words, begin = [], 0
    for rows in several:
        here = slice(begin, begin + len(rows))
        assert part.source is not None
        source = sources.decode(part.source[begin][:-1])
        targets = [vocabulary.decode(one[:-1]) for one in part[here]]
        words.append(WordComponents(source, targets, prior[begin], posterior[here]))
        begin += len(rows)
    return words
