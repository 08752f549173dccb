"""From which starting points does a topic model find the topics that the data were made of?

The bars of Griffiths and Steyvers: the words are the cells of a square, the topics its rows and columns. Run it with
`python examples/topic_starts.py`; `--smoke` does the same with next to no effort.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

import probseq as ps

SIDE = 5  # of the square


def bars(num_documents: int) -> tuple[np.ndarray, ps.Sequences]:
    """Ten topics, each a row or a column, and documents of 60 words, of few topics each."""
    cells = np.arange(SIDE**2).reshape(SIDE, SIDE)
    topics = np.zeros((2 * SIDE, SIDE**2))
    for k, bar in enumerate([*cells, *cells.T]):
        topics[k, bar] = 1 / SIDE
    model = ps.LDA.from_parameters(topics, alpha=0.1)
    return topics, model.simulate(num_documents, 60, torch.Generator().manual_seed(0))


def worst_cosine(found: np.ndarray, known: np.ndarray) -> float:
    """Of the pairs, one for every known topic, that are most alike in all."""
    first, second = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (found, known))
    cosine = first @ second.T
    return float(cosine[linear_sum_assignment(-cosine)].min())


def main() -> None:
    """A row for each start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="next to no effort")
    smoke = parser.parse_args().smoke
    num_documents, restarts, steps = (20, 2, 3) if smoke else (500, 20, 40)
    known, data = bars(num_documents)
    print(f"{num_documents} documents of 60 words; a restart has found all topics if every cosine is above 0.95")
    print(f"{'start':12}{'found by':>10}{'worst cosine':>14}{'best bound, nats/token':>24}")
    for start in ("gibbs", "random", "documents", "anchors"):
        runs = 1 if start == "anchors" else restarts  # it draws nothing
        fit = ps.em(ps.LDA(len(known), SIDE**2, num_restarts=runs, start=start), data, num_steps=steps)
        cosines = [worst_cosine(topics.numpy(), known) for topics in fit.model.topics]
        bound = np.fmax.accumulate(fit.history)[-1]  # it never falls
        found, best = sum(cosine > 0.95 for cosine in cosines), int(bound.argmax())
        print(f"{start:12}{f'{found} of {runs}':>10}{cosines[best]:14.3f}{bound[best]:24.4f}")


if __name__ == "__main__":
    main()
