r"""Paths of hidden states: the most probable ones, draws, and how uncertain they are.

Everything here takes the `Potentials` of `probseq.ops.chain` and is computed in float64 on a CPU by compiled loops;
inputs on another device are copied there, results back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from probseq.errors import InputError
from probseq.ops.chain import Potentials
from probseq.ops.chain_checks import check_ranges, check_shapes
from probseq.ops.chain_compiled import in_threads

_PARTS = 8  # jobs that the sequences of one restart are shared among, at most


def viterbi(p: Potentials) -> tuple[Int[Tensor, "R N T"], Float[Tensor, "R N"]]:
    r"""The most probable path of each sequence, :math:`\arg\max_s p(s, x)`, and its ``log p(s, x)`` in nats.

    Of paths with equal probability the same one is found each time: the smallest last state, and before each state
    the smallest one that led to it. For an impossible sequence the path is -1 throughout and the logarithm -inf.

    Returns:
        Paths, -1 at padding, and log-probabilities.

    Reference:
        A. J. Viterbi (1967), "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm".
    """
    from probseq.ops.path_kernels import viterbi as fill

    path = _result(p, p.index.shape[1])
    log_prob = path.new_full(path.shape[:2], -torch.inf, dtype=torch.float64)
    _run(fill, p, _logarithms(p), [path, log_prob])
    return path.to(p.index.device), log_prob.to(p.index.device)


def k_best(p: Potentials, k: int) -> tuple[Int[Tensor, "R N k T"], Float[Tensor, "R N k"]]:
    """The k most probable paths of each sequence, best first, and their ``log p(s, x)`` in nats.

    Where fewer than k paths are possible, the rest are -1 with log-probability -inf.

    Raises:
        InputError: k is below 1.

    Reference:
        N. Seshadri, C.-E. W. Sundberg (1994), "List Viterbi decoding algorithms with applications".
    """
    from probseq.ops.path_kernels import k_best as fill

    if k < 1:
        raise InputError(f"k is {k}; expected 1 or more paths")
    paths = _result(p, k, p.index.shape[1])
    log_probs = paths.new_full(paths.shape[:3], -torch.inf, dtype=torch.float64)
    _run(fill, p, _logarithms(p), [paths, log_probs])
    return paths.to(p.index.device), log_probs.to(p.index.device)


def sample_paths(p: Potentials, generator: torch.Generator | None = None) -> Int[Tensor, "R N T"]:
    """One draw of each path from ``p(s | x)``; -1 at padding, and throughout if x is impossible.

    Reference:
        S. Frühwirth-Schnatter (1994), "Data augmentation and dynamic linear models" (forward filtering, backward
        sampling).
    """
    from probseq.ops.path_kernels import sample as fill

    path = _result(p, p.index.shape[1])
    device = None if generator is None else generator.device
    uniform = torch.rand(path.shape, dtype=torch.float64, generator=generator, device=device).cpu()
    _run(fill, p, [p.initial, p.transition, _probabilities(p), *_logarithms(p)], [uniform, path])
    return path.to(p.index.device)


def path_entropy(p: Potentials) -> Float[Tensor, "R N"]:
    r"""The entropy of each path given its sequence, :math:`-\sum_s p(s \mid x) \log p(s \mid x)`, in nats.

    It is 0 if x leaves no doubt about its states. For an impossible sequence, which has no path, it is -inf.

    Reference:
        D. Hernando, V. Crespi, G. Cybenko (2005), "Efficient computation of the hidden Markov model entropy for a given
        observation sequence".
    """
    from probseq.ops.path_kernels import entropy as fill

    transition = p.transition.detach().double()
    result = torch.zeros(len(p.log_emission), len(p.index), dtype=torch.float64)
    weighted = torch.xlogy(transition, transition)
    _run(fill, p, [p.initial, transition, weighted, _probabilities(p), *_logarithms(p)], [result])
    return result.to(p.index.device)


def _logarithms(p: Potentials) -> list[Tensor]:
    return [p.initial.detach().double().log(), p.transition.detach().double().log(), p.log_emission]


def _probabilities(p: Potentials) -> Tensor:
    """The emission table, each row up to a factor: the beliefs depend on nothing else."""
    log_emission = p.log_emission.detach().double()
    top = log_emission.amax(dim=-1, keepdim=True)
    return (log_emission - top.masked_fill(~top.isfinite(), 0.0)).exp()


def _result(p: Potentials, *shape: int) -> Tensor:
    """States, -1 unless a path is found."""
    return torch.full((len(p.log_emission), len(p.index), *shape), -1, dtype=torch.int64)


def _run(fill: Callable[..., None], p: Potentials, parameters: list[Tensor], results: list[Tensor]) -> None:
    """Call ``fill(parameters, x, n, step, first, last, results)`` for each restart and some sequences at a time."""
    check_shapes(p)
    check_ranges(p)
    given = [part.detach().double().cpu().contiguous().numpy() for part in parameters]
    x, n = p.index.cpu().contiguous().numpy(), p.lengths.cpu().contiguous().numpy()
    step = np.empty((0, 0), np.int64) if p.step is None else p.step.cpu().contiguous().numpy()
    wanted = [part.numpy() for part in results]
    parts = min(_PARTS, len(x))
    cuts = np.linspace(0, len(x), parts + 1).astype(int).tolist()

    def job(number: int) -> None:
        r, part = divmod(number, parts)
        fill(*(g[r] for g in given), x, n, step, cuts[part], cuts[part + 1], *(w[r] for w in wanted))

    list(in_threads(job, range(len(p.log_emission) * parts)))
