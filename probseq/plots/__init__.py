"""Figures of a comparison, each a `matplotlib.figure.Figure` made without pyplot and without any global setting.

Color says what kind of hidden state a model has: grey for none (the baselines), orange for a state that is drawn
(stochastic), blue for a state that is computed (deterministic). Marker shapes say the same without color. A notebook
shows the figures once ``%matplotlib inline`` is on; ``figure.savefig("ranking.svg")`` works anywhere.
"""

from probseq.plots.aligned import plot_aligned_parameters
from probseq.plots.comparison import plot_cost, plot_ranking, plot_restarts
from probseq.plots.learning import has_curve, plot_learning_curves
from probseq.plots.memory import plot_eigenvalues, plot_fading, plot_gates, plot_gradient_norms, plot_memory
from probseq.plots.restarts import plot_best_of, plot_final_values, plot_model_choice, plot_traces
from probseq.plots.series import plot_samples, plot_series_states
from probseq.plots.states import plot_states
from probseq.plots.topics import plot_topic_map, plot_topics_over_time
from probseq.plots.transduction import plot_alignments, plot_by_length, plot_components

__all__ = [
    "has_curve",
    "plot_aligned_parameters",
    "plot_alignments",
    "plot_best_of",
    "plot_by_length",
    "plot_components",
    "plot_cost",
    "plot_eigenvalues",
    "plot_fading",
    "plot_final_values",
    "plot_gates",
    "plot_gradient_norms",
    "plot_learning_curves",
    "plot_memory",
    "plot_model_choice",
    "plot_ranking",
    "plot_restarts",
    "plot_samples",
    "plot_series_states",
    "plot_states",
    "plot_topic_map",
    "plot_topics_over_time",
    "plot_traces",
]
