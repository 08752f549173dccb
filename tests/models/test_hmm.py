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
