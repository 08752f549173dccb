"""Symbols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.errors import InputError, check_whole
from probseq.models.emissions.base import Emission, numbers, weight_of_log
from probseq.models.emissions.dirichlet import check_concentration, dirichlet_mode, log_dirichlet
from probseq.types import Array


class Categorical(Emission):
    r"""Symbols: :math:`p(x_t = v \mid s_t = k) = B_{kv}`, with a symmetric Dirichlet prior on every row of B.

    Args:
        num_symbols: V, the size of the vocabulary.
        concentration: of the Dirichlet prior; 1 is maximum likelihood, and above 1 no probability becomes 0.

    The parameters are ``logits`` ``(V,)``, in which minus infinity is a probability of 0.

    Raises:
        InputError: no symbols, or a concentration below 1 (the mode of the posterior would leave the simplex).
    """

    logits: nn.Parameter

    def __init__(self, num_symbols: int, concentration: float = 1.0) -> None:
        super().__init__()
        num_symbols = check_whole("num_symbols", num_symbols)
        self.num_symbols = num_symbols
        self.concentration = check_concentration("emission", concentration)
        self.support = ("symbols", num_symbols)
        self.shapes = {"logits": (num_symbols,)}

    @classmethod
    def from_parameters(cls, probs: Array, concentration: float = 1.0) -> Categorical:
        """A bank with one restart and these probabilities ``(K, V)``.

        Raises:
            InputError: rows that are not probabilities.
        """
        table = numbers(probs)
        if table.ndim != 2:
            raise InputError(f"emission has shape {tuple(table.shape)}; expected (K, V): a row for each state")
        if not ((table >= 0).all() and torch.allclose(table.sum(-1), table.new_ones(()), atol=1e-6)):
            raise InputError("emission has a row that is not a probability vector; expected entries >= 0 with sum 1")
        bank = cls(table.shape[1], concentration)
        bank.logits = nn.Parameter(table.log()[None])
        return bank

    def config(self) -> dict[str, Any]:
        return {"family": "Categorical", "num_symbols": self.num_symbols, "concentration": self.concentration}

    @property
    def probs(self) -> Float[Tensor, "R K V"]:
        """``(R, K, V)``: the probability of each symbol in each state."""
        return self.logits.softmax(dim=-1)

    def _num_free(self, name: str) -> int:
        return self.num_symbols - 1

    def check_values(self, values: Tensor) -> None:
        if values.is_floating_point():
            raise InputError(f"this model scores symbols (N, T); received {values.dtype} {tuple(values.shape)}")
        if values.numel() and (high := int(values.max())) >= self.num_symbols:
            raise InputError(
                f"symbol {high} is outside the model's {self.num_symbols} symbols (0 to {self.num_symbols - 1}); "
                "encode the data with the vocabulary that the model was fitted with"
            )

    def log_prob(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        table = raw["logits"].log_softmax(dim=-1)
        chosen = values.clamp(min=0) + torch.zeros_like(table[..., 0], dtype=torch.int64)  # broadcast
        terms = table.expand(*chosen.shape, -1).gather(-1, chosen[..., None])[..., 0]
        return terms.masked_fill(values < 0, 0.0)

    def draw(self, raw: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        probs = raw["logits"].softmax(dim=-1)
        return torch.multinomial(probs.reshape(-1, self.num_symbols), 1, generator=generator).view(probs.shape[:-1])

    def distances(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Float[Tensor, "R J K"]:
        restarts = max(len(first["logits"]), len(second["logits"]))
        one, other = (p["logits"].double().softmax(dim=-1).sqrt().expand(restarts, -1, -1) for p in (first, second))
        # Not by matrix products, which lose the small distances.
        result: Tensor = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist") / 2**0.5
        return result

    def log_table(self, batch: Batch, raw: dict[str, Tensor] | None = None) -> Float[Tensor, "R M K"]:
        """Log-potentials: one row for each symbol, and a last row of zeros if a symbol is missing."""
        table = (self.raw if raw is None else raw)["logits"].log_softmax(dim=-1).transpose(1, 2)
        if not (batch.values < 0).any():
            return table
        return torch.cat([table, torch.zeros_like(table[:, :1])], dim=1)

    def index(self, batch: Batch) -> Int[Tensor, "N T"]:
        """The row of `log_table` that each token uses: the symbol itself."""
        return torch.where(batch.values < 0, self.num_symbols, batch.values)

    def statistics(self, counts: Float[Tensor, "R M K"], batch: Batch) -> Float[Tensor, "R K Q"]:
        """Expected counts of each symbol, ``(R, K, V)``."""
        return counts[:, : self.num_symbols].transpose(1, 2)

    @torch.no_grad()
    def m_step(self, statistics: Float[Tensor, "R K Q"]) -> None:
        self._set(logits=dirichlet_mode(statistics, self.concentration).log())

    def weight(self, name: str, value: Tensor) -> Tensor:
        return weight_of_log(value.log_softmax(dim=-1))

    def log_prior(self) -> Float[Tensor, "R"]:
        """Log-density of the Dirichlet prior at the parameters, without its constant."""
        return log_dirichlet(self.probs, self.concentration).sum(dim=-1)
