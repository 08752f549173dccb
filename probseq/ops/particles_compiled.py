"""`probseq.ops.particles.token_log_prob` on a CPU: a compiled loop, one job for each document and filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from probseq.ops.chain_compiled import in_threads

if TYPE_CHECKING:
    from probseq.ops.particles import Source


def suits(table: Tensor) -> bool:
    """True if the compiled loop can take these numbers."""
    return table.device.type == "cpu"


def token_log_prob(
    values: Tensor, observed: Tensor, source: Source, num_particles: int, keys: Tensor, most: int
) -> Tensor:
    """As `probseq.ops.particles.token_log_prob`."""
    from probseq.ops.particles_kernels import follow

    x, seen = torch.where(observed, values, -1).numpy(), observed.numpy()
    table = source.emission.transpose(1, 2).contiguous().numpy()
    alpha, steps = (part.contiguous().numpy() for part in (source.alpha, source.steps))
    sizes = (len(alpha), len(keys), len(x))  # restarts, replicates, documents
    longest_first = np.argsort(-seen.sum(axis=1), kind="stable")  # so that threads end together
    ends = x.shape[1] - np.argmax(seen[:, ::-1], axis=1)  # padding is not walked
    terms, seeds = np.zeros((*sizes, x.shape[1])), keys.numpy().view(np.uint64)

    def work(job: int) -> None:
        place, r, s = np.unravel_index(job, (sizes[2], *sizes[:2]))
        d = longest_first[place]
        end = ends[d]
        follow(x[d, :end], table[r], alpha[r], steps[r], num_particles, seeds[s], most, terms[r, s, d, :end])

    list(in_threads(work, range(int(np.prod(sizes)))))
    return torch.from_numpy(terms)
