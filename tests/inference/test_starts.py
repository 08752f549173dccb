import copy
import warnings

import numpy as np
import pytest
import torch
from kinds import BINARY, COUNTS, PLANE, REALS, SYMBOLS

import probseq as ps
from probseq.inference.starts import STRATEGIES, initialize
from probseq.models.draws import START_NAMES

E = ps.emissions
FAMILIES = {
    "categorical": (E.Categorical(3, concentration=1.1), SYMBOLS),
    "categorical-ml": (E.Categorical(3), SYMBOLS),
    "bernoulli": (E.Bernoulli(2), BINARY),
    "poisson": (E.Poisson(1), COUNTS),
    "gaussian": (E.Gaussian(1), REALS),
    "gaussian-full": (E.Gaussian(2, covariance="full"), PLANE),
    "gaussian-tied": (E.Gaussian(2, covariance="tied"), PLANE),
    "mixture": (E.GaussianMixture(2, num_components=2), PLANE),
}
each_family = pytest.mark.parametrize(("family", "kind"), FAMILIES.values(), ids=FAMILIES)
each_start = pytest.mark.parametrize("start", STRATEGIES)
look_at_data = pytest.mark.parametrize("start", ["unigram", "kmeans", "race", "spectral"])


def started(model, data):
    """The model at its starting point, and what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        initialize(model, data)
    return model, [str(one.message) for one in caught]


def usable(model):
    """Whether all parameters are finite, but for probabilities of zero; and all rows sum to 1."""
    finite = all(not p.isnan().any() and (p < torch.inf).all() for p in model.parameters())
    rows = (model.initial, model.transition)
    return finite and all(torch.allclose(r.sum(-1), r.new_ones(())) for r in rows)


def letters(num_tokens=4000, seed=0):
    """Two kinds of symbols that mostly take turns, like vowels (0 to 4) and consonants (5 to 19), some of them rare."""
    rng = np.random.default_rng(seed)
    turns = np.cumsum(rng.random(num_tokens) < 0.85) % 2
    weights = 1 / np.arange(1, 16)
    vowel = rng.choice(5, p=weights[:5] / weights[:5].sum(), size=num_tokens)
    consonant = 5 + rng.choice(15, p=weights / weights.sum(), size=num_tokens)
    return ps.Sequences.from_list(np.where(turns, vowel, consonant).reshape(-1, 100))


def hills(num_tokens=1000, seed=0, stay=0.9):
    """Three clusters of points in the plane, far apart and in units of their own."""
    rng = np.random.default_rng(seed)
    states = np.cumsum(rng.random(num_tokens) > stay) % 3
    centers = np.array([[0.0, 0.0], [8.0, 4000.0], [-8.0, 4000.0]])
    return ps.Sequences.from_list([centers[states] + rng.normal(size=(num_tokens, 2)) * [1, 500]]), states, centers


def test_every_name_has_a_strategy():
    assert set(START_NAMES) == {*STRATEGIES, "parameters"}
    with pytest.raises(ps.InputError, match="unknown start 'kmean'; did you mean 'kmeans'"):
        ps.HMM(2, E.Categorical(3), start="kmean")


@each_family
@each_start
def test_every_start_is_usable_and_em_climbs_from_it(family, kind, start):
    data = kind.structured(20, 0)
    model = ps.HMM(3, family, num_restarts=2, start=start)
    if start == "spectral" and not kind.symbolic:
        with pytest.raises(ps.InputError, match="needs symbols"):
            initialize(model, data)
        return
    model, warned = started(model, data)
    assert model.initialized
    assert warned == []
    assert usable(model)
    assert model.token_log_prob(data.batch()).isfinite().all()
    fit = ps.em(model, data, num_steps=20, tol=0)  # raises if the objective falls
    assert set(fit.stop_reason) <= {"converged", "max_steps"}
    assert (np.nanmax(fit.history, axis=0) >= fit.history[0]).all()


@each_start
@pytest.mark.parametrize("name", ["categorical", "gaussian", "mixture"])
def test_a_restart_depends_on_seed_and_number_alone(name, start):
    family, kind = FAMILIES[name]
    if start == "spectral" and not kind.symbolic:
        pytest.skip("symbols only")
    data = kind.structured(10, 0)

    def parameters(num_restarts, seed, chosen):
        model = ps.HMM(3, family, num_restarts=num_restarts, seed=seed, start=start).take(chosen)
        return dict(started(model, data)[0].named_parameters())

    many, few = parameters(4, 3, [0, 1, 2, 3]), parameters(2, 3, [0, 1])
    lone, other = parameters(4, 3, [2]), parameters(4, 4, [2])  # taken before the data were seen
    for key, value in many.items():
        assert torch.equal(value[:2], few[key])
        assert torch.equal(value[2:3], lone[key])
    assert any(not torch.allclose(value[2:3], other[key]) for key, value in many.items())
    assert any(not torch.allclose(value[2], value[3]) for value in many.values())


@each_start
def test_masks_fixed_parts_and_groups_are_kept(start):
    structure = {
        "initial_mask": [True, False, True, True],
        "transition_mask": ps.masks.banded(4, 1),
        "emission_groups": [0, 1, 1, 2],
    }
    for family, kind in (FAMILIES["categorical"], FAMILIES["gaussian"]):
        if start == "spectral" and not kind.symbolic:
            continue
        data = kind.structured(20, 0)
        model, _ = started(ps.HMM(4, family, num_restarts=2, start=start, **structure), data)
        assert usable(model)
        assert ((model.initial > 0) == model.initial_mask).all()
        assert ((model.transition > 0) == model.transition_mask).all()
        assert model.emission.raw[next(iter(family.shapes))].shape[1] == 3
        assert np.isfinite(ps.em(model, data, num_steps=3).history).all()
        for part in ("initial", "transition", "emission"):
            model = ps.HMM(4, family, num_restarts=2, start=start, fixed=[part], **structure)
            model.emission.observe(data)  # what the data's units change, no start has changed
            before = [p.detach().clone() for p in model._part(part)]
            started(model, data)
            assert all(torch.equal(a, b) for a, b in zip(before, model._part(part), strict=True))
            assert usable(model)


@each_start
@pytest.mark.parametrize(
    "data",
    [
        ps.Sequences.from_list([[1]]),
        ps.Sequences.from_list([[2, 2, 2, 2, 2]]),
        ps.Sequences.from_list([[0, 1], [1], [0, 1, 0]], weights=[0.5, 2.0, 1.0]),
        ps.Sequences.from_list([[0, 1, 2, 1, 0, 1]], missing=[[False, True, False, False, True, True]]),
        ps.Sequences.from_list([np.zeros((1, 2))]),
        ps.Sequences.from_list([np.full((6, 2), 1e6)]),
        ps.Sequences.from_list([np.array([[0.0, 1.0], [np.nan, 2.0], [np.nan, np.nan], [3.0, np.nan]])]),
        ps.Sequences.from_list([np.repeat([[0.0, 0.0], [1.0, 5.0]], 10, axis=0)]),
    ],
    ids=["token", "constant", "ragged", "missing", "vector", "equal", "holes", "two-points"],
)
def test_little_data_and_gaps(data, start):
    """One token, constant data, fewer distinct observations than states, missing steps and entries: no NaN."""
    if start == "spectral" and not data.is_symbolic:
        return
    family = E.Categorical(3) if data.is_symbolic else E.Gaussian(2)
    model, _ = started(ps.HMM(5, family, num_restarts=2, start=start), data)
    assert usable(model)
    fit = ps.em(model, data, num_steps=5)
    assert np.isfinite(fit.history[0]).all()
    assert usable(model)


def test_nothing_observed_and_wrong_data_are_refused():
    nothing = ps.Sequences.from_list([[0, 1]], missing=[[True, True]])
    with pytest.raises(ps.InputError, match="no token was observed"):
        initialize(ps.HMM(2, E.Categorical(3), start="kmeans"), nothing)
    with pytest.raises(ps.InputError, match="symbol 7 is outside"):
        initialize(ps.HMM(2, E.Categorical(3), start="kmeans"), ps.Sequences.from_list([[0, 7]]))
    with pytest.raises(ps.InputError, match="vectors"):
        initialize(ps.HMM(2, E.Gaussian(1)), ps.Sequences.from_list([[0, 1]]))


def test_a_given_start_is_left_alone():
    model = ps.HMM.from_parameters([0.3, 0.7], [[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.1, 0.9]])
    before = copy.deepcopy(model.state_dict())
    initialize(model, ps.Sequences.from_list([[0, 1, 1]]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@look_at_data
def test_the_first_fit_makes_the_start_and_the_second_goes_on(start):
    data = letters()
    model, begun = (ps.HMM(2, E.Categorical(20, 1.1), num_restarts=2, start=start) for _ in range(2))
    assert not model.initialized
    started(begun, data)
    expected = ps.evaluate(begun, data).log_prob.sum(axis=1) + begun.log_prior().detach().numpy()
    first = ps.em(model, data, num_steps=2)
    np.testing.assert_allclose(first.history[0], expected / data.num_tokens, atol=1e-10)
    assert (ps.em(model, data, num_steps=1).history[0] > first.history[1]).all()


def test_a_start_counts_weights_as_repeats():
    rows = [[0, 1, 2, 0], [2, 1, 1, 0, 2, 2]]
    repeated = ps.Sequences.from_list([rows[0], rows[0], rows[0], rows[1]])
    weighted = ps.Sequences.from_list(rows, weights=[3.0, 1.0])
    for start in ("unigram", "kmeans"):
        models = [
            started(ps.HMM(2, E.Categorical(3), start=start), data)[0].state_dict() for data in (repeated, weighted)
        ]
        for name in models[0]:
            torch.testing.assert_close(models[0][name], models[1][name], atol=1e-12, rtol=0)


# What each strategy is for


def test_kmeans_finds_clusters_in_any_unit():
    data, states, centers = hills()
    model, _ = started(ps.HMM(3, E.Gaussian(2), num_restarts=5, start="kmeans"), data)
    transition = np.zeros((3, 3))
    np.add.at(transition, (states[:-1], states[1:]), 1)
    transition /= transition.sum(axis=1, keepdims=True)
    for r in range(5):
        means = model.emission.means[r].detach().numpy()
        order = np.abs((means[None] - centers[:, None]) / [1, 500]).sum(-1).argmin(axis=1)
        assert sorted(order) == [0, 1, 2]
        assert np.abs((means[order] - centers) / [1, 500]).max() < 0.3
        found = model.transition[r].detach().numpy()[order][:, order]
        assert np.abs(found - transition).max() <= 0.1  # what the noise may do


def test_kmeans_tells_symbols_apart_by_their_neighbors():
    model, _ = started(ps.HMM(2, E.Categorical(20), num_restarts=5, start="kmeans"), letters(20_000))
    share = model.emission.probs[:, :, :5].sum(-1).detach().numpy()  # of vowels, in each state
    assert (share.max(axis=1) > 0.85).all()
    assert (share.min(axis=1) < 0.15).all()


def test_clusters_are_numbered_by_when_they_occur():
    """Otherwise a chain that goes from left to right could not follow them."""
    rng = np.random.default_rng(0)
    level = np.repeat([3.0, -1.0, 7.0, 1.0], 25)
    data = ps.Sequences.from_list([(level + 0.1 * rng.normal(size=100))[:, None] for _ in range(5)])
    chain = {"initial_mask": ps.masks.first_state(4), "transition_mask": ps.masks.left_to_right(4, max_jump=1)}
    model, _ = started(ps.HMM(4, E.Gaussian(1), num_restarts=5, start="kmeans", **chain), data)
    np.testing.assert_allclose(model.emission.means[..., 0].detach(), np.tile([3.0, -1.0, 7.0, 1.0], (5, 1)), atol=0.2)


def test_states_that_share_an_emission_share_a_cluster():
    data, _, centers = hills(stay=0.5)
    model, _ = started(ps.HMM(5, E.Gaussian(2), start="kmeans", emission_groups=[0, 0, 1, 2, 2]), data)
    means = model.emission.means[0].detach().numpy()
    assert np.abs((means[None] - centers[:, None]) / [1, 500]).sum(-1).min(axis=1).max() < 0.5
    into = model.transition[0, 2].detach().numpy()  # the counts of a pair of states are shared equally
    assert abs(into[0] - into[1]) < 0.1
    assert abs(into[3] - into[4]) < 0.1
    assert into[2] == pytest.approx(0.5, abs=0.12)


def test_given_emissions_are_not_confused_with_clusters():
    """With fixed emissions the chain's start does not follow clusters, whose numbers would mean other states."""
    data, *_ = hills(stay=1.0)
    model, _ = started(ps.HMM(3, E.Gaussian(2), num_restarts=20, start="kmeans", fixed=["emission"]), data)
    drawn = ps.HMM(3, E.Gaussian(2), num_restarts=20)
    assert torch.equal(model.transition, drawn.transition)


