"""The restarts of a model as modules of their own, so that each has its own optimizer, clipping and early stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.errors import InputError
from probseq.models.base import Model
from probseq.models.network import Network
from probseq.models.network_model import NetworkModel, wrapped
from probseq.models.variational import VariationalHMM

Each = Callable[[Callable[[int], float], list[int]], Iterable[float]]
"""A `map` over restarts."""


class LoneRestarts:
    """R modules that are trained one by one.

    Attributes:
        modules: one for each restart.
        device: where they are.
        dropout: the share of units that they drop in training.
        objective: what is maximized.
    """

    modules: list[Any]
    device: torch.device
    dropout: float = 0.0
    objective: str = "log-likelihood per token of the batch (nats)"

    def log_prob(self, module: Any, batch: Batch) -> Tensor:
        """``(N, T)``: ``log p(x_t | x_<t)`` in nats, 0 at padding."""
        raise NotImplementedError

    def training_log_prob(self, module: Any, batch: Batch) -> Tensor:
        """What the objective adds up, ``(N, T)``: `log_prob`, unless the batch knows more than the observations."""
        return self.log_prob(module, batch)

    def log_prior(self, module: Any) -> Tensor | float:
        """What the objective adds to the log-likelihood, in nats."""
        return 0.0

    def parameter_groups(self, module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """What the optimizer changes, and with which decay."""
        raise NotImplementedError

    def write_back(self) -> None:
        """Bring what was learned into the model that the caller sees."""

    def copy(self, weights: Sequence[Mapping[str, Tensor]]) -> Any:
        """A model of its own with these weights, for each restart the state of its module."""
        raise NotImplementedError

    @contextmanager
    def side_by_side(self) -> Iterator[Each]:
        """A `map` over restarts."""
        yield map


class Networks(LoneRestarts):
    """The networks of a model, which are modules already."""

    def __init__(self, model: NetworkModel) -> None:
        self.model, self.modules, self.device = model, list(model.nets), model.device
        self.dropout = model.nets[0].dropout

    def log_prob(self, module: Any, batch: Batch) -> Tensor:
        log_prob: Tensor = module.token_log_prob(batch)
        return log_prob

    def parameter_groups(self, module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices are decayed, vectors (biases, norms) are not."""
        matrices = [p for p in module.parameters() if p.ndim >= 2]
        vectors = [p for p in module.parameters() if p.ndim < 2]
        return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]

    def write_back(self) -> None:
        self.model.eval()

    def copy(self, weights: Sequence[Mapping[str, Tensor]]) -> Any:
        model = deepcopy(self.model)
        for net, one in zip(model.nets, weights, strict=True):
            net.load_state_dict(one)
        return model.eval()

    @contextmanager
    def side_by_side(self) -> Iterator[Each]:
        """A `map` over restarts: in threads of one core each, where that is possible and faster.

        A small recurrent step keeps one core busy and no more, so on a CPU two restarts side by side take little longer
        than one. Dropout draws from the one random state of torch, so with it restarts take turns.
        """
        workers = min(len(self.modules), torch.get_num_threads())
        if workers == 1 or self.device.type != "cpu" or self.dropout > 0:
            yield map
            return
        threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield pool.map
        finally:
            torch.set_num_threads(threads)  # threads made later would inherit the pool's setting


class TakenRestarts(LoneRestarts):
    """Models of one restart each, taken out of a model and put back at the end: for a hidden Markov model.

    Nothing is decayed: a logit of 0 is no more likely than another, and what is likely is said by the priors.
    """

    objective = "log-likelihood of the batch and log-prior per token (nats)"

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, model.device
        self.modules = [model.take([r]) for r in range(model.num_restarts)]

    def log_prob(self, module: Any, batch: Batch) -> Tensor:
        log_prob: Tensor = module.token_log_prob(batch)[0]
        return log_prob

    def training_log_prob(self, module: Any, batch: Batch) -> Tensor:
        """Of the observations together with the states that are known, as in the E-step."""
        log_prob: Tensor = module.conditioned_log_prob(batch)[0]
        return log_prob

    def log_prior(self, module: Any) -> Tensor | float:
        log_prior: Tensor = module.log_prior()[0]
        return log_prior

    def parameter_groups(self, module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        free = [p for p in module.parameters() if p.requires_grad]
        if not free:
            raise InputError("there is nothing to fit: every part of the model is fixed")
        return [{"params": free, "weight_decay": 0.0}]

    def write_back(self) -> None:
        for r, module in enumerate(self.modules):
            self.model.put([r], module)
        self.model.eval()

    def copy(self, weights: Sequence[Mapping[str, Tensor]]) -> Any:
        model = deepcopy(self.model)
        for r, one in enumerate(weights):
            module = model.take([r])
            module.load_state_dict(one)
            model.put([r], module)
        return model.eval()


def lone_restarts(model: Model) -> LoneRestarts:
    """The restarts of this model."""
    return Networks(model) if isinstance(model, NetworkModel) else TakenRestarts(model)


def check_kind(model: Any) -> None:
    """Raise `InputError` for a model that has no gradient to follow."""
    if isinstance(model, VariationalHMM):
        raise InputError(
            "a VariationalHMM has a posterior, which the gradient of a likelihood would leave; fit it with em"
        )
    if isinstance(model, NetworkModel) or all(hasattr(model, name) for name in ("take", "put", "log_prior")):
        return
    if isinstance(model, Network):
        raise InputError(f"received the {type(model).__name__} alone; {wrapped(model)}")
    raise InputError(f"fit_gradient fits networks and hidden Markov models; received {type(model).__name__}")
