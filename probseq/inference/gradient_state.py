"""The state of a gradient fit as tensors and plain values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probseq.inference.checkpointing import State
from probseq.inference.gradient_step import Aside, Best, GradientStep
from probseq.inference.run import StopReason


def state_of(step: GradientStep) -> State:
    """Everything that the next steps depend on."""
    tensors: dict[str, Tensor] = {}
    for r, (module, optimizer, best) in enumerate(zip(step.restarts.modules, step.optimizers, step.best, strict=True)):
        tensors |= {f"{r}/weights/{name}": value for name, value in module.state_dict().items()}
        tensors |= {f"{r}/best/{name}": value for name, value in best.weights.items()}
        for name, parameter in module.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{r}/optimizer/{name}/{key}"] = value
    rows = {"history": step.course.history, "norms": step.norms, "scores": step.scores}
    for name, row in rows.items():
        tensors[name] = torch.from_numpy(np.array(row, np.float64).reshape(len(row), len(step.best)))
    tensors["best"] = torch.tensor([[one.score, one.look] for one in step.best], dtype=torch.float64)
    for seconds, aside in step.aside.items():
        for r, one in enumerate(aside.weights):
            tensors |= {f"{r}/after {seconds}/{name}": value for name, value in one.items()}
    values = {
        "aside": [[seconds, one.step, _by_name(one.reasons)] for seconds, one in step.aside.items()],
        "epoch": step.sampler.epoch,
        "drawn": step.sampler.drawn,
        "tokens": step.course.tokens,
        "scored": step.steps,
        "reasons": _by_name(step.course.reasons),
        "failures": _by_name(step.failures),
        "precision": step.precision,
    }
    return State(tensors, values, step.course.seconds)


def restore(step: GradientStep, state: State) -> None:
    """Go on from a `state`.

    Raises:
        InputError: it is later than the end that is asked for.
    """
    tensors, values, course = state.tensors, state.values, step.course
    for r, (module, optimizer) in enumerate(zip(step.restarts.modules, step.optimizers, strict=True)):
        module.load_state_dict(_under(tensors, f"{r}/weights/"))
        for name, parameter in module.named_parameters():
            # the step count stays where the optimizer wants it, the moments are where the weights are
            found = _under(tensors, f"{r}/optimizer/{name}/")
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in found.items()}
        score, which = tensors["best"][r].tolist()
        best = {name: value.to(step.restarts.device) for name, value in _under(tensors, f"{r}/best/").items()}
        step.best[r] = Best(score, int(which), best)
    for seconds, number, reasons in values["aside"]:
        weights = [_under(tensors, f"{r}/after {seconds}/") for r in range(len(step.best))]
        step.aside[seconds] = Aside(number, _by_number(reasons), weights)
    step.norms, step.scores = list(tensors["norms"].numpy()), list(tensors["scores"].numpy())
    step.steps = list(values["scored"])
    step.failures = _by_number(values["failures"])
    step.precision = values["precision"]
    step.sampler.seek(values["epoch"], values["drawn"])
    course.history, course.seconds = list(tensors["history"].numpy()), state.seconds
    course.tokens = values["tokens"]
    reasons = _by_number(values["reasons"])
    course.reasons = {r: why for r, why in reasons.items() if not _may_go_on(step, r, why)}
    step.rate.budgets.check_not_passed(course)


def _may_go_on(step: GradientStep, restart: int, why: StopReason) -> bool:
    """Whether early stopping would now wait longer; not for a restart that has missed steps since it stopped."""
    took_part = bool(np.isfinite(step.course.history[-1][restart]))
    return why == "early_stopping" and took_part and step.is_patient(restart)


def _by_name(values: Mapping[int, Any]) -> dict[str, Any]:
    """JSON has no numbers for keys."""
    return {str(key): value for key, value in values.items()}


def _by_number(values: Mapping[str, Any]) -> dict[int, Any]:
    return {int(key): value for key, value in values.items()}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
