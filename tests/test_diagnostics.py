"""Gradients through time against Jacobians of the fused modules, and the fading of hidden Markov models."""

import math

import numpy as np
import pytest
import torch

import probseq as ps
from probseq import diagnostics
from probseq.diagnostics import Fading

NETS = {
    "rnn": lambda: ps.RNN(3, hidden_dim=4),
    "rnn-2": lambda: ps.RNN(3, hidden_dim=3, num_layers=2, embed_dim=2),
    "update-gate": lambda: ps.UpdateGateRNN(3, hidden_dim=4),
    "update-gate-2": lambda: ps.UpdateGateRNN(3, hidden_dim=3, num_layers=2),
    "gru": lambda: ps.GRU(3, hidden_dim=4),
    "gru-reset-before": lambda: ps.GRU(3, hidden_dim=3, num_layers=2, reset="before"),
    "lstm": lambda: ps.LSTM(3, hidden_dim=4, embed_dim=3),
    "lstm-2": lambda: ps.LSTM(3, hidden_dim=3, num_layers=2),
    "transformer": lambda: ps.Transformer(3, num_layers=2, num_heads=2, embed_dim=8, context=16),
}
RECURRENT = [name for name in NETS if name != "transformer"]


def model(name):
    return ps.Autoregressive.from_seed(NETS[name], 1, seed=3).double().eval()


def batch(num=2, length=6):
    return ps.Sequences.from_list(np.random.default_rng(0).integers(0, 3, (num, length))).batch()


def parts(state):
    """The carried state of torch's modules in one row: ``h``, or ``h, c``; layer by layer."""
    return list(state) if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("name", RECURRENT)
