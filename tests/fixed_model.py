"""A model whose numbers a test decides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from probseq.data.sequences import Batch


class Fixed(nn.Module):
    """Restart r gives symbol v the log-probability ``log_probs[r][v]``, whatever came before.

    With the `support` of real vectors it claims that these numbers are densities.
    """

    num_parameters = 7

    def __init__(
        self,
        log_probs: list[list[float]],
        likelihood: str = "exact",
        dtype: torch.dtype = torch.float64,
        support: tuple[str, int] | None = None,
    ):
        super().__init__()
        self.log_probs = torch.tensor(log_probs, dtype=dtype)
        self.num_restarts = len(self.log_probs)
        self.support = support or ("symbols", self.log_probs.shape[1])
        self.likelihood = likelihood
        self.dropout = nn.Dropout(0.5)

    def token_log_prob(self, batch: Batch) -> Tensor:
        return torch.where(batch.observed, self.dropout(self.log_probs[:, batch.values]), 0.0)

    def select(self, restart: int) -> Fixed:
        return Fixed(self.log_probs[restart : restart + 1].tolist(), self.likelihood, support=self.support)
