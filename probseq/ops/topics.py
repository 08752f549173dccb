r"""Documents in which word order does not matter: the topic model's inference and likelihood as tensor functions.

A document has probabilities of topics :math:`\theta \sim \text{Dirichlet}(\alpha)`, and every word is drawn from the
topic that is drawn for it:

.. math::
    p(x) = \int p(\theta \mid \alpha) \prod_t \sum_k \theta_k \, \phi_{k, x_t} \, d\theta

The integral has no closed form. Here is a bound on it (`infer`); the estimate that is used for scores is in
`probseq.ops.particles`, and what checks it in `probseq.ops.topic_likelihood`. What is fitted works on counts of
distinct (document, word) pairs, of which there are P, so that its memory is linear in P K.

Reference:
    D. M. Blei, A. Y. Ng, M. I. Jordan (2003), "Latent Dirichlet allocation".
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probseq.ops import topics_compiled
from probseq.ops.divergences import dirichlet_divergence, expected_log_probs, log_normalizer


class Documents(NamedTuple):
    """N documents as counts of their distinct words: P pairs, by document and then by word."""

    document: Int[Tensor, "P"]
    word: Int[Tensor, "P"]
    count: Float[Tensor, "P"]  # type: ignore[assignment]  # tuples have a method of that name
    offsets: Int[Tensor, "_N_plus_1"]  # where each document's pairs begin
    by_word: Int[Tensor, "P"]  # the pairs in the order of their words
    word_offsets: Int[Tensor, "_V_plus_1"]  # where each word's pairs begin in `by_word`


class Posterior(NamedTuple):
    """What `infer` finds."""

    gamma: Float[Tensor, "R N K"]  # parameters of each document's Dirichlet distribution over topics
    bound: Float[Tensor, "R N"]  # a lower bound on log p(x), in nats
    counts: Float[Tensor, "R V K"]  # expected number of times that each word came from each topic, weighted


def documents(values: Int[Tensor, "N T"], observed: Bool[Tensor, "N T"], num_words: int) -> Documents:
    """Count the observed words of each row."""
    num = len(values)
    rows = torch.arange(num, device=values.device)[:, None]
    codes, count = (rows * num_words + values)[observed].unique(return_counts=True)  # type: ignore[no-untyped-call]
    document, word = codes // num_words, codes % num_words
    by_word = word.argsort(stable=True)
    edges = [torch.arange(size + 1, device=values.device) for size in (num, num_words)]
    return Documents(
        document,
        word,
        count.double(),
        torch.searchsorted(document, edges[0]),
        by_word,
        torch.searchsorted(word[by_word], edges[1]),
    )


def infer(
    docs: Documents,
    weight: Float[Tensor, "R V K"],
    alpha: Float[Tensor, "R K"],
    gamma: Float[Tensor, "R N K"] | None = None,
    weights: Float[Tensor, "N"] | None = None,
    num_steps: int = 20,
    tol: float = 1e-3,
) -> Posterior:
    r"""Mean-field variational inference of each document's topics, by coordinate ascent.

    With :math:`\bar\theta_k = \exp E[\log \theta_k]` under :math:`\text{Dirichlet}(\gamma)`, a step is

    .. math::
        \gamma_k \leftarrow \alpha_k + \bar\theta_k \sum_w n_w \frac{B_{wk}}{\sum_j \bar\theta_j B_{wj}}

    and the bound of a document is :math:`\sum_w n_w \log \sum_k \bar\theta_k B_{wk}` minus the divergence of its
    posterior from its prior. No step lowers it. A document stops when a step moves gamma by less than a share `tol`.

    Args:
        docs: the documents.
        weight: B: the probability of each word under each topic, or ``exp E[log p]`` where topics are uncertain.
        alpha: parameters of the Dirichlet prior over topics.
        gamma: where to begin. Default: as if every topic had the same share of the document.
        weights: how often each document counts in `counts`. Default: once.
        num_steps: steps at most.
        tol: see above.

    Returns:
        A `Posterior` in float64. Its bound is -inf where a word is impossible.

    Reference:
        D. M. Blei, A. Y. Ng, M. I. Jordan (2003), "Latent Dirichlet allocation".
    """
    weight, alpha = weight.double(), alpha.double()
    if gamma is None:
        gamma = uniform_gamma(docs, alpha)
    scale = gamma.new_ones(gamma.shape[1]) if weights is None else weights.to(gamma)
    if topics_compiled.suits(weight):
        return Posterior(*topics_compiled.infer(docs, weight, alpha, gamma, scale, num_steps, tol))
    rows, running = weight[:, docs.word], torch.ones_like(gamma[..., :1], dtype=torch.bool)  # (R, P, K), (R, N, 1)
    for _ in range(num_steps):
        theta = _expected(gamma)
        ratio, _ = word_terms(docs, theta, rows)
        counts = torch.zeros_like(gamma).index_add_(1, docs.document, rows * ratio[..., None])
        new = torch.where(running, alpha[:, None] + theta * counts, gamma)
        change = (new - gamma).abs().sum(dim=-1, keepdim=True)
        gamma, running = new, running & (change >= tol * new.sum(dim=-1, keepdim=True))
    theta = _expected(gamma)
    ratio, log_prob = word_terms(docs, theta, rows)
    share = theta[:, docs.document] * (ratio * scale[docs.document])[..., None]
    counts = weight * torch.zeros_like(weight).index_add_(1, docs.word, share)
    bound = torch.zeros_like(gamma[..., 0]).index_add_(1, docs.document, log_prob)
    return Posterior(gamma, bound - dirichlet_divergence(gamma, alpha[:, None]), counts)


def uniform_gamma(docs: Documents, alpha: Float[Tensor, "R K"]) -> Float[Tensor, "R N K"]:
    """Every topic has the same share of every document."""
    length = alpha.new_zeros(len(docs.offsets) - 1).index_add_(0, docs.document, docs.count.to(alpha))
    return alpha[:, None] + length[:, None] / alpha.shape[1]


def _expected(gamma: Tensor) -> Tensor:
    return expected_log_probs(gamma).exp()


def word_terms(docs: Documents, theta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Of each pair: the count over the probability of the word (0 where it is impossible), and the log-probability."""
    prob = (theta[:, docs.document] * rows).sum(dim=-1)  # (R, P)
    return torch.where(prob > 0, docs.count / prob, 0.0), docs.count * prob.log()


