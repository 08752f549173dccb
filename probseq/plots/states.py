"""What the states of a hidden Markov model are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.plots.style import PALETTE, Floats, label, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probseq.data.vocabulary import Vocabulary

MAX_STATES = 6  # as many as there are colors that differ


def state_given_symbol(model: Any, restart: int = 0) -> tuple[Floats, Floats]:
    r"""How often a hidden Markov model is in each state, and which states stand behind each symbol.

    .. math:: w = w A, \qquad p(k \mid v) = w_k B_{kv} / \sum_j w_j B_{jv}

    Args:
        model: has `transition` ``(R, K, K)`` and `emission.probs` ``(R, K, V)``.
        restart: which of the R restarts.

    Returns:
        The stationary weights w ``(K,)`` and ``p(state | symbol)`` ``(K, V)``, 0 for a symbol that is never emitted.
    """
    weights, probs = stationary_weights(model, restart), to_numpy(model.emission.probs[restart])
    joint = weights[:, None] * probs  # (K, V)
    return weights, joint / joint.sum(axis=0).clip(min=np.finfo(np.float64).tiny)


def stationary_weights(model: Any, restart: int = 0) -> Floats:
    """``(K,)``: the share of time in each state, w = w A."""
    transition = to_numpy(model.transition[restart])
    size = len(transition)
    system = np.vstack([transition.T - np.eye(size), np.ones(size)])
    weights = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0), rcond=None)[0].clip(0)
    return np.asarray(weights / weights.sum())


def to_numpy(tensor: Any) -> Floats:
    """A float64 array with the numbers of a tensor on any device."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)


@styled
def plot_states(
    model: Any, vocabulary: Vocabulary | None, restart: int = 0, width: float = 8.5, max_symbols: int = 27
) -> Figure:
    """What the states of a hidden Markov model emit, and which state stands behind each symbol.

    One row for each state shows ``p(symbol | state)``, largest first; a bar is faint where another state is the more
    probable one behind that symbol. The last row shows ``p(state | symbol)``. Of more than six states, those six are
    drawn that take the largest shares of time; the others are grey in the last row.

    Args:
        model: a hidden Markov model with categorical emissions.
        vocabulary: the names of the symbols; their ids where it is None.
        restart: which of its restarts.
        width: inches.
        max_symbols: symbols in a row, at most.
    """
    weights, behind = state_given_symbol(model, restart)
    probs = to_numpy(model.emission.probs[restart])
    names = [label(s, 9) for s in (range(probs.shape[1]) if vocabulary is None else vocabulary.symbols)]
    drawn = np.sort(np.argsort(-weights, kind="stable")[:MAX_STATES])
    colors = [PALETTE[f"state-{i}"] for i in range(len(drawn))]
    height = 1.4 * (len(drawn) + 1)
    figure = new_figure(width, height)
    panels = figure.subplots(len(drawn) + 1, 1)
    figure.subplots_adjust(
        left=0.5 / width, right=1 - 0.05 / width, bottom=0.3 / height, top=1 - 0.28 / height, hspace=0.65
    )
    for k, axes, color in zip(drawn, panels[:-1], colors, strict=True):
        top = np.argsort(-probs[k], kind="stable")[:max_symbols]
        strengths = np.where(behind[:, top].argmax(axis=0) == k, 1.0, 0.35)
        axes.bar(range(len(top)), probs[k, top], 0.82, color=[(color, strength) for strength in strengths])
        _finish(axes, [names[v] for v in top], f"state {k}, {100 * weights[k]:.0f} % of the time: p(symbol | state)")
    common = np.sort(np.argsort(-(weights @ probs), kind="stable")[:max_symbols])
    order = common[np.lexsort((-behind[:, common].max(axis=0), behind[:, common].argmax(axis=0)))]
    _stack(panels[-1], behind[np.ix_(drawn, order)], colors)
    _finish(panels[-1], [names[v] for v in order], "the state behind a symbol: p(state | symbol)")
    return figure


def _stack(axes: Axes, shares: Floats, colors: Sequence[str]) -> None:
    """Bars of height 1: one piece for each row of `shares`, and a grey one for what they leave."""
    base = np.zeros(shares.shape[1])
    for values, color in zip(shares, colors, strict=True):
        axes.bar(range(len(base)), values, 0.82, bottom=base, color=color)
        base = base + values
    if (base < 0.999).any():
        axes.bar(range(len(base)), (1 - base).clip(0), 0.82, bottom=base, color=PALETTE["rule"])
    axes.set_ylim(0, 1)


def _finish(axes: Axes, names: Sequence[str], title: str) -> None:
    turned = max(map(len, names)) > 2
    axes.set_xticks(range(len(names)), names, rotation=60 if turned else 0, ha="right" if turned else "center")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="x", length=0, labelcolor=PALETTE["ink"], labelsize=8 if turned else 10, pad=2)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.locator_params(axis="y", nbins=3)
    axes.set_title(title)