def test_the_race_is_won_by_a_good_start():
    """After equally many steps, winners are beyond the median of Dirichlet starts."""
    data = letters()
    reached = {}
    for start in ("dirichlet", "race"):
        model, _ = started(ps.HMM(4, E.Categorical(20, 1.1), num_restarts=20, start=start), data)
        fit = ps.em(model, data, num_steps=11 if start == "dirichlet" else 1, tol=0)
        reached[start] = fit.history[-1]
    assert (reached["race"] > np.median(reached["dirichlet"])).mean() > 0.9


def test_what_the_race_did_not_see_stays_possible():
    """Most symbols are not in the part of the data on which the race is run."""
    rng = np.random.default_rng(0)
    data = ps.Sequences.from_list(rng.integers(0, 3000, size=(300, 256)))
    model, _ = started(ps.HMM(2, E.Categorical(3000), start="race"), data)
    assert model.token_log_prob(data.batch()).isfinite().all()


def test_a_race_needs_an_e_step():
    inputs = ps.Sequences.from_list([np.ones((3, 1))])
    data = ps.Sequences.from_list([[0, 1, 1]], source=inputs)
    with pytest.raises(ps.InputError, match=r"'race' runs EM.*use kmeans"):
        initialize(ps.InputHMM(2, E.Categorical(2), num_inputs=1, start="race"), data)
    model, _ = started(ps.InputHMM(2, E.Categorical(2), num_inputs=1, start="kmeans"), data)
    assert usable(model)


