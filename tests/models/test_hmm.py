import subprocess
import sys

import numpy as np
import pytest
import torch

import probseq as ps

INITIAL, TRANSITION, EMISSION = [0.9, 0.1], [[0.8, 0.2], [0.3, 0.7]], [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]


def known() -> ps.HMM:
    return ps.HMM.from_parameters(INITIAL, TRANSITION, EMISSION)


def test_given_parameters_are_the_parameters():
    model = known()
    for given, own in ((INITIAL, model.initial), (TRANSITION, model.transition), (EMISSION, model.emission.probs)):
        np.testing.assert_allclose(own[0].detach(), given, atol=1e-15)
    assert model.num_parameters == 1 + 2 + 4
    one = known().token_log_prob(ps.Sequences.from_list([[2]]).batch())
    assert one[0, 0, 0].item() == pytest.approx(np.log(0.9 * 0.1 + 0.1 * 0.8))


def test_arrays_and_tensors_are_taken_too():
    for kind in (np.array, torch.tensor):
        model = ps.HMM.from_parameters(kind(INITIAL), kind(TRANSITION), kind(EMISSION))
        torch.testing.assert_close(model.transition, known().transition, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ("initial", "transition", "emission", "sentence"),
    [
        ([0.5, 0.6], TRANSITION, EMISSION, "initial has a row"),
        (INITIAL, [[1.0, 0.0]], EMISSION, r"expected \(K,\), \(K, K\) and K"),
        (INITIAL, [[1.2, -0.2], [0.5, 0.5]], EMISSION, "transition has a row"),
        (INITIAL, TRANSITION, [[0.5, 0.5], [float("nan"), 1.0]], "emission has a row"),
    ],
)
def test_parameters_that_are_not_probabilities_are_refused(initial, transition, emission, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.HMM.from_parameters(initial, transition, emission)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_states": 0}, "num_states is 0"),
        ({"num_restarts": -1}, "num_restarts is -1"),
        ({"start": "dirichelet"}, "did you mean 'dirichlet'"),
        ({"transition_concentration": 0.5}, "transition concentration is 0.5"),
        ({"initial_concentration": float("nan")}, "initial concentration is nan"),
        ({"num_restarts": True}, "num_restarts is True; expected a whole number"),
        ({"fixed": "emission"}, r"fixed is 'emission'; expected a list of parts, such as \['emission'\]"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        ps.HMM(**{"num_states": 2, "emission": ps.emissions.Categorical(3), **options})


def test_bad_emissions_are_refused():
    with pytest.raises(ps.InputError, match="num_symbols is 0"):
        ps.emissions.Categorical(0)
    with pytest.raises(ps.InputError, match="emission concentration is 0"):
        ps.emissions.Categorical(3, concentration=0.0)


def test_restarts_can_be_taken_out_and_put_back():
    model = ps.HMM(2, ps.emissions.Categorical(3), num_restarts=4)
    other = ps.HMM(2, ps.emissions.Categorical(3), num_restarts=2, seed=9)
    taken = model.take([3, 1])
    assert torch.equal(taken.transition[0], model.transition[3])
    model.put([1, 2], other)
    assert torch.equal(model.transition[2], other.transition[1])
    assert torch.equal(model.transition[3], taken.transition[0])


def test_starts_are_what_their_names_say():
    uniform = ps.HMM(4, ps.emissions.Categorical(5), num_restarts=3, start="near_uniform")
    assert (uniform.emission.probs - 0.2).abs().max() < 0.2 * 0.01
    assert (uniform.emission.probs - 0.2).abs().max() > 1e-4  # exactly uniform would never move at all
    dirichlet = ps.HMM(4, ps.emissions.Categorical(5), num_restarts=2000)
    first = dirichlet.emission.probs[:, 0, 0]  # Dirichlet(1, .., 1) has Beta(1, 4) margins
    assert abs(first.mean() - 1 / 5) < 4 * (4 / 150 / 2000) ** 0.5
    assert abs((first > 0.5).double().mean() - 0.5**4) < 4 * (0.0586 / 2000) ** 0.5


def test_paths_of_a_model_whose_states_are_seen():
    """Every state emits a symbol of its own, so the path is the data."""
    model = ps.HMM.from_parameters([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]])
    batch = ps.Sequences.from_list([[0, 1, 1], [1]]).batch()
    expected = torch.tensor([[[0, 1, 1], [1, -1, -1]]])
    assert torch.equal(model.viterbi(batch), expected)
    assert torch.equal(model.sample_path(batch), expected)
    marginals = model.posterior_marginals(batch)[0]
    assert torch.equal(marginals[0], torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64))
    assert (marginals[1, 1:] == 0).all()


