"""Arrays to ArviZ, in either of its generations. This file imports neither torch nor the rest of the package."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.errors import InputError

Arrays = Mapping[str, NDArray[Any]]

OBSERVED = "x"
"""The name of the observations in the groups ``observed_data`` and ``log_likelihood``."""

LEADING: dict[str, tuple[str, ...]] = {
    "posterior": ("chain", "draw"),
    "sample_stats": ("chain", "draw"),
    "log_likelihood": ("chain", "draw"),
    "observed_data": (),
    "constant_data": (),
    "restarts": ("restart",),
}
"""The dimensions that every variable of a group begins with."""

WHY_SEQUENCES = (
    "the tokens of a sequence are not exchangeable given the latent states: leaving one out changes the filter, and "
    "with it the probability, of all that follow; leave out whole sequences, whose log-likelihoods given the "
    "parameters add up"
)


def import_arviz() -> Any:
    """ArviZ, without its daily announcement of the next generation: what is exported here fits both."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\nArviZ is undergoing a major refactor", FutureWarning)
        import arviz

    return arviz


def from_arrays(
    posterior: Arrays | None = None,
    log_likelihood: NDArray[np.float64] | None = None,
    observed: Arrays | None = None,
    constant: Arrays | None = None,
    restarts: Arrays | None = None,
    sample_stats: Arrays | None = None,
    *,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any] | NDArray[Any]] | None = None,
    attrs: Mapping[str, str | int | float] | None = None,
) -> Any:
    """An ``arviz.InferenceData`` (ArviZ 0.x) or an ``xarray.DataTree`` (1.x) with the same groups and numbers.

    The groups are made by xarray, so that neither generation's ``from_dict`` has a say in their dimensions. Restarts
    are not chains: they did not draw from one distribution, so they are a group with a dimension of its own, of which
    ArviZ computes no R-hat.

    Args:
        posterior: name to ``(chain, draw, ...)``.
        log_likelihood: ``(chain, draw, sequence)``, ``log p(x_i | parameters)`` of whole sequences in nats, hidden
            states summed out.
        observed: name to ``(...)``.
        constant: name to ``(...)``.
        restarts: name to ``(restart, ...)``.
        sample_stats: name to ``(chain, draw, ...)``: what a sampler says of itself.
        dims: name to the dimensions that follow the leading ones of its group.
        coords: dimension to its labels; one that is not given is numbered from 0.
        attrs: what every group should say of itself.

    Raises:
        InputError: log-likelihoods of tokens, or that are not finite; shapes that do not fit together.
    """
    if log_likelihood is not None:
        _check_log_likelihood(np.asarray(log_likelihood))
    given: dict[str, Arrays | None] = {
        "posterior": posterior,
        "sample_stats": sample_stats,
        "log_likelihood": None if log_likelihood is None else {OBSERVED: log_likelihood},
        "observed_data": observed,
        "constant_data": constant,
        "restarts": restarts,
    }
    shapes = {OBSERVED: ("sequence", "time"), **(dims or {})}
    groups = {
        group: _dataset(group, arrays, shapes, dict(coords or {}), dict(attrs or {}))
        for group, arrays in given.items()
        if arrays
    }
    _check_sizes(groups)
    return _assemble(groups)


def _dataset(
    group: str,
    arrays: Arrays,
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, Any],
    attrs: dict[str, Any],
) -> Any:
    """One group."""
    import xarray

    variables: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for name, value in arrays.items():
        array = np.asarray(value)
        own = ("sequence",) if group == "log_likelihood" else tuple(dims.get(name, ()))
        axes = LEADING[group] + own
        if array.ndim != len(axes):
            raise InputError(
                f"{name} of group {group} has shape {array.shape}; expected {' x '.join(axes) or 'a scalar'}"
            )
        variables[name] = (axes, array)
        sizes.update(zip(axes, array.shape, strict=True))
    labels = {axis: np.asarray(coords[axis]) if axis in coords else np.arange(size) for axis, size in sizes.items()}
    for axis, size in sizes.items():
        if labels[axis].shape != (size,):
            raise InputError(
                f"{axis} has {size} entries in group {group} and {len(labels[axis])} labels; expected as many"
            )
    return xarray.Dataset(variables, coords=labels, attrs=attrs)


def _check_log_likelihood(values: NDArray[np.float64]) -> None:
    if values.ndim != 3:
        raise InputError(
            f"log_likelihood has shape {values.shape}; expected chain x draw x sequence, because {WHY_SEQUENCES}"
        )
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        chain, draw, sequence = wrong[0]
        raise InputError(
            f"the log-likelihood of sequence {sequence} under draw {draw} of chain {chain} is "
            f"{values[chain, draw, sequence]}; expected finite numbers: without the sequence such a draw has no finite "
            "importance weight, so give every probability a prior above 0, or remove the sequence"
        )


def _check_sizes(groups: Mapping[str, Any]) -> None:
    """Raise `InputError` where two groups disagree on the size of a dimension."""
    first: dict[str, tuple[str, int]] = {}
    for group, dataset in groups.items():
        for axis, size in dataset.sizes.items():
            other, expected = first.setdefault(axis, (group, size))
            if size != expected:
                raise InputError(
                    f"dimension {axis} has {size} entries in group {group} and {expected} in group {other}; "
                    "expected the same number"
                )


def _assemble(groups: Mapping[str, Any]) -> Any:
    """The one place where the generations differ: what holds the groups."""
    arviz = import_arviz()
    if int(arviz.__version__.partition(".")[0]) < 1:
        return arviz.InferenceData(**groups)
    import xarray

    return xarray.DataTree.from_dict(dict(groups))
