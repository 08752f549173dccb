"""Gradients through time, and the weights from state to state."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.data.batch import Batch
from probseq.diagnostics.fading import Fading
from probseq.errors import InputError
from probseq.models.autoregressive import Autoregressive
from probseq.models.base import evaluation_mode
from probseq.models.network import Network
from probseq.models.recurrent import GRU, LSTM, RNN, Recurrent, UpdateGateRNN
from probseq.models.transformer import Transformer

_BLOCKS = {
    RNN: ("candidate",),
    UpdateGateRNN: ("update", "candidate"),
    GRU: ("reset", "update", "candidate"),
    LSTM: ("include", "forget", "candidate", "output"),
}


def state_gradient(model: Autoregressive | Network, batch: Batch) -> Fading:
    r"""The spectral norm of :math:`\partial h_T / \partial h_t` against the distance T - t.

    Of a recurrent network, h is everything that a step hands to the next: hidden states and memories of all layers, so
    at distance 0 the norm is 1. A transformer hands nothing on: h_T is what its output layer reads at the last step,
    and h_t the code that its first block reads at step t.

    Args:
        model: a network, or one restart of them.
        batch: N sequences of equal length T, at least 2. One backward pass is made for each number in h.
    """
    net, values = _prepared(model, batch)
    with evaluation_mode(net):
        states, last = _states(net, torch.cat([net.begin(len(values)), net.read(values)], dim=1))
    rows = [torch.autograd.grad(last[:, i].sum(), states, retain_graph=True) for i in range(last.shape[1])]
    if isinstance(net, Recurrent):
        jacobian = torch.stack([torch.stack(row, dim=1) for row in rows], dim=2)  # (N, T, S, S)
    else:
        jacobian = torch.stack([row[0][:, 1:] for row in rows], dim=2)  # (N, T, E, E)
    norm = torch.linalg.matrix_norm(jacobian.double(), ord=2)
    return _by_distance("norm of d h_T / d h_t", norm, nearest=0)


def input_gradient(model: Autoregressive | Network, batch: Batch) -> Fading:
    r"""The norm of :math:`\partial \mathrm{loss}_T / \partial x_t` against the distance T - t, in nats.

    The loss is :math:`-\log p(x_T \mid x_{<T})`, and the derivative is by the code of the symbol x_t, one-hot or
    learned: how much would the prediction change if the past had been a little different?

    Args:
        model: a network, or one restart of them.
        batch: N sequences of equal length T, at least 2.
    """
    net, values = _prepared(model, batch)
    inputs = torch.cat([net.begin(len(values)), net.read(values[:, :-1])], dim=1)
    with evaluation_mode(net):
        leaf, outputs = _with_leaf(net, inputs)
    loss = -net.log_prob(outputs[:, -1:], values[:, -1:])
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return _by_distance("norm of d loss_T / d x_t (nats)", gradient[:, 1:].double().norm(dim=-1), nearest=1)


def spectral_radius(model: Autoregressive | Network, layer: int = 0) -> dict[str, float]:
    """The largest modulus of an eigenvalue of W_hh, the weights from state to state, of every gate and the candidate.

    Of a tanh network whose units stay near 0, the gradient changes by this factor with every step in the long run, so
    below 1 it vanishes and above 1 it explodes. Where units saturate, it vanishes sooner. Away from 0 the radius alone
    promises nothing, because W_hh is multiplied with other factors at every step; it is a largest *singular value*
    below 1 that makes gradients vanish for certain.

    Args:
        model: a recurrent network, or one restart of them.
        layer: which.
    """
    return {name: float(np.abs(one).max()) for name, one in recurrent_eigenvalues(model, layer).items()}


def recurrent_eigenvalues(model: Autoregressive | Network, layer: int = 0) -> dict[str, NDArray[np.complex128]]:
    """``(H,)`` the eigenvalues of each block of W_hh, in the signs of the cell's formula; see `spectral_radius`."""
    net = _recurrent(model)
    if not 0 <= layer < net.num_layers:
        raise InputError(f"layer is {layer}; expected 0 to {net.num_layers - 1}")
    names = next(names for kind, names in _BLOCKS.items() if isinstance(net, kind))
    blocks = dict(zip(names, net.weights(layer).of_state.detach().double().chunk(len(names)), strict=True))
    if isinstance(net, GRU):
        blocks["update"] = -blocks["update"]  # torch computes what is kept, 1 - G
    return {name: torch.linalg.eigvals(block).cpu().numpy() for name, block in blocks.items()}


