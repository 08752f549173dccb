"""`CacheUnigram`: a unigram that expects a document to repeat its own words."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.base import Model
from probseq.models.emissions import Categorical
from probseq.types import TokenLogProb


class CacheUnigram(Model):
    r"""A unigram interpolated with the document's own past counts.

    With p the unigram of the training data and :math:`n_t(v)` how often v was among the t words before,

    .. math::
        p(x_{t+1} = v \mid x_{\le t}) = \frac{s}{s + t} \, p(v) + \frac{t}{s + t} \, \frac{n_t(v)}{t} .

    The weight of the past grows with its length, and the strength s says how fast: after s words it is a half. This is
    the exact marginal of a document whose distribution of words was drawn from a Dirichlet(s p): all that the theme of
    a document is worth if every document has a theme of its own. The order of the words makes no difference to it.

    `probseq.fit_counts` counts p on the training data and chooses s on the validation data. Before that it is uniform.

    Args:
        num_symbols: V, the size of the vocabulary.
        concentration: the pseudo-count that p gives to every symbol, positive.
        strength: s, where no validation data chooses it, positive.

    Raises:
        InputError: fewer than one symbol, or a number that is not positive.

    Reference:
        R. Kuhn, R. De Mori (1990), "A cache-based natural language model for speech recognition"; R. E. Madsen, D.
        Kauchak, C. Elkan (2005), "Modeling word burstiness using the Dirichlet distribution".

    Example:
        >>> from probseq import Sequences
        >>> batch = Sequences.from_list([[0, 0, 1]]).batch()
        >>> CacheUnigram(2, strength=2.0).token_log_prob(batch).exp()[0, 0].tolist()  # 1/2, (1 + 1) / 3, (1 + 0) / 4
        [0.5, 0.6666666666666666, 0.25]
    """

    log_probs: Tensor  # (V,)
    log_strength: Tensor  # ()

    def __init__(self, num_symbols: int, concentration: float = 1.0, strength: float = 1000.0) -> None:
        super().__init__()
        self.emission = Categorical(num_symbols)
        for name, value in (("concentration", concentration), ("strength", strength)):
            if not 0 < value < math.inf:
                raise InputError(f"{name} is {value}; expected a positive number")
        self.concentration = float(concentration)
        self.register_buffer("log_probs", torch.full((num_symbols,), -math.log(num_symbols), dtype=torch.float64))
        self.register_buffer("log_strength", torch.tensor(math.log(strength), dtype=torch.float64))

    @property
    def strength(self) -> float:
        """s: after so many words, the past weighs as much as the training data."""
        return float(self.log_strength.exp())

    def set_counts(self, counts: Tensor) -> None:
        """Take the (weighted) number of times each symbol was seen, ``(V,)``."""
        smoothed = counts.to(self.log_probs) + self.concentration
        self.log_probs = smoothed.log() - smoothed.sum().log()

    def set_strength(self, strength: float) -> None:
        """Take another s."""
        self.log_strength = torch.full_like(self.log_strength, math.log(strength))

    def token_log_prob(self, batch: Batch) -> TokenLogProb:
        self.check_values(batch)
        observed, strength = batch.observed, self.log_strength.exp()
        before = observed.cumsum(dim=1) - observed.long()  # what was not observed is integrated out: it does not count
        probs = strength * self.log_probs[batch.values.clamp(min=0)].exp() + _times_seen(batch.values, observed)
        return torch.where(observed, probs.log() - (strength + before).log(), 0.0)[None]

    def initial_state(self, num_sequences: int) -> Int[Tensor, "N V"]:
        """``(N, V)``: the counts of what was seen."""
        return torch.zeros(num_sequences, self.num_symbols, dtype=torch.int64, device=self.device)

    def next_log_prob(self, state: Int[Tensor, "N V"]) -> Float[Tensor, "R N V"]:
        strength = self.log_strength.exp()
        probs = strength * self.log_probs.exp() + state
        return (probs.log() - (strength + state.sum(dim=1, keepdim=True)).log())[None]

    def advance(self, state: Int[Tensor, "N V"], values: Int[Tensor, "N"]) -> Int[Tensor, "N V"]:
        return state.scatter_add(1, values[:, None], torch.ones_like(values)[:, None])

    def select(self, restart: int) -> CacheUnigram:
        self.check_restart(restart)
        return self

    def config(self) -> dict[str, Any]:
        return {"num_symbols": self.num_symbols, "concentration": self.concentration}

    @property
    def num_parameters(self) -> int:
        """``V``: probabilities that sum to one, and the strength."""
        return self.num_symbols


def _times_seen(values: Int[Tensor, "N T"], observed: Tensor) -> Int[Tensor, "N T"]:
    """How often the value at each place stands before it in its row."""
    size, length = values.shape
    order = torch.where(observed, values, -1).argsort(dim=1, stable=True)  # equal values side by side, in order of time
    ordered = values.gather(1, order)
    place = torch.arange(length, device=values.device).expand(size, -1)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]) | ~observed.gather(1, order)[:, :-1]
    begin = torch.where(first, place, 0).cummax(dim=1).values  # where the run of equal values begins
    return torch.zeros_like(values).scatter(1, order, place - begin)
