"""`AlignmentHMM`: a decoder whose hidden state is a position of the source, and whose parameters are tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.errors import InputError, check_whole
from probseq.models.alignment_chain import AlignmentChain
from probseq.models.alignment_hmm_em import Statistics, expect, maximize
from probseq.models.base import restart_generator
from probseq.models.draws import draw_dirichlet
from probseq.models.emissions import Categorical
from probseq.models.emissions.dirichlet import log_dirichlet
from probseq.models.jumps import Jumps
from probseq.models.stacked import Stacked
from probseq.types import Array


class AlignmentHMM(Stacked, AlignmentChain):
    r"""Targets y given their sources x, through hidden positions of the source: all parameters are tables.

    .. math::
        p(y_1, \ldots, y_T \mid x) = \sum_{s_1 \ldots s_T} \prod_t p(s_t \mid s_{t-1}, S) \, p(y_t \mid x_{s_t})

    A state is one of the S positions of the source, and the symbol it emits is drawn from the row of its source symbol.
    Of order 1, a position is a jump from the one before, :math:`p(k \mid j, S) \propto J_{k - j}`; of order 0 it is one
    from the diagonal, :math:`p(s_t = k \mid S) \propto J_{k - \min(t - 1, S)}` for t > 1. The first position has a
    table of its own. Jumps that would leave the source are out of reach, and the others share the probability.

    Sources and targets end with the end symbol. Fit with `probseq.em`. Target symbols that are missing are summed out,
    and positions that are known (``Sequences.states``) condition the E-step and the paths, never the score.

    Args:
        num_source_symbols: X, how many symbols sources are of.
        num_symbols: V, how many targets are of, the end symbol among them.
        order: 1 or 0.
        monotone: nothing jumps back. With jumps that begin at 1 every step moves on: then the last position emits the
            end symbol alone, and a target longer than its source is impossible.
        jumps: the furthest ones back and forward.
        end: the target's id of the end symbol; needed where every step moves on.
        num_restarts: R, runs from different starting points, all fitted at once.
        seed: restart r starts from a draw that depends on ``(seed, r)`` alone.
        concentration: of the Dirichlet priors on all tables; 1 is maximum likelihood.
        dtype: float64, or float32 for speed.

    Raises:
        InputError: sizes below 1, another order, a window without the jump to the next position, an end symbol that is
            missing or no symbol.

    Reference:
        S. Vogel, H. Ney, C. Tillmann (1996), "HMM-based word alignment in statistical translation"; P. F. Brown et al.
        (1993), "The mathematics of statistical machine translation: parameter estimation".

    Example:
        >>> from probseq import AlignmentHMM, Sequences
        >>> data = Sequences.from_list([[0, 1, 2]], source=Sequences.from_list([[3, 0, 4]]))
        >>> AlignmentHMM(5, 3, num_restarts=2).token_log_prob(data.batch()).shape
        torch.Size([2, 1, 3])
    """

    def __init__(
        self,
        num_source_symbols: int,
        num_symbols: int,
        *,
        order: int = 1,
        monotone: bool = False,
        jumps: Sequence[int] = (-2, 3),
        end: int | None = None,
        num_restarts: int = 1,
        seed: int = 0,
        concentration: float = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.num_source_symbols = check_whole("num_source_symbols", num_source_symbols)
        self.num_restarts, self.seed = check_whole("num_restarts", num_restarts), seed
        if order not in (0, 1):
            raise InputError(f"order is {order!r}; expected 1, a position depends on the one before, or 0, it does not")
        if dtype not in (torch.float64, torch.float32):
            raise InputError(f"dtype is {dtype!r}; expected torch.float64 or torch.float32")
        self.order, self.monotone, self.jumps = order, bool(monotone), Jumps.read(jumps, monotone)
        family = Categorical(num_symbols, concentration)
        self.concentration, self.end = family.concentration, self.jumps.check_end(end, num_symbols)
        self.numbers = list(range(num_restarts))  # each restart's number, from which its starting point is drawn
        self.register_buffer("allowed", self.jumps.allowed, persistent=False)
        self.register_buffer("allowed_start", self.jumps.allowed_start, persistent=False)
        self.emission = family.build(num_restarts, num_source_symbols, dtype)
        self._draw_start(dtype)

    def _draw_start(self, dtype: torch.dtype) -> None:
        sizes = [(1, self.jumps.highest), (1, self.jumps.size), (self.num_source_symbols, self.num_symbols)]
        rows = []
        for r in range(self.num_restarts):
            generator = restart_generator(self.seed, r)
            rows.append([draw_dirichlet(generator, *size) for size in sizes])
        start, jumps, emission = (torch.stack(parts).log().to(dtype) for parts in zip(*rows, strict=True))
        self.log_start, self.log_jumps = nn.Parameter(start[:, 0]), nn.Parameter(jumps[:, 0])
        self.emission.logits.data.copy_(emission)

    @classmethod
    def from_parameters(
        cls, start: Array, jumps: Array, emission: Array, *, lowest: int = 0, **options: Any
    ) -> AlignmentHMM:
        """A model with given probabilities, the same ones in every restart.

        Args:
            start: ``(B,)``, of the first position; as many as the furthest jump forward.
            jumps: ``(W,)``, of the jumps from `lowest` on.
            emission: ``(X, V)``, of the target's symbols for each symbol of the source.
            lowest: the first jump.
            options: as for the model itself.

        Raises:
            InputError: shapes that do not fit, or rows that are not probabilities.
        """
        first, steps, table = (torch.as_tensor(part, dtype=torch.float64) for part in (start, jumps, emission))
        if (first.ndim, steps.ndim, table.ndim) != (1, 1, 2) or lowest + len(steps) - 1 != len(first):
            raise InputError(
                f"start has shape {tuple(first.shape)}, jumps {tuple(steps.shape)} from {lowest} on, and emission "
                f"{tuple(table.shape)}; expected (B,), the jumps up to B, and (X, V)"
            )
        for name, part in (("start", first), ("jumps", steps), ("emission", table)):
            if not ((part >= 0).all() and torch.allclose(part.sum(-1), part.new_ones(()), atol=1e-6)):
                raise InputError(f"{name} has a row that is not a probability vector; expected entries >= 0 with sum 1")
        model = cls(*table.shape, jumps=(lowest, len(first)), **options)
        if model.jumps.lowest != lowest:
            raise InputError(f"jumps begin at {lowest} and the model is monotone; expected 0 or 1")
        for parameter, part in ((model.log_start, first), (model.log_jumps, steps), (model.emission.logits, table)):
            parameter.data.copy_(part.log())
        return model

    def config(self) -> dict[str, Any]:
        sizes, settings = ("num_source_symbols", "num_symbols", "num_restarts"), ("order", "monotone", "end")
        return {
            **{name: getattr(self, name) for name in (*sizes, *settings, "seed", "concentration")},
            "jumps": [self.jumps.lowest, self.jumps.highest],
            "dtype": str(self.log_jumps.dtype).removeprefix("torch."),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AlignmentHMM:
        return cls(**{**config, "dtype": getattr(torch, config["dtype"])})

    @property
    def num_parameters(self) -> int:
        """Free parameters of one restart."""
        rows = self.num_source_symbols * (self.num_symbols - 1)
        return rows + self.jumps.highest - 1 + self.jumps.size - 1

    # What EM needs

    def e_step(self, batch: Batch) -> Statistics:
        """Log-likelihood of each sequence (and its known positions) and expected counts, weighted.

        Raises:
            InputError: values that cannot be scored, or a target that is impossible whatever the parameters.
        """
        parts = [expect(self, part) for part in self.parts(batch)]
        first, *rest = zip(*parts, strict=True)
        return Statistics(torch.cat(first, dim=1), *(torch.stack(tensors).sum(dim=0) for tensors in rest))

    def m_step(self, statistics: Statistics) -> None:
        """Raise the objective given the expected counts: emissions in closed form, jumps by a bound."""
        maximize(self, statistics)

    def log_prior(self) -> Float[Tensor, "R"]:
        """Log-density of the priors at the parameters, without constants; 0 for maximum likelihood."""
        tables = (log_dirichlet(part.softmax(dim=-1), self.concentration) for part in (self.log_start, self.log_jumps))
        return sum(tables, self.emission.log_prior())

    # The statement of the model

    def program(self, batch: Batch) -> None:
        """The generative program in Pyro, with every position explicit; see `probseq.models.alignment_hmm_program`."""
        from probseq.models.alignment_hmm_program import program

        program(self, batch)
