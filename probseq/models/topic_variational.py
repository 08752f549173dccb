"""Variational inference of a topic model: the posterior of its topics and of each document's share of them."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.models.base import Model
from probseq.models.document_memory import DocumentMemory
from probseq.ops import topics
from probseq.ops.divergences import dirichlet_divergence

_STEPS, _STEPS_AGAIN = 20, 5  # of inference in a document, at most: at first, and from where the last one ended
_KNOWLEDGE = ("_kept", "_documents")  # what is found again where it is lost


class Statistics(NamedTuple):
    """What the E-step finds, summed over the (weighted) documents of a batch; batches add up."""

    bound: Float[Tensor, "R N"]  # on the log-probability of each document
    words: Float[Tensor, "R K V"]  # expected number of times that each word came from each topic
    log_theta: Float[Tensor, "R K"]  # sum of E log theta
    documents: Float[Tensor, "R"]  # their number


class VariationalTopics(Model):
    r"""What variational EM asks of a topic model.

    The posterior is taken for :math:`q(\phi) \, q(\theta) \, q(z)`, Dirichlets of topics and documents and a
    categorical distribution for every word. An E-step finds those of the documents, an M-step that of the topics, and
    then priors by Minka's fixed point; each raises the evidence lower bound. Topics that are fixed are points: words
    that they lack are impossible.
    """

    objective = "evidence lower bound per token (nats)"
    num_topics: int
    symmetric: bool
    fixed: tuple[str, ...]
    log_concentration: nn.Parameter
    log_alpha: nn.Parameter
    log_eta: nn.Parameter
    _kept: tuple[Tensor, Tensor, Tensor] | None
    _memory: DocumentMemory
    _documents: WeakKeyDictionary[Batch, topics.Documents]

    @property
    def topics(self) -> Float[Tensor, "R K V"]:
        """``(R, K, V)``: the probability of each word in each topic, its posterior mean."""
        return self.log_concentration.softmax(dim=-1)

    @property
    def concentration(self) -> Float[Tensor, "R K V"]:
        """``(R, K, V)``: parameters of each topic's Dirichlet posterior, the pseudo-counts of its words."""
        return self.log_concentration.exp().clamp(min=1e-30)  # a word that was said to be impossible

    @property
    def alpha(self) -> Float[Tensor, "R K"]:
        """``(R, K)``: of the Dirichlet prior over a document's topics."""
        if self.symmetric and "alpha" not in self.fixed:
            return self.log_alpha.mean(dim=-1, keepdim=True).exp().expand_as(self.log_alpha)
        return self.log_alpha.exp()

    @property
    def eta(self) -> Float[Tensor, "R 1"]:
        """``(R, 1)``: of the symmetric Dirichlet prior over a topic's words."""
        return self.log_eta.exp()

    @torch.no_grad()
    def lower_bound(self, batch: Batch) -> Float[Tensor, "R N"]:
        """A lower bound on each ``log p(x)``, by variational inference of the document's topics."""
        bound: Tensor = self._infer(batch).bound
        return bound

    @torch.no_grad()
    def document_topics(self, batch: Batch) -> Float[Tensor, "R N K"]:
        """The share of each topic in each document: the mean of its variational posterior."""
        gamma = self.document_posterior(batch)
        share: Tensor = gamma / gamma.sum(dim=-1, keepdim=True)
        return share

    @torch.no_grad()
    def document_posterior(self, batch: Batch) -> Float[Tensor, "R N K"]:
        """Parameters of each document's Dirichlet posterior: alpha, and the expected number of words of each topic."""
        gamma: Tensor = self._infer(batch).gamma
        return gamma

    def _infer(self, batch: Batch) -> topics.Posterior:
        self.check_values(batch)
        docs = topics.documents(batch.values, batch.observed, self.num_symbols)
        return topics.infer(docs, self.topics.transpose(1, 2).contiguous(), self.alpha, num_steps=200, tol=1e-6)

    @torch.no_grad()
    def e_step(self, batch: Batch) -> Statistics:
        """Bound of each document, and expected counts under the present topics."""
        docs, begin, steps = self._counted(batch), self._memory.begin(batch), _STEPS_AGAIN
        if begin is None:
            begin, steps = topics.uniform_gamma(docs, self.alpha.double()), _STEPS
        found = topics.infer(docs, self.word_weight(), self.alpha, begin, batch.weights, num_steps=steps)
        self._memory.note(batch, begin, found.gamma)
        log_theta = found.gamma.digamma() - found.gamma.sum(dim=-1, keepdim=True).digamma()
        return Statistics(
            found.bound,
            found.counts.transpose(1, 2),
            torch.einsum("rnk,n->rk", log_theta, batch.weights),
            batch.weights.sum().expand(self.num_restarts),
        )

    @torch.no_grad()
    def word_weight(self) -> Float[Tensor, "R V K"]:
        """``exp E log p`` of every word in every topic; the topics themselves where they are fixed."""
        table = self.topics.double() if "topics" in self.fixed else self._posterior()[0].exp()
        return table.transpose(1, 2).contiguous()

    def _counted(self, batch: Batch) -> topics.Documents:
        """The counts of a batch, which are kept as long as the batch is."""
        if batch not in self._documents:
            self.check_values(batch)
            self._documents[batch] = topics.documents(batch.values, batch.observed, self.num_symbols)
        return self._documents[batch]

    def _posterior(self) -> tuple[Tensor, Tensor]:
        """Of the topics: E log p of every word (R, K, V), and the logarithms of the normalizers (R, K).

        An M-step, the log-prior after it and the next E-step ask for the same numbers: they are kept.
        """
        if self._kept is None or not torch.equal(self._kept[0], self.log_concentration):
            self._kept = (self.log_concentration.clone(), *topics.log_dirichlet(self.concentration))
        return self._kept[1:]

    @torch.no_grad()
    def m_step(self, statistics: Statistics) -> None:
        """Set every part that is not fixed to what maximizes the bound, one after the other."""
        self._memory.accept(statistics.documents > 0)
        if "topics" not in self.fixed:
            self.log_concentration.copy_((self.eta[..., None] + statistics.words).log())
        if "eta" not in self.fixed:
            mean = self._posterior()[0].mean(dim=(1, 2))[:, None]
            self.log_eta.copy_(topics.dirichlet_ascent(self.eta.double(), mean, self.num_symbols).log())
        if "alpha" not in self.fixed:
            mean = statistics.log_theta / statistics.documents.clamp(min=1e-300)[:, None]
            alpha, repeats = self.alpha.double(), 1
            if self.symmetric:
                alpha, mean, repeats = alpha.mean(-1, keepdim=True), mean.mean(-1, keepdim=True), self.num_topics
            self.log_alpha.copy_(topics.dirichlet_ascent(alpha, mean, repeats).log())

    @torch.no_grad()
    def log_prior(self) -> Float[Tensor, "R"]:
        """Minus the divergence of the topics' posterior from their prior: the bound's other part."""
        if "topics" in self.fixed:
            return torch.zeros_like(self.eta[:, 0], dtype=torch.float64)
        prior = self.eta.double()[..., None].expand(-1, 1, self.num_symbols)
        return -dirichlet_divergence(self.concentration.double(), prior, self._posterior()).sum(dim=-1)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Whatever moves the parameters moves what is known."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._kept = None
        self._memory.to(self.device)
        return self

    def _forget(self) -> None:
        """Drop what is computed again where it is missing."""
        self._kept, self._documents = None, WeakKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _KNOWLEDGE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._forget()
