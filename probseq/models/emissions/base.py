"""What an emission family must answer, and what it gets for free."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.models.emissions.table import Table
from probseq.types import Array

E = TypeVar("E", bound="Emission")


class Emission(nn.Module):
    """A family of distributions over observations, used in two ways with the same code.

    **As a bank** of K distributions, one for each state of a hidden Markov model, with R restarts: `build` makes it,
    and its parameters have shape ``(R, K, ...)``. **As the head of a network**: `split` turns ``num_outputs`` numbers
    into the parameters of one distribution. All parameters are unconstrained, so that gradients, extrapolation and the
    outputs of a network reach all of them.

    A new family of vectors writes `config`, `log_prob`, `draw`, `moments`, `cdf`, `log_affinity`, `table`, `collect`,
    `expected_log_prob`, `m_step` and `log_prior`, and is listed in ``FAMILIES``.

    Attributes:
        shapes: shape of every parameter of one distribution, by name.
        shared: the names among them of which all states, or all outputs of a network, have one in common.
        support: the kind of observation, and V or D: ``"symbols"``, ``"binary"``, ``"counts"`` or ``"reals"``.
        num_symbols: V; 0 for vectors.
    """

    shapes: dict[str, tuple[int, ...]]
    shared: frozenset[str] = frozenset()
    support: tuple[str, int]
    num_symbols: int = 0

    def config(self) -> dict[str, Any]:
        """Plain values from which `probseq.emissions.from_config` makes the family anew."""
        raise NotImplementedError

    # One distribution

    def log_prob(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        """``log p(x)`` in nats, ``(*B)``; what is missing is integrated out.

        Args:
            raw: parameters ``(*B, ...)``.
            values: symbols ``(*B)``, -1 where missing, or vectors ``(*B, D)``, NaN where an entry is missing; the
                leading axes of `raw` and `values` are broadcast.
        """
        raise NotImplementedError

    def draw(self, raw: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """One observation from each distribution: symbols ``(*B)`` or vectors ``(*B, D)``."""
        raise NotImplementedError

    def moments(self, raw: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and variance of every entry, ``(*B, D)`` each.

        Raises:
            InputError: symbols, which have neither.
        """
        raise InputError(f"{type(self).__name__} emits symbols, which have no mean; ask for their probabilities")

    def cdf(self, raw: Mapping[str, Tensor], values: Tensor) -> Tensor:
        """``P(x_d <= value)`` of every entry by itself, ``(*B, D)``.

        Raises:
            InputError: symbols, which have no order.
        """
        raise InputError(f"{type(self).__name__} emits symbols, which have no order; ask for their probabilities")

    def log_affinity(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Tensor:
        r"""``(*B)``: :math:`\log \int \sqrt{p q}`, 0 where two distributions are the same and less elsewhere.

        Reference:
            A. Bhattacharyya (1943), "On a measure of divergence between two statistical populations defined by their
            probability distributions".
        """
        raise NotImplementedError

    def distances(self, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Float[Tensor, "R J K"]:
        r"""How far each of the distributions in one bank is from each in another, 0 to 1.

        The Hellinger distance :math:`(1 - \int \sqrt{p q})^{1/2}`; of vectors with the geometric mean of the affinity
        over the D numbers, as two vectors of many numbers would otherwise always be as far apart as can be.

        Args:
            first: parameters ``(R, J, ...)``.
            second: parameters ``(R, K, ...)``; R is broadcast.
        """
        log_affinity = self.log_affinity(
            {name: value[:, :, None] for name, value in first.items()},
            {name: value[:, None] for name, value in second.items()},
        )
        return (-torch.expm1(log_affinity / self.support[1])).clamp(min=0).sqrt()

    def check_values(self, values: Tensor) -> None:
        """Raise `InputError` unless `values`, of any leading shape, are observations that the family can make."""
        kind, size = self.support
        if not values.is_floating_point() or values.ndim == 0 or values.shape[-1] != size:
            raise InputError(
                f"this model scores vectors (N, T, {size}) of {kind}; received {values.dtype} {tuple(values.shape)}; "
                f"give every sequence as an array of floats (T, {size})"
            )
        wrong = ~(self._possible(values) | values.isnan())
        if wrong.any():
            first = values[wrong][0].item()
            raise InputError(f"the data contain {first:g}; expected {self._expected}, or NaN where an entry is missing")

    _expected: str = "finite numbers"

    def _possible(self, values: Tensor) -> Tensor:
        """Which entries the family can make."""
        return values.isfinite()

    def constrain(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters as they are used: those beyond a floor are put there."""
        return raw

    def neutral(self) -> dict[str, Tensor]:
        """Parameters of one distribution that says no more than the location and scale of the data."""
        return {name: torch.zeros(shape) for name, shape in self.shapes.items()}

    # A bank

    def build(self: E, num_restarts: int, num_states: int, dtype: torch.dtype = torch.float64) -> E:
        """A bank of the same family, with neutral parameters ``(R, K, ...)``, or ``(R, 1, ...)`` where shared."""
        new = copy.deepcopy(self).to(dtype)
        for name, value in new.neutral().items():
            lead = (num_restarts, 1 if name in self.shared else num_states)
            setattr(new, name, nn.Parameter(value.to(dtype).expand(*lead, *self.shapes[name]).clone()))
        return new

    @property
    def raw(self) -> dict[str, Tensor]:
        """The parameters of a bank as they are used, ``(R, K, ...)``, the shared ones expanded."""
        own = {name: getattr(self, name) for name in self.shapes}
        states = max(value.shape[1] for value in own.values())
        return self.constrain({name: value.expand(-1, states, *value.shape[2:]) for name, value in own.items()})

    @property
    def num_parameters(self) -> int:
        """Free parameters of one restart of a bank."""
        return sum(getattr(self, name).shape[1] * self._num_free(name) for name in self.shapes)

    def _num_free(self, name: str) -> int:
        """Free numbers in one parameter of one distribution."""
        return math.prod(self.shapes[name])

    def log_table(self, batch: Batch, raw: dict[str, Tensor] | None = None) -> Float[Tensor, "R M K"]:
        """Log-potentials of every state: one row for each observation of the padded batch, M = N T.

        With `raw`, they are those of other parameters ``(R, K, ...)`` than the bank's own.
        """
        raw, values = self.raw if raw is None else raw, batch.values.flatten(0, 1)
        table: Tensor = Table.apply(self, values, tuple(raw), *raw.values())  # type: ignore[no-untyped-call]
        return table

    def index(self, batch: Batch) -> Int[Tensor, "N T"]:
        """The row of `log_table` that each token uses."""
        shape = batch.values.shape[:2]
        return torch.arange(shape.numel(), device=batch.values.device).view(shape)

    @torch.no_grad()
    def statistics(self, counts: Float[Tensor, "R M K"], batch: Batch) -> Float[Tensor, "R K Q"]:
        """Sufficient statistics of the rows of `log_table`, weighted by `counts`; those of batches add up."""
        return self.collect(self.raw, counts, batch.values.flatten(0, 1))

    def table(self, raw: Mapping[str, Tensor], values: Float[Tensor, "M D"]) -> Float[Tensor, "R M K"]:
        """`log_prob` of every observation under every distribution ``(R, K)``; no gradient passes through it."""
        raise NotImplementedError

    def collect(
        self, raw: Mapping[str, Tensor], counts: Float[Tensor, "R M K"], values: Float[Tensor, "M D"]
    ) -> Float[Tensor, "R K Q"]:
        """`statistics` under these parameters, which matter for what is missing or hidden in an observation."""
        raise NotImplementedError

    def expected_log_prob(self, raw: Mapping[str, Tensor], statistics: Float[Tensor, "R K Q"]) -> Float[Tensor, "R"]:
        """The sum of log-densities with these statistics: what `m_step` maximizes, the prior aside."""
        raise NotImplementedError

    def m_step(self, statistics: Float[Tensor, "R K Q"]) -> None:
        """Set the parameters to their posterior mode; states without data keep what they have."""
        raise NotImplementedError

    def log_prior(self) -> Float[Tensor, "R"]:
        """Log-density of the priors at the parameters, without constants; 0 for maximum likelihood."""
        raise NotImplementedError

    @torch.no_grad()
    def observe(self, data: Sequences) -> None:
        """Look at the location and scale of the data, where the family has a use for them.

        Parameters that are still neutral move there; others stay, as far as the floor allows. Call it before a fit, not
        within one.

        Raises:
            InputError: values that the family cannot make.
        """
        neutral, parameters = self.neutral(), dict(self.named_parameters())
        fresh = all(torch.equal(value, neutral[name].to(value).expand_as(value)) for name, value in parameters.items())
        self._look(data)
        if fresh:
            for name, value in parameters.items():
                value.copy_(self.neutral()[name])
        elif parameters.keys() == self.shapes.keys():
            self.project()

    @torch.no_grad()
    def rescale(self, data: Sequences) -> None:
        """Let floor and prior follow the data of a fit; parameters stay, as far as the floor allows.

        Raises:
            InputError: values that the family cannot make.
        """
        if any(True for _ in self.buffers()):  # others have no use for a unit
            self._look(data)
            self.project()

    def _set(self, **parameters: Tensor) -> None:
        """Overwrite the parameters; where a number is NaN, nothing is known and the old value stays."""
        for name, value in parameters.items():
            own = getattr(self, name).data
            own.copy_(torch.where(value.isnan(), own, value.to(own.dtype)))

    def weight(self, name: str, value: Tensor) -> Tensor:
        """How much the square of a change of each entry of a parameter counts beside others, free of units."""
        return torch.ones_like(value)

    def scatter(self, generator: torch.Generator) -> None:
        """Draw what a starting point leaves open: of a mixture, where in its state each component lies."""

    @torch.no_grad()
    def project(self) -> None:
        """Move the parameters of a bank to where an M-step could have put them: none beyond a floor."""
        self._set(**self.constrain({name: getattr(self, name) for name in self.shapes}))

    def _look(self, data: Sequences) -> None:
        """Check the data, and store what the family wants to know of them in its buffers."""
        for batch in data.batches():
            self.check_values(batch.values)

    # A network's head

    @property
    def num_outputs(self) -> int:
        """How many numbers a network has to give for one distribution."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if name not in self.shared)

    def split(self, outputs: Float[Tensor, "... P"]) -> dict[str, Tensor]:
        """Parameters ``(..., *shape)`` from the outputs of a network, shared ones from the head itself.

        Outputs are standardised: all 0 is `neutral`, and what `observe` saw is their unit.
        """
        own = {name: shape for name, shape in self.shapes.items() if name not in self.shared}
        parts = torch.split(outputs, [math.prod(shape) for shape in own.values()], dim=-1)
        raw = {name: part.reshape(*part.shape[:-1], *own[name]) for name, part in zip(own, parts, strict=True)}
        raw = self._scaled(raw)
        for name in self.shared:
            raw[name] = getattr(self, name).expand(*outputs.shape[:-1], *self.shapes[name])
        return self.constrain(raw)

    def _scaled(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters for standardised observations, turned into parameters for the observations themselves."""
        return raw


def weight_of_log(value: Tensor) -> Tensor:
    """How much the square of a change of the logarithm of a number counts: the less, the smaller the number.

    A probability that runs to 0 makes equal steps of its logarithm for ever, and would hide how all others converge.
    """
    return value.clamp(max=0.0).mul(0.5).exp()


def numbers(given: Array) -> Tensor:
    """What a user gave for a tensor, in float64."""
    return given.detach().double() if isinstance(given, Tensor) else torch.from_numpy(np.array(given, dtype=np.float64))
