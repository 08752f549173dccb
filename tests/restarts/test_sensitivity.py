"""What the restarts tell, on models whose optima are known by exhaustive search and on runs that went wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import CASES
from fixed_model import Fixed

import probseq as ps
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.restarts.optima import parameter_distances, path_agreement

families = ps.emissions
NAN = math.nan

# Transitions are known and emissions are not: two unknown numbers, so that all of them can be tried.
STAYS = [[0.95, 0.05], [0.05, 0.95]]  # the same for both states: their names may be exchanged
ASYMMETRIC = [[0.95, 0.05], [0.5, 0.5]]  # the first state lasts, the second does not: each has a role of its own


def runs(lengths: list[int], first: int = 0) -> list[int]:
    """Runs of 0 and 1 in turns, of these lengths."""
    return [(first + i) % 2 for i, n in enumerate(lengths) for _ in range(n)]


def of_emissions(transition: list[list[float]], first: np.ndarray, second: np.ndarray) -> ps.HMM:
    """One restart for each pair: the probabilities of symbol 0 in the two states."""
    model = ps.HMM(
        2, families.Categorical(2), num_restarts=len(first), start="parameters", fixed=("initial", "transition")
    )
    model.log_transition.data = torch.tensor(transition, dtype=torch.float64).log().expand(len(first), 2, 2).clone()
    model.log_initial.data = torch.full((len(first), 2), 0.5, dtype=torch.float64).log()
    probs = torch.tensor(np.stack([first, second], axis=1))
    model.emission.logits.data = torch.stack([probs, 1 - probs], dim=-1).log()
    model.initialized = True
    return model


def exhaustive(transition: list[list[float]], data: ps.Sequences, points: int = 61) -> tuple[np.ndarray, np.ndarray]:
    """All local maxima of the likelihood on a grid over both numbers: places ``(M, 2)`` and nats per token, best first.

    A maximum is a point of the grid that is higher than all eight around it.
    """
    axis = (np.arange(points) + 0.5) / points
    first, second = (one.ravel() for one in np.meshgrid(axis, axis, indexing="ij"))
    value = ps.evaluate(of_emissions(transition, first, second), data).nats_per_token.reshape(points, points)
    padded = np.pad(value, 1, constant_values=np.inf)
    around = [padded[1 + i : points + 1 + i, 1 + j : points + 1 + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    i, j = np.nonzero(value < np.min(around, axis=0))
    order = np.argsort(value[i, j])
    return np.stack([axis[i], axis[j]], axis=1)[order], value[i, j][order]


def from_everywhere(transition: list[list[float]], data: ps.Sequences, points: int = 7) -> Fit[ps.HMM]:
    """EM to the end, from a start in every cell of a coarse grid, none of them with two equal states."""
    axis = (np.arange(points) + 0.3) / points
    first, second = (one.ravel() for one in np.meshgrid(axis, axis + 0.4 / points, indexing="ij"))
    return ps.em(of_emissions(transition, first, second), data, num_steps=3000, tol=1e-13)


def ends(fit: Fit[ps.HMM]) -> np.ndarray:
    return fit.model.emission.probs[:, :, 0].detach().numpy()


@pytest.mark.parametrize(
    ("transition", "lengths", "num_optima"),
    [
        (ASYMMETRIC, [8, 1, 9, 2, 7, 1, 8, 1, 10, 1], 1),
        (ASYMMETRIC, [6, 2, 7, 1, 6, 3, 8, 1], 2),
        (ASYMMETRIC, [5, 5, 4, 6, 5, 5], 3),
    ],
)
def test_every_optimum_that_exhaustive_search_finds_is_counted_once(transition, lengths, num_optima) -> None:
    data = ps.Sequences.from_list([runs(lengths)])
    places, values = exhaustive(transition, data)
    assert len(places) == num_optima
    fit = from_everywhere(transition, data)
    found = ps.sensitivity(fit, data)
    assert found.num_optima == num_optima
    nearest = (
        np.abs(ends(fit)[:, None] - places).max(axis=-1).argmin(axis=1)
    )  # by hand: the maximum that each run is at
    assert np.abs(ends(fit) - places[nearest]).max() < 1 / 61
    np.testing.assert_array_equal(found.optimum, nearest)
    assert found.num_at_best() == (nearest == 0).sum()
    assert found.hit_rate() == (nearest == 0).mean()
    assert found.spread == pytest.approx(values[-1] - values[0], abs=4e-3)


def test_the_tolerances_decide_what_is_the_same() -> None:
    fit = from_everywhere(ASYMMETRIC, ps.Sequences.from_list([runs([6, 2, 7, 1, 6, 3, 8, 1])]))
    gap = ps.sensitivity(fit).spread  # between the two optima
    assert 1e-3 < gap < 2e-3
    wide = ps.sensitivity(fit, tolerance=2e-3)
    assert wide.num_at_best(wide.tolerance) == wide.num_restarts
    assert wide.num_optima == 2, "values alone make no optimum the same"
    assert ps.sensitivity(fit, parameter_tolerance=1).num_optima == 2, "nor do parameters alone"
    assert ps.sensitivity(fit, tolerance=2e-3, parameter_tolerance=1).num_optima == 1


def test_an_optimum_under_other_names_is_the_same_optimum() -> None:
    data = ps.Sequences.from_list([runs([5, 4, 6, 3, 5, 7])])
    places, _ = exhaustive(STAYS, data)
    assert len(places) == 2
    np.testing.assert_allclose(places[0], places[1, ::-1])
    found = ps.sensitivity(from_everywhere(STAYS, data), data)
    assert (found.num_optima, found.hit_rate()) == (1, 1.0)
    assert set(map(tuple, found.permutations.tolist())) == {(0, 1), (1, 0)}
    assert found.mean_agreement == 1
    assert np.ptp(ends_of(found), axis=0).max() < 1e-5, "aligned parameters are the same for all"


def ends_of(found: ps.Sensitivity) -> np.ndarray:
    return found.model.emission.probs[:, :, 0].detach().numpy()


def test_two_optima_of_equal_value_are_two() -> None:
    lengths = [8, 1, 9, 2, 7, 1, 8, 1, 10, 1]
    data = ps.Sequences.from_list([runs(lengths), runs(lengths, first=1)])  # 0 and 1 may be exchanged, states may not
    places, values = exhaustive(ASYMMETRIC, data)
    assert len(places) == 2
    assert values[0] == pytest.approx(values[1], abs=1e-12)
    np.testing.assert_allclose(places[0], 1 - places[1])
    fit = from_everywhere(ASYMMETRIC, data)
    found = ps.sensitivity(fit)
    assert (found.num_optima, found.hit_rate()) == (2, 1.0)
    nearest = np.abs(ends(fit)[:, None] - places).max(axis=-1).argmin(axis=1)
    assert 0 < nearest.mean() < 1
    np.testing.assert_array_equal(found.optimum == found.optimum[0], nearest == nearest[0])


def chain_of_models(steps: list[float]) -> ps.HMM:
    """Models of one state whose probability of symbol 0 is each of these."""
    model = ps.HMM(1, families.Categorical(2), num_restarts=len(steps), start="parameters")
    probs = torch.tensor(steps, dtype=torch.float64)
    model.emission.logits.data = torch.stack([probs, 1 - probs], dim=-1).log()[:, None]
    return model


def test_optima_are_joined_through_others() -> None:
    model = chain_of_models([0.5, 0.52, 0.54, 0.9])
    fit = Fit(model, "", np.full((1, 4), -1.0), ["converged"] * 4, 1.0)
    near = float(parameter_distances(model.select(1), model.select(0)))
    assert 0 < near < 0.03
    assert ps.sensitivity(fit, parameter_tolerance=1.2 * near).optimum.tolist() == [0, 0, 0, 1]
    assert ps.sensitivity(fit, parameter_tolerance=0.8 * near).optimum.tolist() == [0, 1, 2, 3]


def test_optima_are_numbered_from_the_best_and_failed_restarts_have_none() -> None:
    fit = Fit(chain_of_models([0.5, 0.9, 0.5, 0.1]), "", np.array([[-2.0, -1.0, NAN, -3.0]]), ["converged"] * 4, 1.0)
    found = ps.sensitivity(fit)
    assert found.optimum.tolist() == [1, 0, -1, 2]
    assert (found.best, found.num_failed, found.num_optima, found.spread) == (1, 1, 3, 2.0)
    assert found.frame["restart"].tolist() == [1, 0, 3, 2]
    assert found.frame["stop_reason"].tolist() == ["converged"] * 4


def test_distances_of_parameters_are_the_largest_of_all() -> None:
    one = ps.HMM.from_parameters([1.0, 0.0], [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.1, 0.9]])
    for other, expected in [
        (ps.HMM.from_parameters([0.7, 0.3], [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.1, 0.9]]), 0.3),
        (ps.HMM.from_parameters([1.0, 0.0], [[0.9, 0.1], [0.6, 0.4]], [[0.9, 0.1], [0.1, 0.9]]), 0.4),
        (
            ps.HMM.from_parameters([1.0, 0.0], [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.5, 0.5]]),
            math.sqrt(1 - math.sqrt(0.05) - math.sqrt(0.45)),
        ),
    ]:
        assert float(parameter_distances(other.permute([1, 0]), one)) == pytest.approx(expected, abs=1e-9)


# Paths


def test_agreement_is_the_share_of_tokens_in_the_same_state() -> None:
    data = ps.Sequences.from_list([[0, 1, 2, 2, 0, 1], [2, 1], [0, 0, 1]], weights=[1, 3, 2])
    model = ps.HMM(2, families.Categorical(3), num_restarts=4, seed=5)
    expected = np.zeros((4, 4))
    for n, weight in enumerate([1, 3, 2]):
        paths = model.viterbi(data.batch(np.array([n])))[:, 0].numpy()
        expected += weight * (paths[:, None] == paths).sum(axis=-1)
    expected /= data.weights @ data.lengths
    assert 0 < expected.min() < expected.max() == 1
    for max_tokens in (2**14, 4):
        np.testing.assert_allclose(path_agreement(model, data, max_tokens), expected, atol=1e-12)


def test_paths_are_compared_after_alignment() -> None:
    data = ps.Sequences.from_list([runs([5, 4, 6, 3, 5, 7])])
    one = from_everywhere(STAYS, data, points=2).model.select(0)
    both = one.take([0, 0]).permute(torch.tensor([[0, 1], [1, 0]]))
    assert path_agreement(both, data)[0, 1] == 0
    assert ps.sensitivity(both, data).agreement.tolist() == [[1, 1], [1, 1]]


def test_an_impossible_sequence_agrees_with_nothing() -> None:
    model = ps.HMM.from_parameters([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [1.0, 0.0]])
    found = path_agreement(model.take([0, 0]), ps.Sequences.from_list([[0, 0, 0], [1]]))
    np.testing.assert_allclose(found, np.full((2, 2), 0.75))


# What may happen


def test_a_fit_that_chose_by_validation_is_judged_by_validation() -> None:
    validation = np.array([[-2.0, -3.0], [-1.5, NAN], [-1.75, NAN]])
    fit = Fit(
        Fixed([[-1.0], [-1.0]]), "training", np.full((9, 2), -0.5), ["max_steps"] * 2, 1.0, np.arange(3), validation
    )
    found = ps.sensitivity(fit)
    assert found.nats_per_token.tolist() == [1.5, 3.0]
    assert found.measure == "log-likelihood per token of the validation data (nats)"


def estimated(final: list[float], error: list[float]) -> Fit[Fixed]:
    """A fit whose last step says nothing, and which has computed its values anew."""
    noise = np.array([[-9.0] * len(final), [-5.0 - r for r in range(len(final))]])
    details = {"final": final, "final_standard_error": error}
    return Fit(Fixed([[-1.0]] * len(final)), "bound", noise, ["max_steps"] * len(final), 1.0, details=details)


def test_a_fit_that_computed_its_values_anew_is_judged_by_those() -> None:
    found = ps.sensitivity(estimated([-1.5, -1.0, NAN, -1.0005], [0.0001, 0.0001, NAN, 0.0001]))
    np.testing.assert_array_equal(found.nats_per_token, [1.5, 1.0, NAN, 1.0005])
    assert (found.best, found.num_at_best(), found.num_failed, found.tolerance) == (1, 2, 1, 1e-3)


def test_two_estimates_are_the_same_within_two_standard_errors_of_each() -> None:
    error = [0.01, 0.012, 0.008, 0.01, 5.0]
    found = ps.sensitivity(estimated([-1.0, -1.039, -1.041, -2.0, NAN], error))
    assert found.tolerance == pytest.approx(0.04), "the median counts: one restart that failed does not widen all"
    assert found.summary["standard_error"] == pytest.approx(0.01)
    assert found.frame["at_best"].tolist() == [True, True, False, False, False]
    assert ps.sensitivity(estimated([-1.0, -1.039], [0.01, 0.01]), tolerance=0.05).tolerance == 0.05
    assert ps.sensitivity(estimated([-1.0], [NAN])).tolerance == 1e-3
    assert ps.sensitivity(Fit(Fixed([[-1.0]]), "", np.array([[-1.0]]), ["converged"], 1.0)).standard_error is None


def test_optima_of_runs_that_were_cut_off_are_marked() -> None:
    model, history = chain_of_models([0.1, 0.5, 0.9]), np.array([[-1.0, -2.0, -3.0]])
    for reasons, num, label in [
        (["converged", "converged", "converged"], 3, "3"),
        (["converged", "max_steps", "converged"], 2, "3, 2 converged"),
        (["max_steps", "max_seconds", "interrupted"], 0, "3, none converged"),
    ]:
        found = ps.sensitivity(Fit(model, "", history, reasons, 1.0))
        assert (found.num_converged, found.optima_label, found.cut_off) == (num, label, num < 3)
        assert found.summary["num_converged"] == num
    failed = ps.sensitivity(Fit(model, "", np.array([[-1.0, -2.0, NAN]]), ["converged", "converged", "nonfinite"], 1.0))
    assert failed.optima_label == "2", "a failed restart was not on its way to anything"
    data = ps.Sequences.from_list([[0, 1]])
    assert (ps.sensitivity(model, data).num_converged, ps.sensitivity(model, data).optima_label) == (None, "3")
    assert ps.sensitivity(Fit(Fixed([[-1.0]]), "", np.array([[-1.0]]), ["max_steps"], 1.0)).optima_label is None


def test_runs_that_go_on_to_the_end_have_fewer_optima() -> None:
    data = ps.Sequences.from_list([runs([5, 4, 6, 3, 5, 7]), runs([2, 9, 3, 8], first=1)])
    counts = [
        ps.sensitivity(ps.em(ps.HMM(2, families.Categorical(2), 20), data, num_steps=n, tol=1e-12)).num_optima
        for n in (3, 3000)
    ]
    assert counts[0] > counts[1]


@pytest.mark.parametrize("lost", [-1.4, NAN])
def test_the_value_of_a_fit_is_that_of_its_last_finite_step(lost: float) -> None:
    history = np.array([[-2.0, -2.0, -2.0, lost], [-1.0, -1.0, -1.0005, NAN], [NAN, -0.9995, NAN, NAN]])
    found = ps.sensitivity(Fit(Fixed([[-1.0]] * 4), "", history, ["converged"] * 4, 1.0))
    np.testing.assert_array_equal(found.nats_per_token, [1.0, 0.9995, 1.0005, -lost])
    assert found.num_at_best() == 3


def test_one_restart_that_diverged_is_counted_and_changes_nothing_else() -> None:
    data = ps.Sequences.from_list([runs([5, 4, 6, 3, 5, 7])])
    model = from_everywhere(STAYS, data, points=2).model
    model.emission.logits.data[2] = NAN
    found = ps.sensitivity(model, data)
    assert (found.num_restarts, found.num_failed, found.num_optima) == (4, 1, 1)
    assert found.optimum.tolist() == [0, 0, -1, 0]
    assert found.permutations[2].tolist() == [0, 1]
    assert found.hit_rate() == 0.75
    assert found.expected_best[0] == math.inf, "the one run may be the one that failed"
    assert found.expected_best[1] == pytest.approx(found.nats_per_token[found.best])
    kept = [0, 1, 3]
    assert (found.agreement[np.ix_(kept, kept)] == 1).all()


def test_all_restarts_equal() -> None:
    model = chain_of_models([0.4] * 5)
    found = ps.sensitivity(model, ps.Sequences.from_list([[0, 1, 1]]))
    assert (found.best, found.spread, found.hit_rate(), found.num_optima, found.mean_agreement) == (0, 0, 1, 1, 1)
    np.testing.assert_allclose(found.expected_best, found.nats_per_token[0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_model_has_a_summary_and_those_with_states_have_optima(case) -> None:
    model, data = case.model(2), case.kind.structured(4, 3)
    found = ps.sensitivity(model, data)
    np.testing.assert_allclose(found.nats_per_token, ps.evaluate(model, data).nats_per_token)
    assert (found.num_optima is None) == (not isinstance(model, (ps.HMM, ps.PosteriorHMM)))
    if isinstance(model, ps.HMM):
        np.testing.assert_allclose(ps.evaluate(found.model, data).nats_per_token, found.nats_per_token, rtol=1e-9)
    if found.num_optima is not None:
        assert found.agreement.shape == (2, 2)


def test_draws_from_a_posterior_are_compared_at_their_means() -> None:
    one = ps.HMM.from_parameters([0.6, 0.4], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    other = ps.HMM.from_parameters([0.6, 0.4], [[0.5, 0.5], [0.5, 0.5]], [[0.1, 0.8, 0.1], [0.4, 0.2, 0.4]])
    draws = one.take([0] * 6)
    for r in (3, 4, 5):
        draws.put([r], other)
    orders = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0], [0, 1], [1, 0]])
    model = ps.PosteriorHMM(draws.permute(orders), num_draws=3)
    fit = Fit(model, "", np.array([[-2.0, -1.0]]), ["converged"] * 2, 1.0)
    data = ps.Sequences.from_list([[0, 1, 2, 2, 0, 1]])
    found = ps.sensitivity(fit, data)
    assert (found.best, found.num_optima, found.optimum.tolist()) == (1, 2, [1, 0])
    for r, expected in enumerate((one, other)):
        mean = found.model.select(r)
        mean = mean.permute(ps.align(mean, expected))
        torch.testing.assert_close(mean.transition, expected.transition)
        torch.testing.assert_close(mean.emission.probs, expected.emission.probs)
    assert found.agreement.shape == (2, 2)
    named = ps.sensitivity(ps.PosteriorHMM(draws, num_draws=3, named=True), data)
    assert named.permutations.tolist() == [[0, 1], [0, 1]], "the data have said which state is which"
    joined = ps.PosteriorHMM(one.take([0] * 6).permute(orders), num_draws=3)
    fit = Fit(joined, "", np.array([[-1.0, -1.0]]), ["converged"] * 2, 1.0)
    assert (ps.sensitivity(fit, data).num_optima, ps.sensitivity(fit, data).mean_agreement) == (1, 1)


def test_one_restart() -> None:
    found = ps.sensitivity(chain_of_models([0.4]), ps.Sequences.from_list([[0, 1, 1]]))
    assert (found.num_optima, found.hit_rate(), found.spread, found.mean_agreement) == (1, 1, 0, None)
    assert found.expected_best.tolist() == found.nats_per_token.tolist()
    assert len(found.frame) == 1


def test_more_states_than_the_data_support_are_many_optima_of_one_value() -> None:
    data = ps.Sequences.from_list([[0] * 12, [0] * 5])  # one state says it all: the steps between states are free
    found = ps.sensitivity(ps.em(ps.HMM(3, families.Categorical(2), num_restarts=6), data, num_steps=200), data)
    assert found.spread < 1e-9
    assert found.hit_rate() == 1
    assert found.num_optima == 6
    assert np.isfinite(found.agreement).all()


def test_all_failed() -> None:
    model = chain_of_models([0.4, 0.5])
    found = ps.sensitivity(Fit(model, "", np.full((2, 2), NAN), ["nonfinite"] * 2, 1.0))
    assert (found.best, found.num_failed, found.num_optima, found.num_at_best()) == (0, 2, 0, 0)
    assert math.isnan(found.spread)


def test_a_model_without_states_has_values_and_a_hit_rate() -> None:
    found = ps.sensitivity(Fixed([[-2.0], [-1.0], [-1.0005], [-NAN]]), ps.Sequences.from_list([[0, 0], [0]]))
    assert (found.best, found.num_at_best(), found.hit_rate(), found.spread) == (1, 2, 0.5, 1.0)
    assert (found.num_optima, found.permutations, found.agreement, found.mean_agreement) == (None, None, None, None)
    assert "num_optima=None" in repr(found)


def test_seeds_of_a_network() -> None:
    data = ps.Sequences.from_list([[0, 1, 0, 1, 0, 1, 0, 1]] * 8)
    net = ps.Autoregressive.from_seed(lambda: ps.GRU(2, hidden_dim=4), 3, 0)
    fit = ps.fit_gradient(net, data, data, num_steps=20, eval_every=10, learning_rate=0.05, warmup_steps=1)
    found = ps.sensitivity(fit)
    np.testing.assert_allclose(found.nats_per_token, ps.evaluate(fit.model, data).nats_per_token, rtol=1e-5)


def test_the_summary_is_plain() -> None:
    import json

    found = ps.sensitivity(chain_of_models([0.4, 0.5]), ps.Sequences.from_list([[0, 1, 1]]))
    assert json.loads(json.dumps(found.summary)) == found.summary
    assert found.summary["spread"] == found.spread
    assert list(found.frame) == [
        "restart", "nats_per_token", "above_best", "at_best", "optimum", "agreement_with_best"
    ]  # fmt: skip


def test_what_is_missing_or_negative_is_refused() -> None:
    model = chain_of_models([0.4])
    with pytest.raises(InputError, match="received a model and no data; expected data to score it on, or the Fit"):
        ps.sensitivity(model)
    fit = Fit(model, "", np.array([[-1.0]]), ["converged"], 1.0)
    with pytest.raises(InputError, match="data holds a list; expected Sequences"):
        ps.sensitivity(fit, [[0, 1]])
    with pytest.raises(InputError, match="data holds no sequences; expected Sequences"):
        ps.sensitivity(fit, ps.Sequences(np.zeros(0, np.int64), np.zeros(1, np.int64)))
    with pytest.raises(InputError, match="every token of data is missing; expected at least one that was observed"):
        ps.sensitivity(fit, ps.Sequences.from_list([[0, 0]], missing=[np.ones(2, bool)]))
    for name in ("tolerance", "parameter_tolerance"):
        with pytest.raises(InputError, match=rf"^{name} is -1; expected 0 or more"):
            ps.sensitivity(model, ps.Sequences.from_list([[0]]), **{name: -1})
