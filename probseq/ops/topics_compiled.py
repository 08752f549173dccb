"""The functions of `probseq.ops.topics` on a CPU: compiled loops, cut into jobs.

A document is too little work for a tensor call. Here loops walk the documents, and threads share jobs of (restart, some
documents). Each number is computed by one job alone, so that none depends on the number of threads. Tested equal to the
tensor functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probseq.ops.chain_compiled import in_threads

if TYPE_CHECKING:
    from probseq.ops.topics import Documents

_PARTS = 8  # jobs that the documents, or the words, of one restart are shared among


def suits(table: Tensor) -> bool:
    """True if the compiled loops can take these numbers."""
    return table.device.type == "cpu"


def infer(
    docs: Documents, weight: Tensor, alpha: Tensor, gamma: Tensor, scale: Tensor, num_steps: int, tol: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `probseq.ops.topics.infer`."""
    from probseq.ops import topics_kernels as kernels

    restarts, num, num_topics = gamma.shape
    table, prior, n, share = (_array(x) for x in (weight, alpha, docs.count, scale[docs.document]))
    gamma = gamma.double().clone()
    document, word, offsets, by_word, word_offsets = (
        _array(x) for x in (docs.document, docs.word, docs.offsets, docs.by_word, docs.word_offsets)
    )
    theta, ratio = np.empty((restarts, num, num_topics)), np.empty((restarts, len(n)))
    bound, counts = np.empty((restarts, num)), np.empty(table.shape)
    cuts = np.searchsorted(offsets, np.linspace(0, len(n), _PARTS + 1)[1:-1])  # as many pairs in each part
    cuts = np.concatenate([[0], cuts, [num]])
    words = np.searchsorted(word_offsets, np.linspace(0, len(n), _PARTS + 1)[1:-1])
    words = np.concatenate([[0], words, [table.shape[1]]])
    inner = _array(gamma)

    def ascend(job: int) -> None:
        r, part = divmod(job, _PARTS)
        first, last = cuts[part], cuts[part + 1]
        kernels.infer(
            offsets, word, n, table[r], prior[r], num_steps, tol, first, last, inner[r], theta[r], ratio[r], bound[r]
        )
        ratio[r, offsets[first] : offsets[last]] *= share[offsets[first] : offsets[last]]

    def count(job: int) -> None:
        r, part = divmod(job, _PARTS)
        first, last = words[part], words[part + 1]
        kernels.collect(word_offsets, by_word, document, ratio[r], theta[r], table[r], first, last, counts[r])

    jobs = range(restarts * _PARTS)
    for work in (ascend, count):
        list(in_threads(work, jobs))
    return gamma, torch.from_numpy(bound), torch.from_numpy(counts)


def log_dirichlet(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """As `probseq.ops.topics.log_dirichlet`."""
    from probseq.ops import topics_kernels as kernels

    rows = _array(alpha.flatten(0, -2))
    expected, log_normalizer = np.empty(rows.shape), np.empty(len(rows))

    def work(row: int) -> None:
        log_normalizer[row] = kernels.log_dirichlet(rows[row], expected[row])

    list(in_threads(work, range(len(rows))))
    return torch.from_numpy(expected).view(alpha.shape), torch.from_numpy(log_normalizer).view(alpha.shape[:-1])


def _array(x: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = x.detach().contiguous().numpy()
    return array
