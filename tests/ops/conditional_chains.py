"""Tiny chains of every kind that a source drives, and the same as `Potentials` with a matrix for every step."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from probseq.ops.chain import Potentials
from probseq.ops.chain_conditional import Chain, JumpWindow, Memoryless, SharedMatrix, predicted, transition

KINDS = ("matrix", "window", "window-own", "memoryless")


def random_chain(kind, chains=2, num=3, steps=4, states=3, first=-1, width=3, seed=0, dtype=torch.float64):
    """A chain and the emissions of `num` sequences; a window has positions that not all sequences have."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> torch.Tensor:
        return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)

    lengths = 1 + torch.randint(steps, (num,), generator=generator)
    emission, initial = numbers(chains, num, steps, states) - 3, numbers(chains, num, states)
    if kind == "matrix":
        chain: Chain = SharedMatrix(
            initial.log_softmax(-1), numbers(chains, states, states).log_softmax(-1), numbers(chains, num, states)
        )
    else:
        there = torch.arange(states) < 1 + torch.randint(states, (num, 1), generator=generator)  # (N, K)
        own = kind == "window-own"
        drive = numbers(chains, num, steps if own else 1, states).masked_fill(~there[:, None], -torch.inf)
        if kind == "memoryless":
            chain = Memoryless(drive.log_softmax(-1))
        else:
            jump = numbers(chains, num if own else 1, states if own else 1, width)
            chain = JumpWindow(initial.masked_fill(~there, -torch.inf).log_softmax(-1), jump, first, drive)
    return cast(chain, dtype), emission.to(dtype), lengths


def cast(chain, dtype):
    """The chain in this precision."""
    return type(chain)(*(part.to(dtype) if isinstance(part, torch.Tensor) else part for part in fields(chain)))


def fields(chain):
    """What a chain holds, in order."""
    return list(vars(chain).values())


def potentials(chain: Chain, emission: torch.Tensor, lengths: torch.Tensor) -> Potentials:
    """What `probseq.ops.chain` is asked for the same numbers: every step of every sequence has its own matrix."""
    count, num, steps, states = emission.shape
    own = torch.arange(num * steps).view(num, steps)
    if isinstance(chain, Memoryless):
        matrices = chain.log_prior[..., None, :].exp().expand(-1, -1, -1, states, -1)
    else:
        matrices = transition(chain)
    return Potentials(
        initial=predicted(chain, None).exp(),
        transition=matrices.expand(-1, -1, steps, -1, -1).reshape(count, num * steps, states, states),
        log_emission=emission.reshape(count, num * steps, states),
        index=own,
        lengths=lengths,
        step=own,
    )


@st.composite
def conditional_chains(draw, kinds=KINDS):
    """Up to 4 states and 5 steps, ragged; windows of up to 4 jumps, wider than the source at times."""
    width = draw(st.integers(1, 4))
    return random_chain(
        draw(st.sampled_from(kinds)),
        chains=draw(st.integers(1, 2)),
        num=draw(st.integers(1, 4)),
        steps=draw(st.integers(1, 5)),
        states=draw(st.integers(1, 4)),
        first=-draw(st.integers(0, width - 1)),
        width=width,
        seed=draw(st.integers(0, 2**16)),
    )
