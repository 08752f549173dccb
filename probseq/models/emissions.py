"""Emission families: how a state, or a network's output, becomes a distribution over observations.

A family offers the hidden Markov model three things: a table of log-potentials with an index into it (see
`probseq.ops.chain`), an M-step, and a prior. A new family is one class.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probseq.data.sequences import Batch
from probseq.errors import InputError


class Categorical(nn.Module):
    r"""Symbols: :math:`p(x_t = v \mid s_t = k) = B_{kv}`, with a symmetric Dirichlet prior on every row of B.

    Args:
        num_symbols: V, the size of the vocabulary.
        concentration: of the Dirichlet prior; 1 is maximum likelihood, and above 1 no probability becomes 0.

    The parameters ``logits`` have shape ``(R, K, V)`` once a model has called `build`.

    Raises:
        InputError: no symbols, or a concentration below 1 (the mode of the posterior would leave the simplex).
    """

    logits: nn.Parameter

    def __init__(self, num_symbols: int, concentration: float = 1.0) -> None:
        super().__init__()
        if num_symbols < 1:
            raise InputError(f"num_symbols is {num_symbols}; expected 1 or more")
        self.num_symbols = num_symbols
        self.concentration = check_concentration("emission", concentration)

    def config(self) -> dict[str, Any]:
        """Plain values from which the family is rebuilt."""
        return {"family": "Categorical", "num_symbols": self.num_symbols, "concentration": self.concentration}

    def build(self, probs: Float[Tensor, "R K V"]) -> Categorical:
        """A family of the same kind with these probabilities."""
        new = type(self)(self.num_symbols, self.concentration)
        new.logits = nn.Parameter(probs.log())
        return new

    @property
    def probs(self) -> Float[Tensor, "R K V"]:
        """``(R, K, V)``: the probability of each symbol in each state."""
        return self.logits.softmax(dim=-1)

    @property
    def num_parameters(self) -> int:
        """Free parameters of one restart."""
        return self.logits.shape[1] * (self.num_symbols - 1)

    def log_table(self, batch: Batch) -> Float[Tensor, "R M K"]:
        """Log-potentials: one row for each symbol."""
        return self.logits.log_softmax(dim=-1).transpose(1, 2)

    def index(self, batch: Batch) -> Int[Tensor, "N T"]:
        """The row of `log_table` that each token uses: the symbol itself."""
        return batch.values

    def log_prior(self) -> Float[Tensor, "R"]:
        """Log-density of the Dirichlet prior at the parameters, without its constant."""
        return log_dirichlet(self.probs, self.concentration).sum(dim=-1)

    @torch.no_grad()
    def m_step(self, counts: Float[Tensor, "R M K"]) -> None:
        """Set the parameters to the posterior mode given expected counts of (symbol, state)."""
        self.logits.copy_(dirichlet_mode(counts.transpose(1, 2), self.concentration, self.probs).log())


def check_concentration(what: str, value: float) -> float:
    """`value` if it is a usable Dirichlet concentration.

    Raises:
        InputError: it is below 1 or not finite.
    """
    if not 1.0 <= value < float("inf"):
        raise InputError(
            f"{what} concentration is {value}; expected 1 (maximum likelihood) or more (a prior that smooths)"
        )
    return float(value)


def log_dirichlet(probs: Tensor, concentration: float) -> Tensor:
    """``sum (a - 1) log p`` over the last axis; 0 when a is 1, also where p is 0."""
    terms: Tensor = torch.special.xlogy(torch.full_like(probs, concentration - 1), probs)
    return terms.sum(dim=-1)


def dirichlet_mode(counts: Tensor, concentration: float, previous: Tensor) -> Tensor:
    """Rows of counts to probabilities ``(n + a - 1) / sum``; a row without any count keeps its previous value."""
    raised = counts + (concentration - 1)
    total = raised.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, raised / total.masked_fill(total == 0, 1.0), previous)
