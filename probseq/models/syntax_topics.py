"""Topics and syntax in one model: a Markov chain of classes, one of which emits from the document's topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probseq.data.batch import Batch
from probseq.data.sequences import Sequences
from probseq.errors import check_whole, unknown
from probseq.models.base import restart_generator
from probseq.models.document_memory import DocumentMemory
from probseq.models.emissions import Categorical
from probseq.models.particle_model import check_prior
from probseq.models.stacked import Stacked
from probseq.models.syntax_topics_variational import VariationalSyntaxTopics
from probseq.ops import particles
from probseq.ops.topics import draw_log_dirichlet, draw_words

STARTS = ("gibbs", "random")

_EVENNESS = 10.0  # a random start is within about 30 % of even


class SyntaxTopics(Stacked, VariationalSyntaxTopics):
    r"""A hidden Markov model over C classes, of which class 0 emits from the topics of the document.

    .. math::
        \theta \sim \text{Dirichlet}(\alpha), \quad c_t \sim A_{c_{t-1}}, \quad z_t \sim \theta, \quad
        x_t \sim \begin{cases} \phi_{z_t} & c_t = 0 \\ \psi_{c_t} & \text{else} \end{cases}

    Words that depend on their neighbors go to the classes, words that depend on the document to the topics, without
    stop words or any other list. With C = 1 it is `probseq.LDA`, and with nothing emitted from class 0 it is a hidden
    Markov model with C - 1 states.

    Fit with `probseq.em`, which is variational EM: topics, classes and steps have Dirichlet posteriors, a document's
    topics have one too, and given these its classes are summed out exactly. Documents are scored by sequential Monte
    Carlo (`probseq.ops.particles`) under the posterior means.

    Args:
        num_topics: K.
        num_classes: C, the class of the topics included.
        num_symbols: V, the size of the vocabulary.
        num_restarts: R, runs from different starting points, all fitted at once.
        seed: restart r starts from a draw that depends on ``(seed, r)`` alone; also the seed of the estimate.
        start: ``"gibbs"``, sweeps of collapsed Gibbs sampling over the training data, or ``"random"``.
        alpha: of the prior over a document's topics; where learning begins.
        eta: of the symmetric priors over the words of a topic and of a class; where learning begins.
        transition_concentration: of the symmetric priors over first classes and over the steps from each class.
        num_particles: of one particle filter.
        num_replicates: filters whose estimates are averaged; of one alone error and drift are unknown.
        dtype: of the parameters; inference computes in float64.

    Raises:
        InputError: sizes below 1, an unknown start, a prior that is not positive.

    Reference:
        T. L. Griffiths, M. Steyvers, D. M. Blei, J. B. Tenenbaum (2004), "Integrating topics and syntax".

    Example:
        >>> from probseq import Sequences
        >>> model = SyntaxTopics(num_topics=2, num_classes=3, num_symbols=5, num_restarts=4)
        >>> model.token_log_prob(Sequences.from_list([[0, 1, 2, 0]]).batch()).shape
        torch.Size([4, 1, 4])
    """

    def __init__(
        self,
        num_topics: int,
        num_classes: int,
        num_symbols: int,
        num_restarts: int = 1,
        seed: int = 0,
        start: str = "gibbs",
        alpha: float = 0.1,
        eta: float = 0.05,
        transition_concentration: float = 0.5,
        num_particles: int = 64,
        num_replicates: int = 4,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.num_topics = check_whole("num_topics", num_topics)
        self.num_classes = check_whole("num_classes", num_classes)
        self.num_restarts, self.seed = check_whole("num_restarts", num_restarts), check_whole("seed", seed, least=0)
        self.num_particles = check_whole("num_particles", num_particles)
        self.num_replicates = check_whole("num_replicates", num_replicates)
        if start not in STARTS:
            raise unknown("start", start, STARTS)
        prior = {"alpha": alpha, "eta": eta, "transition_concentration": transition_concentration}
        self.start, self.prior = start, {k: check_prior(k, value, 1, dtype).item() for k, value in prior.items()}
        self._symbols = Categorical(num_symbols).num_symbols
        self.numbers = list(range(num_restarts))  # each restart's number, from which its starting point is drawn
        self.initialized = start == "random"
        self._memory = DocumentMemory()
        self._begin(dtype)

    def _begin(self, dtype: torch.dtype) -> None:
        """Nearly even words, even steps, and the priors as given."""
        classes, labels = self.num_classes, self.num_topics + self.num_classes - 1
        shape, drawn = torch.full((labels, self._symbols), _EVENNESS, dtype=torch.float64), []
        for r in range(self.num_restarts):
            drawn.append(torch._standard_gamma(shape, generator=restart_generator(self.seed, r)) / _EVENNESS)
        start = {
            "words": torch.stack(drawn).log(),
            "initial": torch.zeros(self.num_restarts, classes),
            "transition": torch.zeros(self.num_restarts, classes, classes),
            "alpha": shape.new_full((self.num_restarts, self.num_topics), self.prior["alpha"]).log(),
            "eta": shape.new_full((self.num_restarts, 2), self.prior["eta"]).log(),
        }
        for name, value in start.items():  # an estimate has no gradient
            setattr(self, f"log_{name}", nn.Parameter(value.to(dtype), requires_grad=False))

    def config(self) -> dict[str, Any]:
        names = ("num_topics", "num_classes", "num_symbols", "num_restarts", "seed", "start")
        more = ("num_particles", "num_replicates", "initialized")
        dtype = str(self.log_alpha.dtype).removeprefix("torch.")
        return {**{name: getattr(self, name) for name in (*names, *more)}, **self.prior, "dtype": dtype}

    @property
    def topics(self) -> Float[Tensor, "R K V"]:
        """``(R, K, V)``: the probability of each word in each topic, its posterior mean."""
        return self.log_words[:, : self.num_topics].softmax(dim=-1)

    @property
    def classes(self) -> Float[Tensor, "R _C_minus_1 V"]:
        """``(R, C - 1, V)``: the probability of each word in each class but 0, its posterior mean."""
        return self.log_words[:, self.num_topics :].softmax(dim=-1)

    @property
    def num_parameters(self) -> int:
        """Free probabilities of words and classes, and alpha."""
        labels, classes = self.num_topics + self.num_classes - 1, self.num_classes
        return labels * (self._symbols - 1) + (classes + 1) * (classes - 1) + self.num_topics

    # The likelihood

    @property
    def source(self) -> particles.Source:
        steps = torch.cat([self.transition, self.initial[:, None]], dim=1)
        return particles.Source(self.log_words.softmax(dim=-1).double(), self.alpha.double(), steps.double())

    def check_values(self, batch: Batch) -> None:
        super().check_values(batch)
        self.check_complete(batch)

    @torch.no_grad()
    def simulate(self, num_sequences: int, length: int, generator: torch.Generator | None = None) -> Sequences:
        """Draw documents together with the class of each word, which is in ``Sequences.states`` (R = 1).

        Raises:
            InputError: more than one restart, or nothing to draw.
        """
        self.check_single()
        check_whole("num_sequences", num_sequences), check_whole("length", length)
        source = particles.Source(*(part[0] for part in self.source))
        theta = draw_log_dirichlet(source.alpha.expand(num_sequences, -1), generator).exp()
        now, words, states = torch.full((num_sequences,), self.num_classes, device=self.device), [], []
        for _ in range(length):
            now = torch.multinomial(source.steps[now], 1, generator=generator)[:, 0]
            topic = torch.multinomial(theta, 1, generator=generator)[:, 0]
            label = torch.where(now == 0, topic, self.num_topics - 1 + now)
            words.append(draw_words(source.emission, label, generator))
            states.append(now)
        rows = (torch.stack(part, dim=1).cpu().numpy() for part in (words, states))
        return Sequences.from_list(list(next(rows)), states=list(next(rows)))

    # Restarts

    def take(self, restarts: Sequence[int]) -> SyntaxTopics:
        new = super().take(restarts)
        new._memory = self._memory.take(torch.as_tensor(restarts, device=self.device))
        return new

    def put(self, restarts: Sequence[int], other: SyntaxTopics) -> None:
        super().put(restarts, other)
        self._memory.put(torch.as_tensor(restarts, device=self.device), other._memory)

    # The statement of the model

    def program(self, batch: Batch) -> None:
        """The generative program in Pyro, with the class and the topic of every word explicit."""
        from probseq.models.syntax_topics_program import program

        program(self, batch)
