"""Whether Markov chains have found the same distribution, and how many independent draws theirs are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST = 4  # draws of one chain that can be told from one another by halves


def r_hat(draws: Floats) -> Floats:
    r"""Rank-normalised split R-hat: how much wider the draws of all chains are than those of one.

    With normal scores z of the ranks of all draws, each chain cut into two halves of n draws, mean W of the variances
    within halves and variance B of the means of the halves,

    .. math::
        \hat R = \sqrt{\frac{(n - 1) W / n + B}{W}} ,

    or the same of the distances from the median where that is more. At most 1.01 is good.

    Args:
        draws: ``(C, S, ...)``.

    Returns:
        ``(...)``: NaN where all draws are equal, or a chain has fewer than 4; infinite where chains do not move and
        stand in different places.

    Reference:
        A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner (2021), "Rank-normalization, folding, and
        localization: an improved R-hat for assessing convergence of MCMC".

    Example:
        >>> rng = np.random.default_rng(0)
        >>> bool(r_hat(rng.normal(size=(2, 1000))) < 1.01), bool(r_hat(rng.normal([[0], [1]], size=(2, 1000))) > 1.1)
        (True, True)
    """
    folded = np.abs(draws - np.median(draws, axis=(0, 1)))
    return np.fmax(_split_r_hat(_normal_scores(draws)), _split_r_hat(_normal_scores(folded)))


def ess(draws: Floats) -> Floats:
    """Effective sample size of the normal scores ("bulk"): the independent draws that would tell as much of the middle.

    Of draws whose errors cancel it may be more than their number N, but at most N log10 N.

    Args:
        draws: ``(C, S, ...)``.

    Returns:
        ``(...)``: NaN where all draws are equal, or a chain has fewer than 4.

    Reference:
        as for `r_hat`; C. J. Geyer (1992), "Practical Markov chain Monte Carlo".
    """
    import torch
    from pyro.ops.stats import effective_sample_size

    if draws.shape[1] < LEAST:
        return np.full(draws.shape[2:], np.nan)
    scores = _halves(_normal_scores(draws))
    found: Floats = effective_sample_size(torch.from_numpy(scores)).numpy()
    most = scores.shape[0] * scores.shape[1] * np.log10(scores.shape[0] * scores.shape[1])
    result = np.where((found > 0) & (found < most), found, most)  # a negative one is that of a sum beyond all bounds
    return np.where(np.ptp(draws, axis=(0, 1)) == 0, np.nan, result)


def _halves(draws: Floats) -> Floats:
    """``(2 C, S // 2, ...)``."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _normal_scores(draws: Floats) -> Floats:
    """Normal quantiles of the ranks among all draws of all chains; equal draws share a rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    ranks = rankdata(draws.reshape(-1, *draws.shape[2:]), axis=0)
    scores: Floats = ndtri((ranks - 0.375) / (len(ranks) + 0.25)).reshape(draws.shape)
    return scores


def _split_r_hat(scores: Floats) -> Floats:
    if scores.shape[1] < LEAST:
        return np.full(scores.shape[2:], np.nan)
    halves = _halves(scores)
    size, within = halves.shape[1], halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt((size - 1) / size + between / within))
