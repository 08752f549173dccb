"""What `probseq.ops.chain.Potentials` have to be. Compiled loops do not look where they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from probseq.errors import InputError

if TYPE_CHECKING:
    from probseq.ops.chain import Potentials

_EXPECTED = (
    "expected initial (R, 1 or N, K), transition (R, L, K, K), log_emission (R, M, K), index and step (N, T), and "
    "lengths (N,), none of them empty"
)


def check_shapes(p: Potentials, weights: Tensor | None = None) -> None:
    """Raise `InputError` unless all sizes agree; `weights` are ``(R or 1, N, T or 1)``."""
    sizes = {name: tuple(part.shape) for name, part in p._asdict().items() if part is not None}
    if [len(size) for size in sizes.values()] != [3, 4, 3, 2, 1, 2][: len(sizes)] or 0 in sum(sizes.values(), ()):
        raise InputError(f"received {_told(sizes)}; {_EXPECTED}")
    (restarts, _, states), (num, steps) = sizes["log_emission"], sizes["index"]
    matrices = sizes["transition"][1]
    expected = {
        "initial": (restarts, 1 if sizes["initial"][1] == 1 else num, states),
        "transition": (restarts, matrices, states, states),
        "lengths": (num,),
        "step": (num, steps),
    }
    if any(sizes.get(name, size) != size for name, size in expected.items()):
        raise InputError(f"received {_told(sizes)}; {_EXPECTED}")
    if weights is not None and not (
        weights.ndim == 3
        and weights.shape[0] in (1, restarts)
        and weights.shape[1] == num
        and weights.shape[2] in (1, steps)
    ):
        raise InputError(f"received weights {tuple(weights.shape)} for index {sizes['index']}; expected one a sequence")


def check_ranges(p: Potentials) -> None:
    """Raise `InputError` unless lengths, rows of the emission table and matrices all exist."""
    _check_range("lengths", p.lengths, 1, p.index.shape[1])
    _check_range("index", p.index, 0, p.log_emission.shape[1] - 1)
    if p.step is not None:
        _check_range("step", p.step, 0, p.transition.shape[1] - 1)


def _check_range(name: str, numbers: Tensor, lowest: int, highest: int) -> None:
    array = numbers.detach().cpu().numpy()  # whose minimum is found faster than that of a tensor
    low, high = array.min(), array.max()
    if low < lowest or high > highest:
        raise InputError(f"{name} holds numbers from {low} to {high}; expected {lowest} to {highest}")


def _told(sizes: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