def _prepared(model: Any, batch: Batch) -> tuple[Any, Tensor]:
    net = _network(model)
    Autoregressive([net]).check_values(batch)
    if batch.values.shape[1] < 2 or int(batch.lengths.min()) < batch.values.shape[1]:
        raise InputError(
            "expected sequences of one length, 2 or more; cut them, and leave out what is shorter: "
            "windows = data.windows(50); windows[windows.lengths == 50].batch()"
        )
    return net, batch.values


def _network(model: Any) -> Any:
    if isinstance(model, Autoregressive):
        model.check_single()
        return model.nets[0]
    if not isinstance(model, Network):
        raise InputError(f"expected a network, or a model of one; received {type(model).__name__}")
    return model


def _recurrent(model: Any) -> Recurrent:
    net = _network(model)
    if not isinstance(net, Recurrent):
        raise InputError(f"a {type(net).__name__} has no weights from state to state; expected a recurrent network")
    return net


def _states(net: Any, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """What a later state depends on, and the last state ``(N, S)``."""
    if isinstance(net, Recurrent):
        states = _course(net, inputs)[1:]  # the first has only read that something begins
        return states, states[-1]
    leaf, last = _read_by_head(net, inputs)
    return [leaf], last


def _course(net: Recurrent, inputs: Tensor) -> list[Tensor]:
    """What every step hands on, ``(N, S)``, such that later steps depend on earlier ones through it alone."""
    weights = [net.weights(layer) for layer in range(net.num_layers)]
    parts = net.num_layers * (1 + net.has_memory)
    state = torch.zeros(len(inputs), parts * net.hidden_dim, dtype=net.head.weight.dtype, device=inputs.device)
    course = []
    for x in net.code(inputs).unbind(dim=1):
        pieces, after = state.chunk(parts, dim=1), []
        for layer, of_layer in enumerate(weights):
            one = tuple(pieces[layer * (1 + net.has_memory) : (layer + 1) * (1 + net.has_memory)])
            moved, _ = net.step(of_layer, x, one)
            x = net.above(moved)
            after += list(moved)
        state = torch.cat(after, dim=1)
        if not state.requires_grad:
            raise InputError("the weights are fixed; gradients need weights that may change")
        course.append(state)
    return course


def _with_leaf(net: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The code that the network computes from, as a leaf of the graph ``(N, T, C)``, and its outputs."""
    kept: list[Tensor] = []

    def replace(code: Tensor) -> Tensor:
        kept.append(code.detach().requires_grad_())
        return kept[-1]

    if isinstance(net, Recurrent):
        handle = net.cells.register_forward_pre_hook(lambda _, args: (replace(args[0]), *args[1:]))
    elif isinstance(net, Transformer):
        handle = net.embed.register_forward_hook(lambda _, __, code: replace(code))
    else:
        raise InputError(
            f"gradients are followed through recurrent networks and transformers, not {type(net).__name__}"
        )
    with handle:
        outputs, _ = net(inputs)
    if len(kept) > 1:
        raise InputError(f"sequences of {inputs.shape[1]} tokens do not fit into one window; give shorter ones")
    return kept[0], outputs


def _read_by_head(net: Transformer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The code as a leaf ``(N, T, C)``, and what the output layer reads at the last step ``(N, E)``."""
    kept: list[Tensor] = []
    with net.norm.register_forward_hook(lambda _, __, x: kept.append(x)):
        leaf, _ = _with_leaf(net, inputs)
    return leaf, kept[0][:, -1]


def _by_distance(what: str, norms: Tensor, nearest: int) -> Fading:
    """Norms ``(N, T)`` in the order of time as a curve over distance, the nearest first."""
    values = norms.flip(dims=(1,)).detach().cpu().numpy()
    return Fading(what, np.arange(nearest, nearest + values.shape[1]), values)
