"""Variational inference of topics and syntax: Dirichlet beliefs about words, steps and each document's topics."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.models.document_memory import DocumentMemory
from probseq.models.particle_model import ParticleModel
from probseq.ops import syntax_topics
from probseq.ops.divergences import dirichlet_divergence
from probseq.ops.syntax_topics import Tables
from probseq.ops.topics import dirichlet_ascent, log_dirichlet

_STEPS, _STEPS_AGAIN, _STEPS_NEW = 8, 2, 50  # of inference in a document: at first, from the last end, in a new one


class Statistics(NamedTuple):
    """What the E-step finds, summed over the (weighted) documents of a batch; batches add up."""

    bound: Float[Tensor, "R N"]  # on the log-probability of each document
    words: Float[Tensor, "R J V"]  # expected number of times that each word came from each topic or class
    initial: Float[Tensor, "R C"]
    transition: Float[Tensor, "R C C"]
    log_theta: Float[Tensor, "R K"]  # sum of E log theta
    documents: Float[Tensor, "R"]  # their number


class VariationalSyntaxTopics(ParticleModel):
    """What variational EM asks of `probseq.SyntaxTopics`: see `probseq.ops.syntax_topics` for a document's part of it.

    The parameters are Dirichlet beliefs about the words of every topic and class, the first class and the class after
    each; an M-step makes them the prior plus expected counts, and then the priors over words and topics more probable.
    """

    objective = "evidence lower bound per token (nats)"
    num_topics: int
    num_classes: int
    prior: dict[str, float]
    log_words: nn.Parameter
    log_initial: nn.Parameter
    log_transition: nn.Parameter
    log_alpha: nn.Parameter
    log_eta: nn.Parameter
    _memory: DocumentMemory

    @property
    def initial(self) -> Float[Tensor, "R C"]:
        """``(R, C)``: probability of the first class."""
        return self.log_initial.softmax(dim=-1)

    @property
    def transition(self) -> Float[Tensor, "R C C"]:
        """``(R, C, C)``: row c is the distribution of the class after c."""
        return self.log_transition.softmax(dim=-1)

    @property
    def alpha(self) -> Float[Tensor, "R K"]:
        """``(R, K)``: of the Dirichlet prior over a document's topics."""
        return self.log_alpha.exp()

    @property
    def eta(self) -> Float[Tensor, "R J 1"]:
        """``(R, J, 1)``: of the symmetric Dirichlet prior over the words of each topic, and then of each class."""
        eta = self.log_eta.double().exp()
        times = torch.tensor([self.num_topics, self.num_classes - 1], device=self.device)
        return eta.repeat_interleave(times, dim=1)[..., None]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Whatever moves the parameters moves what is known of documents."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._memory.to(self.device)
        return self

    @torch.no_grad()
    def lower_bound(self, batch: Batch) -> Float[Tensor, "R N"]:
        """A lower bound on each ``log p(x)``, by variational inference of the document's topics."""
        return torch.stack([found.bound for found in self._infer(batch)])

    @torch.no_grad()
    def document_topics(self, batch: Batch) -> Float[Tensor, "R N K"]:
        """The share of each topic in what class 0 emits in each document: the mean of its variational posterior."""
        gamma = self.document_posterior(batch)
        return gamma / gamma.sum(dim=-1, keepdim=True)

    @torch.no_grad()
    def document_posterior(self, batch: Batch) -> Float[Tensor, "R N K"]:
        """Parameters of each document's Dirichlet posterior: alpha, and the expected number of words of each topic."""
        return torch.stack([found.gamma for found in self._infer(batch)])

    def _infer(self, batch: Batch) -> list[syntax_topics.Posterior]:
        self.check_values(batch)
        names = (self.log_words.softmax(dim=-1), self.initial, self.transition, self.alpha)
        tables = [Tables(*rows) for rows in zip(*(part.double() for part in names), strict=True)]
        gamma = self._even(batch)
        return [self._posterior(batch, one, g, _STEPS_NEW) for one, g in zip(tables, gamma, strict=True)]

    def _posterior(self, batch: Batch, tables: Tables, gamma: Tensor, steps: int) -> syntax_topics.Posterior:
        values = batch.values.clamp(0, self.num_symbols - 1)  # padding may be anything
        return syntax_topics.infer(values, batch.lengths, tables, gamma, batch.weights.double(), steps)

    def _even(self, batch: Batch) -> Float[Tensor, "R N K"]:
        """Every topic has the same share of every document."""
        return self.alpha.double()[:, None] + batch.lengths.double()[:, None] / self.num_topics

    @torch.no_grad()
    def e_step(self, batch: Batch) -> Statistics:
        """Bound of each document, and expected counts under the present beliefs."""
        begin, steps = self._memory.begin(batch), _STEPS_AGAIN
        if begin is None:
            self.check_values(batch)
            begin, steps = self._even(batch), _STEPS
        beliefs = (self.log_words, self.log_initial, self.log_transition)
        expected = [log_dirichlet(log_belief.double().exp())[0].exp() for log_belief in beliefs]
        found = [
            self._posterior(batch, Tables(*rows), gamma, steps)
            for *rows, gamma in zip(*expected, self.alpha.double(), begin, strict=True)
        ]
        gamma, bound, words, initial, transition = (torch.stack(field) for field in zip(*found, strict=True))
        self._memory.note(batch, begin, gamma)
        log_theta = torch.einsum("rnk,n->rk", log_dirichlet(gamma)[0], batch.weights.double())
        documents = batch.weights.double().sum().expand(self.num_restarts)
        return Statistics(bound, words, initial, transition, log_theta, documents)

    @torch.no_grad()
    def m_step(self, statistics: Statistics) -> None:
        """Set every belief to what maximizes the bound, one after the other."""
        self._memory.accept(statistics.documents > 0)
        prior = self.prior["transition_concentration"]
        self.log_words.copy_((self.eta + statistics.words).log())
        self.log_initial.copy_((prior + statistics.initial).log())
        self.log_transition.copy_((prior + statistics.transition).log())
        mean = log_dirichlet(self.log_words.double().exp())[0].mean(dim=-1)
        for part, rows in enumerate((slice(None, self.num_topics), slice(self.num_topics, None))):
            if mean[:, rows].numel():
                eta = self.log_eta[:, part, None].double().exp()
                learned = dirichlet_ascent(eta, mean[:, rows].mean(dim=-1, keepdim=True), self.num_symbols)
                self.log_eta[:, part] = learned[:, 0].log()
        expected = statistics.log_theta / statistics.documents.clamp(min=1e-300)[:, None]
        self.log_alpha.copy_(dirichlet_ascent(self.alpha.double(), expected).log())

    @torch.no_grad()
    def log_prior(self) -> Float[Tensor, "R"]:
        """Minus the divergence of the beliefs from their priors: the bound's other part."""
        words = self.log_words.double().exp()
        total = -dirichlet_divergence(words, self.eta.expand_as(words), log_dirichlet(words)).sum(dim=-1)
        for log_belief in (self.log_initial[:, None], self.log_transition):
            belief = log_belief.double().exp()
            prior = torch.full_like(belief, self.prior["transition_concentration"])
            total -= dirichlet_divergence(belief, prior).sum(dim=-1)
        return total
