"""A training step of each decoder against one of attention, on pronunciations, and the memory of many states.

Steps of all networks take turns, so that whatever else the machine does slows all of them alike.
"""

import os
import resource
import subprocess
import sys
import time
from itertools import islice
from statistics import median

import torch

import probseq as ps
from probseq.ops import chain_conditional

BATCH, ROUNDS, WARMUP = 256, 20, 3
SIZES = {"hidden_dim": 256, "embed_dim": 128}  # about 950,000 parameters
NETWORKS = {
    "dot attention": lambda *sizes: ps.Seq2Seq(*sizes, attention="dot", **SIZES),
    "bottleneck": lambda *sizes: ps.Seq2Seq(*sizes, attention=None, **SIZES),
    "alignment, order 0": lambda *sizes: ps.HMMDecoder(*sizes, states="alignment", order=0, **SIZES),
    "alignment, order 1": lambda *sizes: ps.HMMDecoder(*sizes, states="alignment", **SIZES),
    "alignment, monotone": lambda *sizes: ps.HMMDecoder(*sizes, states="alignment", monotone=True, **SIZES),
    "latent, 128 states": lambda *sizes: ps.HMMDecoder(*sizes, states="latent", num_states=128, **SIZES),
}
MOST = {"alignment, order 0": 1.5, "alignment, order 1": 2.5, "latent, 128 states": 2.0}  # times a step of attention


def trainer(network):
    """A step on a batch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def step(batch):
        optimizer.zero_grad()
        (-network.token_log_prob(batch).sum() / batch.num_tokens).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return step


def seconds_of_the_sum(network, batch):
    """What the sum over paths takes of a step, forth and back."""
    _, chain, log_emission = network.chains(batch)
    wanted = [part for part in (log_emission, *vars(chain).values()) if getattr(part, "requires_grad", False)]
    begin = time.perf_counter()
    torch.autograd.grad(chain_conditional.token_log_prob(chain, log_emission, batch.lengths).sum(), wanted)
    return time.perf_counter() - begin


def test_a_training_step_costs_little_more_than_one_of_attention(capsys):
    corpus = ps.load_corpus("cmudict")
    networks = {name: build(corpus.num_source_symbols, corpus.num_symbols) for name, build in NETWORKS.items()}
    steps, seconds = {name: trainer(network) for name, network in networks.items()}, {name: [] for name in networks}
    sums = {name: [] for name, network in networks.items() if isinstance(network, ps.HMMDecoder)}
    longest = int(corpus.train.extents.max())
    batches = corpus.train.batches(BATCH * longest, batch_size=BATCH, shuffle=True)
    for number, batch in enumerate(islice(batches, WARMUP + ROUNDS)):
        for name, step in steps.items():
            begin = time.perf_counter()
            step(batch)
            if number >= WARMUP:
                seconds[name].append(time.perf_counter() - begin)
        for name, found in sums.items():
            found.append(seconds_of_the_sum(networks[name], batch))
    unit = seconds["dot attention"]
    ratios = {name: median(a / b for a, b in zip(own, unit, strict=True)) for name, own in seconds.items()}
    with capsys.disabled():
        print(f"\n\nA training step on {BATCH} words: parameters, median milliseconds, times one of attention;")
        print("milliseconds of the sum over paths")
        for name, network in networks.items():
            size = sum(parameter.numel() for parameter in network.parameters())
            of_sum = f"{1000 * median(sums[name]):>7.1f}" if name in sums else ""
            print(f"  {name:<20} {size:>9,} {1000 * median(seconds[name]):>7.1f} {ratios[name]:>6.2f}{of_sum}")
    assert all(ratios[name] <= most for name, most in MOST.items())


def test_many_states_fit_into_memory(capsys):
    """A process of its own trains K = 1024 and says how much memory it has ever held."""
    same = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = float(
        subprocess.run([sys.executable, __file__], env=same, capture_output=True, text=True, check=True).stdout
    )
    with capsys.disabled():
        print(f"\n\nTraining 1,024 latent states on batches of {BATCH} words: {found / 2**30:.2f} GiB at most")
    assert found < 4 * 2**30


if __name__ == "__main__":
    corpus = ps.load_corpus("cmudict")
    sizes = corpus.num_source_symbols, corpus.num_symbols
    model = ps.Conditional.from_seed(lambda: ps.HMMDecoder(*sizes, states="latent", num_states=1024, **SIZES))
    ps.fit_gradient(model, corpus.train, num_steps=8, batch_size=BATCH)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
