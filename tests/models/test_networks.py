import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import probseq as ps
from probseq.models.emissions import Bernoulli, Categorical, Gaussian, GaussianMixture, Poisson

NETWORKS = {
    "rnn": lambda: ps.RNN(5, hidden_dim=6, num_layers=2),
    "gru": lambda: ps.GRU(5, hidden_dim=6, embed_dim=3),
    "lstm": lambda: ps.LSTM(5, hidden_dim=6),
    "transformer": lambda: ps.Transformer(5, num_layers=2, num_heads=2, embed_dim=8, context=4),
    "gru of vectors": lambda: ps.GRU(hidden_dim=6, embed_dim=3, emission=Gaussian(2)),
    "transformer of vectors": lambda: ps.Transformer(
        num_layers=2, num_heads=2, embed_dim=8, context=4, emission=Poisson(2)
    ),
}
FAMILIES = {
    "diag": Gaussian(2),
    "full": Gaussian(2, covariance="full"),
    "tied": Gaussian(2, covariance="tied"),
    "spherical": Gaussian(2, covariance="spherical"),
    "mixture": GaussianMixture(2, num_components=3),
}


def series(num_dims=2, seed=0):
    rng = np.random.default_rng(seed)
    return ps.Sequences.from_list([rng.normal(size=(n, num_dims)).cumsum(axis=0) for n in (9, 4, 6)], weights=[1, 2, 1])


def seeded(emission, dtype=torch.float64, **options):
    return ps.Autoregressive.from_seed(lambda: ps.GRU(hidden_dim=6, emission=emission, **options)).to(dtype)


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


def test_a_network_of_vectors_reads_them_standardised_and_one_flag():
    data = series()
    model = seeded(Gaussian(2))
    model.observe(data)
    net, rows = model.nets[0], np.repeat(data.weights, data.lengths)
    mean = np.average(data.values, axis=0, weights=rows)
    scale = np.sqrt(np.average((data.values - mean) ** 2, axis=0, weights=rows))
    values = data.batch().values
    np.testing.assert_allclose(net.read(values)[..., :2], (values.numpy() - mean) / scale, atol=1e-12)
    assert (net.read(values)[..., 2] == 0).all()
    assert net.begin(3).tolist() == [[[0, 0, 1]]] * 3
    binary = seeded(Bernoulli(2)).nets[0]
    binary.observe(ps.Sequences.from_list([[[0.0, 1.0], [1.0, 1.0]]]))
    assert binary.read(torch.ones(1, 1, 2).double()).tolist() == [[[1, 1, 0]]]


