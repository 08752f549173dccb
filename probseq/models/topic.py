"""The topic model: every document has its own mixture of topics, and the order of its words does not matter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import InputError, check_whole, unknown
from probseq.models.base import restart_generator
from probseq.models.document_memory import DocumentMemory
from probseq.models.emissions import Categorical
from probseq.models.guided import Guided
from probseq.models.particle_model import ParticleModel, check_prior
from probseq.models.topic_encoder import TopicEncoder
from probseq.models.topic_variational import VariationalTopics
from probseq.ops import particles, topics
from probseq.ops.topic_likelihood import completion
from probseq.types import Array

if TYPE_CHECKING:
    from probseq.models.guides import OwnNoise

PARTS = ("topics", "alpha", "eta")
STARTS = ("gibbs", "random", "documents", "anchors", "parameters")

GUIDE_NAMES = ("mean_field", "logistic_normal", "prodlda")

# With an encoder: its weights take smaller steps than logarithms of counts; and while it has learned little, documents
# look alike, and priors that follow at once would make them so.
_SHARES = {"log_concentration": 1.0, "encoder": 0.1, "log_alpha": 0.02, "log_eta": 0.02}
_EVENNESS = 100.0  # a random start is within about 10 % of even: the first documents' topics are then nearly open
_CERTAIN = 1e6  # pseudo-counts behind a topic that is given, not learned


class LDA(Guided, VariationalTopics, ParticleModel):
    r"""Latent Dirichlet allocation with K topics and R restarts as the first axis of every parameter.

    .. math::
        \phi_k \sim \text{Dirichlet}(\eta), \quad \theta \sim \text{Dirichlet}(\alpha), \quad
        p(x) = \int p(\theta \mid \alpha) \prod_t \sum_k \theta_k \, \phi_{k, x_t} \, d\theta

    A sequence is a document. Fit with `probseq.em`, which is variational EM here: the posterior of the topics is
    Dirichlet with parameters ``concentration``, documents have theirs, and the objective is the evidence lower bound
    per token. With ``em(..., minibatch=...)`` it is online variational inference with natural gradients.

    Documents are scored by sequential Monte Carlo under the topics' posterior mean (`probseq.ops.particles`): an
    unbiased estimate of p(x), the same at every call, with a standard error. What was not observed is integrated out.

    Args:
        num_topics: K.
        num_symbols: V, the size of the vocabulary.
        num_restarts: R, runs from different starting points, all fitted at once.
        seed: restart r starts from a draw that depends on ``(seed, r)`` alone; also the seed of the estimate.
        start: how the starting point is found; see `probseq.inference.topics`. All but ``"random"`` look at the data.
        alpha: of the prior over a document's topics, a number or one for each topic; where learning begins.
        eta: of the symmetric prior over a topic's words; where learning begins.
        symmetric: learn one number for all of alpha.
        fixed: the parts that no fit changes, among ``"topics"``, ``"alpha"`` and ``"eta"``. Topics that are fixed are
            known: no uncertainty of theirs is part of the bound, eta stays with them, and no start is looked for.
        guide: of `probseq.svi`: ``"mean_field"``, ``"logistic_normal"`` or ``"prodlda"``; see
            `probseq.models.topic_guides`. The last two read a document's topics off its words by an encoder.
        hidden_dim: units in each of the encoder's two layers.
        num_particles: of one particle filter.
        num_replicates: filters whose estimates are averaged; of one alone error and drift are unknown.
        dtype: of the parameters; inference computes in float64.

    Raises:
        InputError: sizes below 1, an unknown start or part, a prior that is not positive.

    Reference:
        D. M. Blei, A. Y. Ng, M. I. Jordan (2003), "Latent Dirichlet allocation"; M. Hoffman, D. Blei, F. Bach (2010),
        "Online learning for latent Dirichlet allocation"; H. M. Wallach, D. Mimno, A. McCallum (2009), "Rethinking
        LDA: why priors matter".

    Example:
        >>> from probseq import Sequences
        >>> model = LDA.from_parameters([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]], alpha=[1.0, 1.0])
        >>> batch = Sequences.from_list([[0, 1], [0, 2]]).batch()
        >>> model.token_log_prob(batch).exp()[0, :, 0]  # the first word needs no estimate
        tensor([0.2500, 0.2500], dtype=torch.float64)
    """

    def __init__(
        self,
        num_topics: int,
        num_symbols: int,
        num_restarts: int = 1,
        seed: int = 0,
        start: str = "gibbs",
        alpha: float | Sequence[float] = 0.1,
        eta: float = 0.05,
        symmetric: bool = False,
        fixed: Iterable[str] = (),
        guide: str = "mean_field",
        hidden_dim: int = 100,
        num_particles: int = 64,
        num_replicates: int = 4,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        if start not in STARTS:
            raise unknown("start", start, STARTS)
        if guide not in GUIDE_NAMES:
            raise unknown("guide", guide, GUIDE_NAMES)
        self.num_topics = check_whole("num_topics", num_topics)
        self.num_restarts = check_whole("num_restarts", num_restarts)
        self.num_particles = check_whole("num_particles", num_particles)
        self.num_replicates = check_whole("num_replicates", num_replicates)
        self.seed, self.start = check_whole("seed", seed, least=0), start
        self.symmetric, self.fixed = symmetric, _check_fixed(fixed)
        self.guide, self.hidden_dim = guide, check_whole("hidden_dim", hidden_dim)
        self._symbols = Categorical(num_symbols).num_symbols
        self.numbers = list(range(num_restarts))  # each restart's number, from which its starting point is drawn
        self.initialized = start in ("random", "parameters") or "topics" in self.fixed  # a start is one of other topics
        self._memory = DocumentMemory()
        self._forget()
        self._priors = (check_prior("alpha", alpha, num_topics, dtype), check_prior("eta", eta, 1, dtype))
        shape = torch.full((num_topics, num_symbols), _EVENNESS, dtype=torch.float64)
        drawn = [torch._standard_gamma(shape, generator=restart_generator(seed, r)) for r in range(num_restarts)]
        self._set("log_concentration", (torch.stack(drawn) / _EVENNESS).log().to(dtype))
        for name, value in zip(("log_alpha", "log_eta"), self._priors, strict=True):
            self._set(name, value.log().expand(num_restarts, -1).to(dtype))
        if guide != "mean_field":
            self.encoder = TopicEncoder(num_symbols, num_topics, hidden_dim, num_restarts, seed, dtype)

    def _set(self, name: str, value: Tensor) -> None:
        setattr(self, name, nn.Parameter(value.clone(), requires_grad=False))  # an estimate has no gradient

    @classmethod
    def from_parameters(cls, topics: Array, alpha: float | Sequence[float] = 0.1, **options: Any) -> LDA:
        """A model with given topics and one restart.

        Args:
            topics: ``(K, V)``, rows sum to 1.
            alpha: of the prior over a document's topics.
            options: what else the constructor takes.

        Raises:
            InputError: rows that are not probabilities, or as for the constructor.
        """
        table = torch.as_tensor(topics, dtype=torch.float64)
        if table.ndim != 2 or not ((table >= 0).all() and torch.allclose(table.sum(-1), table.new_ones(()), atol=1e-6)):
            raise InputError(
                f"topics have shape {tuple(table.shape)}; expected (K, V): rows of probabilities, >= 0 and with sum 1"
            )
        num_topics, num_symbols = table.shape
        model = cls(num_topics, num_symbols, start="parameters", alpha=alpha, **options)
        model.log_concentration.data.copy_((table * _CERTAIN).log())
        return model

    def config(self) -> dict[str, Any]:
        alpha, eta = (value.tolist() for value in self._priors)
        return {
            "num_topics": self.num_topics,
            "num_symbols": self.num_symbols,
            "num_restarts": self.num_restarts,
            "seed": self.seed,
            "start": self.start,
            "alpha": alpha,
            "eta": eta[0],
            "symmetric": self.symmetric,
            "fixed": list(self.fixed),
            "guide": self.guide,
            "hidden_dim": self.hidden_dim,
            "num_particles": self.num_particles,
            "num_replicates": self.num_replicates,
            "dtype": str(self.log_alpha.dtype).removeprefix("torch."),
            "initialized": self.initialized,
        }

    @property
    def num_parameters(self) -> int:
        """Free probabilities of the topics, and alpha, where a fit may change them."""
        free = {"topics": self.num_topics * (self.num_symbols - 1), "alpha": 1 if self.symmetric else self.num_topics}
        return sum(number for part, number in free.items() if part not in self.fixed)

    # The likelihood

    @property
    def source(self) -> particles.Source:
        return particles.topic_source(self.topics, self.alpha)

    @torch.no_grad()
    def completion(self, batch: Batch) -> tuple[Float[Tensor, "R N"], Int[Tensor, "N"]]:
        """Log-probability of every second word given the others, and the number of these words.

        It ranks models like the likelihood does, costs less, and is none: see `probseq.ops.topic_likelihood`.
        """
        self.check_values(batch)
        hidden = batch.observed & (batch.observed.cumsum(dim=1) % 2 == 0)
        parts = [topics.documents(batch.values, part, self.num_symbols) for part in (batch.observed & ~hidden, hidden)]
        return completion(parts[0], parts[1], self.topics, self.alpha), hidden.sum(dim=1)

    @torch.no_grad()
    def simulate(self, num_sequences: int, length: int, generator: torch.Generator | None = None) -> Sequences:
        """Draw documents together with the topic of each word, which is in ``Sequences.states`` (R = 1).

        Raises:
            InputError: more than one restart, or nothing to draw.
        """
        self.check_single()
        if num_sequences < 1 or length < 1:
            raise InputError(f"received num_sequences {num_sequences} and length {length}; expected 1 or more of both")
        log_theta = topics.draw_log_dirichlet(self.alpha.double().expand(num_sequences, -1), generator)
        drawn = torch.multinomial(log_theta.exp(), length, replacement=True, generator=generator)  # (N, T)
        words = topics.draw_words(self.topics[0], drawn, generator)
        return Sequences.from_list(list(words.cpu().numpy()), states=list(drawn.cpu().numpy()))

    # Restarts

    def take(self, restarts: Sequence[int]) -> LDA:
        new = super().take(restarts)
        new._memory = self._memory.take(torch.as_tensor(restarts, device=self.device))
        new._documents.update(self._documents)
        return new

    def put(self, restarts: Sequence[int], other: LDA) -> None:
        super().put(restarts, other)
        self._memory.put(torch.as_tensor(restarts, device=self.device), other._memory)

    # The statement of the model

    def guide_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        names = {"topics": "log_concentration", "alpha": "log_alpha", "eta": "log_eta"}
        unused = ("eta",) if self.guide == "prodlda" else ()  # its topics have no prior
        left = [names[part] for part in (*self.fixed, *unused)]
        for name, parameter in self.named_parameters():
            if name not in left:
                yield name, parameter

    def rate_share(self, name: str) -> float:
        if self.guide == "mean_field":
            return 1.0
        return _SHARES["encoder" if name.startswith("encoder.") else name]

    def guide_bound(
        self, batch: Batch, noise: OwnNoise, num_sequences: int | None = None, num_particles: int = 1
    ) -> Float[Tensor, "S R"]:
        from probseq.models import topic_guides  # loads Pyro

        return topic_guides.elbo(self, batch, noise, num_sequences, num_particles)

    def program(self, batch: Batch) -> None:
        """The generative program in Pyro, with the topic of every word explicit; see `probseq.models.topic_program`."""
        from probseq.models.topic_program import program

        program(self, batch)


def _check_fixed(fixed: Iterable[str]) -> tuple[str, ...]:
    names = tuple(fixed)
    for name in names:
        if name not in PARTS:
            raise unknown("part", name, PARTS)
    return (*names, "eta") if "topics" in names and "eta" not in names else names  # nothing depends on eta then