def test_moments_find_the_model_and_em_has_little_to_add():
    initial, transition = [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]]
    truth = ps.HMM.from_parameters(initial, transition, [[0.6, 0.2, 0.1, 0.1], [0.05, 0.05, 0.45, 0.45]])
    data = truth.simulate(100, 1000, generator=torch.Generator().manual_seed(0))
    data = ps.Sequences(data.values, data.offsets)  # the states are not told
    model, warned = started(ps.HMM(2, E.Categorical(4), num_restarts=3, start="spectral"), data)
    assert warned == []
    best = ps.evaluate(truth, data).nats_per_token[0]
    assert (ps.evaluate(model, data).nats_per_token < best + 2e-3).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_states": 5}, "5 states and only 3 symbols"),
        ({"num_states": 3, "transition_mask": ps.masks.left_to_right(3)}, "cannot follow masks"),
        ({"num_states": 3, "emission_groups": [0, 1, 1]}, "shared emissions"),
        ({"num_states": 3, "fixed": ["initial"]}, "fixed parts"),
    ],
)
def test_where_moments_fail_the_start_is_dirichlet(options, reason):
    data = SYMBOLS.structured(20, 0)
    model = ps.HMM(emission=E.Categorical(3), num_restarts=2, start="spectral", **options)
    with pytest.warns(UserWarning, match=f"failed in 2 of 2 restarts.*'dirichlet'.*{reason}"):
        initialize(model, data)
    other = ps.HMM(emission=E.Categorical(3), num_restarts=2, **options)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_chance_alone_has_no_states():
    data = ps.Sequences.from_list(np.random.default_rng(0).integers(0, 5, size=(20, 100)))
    with pytest.warns(UserWarning, match="show 1 state beyond chance, fewer than 2"):
        initialize(ps.HMM(2, E.Categorical(5), start="spectral"), data)


