"""Figures of a comparison, each a `matplotlib.figure.Figure` made without pyplot and without any global setting.

Color says what kind of hidden state a model has: grey for none (the baselines), orange for a state that is drawn
(stochastic), blue for a state that is computed (deterministic). Marker shapes say the same without color. A notebook
shows the figures once ``%matplotlib inline`` is on; ``figure.savefig("ranking.svg")`` works anywhere.
"""

from probseq.plots.comparison import plot_cost, plot_ranking, plot_restarts
from probseq.plots.learning import plot_learning_curves
from probseq.plots.series import plot_samples, plot_series_states
from probseq.plots.states import plot_states

__all__ = [
    "plot_cost",
    "plot_learning_curves",
    "plot_ranking",
    "plot_restarts",
    "plot_samples",
    "plot_series_states",
    "plot_states",
]