def test_the_gradient_of_the_state_is_the_jacobian_of_the_fused_module(name):
    net, data = model(name).nets[0], batch()
    found = diagnostics.state_gradient(net, data)
    assert found.distance.tolist() == list(range(6))
    np.testing.assert_allclose(found.values[:, 0], 1, atol=1e-12)  # the state by itself
    values = data.values[:1]
    for t in range(5):
        _, state = net(torch.cat([net.begin(1), net.read(values[:, : t + 1])], dim=1))

        def later(*state, past=t):
            carried = state if len(state) > 1 else state[0]
            return tuple(parts(net(net.read(values[:, past + 1 :]), carried)[1]))

        blocks = torch.autograd.functional.jacobian(later, tuple(parts(state)))
        size = sum(part.numel() for part in parts(state))
        whole = torch.cat(
            [torch.cat([one.reshape(-1, size // len(row)) for one in row], dim=1) for row in blocks], dim=0
        )
        assert found.values[0, 5 - t] == pytest.approx(torch.linalg.matrix_norm(whole, ord=2).item(), rel=1e-9)


@pytest.mark.parametrize("name", NETS)
def test_the_gradient_of_the_loss_is_a_difference_of_losses(name):
    net, data = model(name).nets[0], batch(1)
    found = diagnostics.input_gradient(net, data)
    assert found.distance.tolist() == [1, 2, 3, 4, 5]
    inputs = torch.cat([net.begin(1), net.read(data.values[:, :-1])], dim=1)
    code = net.embed(inputs) if name == "transformer" else net.code(inputs)

    def loss(code):
        where = net.embed if name == "transformer" else net.cells
        if name == "transformer":
            handle = where.register_forward_hook(lambda *_: code)
        else:
            handle = where.register_forward_pre_hook(lambda _, args: (code, *args[1:]))
        with handle, torch.no_grad():
            return -net.log_prob(net(inputs)[0][:, -1], data.values[:, -1]).item()

    for distance, expected in zip(found.distance, found.values[0], strict=True):
        gradient = []
        for c in range(code.shape[2]):
            step = torch.zeros_like(code)
            step[0, 6 - distance, c] = 1e-5  # the first input says that something begins
            gradient.append((loss(code + step) - loss(code - step)) / 2e-5)
        assert np.linalg.norm(gradient) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal"])
def test_the_gradient_of_a_transformer_is_the_jacobian_of_its_blocks(positions):
    torch.manual_seed(0)
    net, data = ps.Transformer(3, 2, 2, 8, 16, positions=positions).double().eval(), batch(1)
    found = diagnostics.state_gradient(net, data)
    code, turn = net._code(torch.cat([net.begin(1), data.values], dim=1), 0)

    def last(x):
        for block in net.blocks:
            x, _ = block(x, turn, None)
        return net.norm(x)[0, -1]

    jacobian = torch.autograd.functional.jacobian(last, code)[:, 0]  # (E, T + 1, E)
    for distance, norm in zip(found.distance, found.values[0], strict=True):
        expected = torch.linalg.matrix_norm(jacobian[:, 6 - distance], ord=2)
        assert norm == pytest.approx(expected.item(), rel=1e-9)


def test_a_transformer_sees_no_further_than_its_layers_reach():
    short = ps.Transformer(3, num_layers=1, num_heads=2, embed_dim=8, context=3).double()
    values = diagnostics.state_gradient(short, batch(length=8)).values
    assert (values[:, :3] > 0).all()
    assert (values[:, 3:] == 0).all()


def test_the_spectral_radius_is_that_of_the_weights():
    net = model("rnn").nets[0]
    with torch.no_grad():
        net.cells.weight_hh_l0.copy_(torch.diag(torch.tensor([0.5, -2.0, 1.0, 0.1])))
    assert diagnostics.spectral_radius(net) == {"candidate": pytest.approx(2.0)}
    with torch.no_grad():
        net.cells.weight_hh_l0.copy_(0.9 * torch.linalg.qr(torch.randn(4, 4)).Q.double())
    assert diagnostics.spectral_radius(net)["candidate"] == pytest.approx(0.9)
    assert set(diagnostics.spectral_radius(model("update-gate"))) == {"update", "candidate"}
    assert diagnostics.recurrent_eigenvalues(model("rnn-2"), layer=1)["candidate"].shape == (3,)


def test_a_largest_singular_value_below_1_makes_gradients_vanish_and_a_radius_below_1_does_not():
    torch.manual_seed(0)
    net = ps.RNN(3, hidden_dim=4).double()
    with torch.no_grad():
        net.cells.weight_hh_l0.mul_(0.8 / torch.linalg.matrix_norm(net.cells.weight_hh_l0, ord=2))
    found = diagnostics.state_gradient(net, batch(3, 20))
    assert (found.values <= 0.8 ** np.arange(20) + 1e-12).all()
    net = ps.RNN(3, hidden_dim=2).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.cells.weight_hh_l0.copy_(torch.tensor([[2.0, -2.0], [2.0, -2.0]]))
        net.cells.bias_ih_l0.copy_(torch.tensor([2.0, 10.0]))
        net.cells.weight_ih_l0[:, 3] = torch.tensor([-2.0, 0.0])  # begin
    assert diagnostics.spectral_radius(net)["candidate"] < 1e-6
    assert diagnostics.state_gradient(net, ps.Sequences.from_list([[0] * 20]).batch()).factor > 1.5


def test_the_update_block_of_a_gru_has_the_sign_of_the_formula():
    """At a state of 0 the logit of G has the Jacobian W_uh."""
    net, h = model("gru").nets[0], torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    _, gates = net.step(net.weights(0), torch.zeros(1, 4, dtype=torch.float64), (h,))
    logit = torch.logit(gates["update"])[0]
    jacobian = torch.stack([torch.autograd.grad(one, h, retain_graph=True)[0][0] for one in logit])
    expected = np.sort_complex(torch.linalg.eigvals(jacobian).numpy())
    np.testing.assert_allclose(np.sort_complex(diagnostics.recurrent_eigenvalues(net)["update"]), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_a_network_in_training_is_looked_at_without_dropout_and_stays_in_training(name):
    net = model(name).nets[0]
    expected = [diagnostics.state_gradient(net, batch()).values, diagnostics.input_gradient(net, batch()).values]
    net.drop = torch.nn.Dropout(0.5)
    net.train()
    found = [diagnostics.state_gradient(net, batch()).values, diagnostics.input_gradient(net, batch()).values]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert all(module.training for module in net.modules())


def test_each_block_of_weights_has_the_name_of_its_gate():
    """Shutting a gate by its block's bias shuts the gate of that name in the step form."""
    for name, first in (("gru", "reset"), ("lstm", "include")):
        net = model(name).nets[0]
        with torch.no_grad():
            net.cells.bias_hh_l0[:4] = -50.0
        gates = net.steps(batch().values).gates[0]
        assert next(iter(diagnostics.spectral_radius(net))) == first
        assert (gates[first] < 1e-9).all()


def test_without_memory_the_gradient_vanishes_at_the_rate_of_the_weights():
    """At a state of 0 the Jacobian of a tanh network is W_hh itself."""
    net = model("rnn").nets[0]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.cells.weight_hh_l0.copy_(0.7 * torch.eye(4))
    found = diagnostics.state_gradient(net, batch())
    np.testing.assert_allclose(found.mean, 0.7 ** np.arange(6), atol=1e-12)
    assert found.factor == pytest.approx(0.7)


def chain(stay=0.9):
    transition = torch.tensor([[stay, 1 - stay], [0.3, 0.7]], dtype=torch.float64)
    emission = ps.emissions.Categorical.from_parameters([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]])
    return ps.HMM.from_parameters([0.75, 0.25], transition, emission).double()


def test_the_second_eigenvalue_of_a_chain_of_two_states():
    assert diagnostics.second_eigenvalue(chain(0.9)) == pytest.approx([0.6])  # 1 - 0.1 - 0.3
    assert np.abs(diagnostics.chain_eigenvalues(chain(0.9)))[0] == pytest.approx([1, 0.6])
    assert diagnostics.second_eigenvalue(ps.HMM(1, ps.emissions.Categorical(3))) == pytest.approx([0])


def test_the_information_of_a_chain_is_that_of_all_pairs_of_paths():
    model, found = chain(), diagnostics.chain_information(chain(), [1, 2, 3])
    sequences = {k: np.indices((3,) * (k + 1)).reshape(k + 1, -1).T for k in (1, 2, 3)}
    for i, k in enumerate((1, 2, 3)):
        log_prob = model.token_log_prob(ps.Sequences.from_list(sequences[k]).batch())[0].sum(dim=1)
        joint = np.zeros((3, 3))
        np.add.at(joint, (sequences[k][:, 0], sequences[k][:, -1]), log_prob.detach().exp().numpy())
        expected = (joint * np.log(joint / np.outer(joint.sum(1), joint.sum(0)))).sum()
        assert found.values[0, i] == pytest.approx(expected, abs=1e-12)


def test_far_away_the_information_falls_by_the_square_of_the_second_eigenvalue():
    found = diagnostics.chain_information(chain(), range(15, 25))
    assert found.factor == pytest.approx(0.6**2, rel=1e-4)


def test_counted_information_is_that_of_the_chain_that_data_were_drawn_from():
    model, distances = chain(0.95), [1, 2, 5]
    drawn = model.sample(400, 200, generator=torch.Generator().manual_seed(0))
    counted = diagnostics.mutual_information(drawn, distances).mean
    np.testing.assert_allclose(counted, diagnostics.chain_information(model, distances).mean, atol=3e-3)


def test_what_is_independent_has_no_information_on_average():
    rng = np.random.default_rng(0)
    found = [
        diagnostics.mutual_information(ps.Sequences.from_list(rng.integers(0, 8, (4, 100))), [1]).mean[0]
        for _ in range(60)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(
        60
    )  # without the correction it is 0.06, fifteen times that
    assert np.std(found) < 0.02


def test_pairs_do_not_cross_the_ends_of_sequences():
    data = ps.Sequences.from_list([[0, 1]] * 50 + [[1, 0]] * 50)
    assert diagnostics.mutual_information(data, [1]).mean[0] == pytest.approx(math.log(2), abs=0.02)
    with pytest.raises(ps.InputError, match="no sequence has two symbols at distance 2; the longest has 2"):
        diagnostics.mutual_information(data, [2])
    with pytest.raises(ps.InputError, match=r"distances is 2; expected several, for example range\(1, 50\)"):
        diagnostics.mutual_information(data, 2)


def test_pairs_count_as_often_as_their_sequence_and_those_with_a_missing_symbol_not():
    rows = [[0, 1, 1, 0], [1, 0, 2]]
    data = ps.Sequences.from_list(rows, weights=[1.0, 3.0])
    copies = ps.Sequences.from_list([rows[0], *[rows[1]] * 3])
    found, expected = (diagnostics.mutual_information(one, [1, 2]).values for one in (data, copies))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    hidden = [np.array([False, False, True, False]), np.zeros(3, dtype=bool)]
    missing = ps.Sequences.from_list(rows, missing=hidden)
    seen = ps.Sequences.from_list([[0, 1], [1, 0], [0, 2]])
    found, expected = (diagnostics.mutual_information(one, [1]).values for one in (missing, seen))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    gone = ps.Sequences.from_list([[0, 1, 0, 1]], missing=[np.array([True, False, False, False])])
    with pytest.raises(ps.InputError, match="no two symbols at distance 3 are both there"):
        diagnostics.mutual_information(gone, [3])


def test_a_large_vocabulary_needs_no_table():
    values = np.random.default_rng(0).integers(0, 10**6, (3, 50))
    assert np.isfinite(diagnostics.mutual_information(ps.Sequences.from_list(values), [1]).values).all()


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda: diagnostics.mutual_information([[0, 1]], [1]), "data holds a list; expected Sequences"),
        (lambda: diagnostics.state_gradient(chain(), batch()), "expected a network, or a model of one; received HMM"),
        (lambda: diagnostics.input_gradient(model("rnn"), batch(length=1)), "sequences of one length, 2 or more"),
        (
            lambda: diagnostics.input_gradient(model("rnn"), ps.Sequences.from_list([[0, 1], [2, 1, 0]]).batch()),
            "sequences of one length",
        ),
        (lambda: diagnostics.spectral_radius(model("transformer")), "no weights from state to state"),
        (lambda: diagnostics.spectral_radius(model("rnn"), layer=1), "layer is 1; expected 0 to 0"),
        (lambda: diagnostics.second_eigenvalue(model("rnn")), "expected a hidden Markov model with one transition"),
        (lambda: diagnostics.chain_information(ps.HMM(2, ps.emissions.Gaussian(1)), [1]), "model is of vectors"),
        (lambda: diagnostics.mutual_information(ps.Sequences.from_list([np.zeros((4, 1))]), [1]), "data are vectors"),
    ],
)
def test_bad_requests_are_refused(ask, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ask()


def test_the_factor_of_what_is_nothing_is_nothing():
    assert Fading("", np.arange(3), np.zeros((1, 3))).factor == 0.0
