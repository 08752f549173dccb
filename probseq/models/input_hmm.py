"""`InputHMM`: a hidden Markov model whose steps are driven by inputs."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.models.emissions import Emission
from probseq.models.forecast import Forecast
from probseq.models.hmm import HMM
from probseq.ops import chain


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

    def potentials(self, batch: Batch) -> chain.Potentials:
        """One row of transitions for every distinct input of the batch."""
        inputs = self._inputs(batch)
        distinct, step = torch.unique(inputs.flatten(0, 1), dim=0, return_inverse=True)
        return (
            super()
            .potentials(batch)
            ._replace(
                initial=self._initial_given(inputs[:, 0]),
                transition=self._transition_given(distinct),
                step=step.view(inputs.shape[:2]),
            )
        )

    def _inputs(self, batch: Batch) -> Float[Tensor, "N T U"]:
        source = batch.source
        if source is None or source.values.ndim != 3 or source.values.shape[2] != self.num_inputs:
            received = "none" if source is None else str(tuple(source.values.shape[2:]))
            raise InputError(
                f"this model is driven by inputs of {self.num_inputs} dimensions and received {received}; give them as "
                "source=Sequences.from_list([...]) with a vector (U,) for every step"
            )
        if not torch.equal(source.lengths, batch.lengths):
            raise InputError("the inputs and the observations differ in length; expected one input for every step")
        if not source.values.isfinite().all():
            raise InputError("the inputs hold a value that is missing or infinite; expected finite numbers")
        return source.values.to(self.log_initial.dtype)

    def _initial_given(self, inputs: Float[Tensor, "N U"]) -> Float[Tensor, "R N K"]:
        return (self.log_initial[:, None] + inputs @ self.initial_weights.transpose(1, 2)).softmax(dim=-1)

    def _transition_given(self, inputs: Float[Tensor, "L U"]) -> Float[Tensor, "R L K K"]:
        driven = torch.einsum("lu,rjku->rljk", inputs, self.transition_weights)
        return (self.log_transition[:, None] + driven).softmax(dim=-1)

    @torch.no_grad()
    def simulate_given(self, source: Sequences, generator: torch.Generator | None = None) -> Sequences:
        """One sequence, with its states, for every sequence of inputs and of the same length (R = 1)."""
        self.check_single()
        paths = [self._path(torch.as_tensor(one, dtype=self.log_initial.dtype), generator) for one in source]
        raw = [{name: value[0, self.groups[path]] for name, value in self.emission.raw.items()} for path in paths]
        values = [self.emission.draw(one, generator).cpu().numpy() for one in raw]
        return Sequences.from_list(values, source=source, states=[path.cpu().numpy() for path in paths])

    def _path(self, inputs: Float[Tensor, "T U"], generator: torch.Generator | None) -> Int[Tensor, "T"]:
        inputs = inputs.to(self.device)
        transition, probs = self._transition_given(inputs)[0], self._initial_given(inputs[:1])[0, 0]
        states: list[Tensor] = []
        for t in range(len(inputs)):
            given = probs if t == 0 else transition[t, states[-1][0]]
            states.append(torch.multinomial(given, 1, generator=generator))
        return torch.cat(states)

    def initial_state(self, num_sequences: int) -> Tensor:
        raise InputError("what comes next depends on inputs that are not given; draw with simulate_given(source)")

    def simulate(self, num_sequences: int, length: int, generator: torch.Generator | None = None) -> Sequences:
        raise InputError("what is drawn depends on inputs that are not given; draw with simulate_given(source)")

    def forecast(self, batch: Batch, num_steps: int, level: float = 0.9) -> Forecast:
        raise InputError("what comes next depends on inputs that are not given; a forecast needs an HMM without inputs")

    def e_step(self, batch: Batch) -> Any:
        raise InputError("InputHMM has no closed-form M-step; fit it with fit_gradient")
