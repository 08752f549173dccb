import pytest
import torch
import torch.nn.functional as F

import probseq as ps

NETWORKS = {
    "rnn": lambda: ps.RNN(5, hidden_dim=6, num_layers=2),
    "gru": lambda: ps.GRU(5, hidden_dim=6, embed_dim=3),
    "lstm": lambda: ps.LSTM(5, hidden_dim=6),
    "transformer": lambda: ps.Transformer(5, num_layers=2, num_heads=2, embed_dim=8, context=4),
}


def test_the_tanh_network_is_the_formula():
    torch.manual_seed(0)
    net = ps.RNN(5, hidden_dim=6).double()
    inputs = torch.tensor([[5, 0, 3, 1]])
    cells, hidden = net.cells, torch.zeros(6, dtype=torch.float64)
    logits, _ = net(inputs)
    for t, x in enumerate(inputs[0]):
        code = F.one_hot(x, 6).double()
        hidden = torch.tanh(
            cells.weight_ih_l0 @ code + cells.weight_hh_l0 @ hidden + cells.bias_ih_l0 + cells.bias_hh_l0
        )
        torch.testing.assert_close(logits[0, t], net.head.weight @ hidden + net.head.bias, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_state_carries_on_where_the_last_call_ended(name):
    torch.manual_seed(0)
    net, inputs = NETWORKS[name]().double().eval(), torch.randint(0, 5, (3, 11))
    whole, _ = net(inputs)
    state, parts = None, []
    for piece in inputs.split([1, 4, 1, 5], dim=1):
        logits, state = net(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-12, rtol=0)


def test_a_transformer_layer_sees_its_context_and_no_further():
    torch.manual_seed(0)
    net = ps.Transformer(5, num_layers=1, num_heads=2, embed_dim=8, context=3).double().eval()
    inputs = torch.randint(0, 5, (1, 10))
    changed = inputs.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 5
    differs = (net(inputs)[0] - net(changed)[0]).abs().amax(dim=-1)[0] > 1e-9
    assert differs.tolist() == [False] * 4 + [True] * 3 + [False] * 3


def test_attention_depends_on_distance_alone():
    """Rotary positions: from the second repetition of a pattern on, a one-layer network repeats itself."""
    torch.manual_seed(0)
    net = ps.Transformer(5, num_layers=1, num_heads=2, embed_dim=8, context=4).double().eval()
    logits, _ = net(torch.tensor([[0, 1, 2, 3] * 4]))
    torch.testing.assert_close(logits[:, 4:8], logits[:, 12:16], atol=1e-12, rtol=0)


def test_the_output_weights_are_the_embedding():
    net = ps.Transformer(5, num_layers=1, num_heads=1, embed_dim=8)
    assert net(torch.tensor([[5]]))[0].shape == (1, 1, 5)
    names = [name for name, p in net.named_parameters() if 5 in p.shape or 6 in p.shape]
    assert names == ["embed.weight"]


def test_the_forget_gate_starts_open():
    net = ps.LSTM(5, hidden_dim=6, num_layers=2)
    assert (net.cells.bias_hh_l1[6:12] == 1).all()


def test_a_large_vocabulary_is_embedded():
    assert ps.GRU(27, hidden_dim=6).embed is None
    assert ps.GRU(5000, hidden_dim=6).embed_dim == 6


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: ps.LSTM(0), "num_symbols is 0"),
        (lambda: ps.LSTM(5, hidden_dim=0), "hidden_dim is 0"),
        (lambda: ps.LSTM(5, num_layers=0), "num_layers is 0"),
        (lambda: ps.LSTM(5, dropout=1.0), "dropout is 1"),
        (lambda: ps.Transformer(5, context=0), "context is 0"),
        (lambda: ps.Transformer(5, num_heads=3, embed_dim=16), "embed_dim is 16; expected a multiple"),
        (lambda: ps.Autoregressive([]), "at least one network"),
        (lambda: ps.Autoregressive([torch.nn.Linear(2, 2)]), "expected a network"),
        (lambda: ps.Autoregressive([ps.RNN(5, 4), ps.RNN(5, 6)]), "networks differ"),
        (lambda: ps.Autoregressive([ps.RNN(5, 4), ps.GRU(5, 4)]), "networks differ"),
        (lambda: ps.Autoregressive.from_seed(lambda: ps.RNN(5, 4), 0), "num_restarts is 0"),
    ],
)
def test_bad_settings_are_refused(build, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        build()


def test_building_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    ps.Autoregressive.from_seed(NETWORKS["lstm"], 3)
    assert torch.equal(before, torch.get_rng_state())