@pytest.mark.parametrize(
    ("emission", "data"),
    [
        (Gaussian(2), series()),
        (Gaussian(2, covariance="tied"), series()),
        (Poisson(2), ps.Sequences.from_list([np.random.default_rng(0).poisson([3, 400], (50, 2)).astype(float)])),
    ],
    ids=lambda value: getattr(value, "support", ("", ""))[0],
)
def test_the_first_prediction_is_the_location_and_scale_of_the_data(emission, data):
    model = seeded(emission)
    torch.nn.init.zeros_(model.nets[0].head.weight)
    torch.nn.init.zeros_(model.nets[0].head.bias)
    model.observe(data)
    (outputs, _), family = model.initial_state(1)[0], model.nets[0].emission
    mean, variance = family.moments(family.split(outputs[0, 0]))
    rows = np.repeat(data.weights, data.lengths)
    location = np.average(data.values, axis=0, weights=rows)
    np.testing.assert_allclose(mean.detach(), location, rtol=1e-6)
    if emission.support[0] == "reals":
        spread = np.average((data.values - location) ** 2, axis=0, weights=rows)
        np.testing.assert_allclose(variance.detach(), spread, rtol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_unit_of_measurement_changes_a_density_by_its_size_alone(name):
    """In other units, the same network: ``p(a x + b) = p(x) / a``."""
    data, a, b = series(), 250.0, -3e4
    other = ps.Sequences(a * data.values + b, data.offsets, data.weights)
    models = [seeded(FAMILIES[name]), seeded(FAMILIES[name])]
    for model, one in zip(models, (data, other), strict=True):
        model.observe(one)
    terms, changed = (m.token_log_prob(d.batch()) for m, d in zip(models, (data, other), strict=True))
    torch.testing.assert_close(changed, terms - 2 * np.log(a) * data.batch().mask.double(), atol=1e-8, rtol=0)
    samples = [m.sample(3, 5, generator=torch.Generator().manual_seed(1)).values for m in models]
    np.testing.assert_allclose(samples[1], a * samples[0] + b, rtol=1e-8)


def test_single_precision_keeps_small_changes_of_large_numbers():
    data = series(1)
    far = ps.Sequences(data.values + 1e6, data.offsets, data.weights)  # float32 has steps of 1 / 16 there
    model = seeded(Gaussian(1), torch.float32)
    model.observe(far)
    terms = model.token_log_prob(far.batch())
    assert terms.dtype == torch.float32
    exact = copy.deepcopy(model).double().token_log_prob(far.batch())
    torch.testing.assert_close(terms.double(), exact, atol=1e-5, rtol=0)


def test_data_are_observed_once_and_by_the_fit():
    data = series()
    model = seeded(Gaussian(2), torch.float32)
    assert not model.initialized
    assert ps.Autoregressive([ps.GRU(5)]).initialized  # symbols have no unit
    ps.fit_gradient(model, data, num_steps=1, seed=1)
    assert model.initialized
    scale = model.nets[0].scale.clone()
    model.observe(ps.Sequences(data.values * 9, data.offsets))
    assert torch.equal(model.nets[0].scale, scale)


@pytest.mark.parametrize("emission", [Gaussian(1), Gaussian(1, covariance="full"), GaussianMixture(1, 2)], ids=str)
def test_data_that_do_not_vary_leave_finite_numbers(emission):
    data = ps.Sequences.from_list([np.full((20, 1), 7.5)] * 4)
    model = seeded(emission, torch.float32)
    fit = ps.fit_gradient(model, data, num_steps=150, learning_rate=0.1, warmup_steps=1)
    assert fit.stop_reason == ["max_steps"]
    assert np.isfinite(fit.history).all()
    assert ps.evaluate(model, data).nats_per_token[0] < 0  # a narrow density


def test_networks_have_heads_of_their_own():
    tied = Gaussian(2, covariance="tied")
    model = ps.Autoregressive.from_seed(lambda: ps.RNN(hidden_dim=4, emission=tied), num_restarts=2)
    with torch.no_grad():
        model.nets[0].emission.packed_tril += 1
    assert not torch.equal(model.nets[0].emission.packed_tril, model.nets[1].emission.packed_tril)
    assert "packed_tril" not in dict(Gaussian(2).named_parameters())
    assert model.num_parameters == sum(p.numel() for p in model.nets[0].parameters())
    free = ps.Autoregressive([ps.RNN(hidden_dim=4, emission=Gaussian(2, covariance="full"))])
    assert free.num_parameters - model.num_parameters == 5 * 3 - 3  # three outputs and their biases, for three numbers


def test_symbols_and_their_family_are_one_network():
    torch.manual_seed(0)
    short = ps.LSTM(5, hidden_dim=6)
    torch.manual_seed(0)
    long = ps.LSTM(hidden_dim=6, emission=Categorical(5))
    assert short.config() == long.config()
    for (name, one), (other_name, other) in zip(short.state_dict().items(), long.state_dict().items(), strict=True):
        assert name == other_name
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_state_carries_on_where_the_last_call_ended(name):
    torch.manual_seed(0)
    net, values = NETWORKS[name]().double().eval(), torch.randint(0, 5, (3, 11))
    inputs = net.read(values if net.is_symbolic else values[..., None].double().expand(3, 11, 2))
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
        (lambda: ps.LSTM(), "received neither of num_symbols and emission"),
        (lambda: ps.LSTM(5, emission=Gaussian(2)), "received both of num_symbols and emission"),
        (lambda: ps.LSTM(5, hidden_dim=0), "hidden_dim is 0"),
        (lambda: ps.LSTM(5, num_layers=0), "num_layers is 0"),
        (lambda: ps.LSTM(5, dropout=1.0), "dropout is 1"),
        (lambda: ps.Transformer(5, context=0), "context is 0"),
        (lambda: ps.Transformer(5, num_heads=3, embed_dim=16), "embed_dim is 16; expected a multiple"),
        (lambda: ps.Autoregressive([]), "at least one network"),
        (lambda: ps.Autoregressive([torch.nn.Linear(2, 2)]), "expected a network"),
        (lambda: ps.Autoregressive([ps.RNN(5, 4), ps.RNN(5, 6)]), "networks differ"),
        (lambda: ps.Autoregressive([ps.RNN(5, 4), ps.GRU(5, 4)]), "networks differ"),
        (lambda: ps.Autoregressive([ps.RNN(2, 4), ps.RNN(hidden_dim=4, emission=Poisson(2))]), "networks differ"),
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
