"""The drawing of the Bayesian hidden Markov model in the docs is that of the program of today."""

from __future__ import annotations

import html
import re
from pathlib import Path

from pyro.infer.inspect import generate_graph_specification, get_model_relations

import probseq as ps

DRAWING = Path(__file__).parents[1] / "docs" / "tutorials" / "hmm-program.svg"


def test_nodes_edges_and_plates_are_those_that_pyro_finds() -> None:
    model = ps.BayesianHMM(2, ps.emissions.Poisson(1), num_restarts=2)
    batch = ps.Sequences.from_list([[[1.0], [2.0], [0.0]]] * 2).batch()
    graph = generate_graph_specification(get_model_relations(lambda: model.program(batch)))
    drawn = {html.unescape(title) for title in re.findall(r"<title>(.*?)</title>", DRAWING.read_text())[1:]}
    edges = {f"{one}->{other}" for one, other in graph["edge_list"]}
    plates = {f"cluster_{name}" for name in graph["plate_data"]}
    assert drawn == set(graph["node_data"]) | edges | plates
