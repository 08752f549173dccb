"""States have no names: renaming them changes no likelihood, and the names can be found again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

import probseq as ps
from probseq.errors import InputError
from probseq.ops.alignment import match

families = ps.emissions
MODELS = {case.name: case.build(1, 0) for case in CASES}
CHAINS = [  # the coordinates of a structured guide have no order of states
    case for case in CASES
    if isinstance(MODELS[case.name], ps.HMM) and getattr(MODELS[case.name], "guide", "") != "structured"
]  # fmt: skip
DATA = ps.Sequences.from_list([[0, 1, 2, 2, 1, 0, 0], [1, 2], [2]])


def orders(num_restarts: int, num_states: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(num_states, generator=generator) for _ in range(num_restarts)])


def inverse(order: torch.Tensor) -> torch.Tensor:
    return order.argsort(dim=-1)


def matching_cost(model: ps.HMM, reference: ps.HMM, order: tuple[int, ...]) -> float:
    """The documented cost of one order, term by term."""
    own, given = ((one.initial[0], one.transition[0], one.emission.probs[0]) for one in (model, reference))
    own, given = ([part.detach().numpy() for part in parts] for parts in (own, given))
    total = 0.0
    for i, j in enumerate(order):
        total += np.sqrt(0.5 * ((np.sqrt(given[2][i]) - np.sqrt(own[2][j])) ** 2).sum())
        total += 0.5 * abs(given[0][i] - own[0][j])
        total += 0.5 * sum(abs(given[1][i, k] - own[1][j, order[k]]) for k in range(len(order)))
    return float(total)


@given(st.integers(1, 4), st.integers(0, 1000))
def test_match_is_the_cheapest_of_all_assignments(size: int, seed: int) -> None:
    cost = torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = match(cost)
    for table, order in zip(cost, found, strict=True):
        every = [sum(table[i, p[i]] for i in range(size)) for p in itertools.permutations(range(size))]
        assert float(table[torch.arange(size), order].sum()) == pytest.approx(float(min(every)), abs=1e-12)


def test_costs_have_to_be_finite() -> None:
    with pytest.raises(InputError, match="hold a number that is not finite"):
        match(torch.tensor([[[0.0, torch.inf], [0.0, 1.0]]]))


@given(
    states=st.integers(1, 6),
    symbols=st.integers(2, 4),
    seed=st.integers(0, 10_000),
    alike=st.sampled_from([(), ("emission",), ("transition",), ("emission", "transition")]),
)
@settings(max_examples=60)
def test_a_permutation_is_found_again_also_of_states_that_are_nearly_the_same(
    states: int, symbols: int, seed: int, alike: tuple[str, ...]
) -> None:
    model = ps.HMM(states, families.Categorical(symbols), num_restarts=2, seed=seed)
    for name, table in (("emission", model.emission.logits), ("transition", model.log_transition)):
        if name in alike:
            table.data = table.data[:, :1] + 1e-5 * (table.data - table.data[:, :1])
    order = orders(2, states, seed)
    moved = model.permute(order)
    found = torch.cat([ps.align(moved.select(r), model.select(r)) for r in range(2)])
    assert torch.equal(found, inverse(order))
    back = moved.permute(found)
    for name, value in model.named_parameters():
        assert torch.equal(dict(back.named_parameters())[name], value)


@pytest.mark.parametrize("case", CHAINS, ids=lambda case: case.name)
def test_renaming_states_changes_no_likelihood_and_renames_paths(case) -> None:
    model, batch = case.model(3), case.kind.structured(6, 3).batch()
    order = torch.tensor([[1, 2, 0], [2, 1, 0], [0, 1, 2]])
    moved = model.permute(order)
    assert set(model.state_axes) == {name for name, _ in model.named_parameters()}
    torch.testing.assert_close(moved.token_log_prob(batch), model.token_log_prob(batch), rtol=0, atol=1e-10)
    paths, names = model.viterbi(batch), inverse(order)
    renamed = torch.stack([torch.where(p < 0, -1, n[p.clamp(min=0)]) for p, n in zip(paths, names, strict=True)])
    assert torch.equal(moved.viterbi(batch), renamed)
    statistics = [one.e_step(batch).log_likelihood for one in (model, moved)]
    torch.testing.assert_close(statistics[1], statistics[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(moved.log_prior(), model.log_prior(), rtol=0, atol=1e-9)
    for r in range(3):
        assert torch.equal(ps.align(moved.select(r), model.select(r))[0], names[r])


def test_a_wrong_order_is_another_model() -> None:
    model = ps.HMM(3, families.Categorical(3), seed=1)
    wrong = model.permute([1, 2, 0])
    wrong.log_initial.data = model.log_initial.data  # what a permutation that forgets a part does
    assert (wrong.token_log_prob(DATA.batch()) - model.token_log_prob(DATA.batch())).abs().max() > 1e-3


@given(st.integers(2, 5), st.integers(0, 1000))
@settings(max_examples=25)
def test_no_exchange_of_two_states_makes_an_alignment_better(states: int, seed: int) -> None:
    model = ps.HMM(states, families.Categorical(3), num_restarts=2, seed=seed)
    first, other = model.select(0), model.select(1)
    found = ps.align(model, 0)
    assert found[0].tolist() == list(range(states))
    best = tuple(found[1].tolist())
    cost = matching_cost(other, first, best)
    for a, b in itertools.combinations(range(states), 2):
        swapped = list(best)
        swapped[a], swapped[b] = best[b], best[a]
        assert cost <= matching_cost(other, first, tuple(swapped)) + 1e-9


def test_the_alignment_is_the_best_of_all_for_most_models_that_have_nothing_in_common() -> None:
    model = ps.HMM(4, families.Categorical(5), num_restarts=40)
    found, first = ps.align(model, 0), model.select(0)
    hits = 0
    for r in range(1, 40):
        one = model.select(r)
        best = min(matching_cost(one, first, p) for p in itertools.permutations(range(4)))
        hits += matching_cost(one, first, tuple(found[r].tolist())) < best + 1e-9
    assert hits >= 34


def test_a_restart_that_is_not_finite_keeps_its_order_and_disturbs_no_other() -> None:
    model = ps.HMM(3, families.Categorical(3), num_restarts=3, seed=2)
    moved = model.permute(torch.tensor([[0, 1, 2], [2, 0, 1], [2, 0, 1]]))
    expected = ps.align(moved, model.select(0))
    moved.emission.logits.data[1] = torch.nan
    found = ps.align(moved, model.select(0))
    assert found[1].tolist() == [0, 1, 2]
    assert torch.equal(found[[0, 2]], expected[[0, 2]])


def test_masks_give_states_names() -> None:
    mask = ps.masks.left_to_right(3)
    model = ps.HMM(3, families.Categorical(3), num_restarts=4, transition_mask=mask)
    assert ps.align(model, 3).tolist() == [[0, 1, 2]] * 4
    with pytest.raises(InputError, match="masks of this model tell these states apart"):
        model.permute([1, 0, 2])
    moving = ps.HMM(3, families.Categorical(3), transition_mask=~torch.eye(3, dtype=torch.bool))
    assert ps.align(moving.permute([1, 2, 0]), moving).tolist() == [[2, 0, 1]]


def test_emission_groups_move_as_a_whole() -> None:
    model = ps.HMM(5, families.Categorical(4), emission_groups=[0, 0, 1, 1, 2], num_restarts=3, seed=4)
    order = torch.tensor([[3, 2, 1, 0, 4], [1, 0, 2, 3, 4], [2, 3, 0, 1, 4]])
    moved = model.permute(order)
    batch = DATA.batch()
    torch.testing.assert_close(moved.token_log_prob(batch), model.token_log_prob(batch), rtol=0, atol=1e-12)
    for r in range(3):
        assert ps.align(moved.select(r), model.select(r)).tolist() == [inverse(order)[r].tolist()]
    for found in ps.align(model, 0):
        model.select(0).permute(found)  # an order that tears no group apart
    with pytest.raises(InputError, match="tear emission groups apart"):
        model.permute([0, 2, 1, 3, 4])


def test_one_permutation_serves_all_restarts_and_keeps_their_numbers() -> None:
    model = ps.HMM(3, families.Categorical(3), num_restarts=4).take([2, 0])
    moved = model.permute([2, 0, 1])
    torch.testing.assert_close(moved.initial, model.initial[:, [2, 0, 1]])
    assert moved.numbers == [2, 0]


@pytest.mark.parametrize("wrong", [[0, 1], [0, 0, 1], [[0, 1, 2]], [0, 1, 3]])
def test_what_is_no_permutation_is_refused(wrong) -> None:
    with pytest.raises(InputError, match=r"expected \(2, 3\), each row the numbers 0 to 2 in some order"):
        ps.HMM(3, families.Categorical(3), num_restarts=2).permute(wrong)


def test_the_reference_has_to_be_of_the_same_kind() -> None:
    model = ps.HMM(3, families.Categorical(3), num_restarts=2)
    with pytest.raises(InputError, match=r"restart 2 of 2; expected 0 to 1"):
        ps.align(model, 2)
    for other in (model, ps.HMM(2, families.Categorical(3)), ps.HMM(3, families.Categorical(4))):
        with pytest.raises(InputError, match=r"expected 1 restart, 3 states and \('symbols', 3\): select a restart"):
            ps.align(model, other)
    mixture = ps.HMM(2, families.GaussianMixture(1, 2))
    with pytest.raises(InputError, match="GaussianMixture emissions and the model Gaussian; expected the same family"):
        ps.align(ps.HMM(2, families.Gaussian(1)), mixture)


# Distances of emissions


def test_distances_of_discrete_families_are_sums_over_all_values() -> None:
    symbols = families.Categorical.from_parameters([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.4, 0.6]])
    table = symbols.probs[0].detach().numpy()
    expected = np.sqrt(1 - np.sqrt(table[:, None] * table).sum(-1).clip(max=1))
    np.testing.assert_allclose(symbols.distances(symbols.raw, symbols.raw)[0].detach(), expected, atol=1e-7)

    bits = families.Bernoulli.from_parameters([[0.2, 0.9], [0.5, 0.0], [1.0, 0.3]])
    values = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    probs = bits.log_prob({"logits": bits.logits[0][:, None]}, values).exp().detach().numpy()  # (K, 4)
    affinity = np.sqrt(probs[:, None] * probs).sum(-1)
    expected = np.sqrt(1 - np.sqrt(affinity).clip(max=1))  # the geometric mean over two numbers
    np.testing.assert_allclose(bits.distances(bits.raw, bits.raw)[0].detach(), expected, atol=1e-7)

    counts = families.Poisson.from_parameters([[0.0], [2.0], [7.5]])
    values = torch.arange(80, dtype=torch.float64)[:, None]
    probs = counts.log_prob({"log_rate": counts.log_rate[0][:, None]}, values).exp().detach().numpy()
    expected = np.sqrt(1 - np.sqrt(probs[:, None] * probs).sum(-1).clip(max=1))
    np.testing.assert_allclose(counts.distances(counts.raw, counts.raw)[0].detach(), expected, atol=1e-7)


def on_grid(bank, dims: int) -> tuple[np.ndarray, float]:
    """Densities ``(K, M)`` on a grid, and the volume of a cell."""
    axis = torch.linspace(-18, 18, 401 if dims == 2 else 20_001, dtype=torch.float64)
    values = torch.cartesian_prod(*[axis] * dims).reshape(-1, dims)
    raw = {name: value[0][:, None] for name, value in bank.raw.items()}
    return bank.log_prob(raw, values).exp().detach().numpy(), float(axis[1] - axis[0]) ** dims


@pytest.mark.parametrize(
    ("bank", "dims"),
    [
        (families.Gaussian.from_parameters([[0.0], [1.0], [-3.0]], [[1.0], [0.25], [4.0]]), 1),
        (families.Gaussian.from_parameters([[0.0, 1.0], [1.0, -1.0]], [1.0, 2.0], "spherical"), 2),
        (families.Gaussian.from_parameters([[0.0, 1.0], [1.0, -1.0]], [[1.0, 0.3], [0.3, 0.5]], "tied"), 2),
        (
            families.Gaussian.from_parameters(
                [[0.0, 1.0], [1.0, 0.0]], [[[1.0, 0.3], [0.3, 0.5]], [[2.0, -0.8], [-0.8, 1.0]]], "full"
            ),
            2,
        ),
    ],
)
def test_distances_of_gaussians_are_integrals(bank, dims: int) -> None:
    density, cell = on_grid(bank, dims)
    affinity = np.sqrt(density[:, None] * density).sum(-1) * cell
    found = bank.distances(bank.raw, bank.raw)[0].detach().numpy()
    np.testing.assert_allclose(1 - found**2, affinity ** (1 / dims), atol=1e-7)


def test_the_distance_of_mixtures_is_an_angle() -> None:
    weights, means = [[0.3, 0.7], [0.5, 0.5]], [[[0.0, 1.0], [2.0, 0.0]], [[1.0, 1.0], [-1.0, 0.5]]]
    bank = families.GaussianMixture.from_parameters(
        weights, means, [[[1.0, 0.5], [0.7, 1.0]], [[1.0, 1.0], [0.4, 2.0]]]
    )
    density, cell = on_grid(bank, 2)
    products = (density[:, None] * density).sum(-1) * cell
    cosine = products / np.sqrt(np.outer(products.diagonal(), products.diagonal()))
    found = bank.distances(bank.raw, bank.raw)[0].detach().numpy()
    np.testing.assert_allclose(1 - found**2, np.sqrt(cosine), atol=1e-7)


# What tells states apart


def test_a_mask_names_the_states_that_it_tells_apart_and_no_others() -> None:
    """State 0 begins every sequence; 1 and 2 are exchangeable, and no order moves 0."""
    first = ps.HMM(3, families.Categorical(4), initial_mask=[1, 0, 0], num_restarts=6, seed=3)
    moved = first.permute([0, 2, 1])
    for r in range(6):
        assert ps.align(moved.select(r), first.select(r)).tolist() == [[0, 2, 1]]
    found = ps.align(first, 0)
    assert (found[:, 0] == 0).all()
    assert (found[:, 1] == 2).any()
    first.permute(found)


def test_no_order_breaks_a_mask_of_steps() -> None:
    """A ring can be turned, and not be turned round."""
    mask = torch.eye(4, dtype=torch.bool) | torch.eye(4, dtype=torch.bool).roll(1, 1)
    ring = ps.HMM(4, families.Categorical(5), transition_mask=mask, num_restarts=20, seed=1)
    for r, turn in enumerate(range(4)):
        order = torch.arange(4).roll(turn)
        assert ps.align(ring.select(r).permute(order), ring.select(r))[0].tolist() == inverse(order).tolist()
    ring.permute(ps.align(ring, 0))  # of models that have nothing in common the order found is one that may be


@pytest.mark.parametrize("part", ["initial", "transition", "emission"])
def test_what_is_fixed_is_not_given_to_another_state(part) -> None:
    given = ps.HMM.from_parameters(
        [0.2, 0.4, 0.4], [[0.4, 0.3, 0.3], [0.1, 0.6, 0.3], [0.1, 0.3, 0.6]], [[0.5, 0.5], [0.2, 0.8], [0.2, 0.8]],
        fixed=[part], num_restarts=8,
    )  # fmt: skip
    other = ps.HMM(3, families.Categorical(2), num_restarts=8, seed=5)
    for name in {"initial", "transition", "emission"} - {part}:
        for mine, its in zip(given._part(name), other._part(name), strict=True):
            mine.data = its.data
    found = ps.align(given, 0)
    assert (found[:, 0] == 0).all()
    assert (found[:, 1] == 2).any()  # these two are alike in what is fixed
    moved = given.permute(found)
    for before, after in zip(given._part(part), moved._part(part), strict=True):
        torch.testing.assert_close(after, before)
    other_way = given.permute([1, 0, 2])
    assert ps.align(other_way.select(0), given.select(0)).tolist() == [[1, 0, 2]]  # back to the reference's


def test_what_is_fixed_at_other_numbers_keeps_its_order() -> None:
    model = ps.HMM(2, families.Categorical(3), fixed=["emission"], num_restarts=4)
    assert ps.align(model, 0).tolist() == [[0, 1]] * 4


def test_groups_that_a_mask_tells_apart_are_not_exchanged() -> None:
    model = ps.HMM(4, families.Categorical(3), emission_groups=[0, 0, 1, 1], initial_mask=[1, 1, 0, 0], num_restarts=8)
    found = ps.align(model, 0)
    assert (found[:, :2] < 2).all()
    assert (found[:, 0] == 1).any()
    model.permute(found)


def test_what_has_no_states_to_align_is_refused() -> None:
    fit = ps.em(ps.HMM(2, families.Categorical(3), num_restarts=2), DATA, num_steps=1)
    with pytest.raises(InputError, match=r"received a Fit; expected an HMM.*align\(fit.model\)"):
        ps.align(fit)
    with pytest.raises(InputError, match=r"received a Autoregressive; expected an HMM, with states.*it has no states"):
        ps.align(ps.Autoregressive([ps.RNN(2, hidden_dim=2)]))
    with pytest.raises(InputError, match="reference is a float; expected an HMM or the number of a restart"):
        ps.align(fit.model, 1.5)
    assert torch.equal(ps.align(fit.model, np.int64(1)), ps.align(fit.model, 1))