def test_near_uniform_is_a_saddle():
    """From where all states are alike EM hardly moves, although there is much to gain."""
    data, gain = letters(), {}
    for start in ("near_uniform", "unigram"):
        model, _ = started(ps.HMM(3, E.Categorical(20), num_restarts=5, start=start), data)
        history = ps.em(model, data, num_steps=50, tol=0).history
        gain[start] = np.nanmax(history, axis=0) - history[1]  # the first step finds the frequencies of the symbols
    assert gain["near_uniform"].max() < 0.01
    assert np.median(gain["unigram"]) > 0.1


@each_family
def test_near_uniform_states_are_alike(family, kind):
    data = kind.structured(20, 0)
    model, _ = started(ps.HMM(3, family, num_restarts=3, start="near_uniform"), data)
    for rows in (model.initial, model.transition):
        torch.testing.assert_close(rows, torch.full_like(rows, 1 / 3), atol=0.005, rtol=0)
    if kind.symbolic:
        probs = model.emission.probs
        torch.testing.assert_close(probs, torch.full_like(probs, 1 / 3), atol=0.005, rtol=0)
        return
    mean = model.emission.moments(model.emission.raw)[0]
    scale = torch.from_numpy(data.values.std(axis=0))
    away = (mean - torch.from_numpy(data.values.mean(axis=0))) / scale
    assert away.abs().max() < 0.05
    assert mean.std(dim=1).min() > 0  # alike, but not the same
    torch.testing.assert_close(away.square().mean().sqrt(), away.new_tensor(0.01), atol=0.01, rtol=0)


