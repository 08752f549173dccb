"""Every cell is the formula that is taught, the fused module that trains it is the same, and gates can be read."""

import copy

import pytest
import torch
import torch.nn.functional as F

import probseq as ps
from probseq.models.emissions import Gaussian

CELLS = {
    "rnn": ps.RNN,
    "update-gate": ps.UpdateGateRNN,
    "gru": ps.GRU,
    "gru-reset-before": lambda *sizes, **options: ps.GRU(*sizes, reset="before", **options),
    "lstm": ps.LSTM,
}
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def build(name, dtype=torch.float64, hidden_dim=6, **options):
    torch.manual_seed(0)
    return CELLS[name](5, hidden_dim=hidden_dim, **options).to(dtype).eval()


def outputs_of(net, values):
    """What training computes: the outputs after every token."""
    return net(torch.cat([net.begin(len(values)), net.read(values)], dim=1))[0][:, 1:]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("embed_dim", [None, 4], ids=["one-hot", "embedded"])
@pytest.mark.parametrize("name", CELLS)
def test_the_step_form_is_the_fused_form(name, embed_dim, num_layers, dtype):
    net = build(name, dtype, num_layers=num_layers, embed_dim=embed_dim, dropout=0.3)
    values = torch.randint(0, 5, (3, 40))
    steps = net.steps(values)
    assert steps.outputs.dtype == dtype
    assert len(steps.states) == len(steps.gates) == len(steps.memories) == num_layers
    close(steps.outputs, outputs_of(net, values), TOLERANCE[dtype])


@pytest.mark.parametrize("name", CELLS)
def test_both_forms_have_the_same_gradients(name):
    net = build(name, num_layers=2)
    twin, values = copy.deepcopy(net), torch.randint(0, 5, (2, 12))
    net.steps(values).outputs.square().sum().backward()
    outputs_of(twin, values).square().sum().backward()
    for (key, one), other in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert one.grad.abs().max() > 0, key
        close(one.grad, other.grad, 1e-11)


@pytest.mark.parametrize(("name", "module"), [("rnn", "RNN"), ("gru", "GRU"), ("lstm", "LSTM")])
def test_weights_carried_over_to_torch_give_the_states_of_the_steps(name, module):
    net = build(name, num_layers=2, embed_dim=4)
    foreign = getattr(torch.nn, module)(4, 6, 2, batch_first=True).double()
    foreign.load_state_dict(net.cells.state_dict())
    values = torch.randint(0, 5, (3, 20))
    hidden, _ = foreign(net.embed(torch.cat([net.begin(3), values], dim=1)))
    close(net.steps(values).states[1], hidden[:, 1:])


def weights_of(net):
    """One-hot input: the columns of the input matrix are the codes. In the names of the lecture."""
    of_input, of_state, *biases = net.weights(0)
    return of_input.split(6), of_state.split(6), sum(biases).split(6)


def test_the_update_gate_is_the_formula():
    net, x = build("update-gate"), [5, 0, 3, 1, 1, 4]  # 5 begins
    (w_ux, w_hx), (w_uh, w_hh), (b_u, b_h) = weights_of(net)
    h, c = torch.zeros(2, 6, dtype=torch.float64)
    gates, states, memories, logits = [], [], [], []
    for symbol in x:
        gate = torch.sigmoid(w_ux[:, symbol] + w_uh @ h + b_u)
        h = torch.tanh(w_hx[:, symbol] + w_hh @ h + b_h)
        c = (1 - gate) * c + gate * h
        logits.append(net.head.weight @ torch.cat([c, h]) + net.head.bias)
        gates.append(gate), states.append(h), memories.append(c)
    steps = net.steps(torch.tensor([x[1:]]))
    close(steps.gates[0]["update"][0], torch.stack(gates[1:]))
    close(steps.states[0][0], torch.stack(states[1:]))
    close(steps.memories[0][0], torch.stack(memories[1:]))
    close(steps.outputs[0], torch.stack(logits[1:]))
    close(net(torch.tensor([x]))[0][0], torch.stack(logits))


