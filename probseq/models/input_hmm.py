"""`InputHMM`: a hidden Markov model whose steps are driven by inputs."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError
from probseq.models.emissions import Emission
from probseq.models.forecast import Forecast
from probseq.models.hmm import HMM
from probseq.ops import chain, paths


class InputHMM(HMM):
    r"""A hidden Markov model whose initial state and transitions depend on inputs :math:`u_t`, one for each step.

    .. math::
        p(s_1 \mid u_1) = \mathrm{softmax}(\log \pi + W u_1), \qquad
        p(s_t \mid s_{t-1} = j, u_t) = \mathrm{softmax}(\log A_j + W_j u_t)

    The inputs are the ``source`` of a data set: for every sequence a sequence of vectors ``(T, U)`` of equal length.
    The weights start at 0, so that training begins with a plain hidden Markov model. There is no closed-form M-step:
    fit with `probseq.fit_gradient`, which follows the exact gradient of the same likelihood.

    Args:
        num_states: K, the number of hidden states.
        emission: the emission family.
        num_inputs: U, the size of an input vector.
        **options: as for `HMM`.

    Raises:
        InputError: no inputs, or options that `HMM` refuses.

    Reference:
        Y. Bengio, P. Frasconi (1996), "Input-output HMMs for sequence processing".

    Example:
        >>> import numpy as np
        >>> from probseq import InputHMM, Sequences, emissions
        >>> data = Sequences.from_list([[0, 1, 1]], source=Sequences.from_list([np.ones((3, 2))]))
        >>> InputHMM(2, emissions.Categorical(2), num_inputs=2).token_log_prob(data.batch()).shape
        torch.Size([1, 1, 3])
    """

    def __init__(self, num_states: int, emission: Emission, num_inputs: int, **options: Any) -> None:
        super().__init__(num_states, emission, **options)
        if num_inputs < 1:
            raise InputError(f"num_inputs is {num_inputs}; expected 1 or more")
        self.num_inputs = num_inputs
        zeros = self.log_initial.new_zeros
        self.initial_weights = nn.Parameter(zeros(self.num_restarts, num_states, num_inputs))
        self.transition_weights = nn.Parameter(zeros(self.num_restarts, num_states, num_states, num_inputs))

    def config(self) -> dict[str, Any]:
        return {**super().config(), "num_inputs": self.num_inputs}

    @property
    def num_parameters(self) -> int:
        """Free parameters of one restart; the weights of one state in each row are superfluous and not counted."""
        states = int(self.initial_mask.sum()) - 1 + int(self.transition_mask.sum()) - self.num_states
        return super().num_parameters + states * self.num_inputs

    @property
    def state_axes(self) -> dict[str, str]:
        return {**super().state_axes, "initial_weights": "K", "transition_weights": "KK"}

    def potentials(self, batch: Batch) -> chain.Potentials:
        """One row of transitions for every distinct input of the batch."""
        self.check_values(batch)
        inputs = self._checked(batch.source)
        if batch.source is not None and not torch.equal(batch.source.lengths, batch.lengths):
            raise InputError("the inputs and the observations differ in length; expected one input for every step")
        return super().potentials(batch)._replace(**self._driven(inputs))

    def _checked(self, source: Batch | None) -> Float[Tensor, "N T U"]:
        if source is None or source.values.ndim != 3 or source.values.shape[2] != self.num_inputs:
            symbols = source is not None and source.values.ndim != 3
            received = "none" if source is None else "symbols" if symbols else str(tuple(source.values.shape[2:]))
            raise InputError(
                f"this model is driven by inputs of {self.num_inputs} dimensions and received {received}; give them as "
                "source=Sequences.from_list([...]) with a vector (U,) for every step"
            )
        if not source.values.isfinite().all():
            raise InputError("the inputs hold a value that is missing or infinite; expected finite numbers")
        return source.values.to(self.log_initial.dtype)

    def _driven(self, inputs: Float[Tensor, "N T U"]) -> dict[str, Tensor]:
        """The parts of `Potentials` that inputs decide."""
        distinct, step = torch.unique(inputs.flatten(0, 1), dim=0, return_inverse=True)
        return {
            "initial": self._initial_given(inputs[:, 0]),
            "transition": self._transition_given(distinct),
            "step": step.view(inputs.shape[:2]),
        }

    def _initial_given(self, inputs: Float[Tensor, "N U"]) -> Float[Tensor, "R N K"]:
        return (self.log_initial[:, None] + inputs @ self.initial_weights.transpose(1, 2)).softmax(dim=-1)

    def _transition_given(self, inputs: Float[Tensor, "L U"]) -> Float[Tensor, "R L K K"]:
        driven = torch.einsum("lu,rjku->rljk", inputs, self.transition_weights)
        return (self.log_transition[:, None] + driven).softmax(dim=-1)

    @torch.no_grad()
    def simulate_given(self, source: Sequences, generator: torch.Generator | None = None) -> Sequences:
        """One sequence, with its states, for every sequence of inputs and of the same length (R = 1).

        Raises:
            InputError: more than one restart, or inputs of another kind.
        """
        self.check_single()
        check_sequences(source, "source")
        given = source.batch(device=self.device)
        nothing_seen = chain.Potentials(
            **self._driven(self._checked(given)),
            log_emission=self.log_initial.new_zeros(1, 1, self.num_states),
            index=torch.zeros_like(given.values[..., 0], dtype=torch.int64),
            lengths=given.lengths,
        )
        path = paths.sample_paths(nothing_seen, generator)[0]
        values = self.emission.draw(
            {name: value[0, self.groups[path.clamp(min=0)]] for name, value in self.emission.raw.items()}, generator
        )
        drawn, states = (
            [row[:n] for row, n in zip(part.cpu().numpy(), source.lengths, strict=True)] for part in (values, path)
        )
        return Sequences.from_list(drawn, source=source, states=states)

    def initial_state(self, num_sequences: int) -> Tensor:
        raise InputError("what comes next depends on inputs that are not given; draw with simulate_given(source)")

    def simulate(self, num_sequences: int, length: int, generator: torch.Generator | None = None) -> Sequences:
        raise InputError("what is drawn depends on inputs that are not given; draw with simulate_given(source)")

    def forecast(self, batch: Batch, num_steps: int, level: float = 0.9) -> Forecast:
        raise InputError("what comes next depends on inputs that are not given; a forecast needs an HMM without inputs")

    def symbols_ahead(self, batch: Batch, num_steps: int) -> Float[Tensor, "R N H V"]:
        raise InputError("what comes next depends on inputs that are not given; a forecast needs an HMM without inputs")

    def program(self, batch: Batch) -> None:
        raise InputError("there is no Pyro program with inputs; token_log_prob has the exact likelihood")

    def e_step(self, batch: Batch) -> Any:
        raise InputError("InputHMM has no closed-form M-step; fit it with fit_gradient")