def test_samples_of_states_that_cannot_be_left_stay():
    model = ps.HMM.from_parameters([0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    drawn = model.sample(50, 6, generator=torch.Generator().manual_seed(0)).batch().values
    assert (drawn == drawn[:, :1]).all()
    assert set(drawn[:, 0].tolist()) == {0, 1}


def test_a_data_set_in_the_place_of_a_batch_is_refused():
    """In a process of its own: the shapes that are checked in tests would be the first to complain."""
    program = """
import probseq as ps
data = ps.Sequences.from_list([[0, 1]])
model = ps.HMM(2, ps.emissions.Categorical(2))
asks = "viterbi posterior_marginals filtered sample_path path_entropy token_log_prob e_step".split()
more = [lambda x: model.k_best(x, 2), lambda x: model.symbols_ahead(x, 2)]
for ask in [*(getattr(model, name) for name in asks), *more]:
    for given in (data, data.values):
        try:
            ask(given)
        except ps.InputError as error:
            print(error)
"""
    assert printed(program) == 9 * [
        "received a Sequences where a Batch is expected; call data.batch()",
        "received a ndarray where a Batch is expected; make one: Sequences.from_list(...).batch()",
    ]


def test_arguments_of_another_type_are_refused_in_words():
    program = """
import probseq as ps
E = ps.emissions
for make in (
    lambda: ps.HMM("2", E.Categorical(3)), lambda: ps.HMM(2.0, E.Categorical(3)), lambda: ps.HMM(2, 27),
    lambda: ps.HMM(2, E.Gaussian), lambda: ps.HMM(2, E.Categorical(3), dtype="float32"), lambda: E.Categorical(3.0),
    lambda: E.GaussianMixture(1, 2.0), lambda: E.Gaussian("1"), lambda: E.Poisson(1.0), lambda: E.Bernoulli(None),
):
    try:
        make()
    except ps.InputError as error:
        print(error)
"""
    assert printed(program) == [
        "num_states is '2'; expected a whole number, 1 or more",
        "num_states is 2.0; expected a whole number, 1 or more",
        "emission is 27; expected a family, for example emissions.Categorical(27)",
        "emission is the class Gaussian; expected a family: Gaussian(...)",
        "dtype is 'float32'; expected torch.float64 or torch.float32",
        "num_symbols is 3.0; expected a whole number, 1 or more",
        "num_components is 2.0; expected a whole number, 1 or more",
        "num_dims is '1'; expected a whole number, 1 or more",
        "num_dims is 1.0; expected a whole number, 1 or more",
        "num_dims is None; expected a whole number, 1 or more",
    ]


def printed(program):
    """What a program prints in a process of its own, in which no types are checked."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: ps.HMM.from_parameters([1], [[1]], ps.emissions.Poisson(1)),
            "has no parameters; make it by emissions",
        ),
        (lambda: ps.HMM.from_parameters([1], [[1]], [[1]], start="kmeans"), "leave start out"),
        (
            lambda: ps.HMM.from_parameters(INITIAL, TRANSITION, EMISSION, transition_mask=[[1, 1], [0, 1]]),
            "transition is above 0 where transition_mask forbids it",
        ),
        (lambda: ps.HMM.from_parameters(INITIAL, TRANSITION, EMISSION, emission_groups=[0, 0]), "each emission group"),
        (
            lambda: ps.em(ps.HMM(1, ps.emissions.Categorical(2)), ps.Sequences.from_list([[0]]), num_steps=10.0),
            "num_steps is 10.0; expected a whole number",
        ),
    ],
)
def test_what_cannot_be_is_said_in_words(make, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        make()


def test_given_parameters_take_the_options_of_the_model():
    """Emissions are fitted, and what is fixed or forbidden stays: in all restarts and in single precision."""
    mask, transition = [[True, True], [False, True]], [[0.8, 0.2], [0.0, 1.0]]
    emission = ps.emissions.Gaussian.from_parameters([[0.0], [1.0]], [[1.0], [1.0]], mean_strength=0.5)
    model = ps.HMM.from_parameters(
        [1, 0], transition, emission, transition_mask=mask, fixed=["initial", "transition"], num_restarts=3,
        sticky=2.0, dtype=torch.float32,
    )  # fmt: skip
    assert model.emission.means.dtype == torch.float32
    assert model.emission.mean_strength == 0.5
    assert (model.sticky, model.num_restarts, model.initialized) == (2.0, 3, True)
    rng = np.random.default_rng(0)
    data = ps.Sequences.from_list([rng.normal(np.repeat([0.0, 5.0], 20), 1.0)[:, None] for _ in range(5)])
    fit = ps.em(model, data, num_steps=20)
    assert (fit.history[0] == fit.history[0, 0]).all()
    torch.testing.assert_close(model.transition[2], torch.tensor(transition))
    np.testing.assert_allclose(model.emission.means[1, :, 0].detach(), [0.0, 5.0], atol=0.4)
    shared = ps.HMM.from_parameters(INITIAL, TRANSITION, EMISSION[:1], emission_groups=[0, 0])
    assert shared.emission.probs.shape == (1, 1, 3)