def test_the_reset_gate_is_on_the_state_before_the_product():
    net, x = build("gru-reset-before"), [5, 0, 3, 1]
    (w_rx, w_kx, w_hx), (w_rh, w_kh, w_hh), (b_r, b_k, b_h) = weights_of(net)
    h, updates, resets = torch.zeros(6, dtype=torch.float64), [], []
    for symbol in x:
        reset = torch.sigmoid(w_rx[:, symbol] + w_rh @ h + b_r)
        update = torch.sigmoid(-(w_kx[:, symbol] + w_kh @ h + b_k))  # torch stores what is kept
        candidate = torch.tanh(w_hx[:, symbol] + w_hh @ (reset * h) + b_h)
        h = (1 - update) * h + update * candidate
        updates.append(update), resets.append(reset)
    steps = net.steps(torch.tensor([x[1:]]))
    close(steps.states[0][0, -1], h)
    close(steps.gates[0]["update"][0], torch.stack(updates[1:]))
    close(steps.gates[0]["reset"][0], torch.stack(resets[1:]))


def test_the_gates_of_the_lstm_make_its_memory():
    """With the gates and the memory before it, a memory is what is kept of it and what is added, at most 1 in size."""
    steps = build("lstm").steps(torch.randint(0, 5, (2, 9)))
    (gates,), (memory,), (hidden,) = steps.gates, steps.memories, steps.states
    added = memory[:, 1:] - gates["forget"][:, 1:] * memory[:, :-1]
    assert (added.abs() <= gates["include"][:, 1:]).all()
    close(hidden, gates["output"] * memory.tanh())


def test_a_shut_gate_keeps_the_memory_and_an_open_one_writes_it():
    net = build("update-gate")
    with torch.no_grad():
        net.cells.gates[0].bias.fill_(-80.0)
    steps = net.steps(torch.tensor([[0, 1, 2, 3]]))
    close(steps.memories[0], torch.zeros_like(steps.memories[0]))
    with torch.no_grad():
        net.cells.gates[0].bias.fill_(80.0)
    steps = net.steps(torch.tensor([[0, 1, 2, 3]]))
    close(steps.memories[0], steps.states[0])


def test_the_memory_of_an_update_gate_does_not_feed_back():
    net = build("update-gate")
    before = net.steps(torch.tensor([[0, 1, 2]])).states[0]
    with torch.no_grad():
        net.cells.gates[0].weight.mul_(-3.0)
    close(net.steps(torch.tensor([[0, 1, 2]])).states[0], before)


def test_vectors_have_steps_too():
    net = ps.UpdateGateRNN(hidden_dim=4, emission=Gaussian(2)).double()
    values = torch.randn(2, 7, 2, dtype=torch.float64)
    close(net.steps(values).outputs, outputs_of(net, values))


def test_the_gates_have_the_names_of_the_formulas():
    names = {name: set(build(name).steps(torch.tensor([[0, 1]])).gates[0]) for name in CELLS}
    assert names == {
        "rnn": set(),
        "update-gate": {"update"},
        "gru": {"update", "reset"},
        "gru-reset-before": {"update", "reset"},
        "lstm": {"forget", "include", "output"},
    }


def test_dropout_is_between_layers_and_before_the_output():
    for name in CELLS:
        net = build(name, num_layers=2, dropout=0.5).train()
        inputs = torch.randint(0, 5, (2, 9))
        assert not torch.equal(net(inputs)[0], net(inputs)[0])
        net.drop = torch.nn.Identity()  # what is left is between the layers
        assert not torch.equal(net(inputs)[0], net(inputs)[0]), name
        assert torch.equal(net.eval()(inputs)[0], net(inputs)[0])


def test_the_input_code_is_one_hot_or_learned():
    assert F.one_hot(torch.tensor([[5]]), 6).tolist() == build("gru").code(torch.tensor([[5]])).tolist()
    assert build("gru", embed_dim=4).code(torch.tensor([[5]])).shape == (1, 1, 4)


@pytest.mark.parametrize(
    "values",
    [
        torch.zeros(1, 0, dtype=torch.int64),
        torch.zeros(1, 3),
        torch.tensor([[0, 5]]),
        torch.tensor([[0, -1]]),
    ],
)
def test_steps_of_something_else_are_refused(values):
    with pytest.raises(ps.InputError, match=r"expected|scores symbols|outside the model|is missing"):
        build("gru").steps(values)


@pytest.mark.parametrize("sizes", [{"embed_dim": 0}, {"hidden_dim": 0}, {"num_layers": 0}])
def test_sizes_are_whole_numbers_of_1_or_more(sizes):
    with pytest.raises(ps.InputError, match=rf"{next(iter(sizes))} is .*1 or more"):
        ps.LSTM(5, **sizes)


def test_another_reset_is_refused():
    with pytest.raises(ps.InputError, match="reset 'befor'"):
        ps.GRU(5, reset="befor")
