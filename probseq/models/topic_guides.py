r"""Guides of the topic model in Pyro, and the bound that `probseq.svi` climbs with them.

The topic of every word is summed out, so that a document is :math:`p(x \mid \theta) = \prod_w (\sum_k \theta_k \,
\phi_{kw})^{n_w}`, and the topic probabilities of documents and the topics themselves are drawn.

``mean_field``
    Independent Dirichlets of all topics and all documents. Those of the documents are found by coordinate ascent, anew
    at every step (`probseq.ops.topics.infer`); those of the topics follow the gradient.
``logistic_normal``
    The same for the topics. Documents have a logistic-normal distribution, whose mean and scale an encoder reads off
    their words. The coordinates are K - 1 log-ratios in an orthonormal basis, so that no topic is special, and the
    prior is the model's own Dirichlet, without an approximation.
``prodlda``
    The construction of ProdLDA: the same guide of documents, but words come from a product of topics,
    :math:`p(w \mid \theta) \propto \exp \sum_k \theta_k \beta_{kw}`, and :math:`\beta` is a point without a prior.
    Such a product is normalized over the whole vocabulary: a minibatch of N documents needs a tensor (R, N, V), the
    only one of its kind here.

Reference:
    M. D. Hoffman, D. M. Blei, C. Wang, J. Paisley (2013), "Stochastic variational inference"; A. Srivastava, C. Sutton
    (2017), "Autoencoding variational inference for topic models".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from probseq.data.batch import Batch
from probseq.models.guides import Given, OwnNoise, RestartELBO
from probseq.ops import topics

if TYPE_CHECKING:
    from probseq.models.topic import LDA


class _TopicELBO(RestartELBO):
    """Sites are ``(R, topics)`` or ``(R, documents)``."""

    def _of_restarts(self, term: Tensor) -> Tensor:
        return term.sum(dim=-1)


class _Part(NamedTuple):
    """The documents of a batch, and how often each of them counts."""

    docs: topics.Documents
    scale: Tensor  # (N,)

    @contextmanager
    def plate(self) -> Iterator[None]:
        """What belongs to the documents."""
        with pyro.plate("documents", len(self.scale), dim=-1), pyro.poutine.scale(scale=self.scale):
            yield


def elbo(model: LDA, batch: Batch, noise: OwnNoise, num_sequences: int | None = None, num_particles: int = 1) -> Tensor:
    """``(S, R)``: of each draw an estimate of the evidence lower bound in nats, differentiable; see `guides.elbo`."""
    docs = topics.documents(batch.values, batch.observed, model.num_symbols)
    part = _Part(docs, batch.weights * ((num_sequences or len(batch.lengths)) / len(batch.lengths)))
    guide = lambda part: GUIDES[model.guide](model, part, noise)
    with pyro.validation_enabled(False):  # one restart that diverges must not stop the others
        estimate = _TopicELBO(num_particles, max_plate_nesting=2)
        bound: Tensor = estimate.by_restart(lambda part: marginal_program(model, part), guide, part)
    return bound


def marginal_program(model: LDA, part: _Part) -> None:
    """Sites: ``topics`` (R, K) unless they are a point, ``theta`` (R, N), and the factor ``words`` (R, N)."""
    words, table = (_product, model.log_concentration) if model.guide == "prodlda" else (_mixture, model.topics)
    with pyro.plate("restarts", model.num_restarts, dim=-2):
        if _uncertain(model):
            prior = model.eta[..., None].expand(-1, model.num_topics, model.num_symbols)
            with pyro.plate("topics_plate", model.num_topics, dim=-1):
                table = pyro.sample("topics", dist.Dirichlet(prior))
        with part.plate():
            theta = pyro.sample("theta", dist.Dirichlet(model.alpha[:, None].expand(-1, len(part.scale), -1)))
            pyro.factor("words", words(part.docs, theta, table))


def _uncertain(model: LDA) -> bool:
    """Whether topics have a posterior."""
    return model.guide != "prodlda" and "topics" not in model.fixed


def _mixture(docs: topics.Documents, theta: Tensor, table: Tensor) -> Tensor:
    """``(R, N)``: log-probability of the words, of which each has one topic."""
    prob = (theta[:, docs.document] * table.transpose(1, 2)[:, docs.word]).sum(dim=-1)  # (R, P)
    return _sums(docs, prob.clamp(min=torch.finfo(prob.dtype).tiny).log())


def _product(docs: topics.Documents, theta: Tensor, table: Tensor) -> Tensor:
    """``(R, N)``: log-probability of the words, each of which comes from all topics at once."""
    log_prob = (theta @ table).log_softmax(dim=-1)  # (R, N, V)
    return _sums(docs, log_prob[:, docs.document, docs.word])


def _sums(docs: topics.Documents, terms: Tensor) -> Tensor:
    total = terms.new_zeros(len(terms), len(docs.offsets) - 1)
    return total.index_add(1, docs.document, terms * docs.count.to(terms))


def mean_field(model: LDA, part: _Part, noise: OwnNoise) -> None:
    """Dirichlets everywhere; see `probseq.models.guides.mean_field` for which numbers have a gradient."""
    with torch.no_grad():
        gamma = topics.infer(part.docs, model.word_weight(), model.alpha, num_steps=100).gamma.to(model.log_alpha)
    with pyro.plate("restarts", model.num_restarts, dim=-2):
        if _uncertain(model):
            _topics(model, noise)
        with part.plate(), Given({"theta": _from_log_gammas(noise.log_gammas(gamma))}):
            pyro.sample("theta", dist.Dirichlet(gamma))


def logistic_normal(model: LDA, part: _Part, noise: OwnNoise) -> None:
    """Dirichlets of the topics, and what the encoder says of the documents."""
    mean, log_scale = model.encoder(part.docs)
    standard = noise.normals(mean)
    drawn = mean + log_scale.exp() * standard
    log_theta = (drawn @ _basis(model.num_topics).to(drawn).T).log_softmax(dim=-1)
    mean, log_scale = mean.detach(), log_scale.detach()
    density = -(((drawn - mean) / log_scale.exp()).square() / 2 + log_scale + math.log(2 * math.pi) / 2).sum(dim=-1)
    density = density - log_theta.sum(dim=-1) - math.log(model.num_topics) / 2  # from coordinates to probabilities
    theta = log_theta.exp().clamp(min=torch.finfo(drawn.dtype).tiny)
    with pyro.plate("restarts", model.num_restarts, dim=-2):
        if _uncertain(model):
            _topics(model, noise)
        with part.plate():
            pyro.sample("theta", dist.Delta(theta, log_density=density, event_dim=1))


def _topics(model: LDA, noise: OwnNoise) -> None:
    concentration = model.concentration
    drawn = _from_log_gammas(noise.log_gammas(concentration))
    with pyro.plate("topics_plate", model.num_topics, dim=-1), Given({"topics": drawn}):
        pyro.sample("topics", dist.Dirichlet(concentration.detach()))


def _from_log_gammas(draws: Tensor) -> Tensor:
    return draws.softmax(dim=-1).clamp(min=torch.finfo(draws.dtype).tiny)


def _basis(size: int) -> Tensor:
    """``(K, K - 1)``: orthonormal columns whose entries sum to 0 (Helmert's)."""
    rows = torch.arange(size, dtype=torch.float64)[:, None]
    columns = torch.arange(1, size, dtype=torch.float64)
    table = (rows < columns).double() - columns * (rows == columns)
    return table / (columns * (columns + 1)).sqrt()


GUIDES = {"mean_field": mean_field, "logistic_normal": logistic_normal, "prodlda": logistic_normal}
"""Every guide by name."""
