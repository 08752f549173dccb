"""The statement of the HMM decoder in Pyro against the engine, for every kind, in value and gradient."""

import itertools

import pytest
import torch
from pyro.infer import TraceEnum_ELBO

import probseq as ps
from probseq import HMMDecoder

DATA = ps.Sequences.from_list(
    [[0, 1, 2], [2], [1, 0, 0, 2]], source=ps.Sequences.from_list([[3, 0, 1, 4], [4], [2, 2, 1, 4]])
)
STATES = {
    "latent": {"states": "latent", "num_states": 3},
    "latent-order-0": {"states": "latent", "num_states": 3, "order": 0},
    "alignment": {"states": "alignment"},
    "alignment-order-0": {"states": "alignment", "order": 0},
    "alignment-monotone": {"states": "alignment", "monotone": True, "jumps": (-1, 2)},
    "alignment-strict": {"states": "alignment", "jumps": (1, 2), "end": 2},
}
CASES = list(itertools.product(STATES, ("state", "previous", "recurrent"), (1, 2)))


@pytest.mark.parametrize(("states", "emission", "num_components"), CASES)
def test_the_program_is_what_the_engine_computes(states, emission, num_components):
    torch.manual_seed(0)
    kind = {**STATES[states], "emission": emission, "num_components": num_components}
    net = HMMDecoder(5, 3, hidden_dim=4, **kind).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    batch = DATA.batch()
    engine = net.token_log_prob(batch).sum()
    value = -TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(net.program, lambda batch: None, batch)
    torch.testing.assert_close(value, engine, atol=1e-10, rtol=0)
    parameters = dict(net.named_parameters())
    settings = {"allow_unused": True, "materialize_grads": True}
    expected = torch.autograd.grad(engine, list(parameters.values()), **settings)
    for one, other in zip(torch.autograd.grad(value, list(parameters.values()), **settings), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_a_known_transducer_is_recovered():
    """By networks that make the tables: within 2 % of the exact entropy of pairs not seen."""
    corpus = ps.load_corpus("transducer", num_sequences=2500)
    build = lambda: HMMDecoder(10, 13, states="alignment", jumps=(0, 2), emission="state", hidden_dim=16)
    model = ps.Conditional.from_seed(build, seed=0)
    ps.fit_gradient(model, corpus.train, corpus.validation, num_steps=200, batch_size=64, learning_rate=0.02)
    nats = ps.evaluate(model, corpus.test).nats_per_token[0]
    assert corpus.truth.test_nats_per_token < nats < 1.02 * corpus.truth.test_nats_per_token
