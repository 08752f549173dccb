"""Topics and syntax as a generative program in Pyro, with the class and the topic of every word explicit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyro
import pyro.distributions as dist
import torch
from pyro.ops.indexing import Vindex

from probseq.data.batch import Batch
from probseq.models.topic_program import Word

if TYPE_CHECKING:
    from probseq.models.syntax_topics import SyntaxTopics


def program(model: SyntaxTopics, batch: Batch) -> None:
    """Sites: ``words`` (R, J) of topics and then classes, ``steps`` (R, C + 1), its last row for the first class,
    ``theta`` (R, N), and ``class_t``, ``topic_t`` and ``word_t``.

    A topic is drawn for every word, and used where the class is 0. Weights of the batch are not part of it: Pyro scales
    an enumerated site as a whole only.
    """
    size, classes = model.num_topics, model.num_classes
    restarts = pyro.plate("restarts", model.num_restarts, dim=-3)
    documents = pyro.plate("documents", len(batch.lengths), dim=-2)
    eta, step_prior = (
        model.eta.expand(-1, -1, model.num_symbols),
        torch.full((classes,), model.prior["transition_concentration"]).to(model.alpha),
    )
    with restarts, pyro.plate("labels", size + classes - 1, dim=-2):
        words = pyro.sample("words", dist.Dirichlet(eta[:, :, None]))  # (R, J, 1, V)
    with restarts, pyro.plate("classes", classes + 1, dim=-2):
        steps = pyro.sample("steps", dist.Dirichlet(step_prior))  # (R, C + 1, 1, C)
    row = torch.arange(model.num_restarts, device=model.device)[:, None, None]
    with restarts, documents:
        theta = pyro.sample("theta", dist.Dirichlet(model.alpha[:, None, None]))  # (R, N, 1, K)
        now = torch.full((1, 1, 1), classes, device=model.device)
        for t in pyro.markov(range(batch.values.shape[1])):
            with pyro.poutine.mask(mask=(t < batch.lengths)[:, None]):
                probs = Vindex(steps)[row, now, 0]
                now = pyro.sample(f"class_{t}", dist.Categorical(probs), infer={"enumerate": "parallel"})
                topic = pyro.sample(f"topic_{t}", dist.Categorical(theta), infer={"enumerate": "parallel"})
                label = torch.where(now == 0, topic, size - 1 + now)
                value = batch.values[:, t, None].clamp(min=0)
                pyro.sample(f"word_{t}", Word(words[:, :, 0], label), obs=value)