def log_dirichlet(alpha: Float[Tensor, "R K V"]) -> tuple[Float[Tensor, "R K V"], Float[Tensor, "R K"]]:
    """E log p of every entry under Dirichlet distributions, and the logarithms of their normalizers, in float64."""
    alpha = alpha.double()
    if topics_compiled.suits(alpha):
        return topics_compiled.log_dirichlet(alpha)
    return expected_log_probs(alpha), log_normalizer(alpha)


def draw_log_dirichlet(alpha: Tensor, generator: torch.Generator | None) -> Tensor:
    """Logarithms, because a small parameter makes probabilities that no float can hold."""
    gamma = torch._standard_gamma(alpha + 1, generator=generator)
    uniform = torch.rand(alpha.shape, dtype=alpha.dtype, device=alpha.device, generator=generator)
    return (gamma.log() + (1 - uniform).log() / alpha).log_softmax(dim=-1)


def draw_words(
    table: Float[Tensor, "J V"], labels: Int[Tensor, "*B"], generator: torch.Generator | None = None
) -> Int[Tensor, "*B"]:
    """A word for each label, from the label's row of `table`; those of one label at once, so no row is copied."""
    words = torch.empty_like(labels)
    for label, count in enumerate(labels.flatten().bincount().tolist()):
        if count:
            words[labels == label] = torch.multinomial(table[label], count, replacement=True, generator=generator)
    return words


def dirichlet_ascent(
    alpha: Float[Tensor, "R J"], mean_log: Float[Tensor, "R J"], repeats: int = 1, num_steps: int = 3
) -> Float[Tensor, "R J"]:
    r"""Parameters of a Dirichlet distribution that make given expectations of logarithms more probable.

    Each step solves :math:`\psi(\alpha_k) = \psi(\sum_j \alpha_j) + E[\log \theta_k]`, whose right side is held fixed,
    and does not lower :math:`\log\Gamma(\sum_k \alpha_k) - \sum_k \log\Gamma(\alpha_k) + \sum_k \alpha_k E[\log
    \theta_k]`.

    Args:
        alpha: where to begin.
        mean_log: means of the expectations.
        repeats: how many dimensions share each parameter; `mean_log` is then the mean over these.
        num_steps: steps.

    Reference:
        T. P. Minka (2000), "Estimating a Dirichlet distribution".
    """
    for _ in range(num_steps):
        alpha = _inverse_digamma((alpha.sum(dim=-1, keepdim=True) * repeats).digamma() + mean_log)
    return alpha


def _inverse_digamma(y: Tensor) -> Tensor:
    x = torch.where(y >= -2.22, y.exp() + 0.5, -1 / (y + 0.5772))  # within a few percent everywhere
    for _ in range(5):
        x = x - (x.digamma() - y) / torch.special.polygamma(1, x)
    return x
