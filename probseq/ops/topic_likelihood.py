r"""The likelihood of a topic model by other ways than particles: exactly, by importance sampling, and in halves.

Each checks the estimate that is used for scores (`probseq.ops.particles`). The exact value needs few topics, importance
sampling few topics or few words, and document completion is cheap and answers another question.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probseq.errors import InputError, check_whole
from probseq.ops.divergences import log_normalizer
from probseq.ops.topics import Documents, draw_log_dirichlet, infer, word_terms

_MOST_CELLS = 2**26  # of the table of counts in `exact_token_log_prob`
_ROUND = (2, 0, 1, 0, 1, 0, 2, 0, 1, 0)  # from which part ten draws of `importance_log_prob` come; first the prior


def exact_token_log_prob(
    values: Int[Tensor, "N T"],
    observed: Bool[Tensor, "N T"],
    topics: Float[Tensor, "R K V"],
    alpha: Float[Tensor, "R K"],
) -> Float[Tensor, "R N T"]:
    r"""``log p(x_t | x_<t)``, by a sum over how often each topic may have been drawn.

    Given the topics of the words before, only their counts n matter:
    :math:`p(z_t = k \mid z_{<t}) = (n_k + \alpha_k) / (t - 1 + \alpha_0)`. So the counts are a Markov chain, and the
    belief about them a table of ``(T + 1)^2`` numbers.

    Args:
        values: words.
        observed: what to score; other tokens score 0.
        topics: rows that sum to 1, K at most 3.
        alpha: parameters of the Dirichlet prior.

    Raises:
        InputError: more than three topics, or documents too long for the table.
    """
    num_topics, length = alpha.shape[1], int(observed.sum(dim=1).max()) + 1
    if num_topics > 3 or topics.shape[0] * len(values) * length**2 > _MOST_CELLS:
        raise InputError(
            f"the exact likelihood was asked for {num_topics} topics and {len(values)} documents of up to "
            f"{length - 1} words; expected at most 3 topics, and fewer or shorter documents"
        )
    missing = 3 - num_topics
    table = torch.nn.functional.pad(topics.double(), (0, 0, 0, missing))  # topics that are never drawn
    prior = torch.nn.functional.pad(alpha.double(), (0, missing))
    first = torch.arange(length, device=values.device)
    belief = table.new_zeros(len(table), len(values), length, length)  # how often the first and the second was drawn
    belief[:, :, 0, 0] = 1
    terms = table.new_zeros(len(table), *values.shape)
    for t in range(values.shape[1]):
        seen = observed[:, :t].sum(dim=1)[:, None, None]
        counts = (first[:, None], first, seen - first[:, None] - first)  # (N, L, L), or less
        word = table[:, :, values[:, t].clamp(min=0)]  # (R, 3, N)
        joint = [
            belief * (n.clamp(min=0) + prior[:, k, None, None, None]) * word[:, k, :, None, None]
            for k, n in enumerate(counts)
        ]
        new = joint[2].clone()
        new[:, :, 1:] += joint[0][:, :, :-1]
        new[:, :, :, 1:] += joint[1][:, :, :, :-1]
        prob = new.sum(dim=(-2, -1)) / (seen[:, 0, 0] + prior.sum(dim=1, keepdim=True))
        terms[:, :, t] = torch.where(observed[:, t], prob.log(), 0.0)
        total = new.sum(dim=(-2, -1), keepdim=True)
        kept = new / total.masked_fill(total == 0, 1.0)
        belief = torch.where(observed[:, t, None, None], kept, belief)
    return terms


def importance_log_prob(
    docs: Documents,
    topics: Float[Tensor, "R K V"],
    alpha: Float[Tensor, "R K"],
    num_samples: int = 1000,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "R N"], Float[Tensor, "R N"]]:
    """An unbiased estimate of p(x) by defensive importance sampling: its logarithm, and that one's standard error.

    Topic probabilities are drawn from a mixture of the variational posterior, a wider one and the prior. The prior's
    share bounds the weights by the largest likelihood there is, so that the estimate has a variance.

    Args:
        docs: the documents.
        topics: rows that sum to 1.
        alpha: parameters of the Dirichlet prior.
        num_samples: draws for each document, 2 or more.
        generator: the source of randomness.

    Raises:
        InputError: fewer draws, of which the error would be unknown.

    Reference:
        T. Hesterberg (1995), "Weighted average importance sampling and defensive mixture distributions".
    """
    check_whole("num_samples", num_samples, least=2)
    weight, prior = topics.double().transpose(1, 2).contiguous(), alpha.double()[:, None]
    gamma = infer(docs, weight, alpha).gamma
    parts = torch.stack([gamma, (gamma + prior) / 2, prior.expand_as(gamma)])  # (3, R, N, K)
    chosen, rows = [_ROUND[i % len(_ROUND)] for i in range(num_samples)], weight[:, docs.word]
    counts = [chosen.count(part) for part in range(len(parts))]
    log_weights = []
    for part in chosen:
        log_theta = draw_log_dirichlet(parts[part], generator)
        log_prob = word_terms(docs, log_theta.exp(), rows)[1]
        likelihood = torch.zeros_like(gamma[..., 0]).index_add_(1, docs.document, log_prob)
        density = [
            math.log(count / num_samples) + _log_dirichlet(log_theta, one)
            for count, one in zip(counts, parts, strict=True)
            if count
        ]
        log_weights.append(likelihood + _log_dirichlet(log_theta, prior) - torch.stack(density).logsumexp(dim=0))
    stacked = torch.stack(log_weights)  # (S, R, N)
    mean = stacked.logsumexp(dim=0) - math.log(num_samples)
    error = (stacked - mean).exp().std(dim=0) / math.sqrt(num_samples)
    return mean, error


def _log_dirichlet(log_theta: Tensor, alpha: Tensor) -> Tensor:
    return ((alpha - 1) * log_theta).sum(dim=-1) - log_normalizer(alpha)


def completion(
    seen: Documents, hidden: Documents, topics: Float[Tensor, "R K V"], alpha: Float[Tensor, "R K"]
) -> Float[Tensor, "R N"]:
    """Log-probability of each document's hidden words, drawn one by one from the topics that the seen ones suggest.

    It is not a likelihood of the document: the topic probabilities are held at their (variational) posterior mean.

    Reference:
        H. M. Wallach, I. Murray, R. Salakhutdinov, D. Mimno (2009), "Evaluation methods for topic models".
    """
    weight = topics.double().transpose(1, 2).contiguous()
    gamma = infer(seen, weight, alpha, num_steps=100, tol=1e-6).gamma
    theta = gamma / gamma.sum(dim=-1, keepdim=True)
    log_prob = word_terms(hidden, theta, weight[:, hidden.word])[1]
    return torch.zeros_like(gamma[..., 0]).index_add_(1, hidden.document, log_prob)