def test_unigram_begins_with_the_frequencies_of_the_data():
    data = letters(20_000)
    frequency = np.bincount(data.values, minlength=20) / data.num_tokens
    model, _ = started(ps.HMM(4, E.Categorical(20), num_restarts=50, start="unigram"), data)
    mean = model.emission.probs.detach().mean(dim=(0, 1)).numpy()
    np.testing.assert_allclose(mean, frequency, atol=0.02)
    assert model.emission.probs.std(dim=1).mean() > 0.01


@pytest.mark.parametrize("symbolic", [False, True])
def test_clusters_bear_the_numbers_of_the_states_that_are_known(symbolic):
    """Of three well-separated states, a tenth of the tokens are labelled: every restart finds all names."""
    rng = np.random.default_rng(0)
    truth = (np.cumsum(rng.random(600) < 0.1) * 2) % 3  # 0, 2, 1, 0, ...: not the order in which they occur
    values = 3 * truth + rng.integers(0, 3, 600) if symbolic else 10.0 * truth[:, None] + rng.normal(size=(600, 1))
    known = np.where(rng.random(600) < 0.1, truth, -1)
    data = ps.Sequences.from_list([values], states=[known])
    emission = ps.emissions.Categorical(9) if symbolic else ps.emissions.Gaussian(1)
    model = ps.HMM(3, emission, num_restarts=5, start="kmeans")
    initialize(model, data)
    unlabelled = ps.Sequences.from_list([values]).batch()
    agreement = (model.viterbi(unlabelled)[:, 0] == torch.from_numpy(truth)).double().mean(1)
    assert (agreement > 0.95).all()


def test_parameters_that_were_never_given_are_no_start():
    model = ps.HMM(2, ps.emissions.Gaussian(1), start="parameters")
    with pytest.raises(ps.InputError, match=r"start is 'parameters' and no parameters were given; build the model by"):
        ps.em(model, ps.Sequences.from_list([[[0.0], [1.0]]]))
