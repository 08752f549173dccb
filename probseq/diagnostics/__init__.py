"""How the past fades: gradients through time, eigenvalues, and mutual information against distance.

A network remembers by a computed state. What a change of the state at time t does to the state at time T is a product
of Jacobians, one for each step, and a product of many matrices vanishes or explodes unless it is held near 1. A hidden
Markov model remembers by a drawn state, whose chain forgets at the rate of the second eigenvalue of its transition
matrix. `Fading` holds one such curve, and `probseq.plots.plot_fading` draws several.
"""

from probseq.diagnostics.fading import Fading
from probseq.diagnostics.gradients import input_gradient, recurrent_eigenvalues, spectral_radius, state_gradient
from probseq.diagnostics.information import (
    chain_eigenvalues,
    chain_information,
    mutual_information,
    second_eigenvalue,
)
from probseq.diagnostics.recall import Recall, recall

__all__ = [
    "Fading",
    "Recall",
    "chain_eigenvalues",
    "chain_information",
    "input_gradient",
    "mutual_information",
    "recall",
    "recurrent_eigenvalues",
    "second_eigenvalue",
    "spectral_radius",
    "state_gradient",
]
