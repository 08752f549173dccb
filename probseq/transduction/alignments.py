"""Which positions of a source the symbols of a target look at, or come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.models.alignment_hmm import AlignmentHMM
from probseq.models.conditional import Conditional
from probseq.models.hmm_decoder import HMMDecoder

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairAlignment:
    """How one model connects one target with its source.

    Attributes:
        name: of the model.
        weights: ``(T, S)``, each row sums to 1: attention weights, or ``p(s_t | x, y)``; 0 where y is impossible.
        path: ``(T,)`` the positions on the most probable path, -1 where y is impossible; None where nothing is drawn.
    """

    name: str
    weights: Floats
    path: NDArray[np.int64] | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether the weights are probabilities of a hidden state, or were computed."""
        return self.path is not None

    @property
    def is_possible(self) -> bool:
        """Whether the model gives the target a probability above 0."""
        return bool(self.weights.any())


def has_states(model: Any) -> bool:
    """Whether a model of targets given their sources sums over hidden states."""
    return isinstance(model, AlignmentHMM) or isinstance(_net(model), HMMDecoder)


def has_positions(model: Any) -> bool:
    """Whether the hidden states are positions of the source."""
    return has_states(model) and getattr(_net(model), "states", "alignment") == "alignment"


def has_attention(model: Any) -> bool:
    """Whether the model looks at positions of the source, with weights that are computed."""
    net = _net(model)
    return hasattr(net, "attention_weights") and getattr(net, "attention", "every layer") is not None


@torch.no_grad()
def most_probable_path(model: Any, batch: Batch) -> Int[Tensor, "N T"]:
    """The states on the most probable path of each target given its source; -1 at padding (R = 1).

    Raises:
        InputError: a model without hidden states.
    """
    _check_states(model)
    if isinstance(model, AlignmentHMM):
        return model.viterbi(batch)[0][0]
    path: Tensor = _net(model).viterbi(batch)[0]
    return path


@torch.no_grad()
def state_posterior(model: Any, batch: Batch) -> Float[Tensor, "N T K"]:
    """``p(s_t | x, y)`` of every state; 0 at padding (R = 1).

    Raises:
        InputError: a model without hidden states.
    """
    _check_states(model)
    if isinstance(model, AlignmentHMM):
        return model.posterior_states(batch)[0]
    posterior: Tensor = _net(model).posterior_states(batch)
    return posterior


@torch.no_grad()
def read_alignment(name: str, model: Any, pair: Sequences) -> PairAlignment:
    """What a model says of one pair: attention weights, averaged over layers and heads, or posterior positions.

    Args:
        name: of the model.
        model: a conditional model with attention, or whose states are positions of the source; R = 1.
        pair: one sequence with its source.

    Raises:
        InputError: a model without positions, or something else than one pair with a source.
    """
    if len(pair) != 1 or pair.source is None:
        raise InputError(f"received {len(pair)} sequences; expected one, with its source")
    batch = pair.batch(device=model.device)
    if has_positions(model):
        path = most_probable_path(model, batch)[0].cpu().numpy()
        return PairAlignment(name, _plain(state_posterior(model, batch)), path)
    if has_attention(model):
        return PairAlignment(name, _plain(_net(model).attention_weights(batch)))
    raise InputError(f"{name} has no attention and no positions; expected a model that connects target and source")


def _check_states(model: Any) -> None:
    if not has_states(model):
        net = _net(model)
        raise InputError(
            f"a {type(model if net is None else net).__name__} has no hidden states; expected an AlignmentHMM, or a "
            "Conditional of HMMDecoders"
        )


def _net(model: Any) -> Any:
    """The network of the only restart, or None where a model is no network."""
    return model.nets[0] if isinstance(model, Conditional) else None


def _plain(weights: Float[Tensor, "1 T S"]) -> Floats:
    return np.asarray(weights[0].double().cpu().numpy())
