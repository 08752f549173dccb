"""The laws that every emission family obeys. A new family is one more row in `emission_families.py`."""

import copy

import numpy as np
import pytest
import torch
from emission_families import FAMILIES, SYMBOLS, directly, objective, responsibilities, tabulate
from hypothesis import given, settings
from hypothesis import strategies as st

import probseq as ps
from probseq.models.emissions import Bernoulli, Categorical, Emission, Gaussian, GaussianMixture, Poisson, from_config

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
with_prior = pytest.mark.parametrize("prior", [False, True], ids=["likelihood", "prior"])
with_missing = pytest.mark.parametrize("missing", [0.0, 0.3], ids=["whole", "missing"])


@every_family
@with_missing
def test_the_table_holds_the_log_prob_of_every_token_in_every_state(family, missing):
    data = family.data(missing=missing)
    bank, batch = family.bank(data), data.batch()
    torch.testing.assert_close(tabulate(bank, batch), directly(bank, batch), atol=1e-12, rtol=1e-12)


@every_family
@with_missing
def test_the_gradient_of_the_table_is_that_of_the_log_prob(family, missing):
    data = family.data(missing=missing)
    bank, batch = family.bank(data), data.batch()
    weights = torch.randn(2, 3, 9, 3, dtype=torch.float64)  # of either sign
    of_table = torch.autograd.grad((weights * tabulate(bank, batch)).sum(), list(bank.parameters()))
    expected = torch.autograd.grad((weights * directly(bank, batch)).sum(), list(bank.parameters()))
    for one, other in zip(of_table, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
        assert other.isfinite().all()
        assert (other != 0).any()


@every_family
@with_missing
def test_gradients_are_derivatives(family, missing):
    data = family.data(missing=missing, lengths=(3, 2))
    bank, batch = family.bank(data, restarts=1, states=2), data.batch()
    names = list(bank.shapes)

    def table(*parameters):
        return torch.func.functional_call(bank, dict(zip(names, parameters, strict=True)), (batch,))

    bank.forward = bank.log_table
    torch.autograd.gradcheck(table, [getattr(bank, name) for name in names])


@every_family
@with_missing
def test_statistics_add_up_over_batches_and_follow_the_weights(family, missing):
    data = family.data(missing=missing)
    bank, batch = family.bank(data), data.batch()
    shares = torch.rand(2, 3, 9, 3, dtype=torch.float64) * batch.mask[..., None]

    def statistics(rows):
        part = data.batch(np.array(rows))
        own = shares[:, rows, : part.values.shape[1]]
        counts = torch.zeros_like(bank.log_table(part))
        return bank.statistics(counts.index_add_(1, bank.index(part).flatten(), own.flatten(1, 2)), part)

    together = statistics([0, 1, 2])
    torch.testing.assert_close(statistics([2, 0]) + statistics([1]), together, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(statistics([0, 0, 1, 2]), together + statistics([0]), atol=1e-10, rtol=1e-10)


@every_family
def test_the_expected_log_prob_is_that_of_the_data_where_nothing_is_hidden(family):
    if family.symbolic or family.name == "mixture":
        pytest.skip("symbols have a table of counts; of a mixture the components are hidden")
    data = family.data()
    bank, batch = family.bank(data), data.batch()
    counts = responsibilities(bank, batch)
    expected = (counts * bank.log_table(batch)).sum((1, 2))
    if family.name == "poisson":  # up to the factorials of the data
        expected += (counts * (batch.values + 1).lgamma().sum(-1).flatten()[:, None]).sum((1, 2))
    actual = bank.expected_log_prob(bank.raw, bank.statistics(counts, batch))
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-10)


@every_family
@with_prior
def test_the_m_step_is_a_maximum(family, prior):
    data = family.data()
    bank, batch = family.bank(data, **(family.prior if prior else {})), data.batch()
    counts = responsibilities(bank, batch)
    statistics = bank.statistics(counts, batch)

    def value(one):
        if family.symbolic:
            return objective(one, counts, batch)
        return one.expected_log_prob(one.raw, statistics) + one.log_prior()

    before = value(bank)
    bank.m_step(statistics)
    best = value(bank)
    assert (best > before).all()
    _no_neighbor_is_better(bank, value, best)
    value(bank).sum().backward()
    for parameter in bank.parameters():
        assert parameter.grad.abs().max() < 1e-9


@pytest.mark.parametrize("family", FAMILIES[3:], ids=lambda family: family.name)
@with_prior
@pytest.mark.parametrize("floor", [0.05, 0.5])
def test_the_m_step_is_a_maximum_under_the_floor(family, prior, floor):
    data = family.data()
    options = {name: value / 10 for name, value in family.prior.items() if "strength" in name} if prior else {}
    bank, batch = family.bank(data, variance_floor=floor, **options), data.batch()
    counts = responsibilities(bank, batch) ** 8  # few observations for each state
    statistics = bank.statistics(counts, batch)
    bank.m_step(statistics)
    value = lambda one: one.expected_log_prob(one.raw, statistics) + one.log_prior()
    _no_neighbor_is_better(bank, value, value(bank), feasible=_above_floor, move=_raise)


def _above_floor(bank: Emission) -> torch.Tensor:
    """Whether no variance, in any direction, is below the floor: of each restart."""
    if isinstance(bank, GaussianMixture):
        standard = bank.variances / bank.scale.square()
        return (standard >= bank.variance_floor * (1 - 1e-9)).flatten(1).all(1)
    if bank.covariance == "spherical":
        variance = bank.covariances.diagonal(dim1=-2, dim2=-1) / bank.scale.square().mean()
        return (variance >= bank.variance_floor * (1 - 1e-9)).flatten(1).all(1)
    standard = bank.covariances / (bank.scale[:, None] * bank.scale)
    return (torch.linalg.eigvalsh(standard) >= bank.variance_floor * (1 - 1e-9)).flatten(1).all(1)


def _raise(bank: Emission) -> None:
    """Lift the eigenvalues of covariance matrices above the floor, or a little more."""
    if isinstance(bank, Gaussian) and bank.covariance in ("full", "tied"):
        unit = bank.scale[:, None] * bank.scale
        values, vectors = torch.linalg.eigh(bank.covariances / unit)
        raised = vectors * values.clamp(min=bank.variance_floor).unsqueeze(-2) @ vectors.mT * unit
        row, column = torch.tril_indices(3, 3)
        numbers = torch.linalg.cholesky(raised)[..., row, column]
        numbers = torch.where(row == column, numbers.abs().log(), numbers)
        bank.packed_tril.copy_(numbers[:, : bank.packed_tril.shape[1]])


def _no_neighbor_is_better(bank, value, best, feasible=lambda _: torch.ones(2, dtype=torch.bool), move=lambda _: None):
    tried = torch.zeros(2, dtype=torch.int64)
    for size in (1e-4, 1e-3, 1e-2, 0.1, 1.0):
        for _ in range(60):
            other = copy.deepcopy(bank)
            with torch.no_grad():
                for parameter in other.parameters():
                    keep = torch.rand(parameter.shape) < 0.5
                    parameter += size * torch.randn_like(parameter) * keep
                move(other)
            allowed = feasible(other)
            tried += allowed
            assert (value(other) <= best + 1e-9)[allowed].all()
    assert (tried > 10).all()


@every_family
@with_missing
def test_more_steps_never_lower_the_objective(family, missing):
    @settings(max_examples=10)
    @given(st.integers(0, 2**16), st.booleans(), st.sampled_from([1e-6, 0.3]))
    def check(seed, prior, floor):
        options = dict(family.prior) if prior else {}
        if "mean_strength" in family.prior:
            options["variance_floor"] = floor
        data = family.data(seed=seed, missing=missing)
        bank, batch = family.bank(data, seed=seed, **options), data.batch()
        counts = responsibilities(bank, batch, seed)
        values = []
        for _ in range(4):
            values.append(objective(bank, counts, batch))
            bank.m_step(bank.statistics(counts, batch))
        values = torch.stack([*values, objective(bank, counts, batch)])
        assert values.isfinite().all()
        assert (values.diff(dim=0) >= -1e-9 * values.abs().amax()).all()

    check()


@every_family
def test_what_is_missing_as_a_whole_scores_nothing_and_counts_as_nothing(family):
    data = family.data(missing=0.3)
    bank, batch = family.bank(data), data.batch()
    gone = batch.mask & ~batch.observed
    assert gone.any()
    scores = tabulate(bank, batch)[:, gone]
    torch.testing.assert_close(scores, torch.zeros_like(scores), atol=1e-15, rtol=0)
    counts = torch.zeros_like(bank.log_table(batch))
    counts[:, bank.index(batch)[gone]] = 1.0
    assert (bank.statistics(counts, batch) == 0).all()


@every_family
def test_draws_have_the_frequencies_or_moments_that_are_claimed(family, generator):
    bank = family.bank(family.data(), restarts=1, states=2)
    raw = {name: value[0, :, None].expand(2, 20_000, *value.shape[2:]) for name, value in bank.raw.items()}
    drawn = bank.draw(raw, generator)
    bank.check_values(drawn)
    if family.symbolic:
        assert drawn.shape == (2, 20_000)
        frequency = torch.stack([row.bincount(minlength=SYMBOLS) for row in drawn]) / 20_000
        assert (frequency - bank.probs[0]).abs().max() < 5 * 0.5 / 20_000**0.5
        return
    assert drawn.shape == (2, 20_000, 3)
    mean, variance = bank.moments(raw)
    error = (variance[:, 0] / 20_000).sqrt()
    assert ((drawn.mean(1) - mean[:, 0]).abs() < 5 * error).all()
    fourth = (drawn - mean).pow(4).mean(1)
    spread = ((fourth - variance[:, 0].square()) / 20_000).sqrt()
    assert ((drawn.var(1) - variance[:, 0]).abs() < 5 * spread).all()


@every_family
def test_draws_depend_on_the_generator_alone(family):
    bank = family.bank(family.data())
    state = torch.get_rng_state()
    one, other = (bank.draw(bank.raw, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(one, bank.draw(bank.raw, torch.Generator().manual_seed(4)))


@every_family
def test_a_drawn_observation_of_a_lone_distribution_has_no_other_axes(family):
    bank = family.bank(family.data())
    raw = {name: value[0, 0] for name, value in bank.raw.items()}
    drawn = bank.draw(raw)
    assert drawn.shape == (() if family.symbolic else (3,))
    assert bank.log_prob(raw, drawn).shape == ()


@every_family
def test_the_config_makes_the_same_family(family):
    original = family.build(3, **family.prior)
    again = from_config(original.config())
    assert type(again) is type(original)
    assert again.config() == original.config()
    assert (again.shapes, again.shared, again.support) == (original.shapes, original.shared, original.support)


def test_an_unknown_family_is_refused():
    with pytest.raises(ps.InputError, match=r"unknown emission family 'Gausian'; did you mean 'Gaussian'\?"):
        from_config({"family": "Gausian", "num_dims": 2})


@every_family
def test_parameters_are_counted(family):
    bank = family.build(3).build(2, 5)
    assert bank.num_parameters == 5 * family.per_state + family.shared
    for name, shape in bank.shapes.items():
        assert getattr(bank, name).shape == (2, 1 if name in bank.shared else 5, *shape)
        assert bank.raw[name].shape == (2, 5, *shape)


@every_family
@with_missing
def test_a_networks_head_gives_the_log_prob_of_a_bank(family, missing):
    data = family.data(missing=missing)
    batch = data.batch()
    bank = family.bank(restarts=1, states=1)
    head = family.build(3).double()
    own = [name for name in head.shapes if name not in head.shared]
    neutral = head.neutral()  # what outputs of 0 are
    outputs = torch.cat([(getattr(bank, name)[0, 0] - neutral[name]).flatten() for name in own]).detach()
    assert outputs.shape == (head.num_outputs,)
    for name in head.shared:
        getattr(head, name).data.copy_(getattr(bank, name)[0, 0])
    outputs = outputs.expand(3, 9, -1).clone().requires_grad_()
    result = head.log_prob(head.split(outputs), batch.values)
    torch.testing.assert_close(result, tabulate(bank, batch)[0, ..., 0], atol=1e-12, rtol=1e-12)
    result[batch.mask].sum().backward()
    for gradient in (outputs.grad, *(parameter.grad for parameter in head.parameters())):
        assert gradient.isfinite().all()
        assert (gradient != 0).any()


@every_family
def test_a_head_that_has_seen_data_starts_from_them(family):
    data = family.data(lengths=(400,))
    head = family.build(3).double()
    head.observe(data)
    raw = head.split(torch.zeros(head.num_outputs, dtype=torch.float64))
    bank = family.build(3).build(1, 1)
    bank.observe(data)
    for name, value in bank.raw.items():
        torch.testing.assert_close(raw[name], value[0, 0])
    if family.symbolic:
        return
    mean, variance = head.moments(raw)
    values = torch.from_numpy(data.values)
    if family.name in ("poisson", "diag", "full", "tied", "spherical"):
        torch.testing.assert_close(mean, values.mean(0))
    if family.name in ("diag", "full", "tied"):
        torch.testing.assert_close(variance, values.var(0, correction=0))
    if family.name == "spherical":
        torch.testing.assert_close(variance.mean(), values.var(0, correction=0).mean())


@pytest.mark.parametrize("family", FAMILIES[2:], ids=lambda family: family.name)
def test_a_heads_outputs_are_in_units_of_the_data(family):
    """The same outputs for data in another unit give the same log-densities, but for the unit."""
    data = family.data(lengths=(50,))
    heads, factor = [family.build(3).double() for _ in range(2)], 1.0 if family.name == "poisson" else 8.0
    moved = ps.Sequences.from_list([data.values * factor + (0 if family.name == "poisson" else 100)])
    outputs = torch.randn(50, heads[0].num_outputs, dtype=torch.float64)
    result = []
    for head, one in zip(heads, (data, moved), strict=True):
        head.observe(one)
        result.append(head.log_prob(head.split(outputs), one.batch().values[0]))
    torch.testing.assert_close(result[1], result[0] - 3 * np.log(factor), atol=1e-9, rtol=0)


@every_family
def test_neutral_parameters_follow_the_data_and_fitted_ones_stay(family):
    if family.symbolic or family.name == "bernoulli":
        pytest.skip("no use for location and scale")
    data = family.data(lengths=(40,))
    bank = family.build(3).build(2, 3)
    before = {name: value.clone() for name, value in bank.state_dict().items()}
    bank.observe(data)
    assert any(not torch.equal(value, before[name]) for name, value in bank.named_parameters())
    fitted = family.bank(data)
    before = {name: value.clone() for name, value in fitted.named_parameters()}
    fitted.observe(family.data(seed=1))
    assert not torch.equal(fitted.location, bank.location)
    assert all(torch.equal(value, before[name]) for name, value in fitted.named_parameters())


@every_family
@with_missing
def test_states_without_data_keep_their_parameters(family, missing):
    data = family.data(missing=missing)
    bank, batch = family.bank(data), data.batch()
    counts = responsibilities(bank, batch)
    counts[:, :, 1] = 0.0
    before = copy.deepcopy(bank)
    bank.m_step(bank.statistics(counts, batch))
    for name, value in bank.named_parameters():
        assert value.isfinite().all()
        if name not in bank.shared:
            assert torch.equal(value[:, 1], getattr(before, name)[:, 1])
            assert not torch.equal(value[:, 0], getattr(before, name)[:, 0])
    counts[:] = 0.0
    before = copy.deepcopy(bank)
    bank.m_step(bank.statistics(counts, batch))
    assert all(torch.equal(value, dict(before.named_parameters())[name]) for name, value in bank.named_parameters())


@every_family
@with_prior
@pytest.mark.parametrize("kind", ["constant", "one", "duplicates", "tiny weights"])
def test_degenerate_data_give_finite_numbers(family, prior, kind):
    rng = np.random.default_rng(0)
    value = family.values(rng, 1)
    rows = {"one": value, "duplicates": np.concatenate([np.repeat(value, 7, 0), family.values(rng, 1)])}
    data = ps.Sequences.from_list([rows.get(kind, np.repeat(value, 9, 0))])
    bank, batch = family.bank(data, states=4, **(family.prior if prior else {})), data.batch()
    counts = responsibilities(bank, batch) * (1e-310 if kind == "tiny weights" else 1.0)
    for _ in range(5):
        bank.m_step(bank.statistics(counts, batch))
    assert not any(parameter.isnan().any() for parameter in bank.parameters())
    assert not bank.log_table(batch).isnan().any()
    assert bank.log_prior().isfinite().all()
    value = objective(bank, counts, batch)
    assert value.isfinite().all()
    value.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in bank.parameters())


@every_family
@with_missing
def test_single_precision_is_close_to_double(family, missing):
    data = family.data(missing=missing, lengths=(60, 20))
    wide, batch = family.bank(data), data.batch()
    narrow = copy.deepcopy(wide).float()
    assert narrow.log_table(batch).dtype == torch.float32
    torch.testing.assert_close(narrow.log_table(batch).double(), wide.log_table(batch), atol=1e-3, rtol=1e-4)
    counts = responsibilities(wide, batch)
    wide.m_step(wide.statistics(counts, batch))
    narrow.m_step(narrow.statistics(counts.float(), batch))
    for name, value in narrow.named_parameters():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), getattr(wide, name), atol=2e-3, rtol=1e-3)


@every_family
def test_a_bank_is_built_in_the_precision_that_is_asked_for(family):
    for dtype in (torch.float32, torch.float64):
        bank = family.build(3).build(1, 2, dtype)
        assert all(tensor.dtype == dtype for tensor in bank.state_dict().values())


@every_family
def test_a_bank_and_its_family_are_not_tied_together(family):
    original = family.build(3)
    one, other = original.build(1, 2), original.build(1, 2)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter += 1
    assert all(
        torch.equal(value, dict(original.build(1, 2).state_dict())[n]) for n, value in other.state_dict().items()
    )
    again = family.build(3).build(1, 2)
    again.load_state_dict(one.state_dict())
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize(
    ("family", "values", "sentence"),
    [
        (Categorical(3), [[0, 3]], r"symbol 3 is outside the model's 3 symbols \(0 to 2\); encode the data"),
        (Categorical(3), [[0.0, 1.0]], r"this model scores symbols \(N, T\); received"),
        (Bernoulli(1), [[0.0], [2.0]], "data contain 2; expected 0 or 1, or NaN where an entry is missing"),
        (Bernoulli(2), [[0.0, 0.5]], "data contain 0.5; expected 0 or 1"),
        (Poisson(1), [[-1.0]], "data contain -1; expected counts 0, 1, 2"),
        (Poisson(1), [[1.5]], "data contain 1.5; expected counts"),
        (Poisson(1), [[np.inf]], "data contain inf; expected counts"),
        (Poisson(1), [3, 4], r"scores vectors \(N, T, 1\) of counts; received torch.int64 .*array of floats \(T, 1\)"),
        (Gaussian(2), [[0.0, -np.inf]], "data contain -inf; expected finite numbers"),
        (Gaussian(2), [[0.0, 1.0, 2.0]], r"scores vectors \(N, T, 2\) of reals; received .*\(T, 2\)"),
        (GaussianMixture(1, 2), [[np.inf]], "data contain inf; expected finite numbers"),
    ],
)
def test_values_outside_the_support_are_refused(family, values, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        family.check_values(torch.from_numpy(np.array(values)))
    rows = np.array(values)
    if not np.isinf(rows).any():
        with pytest.raises(ps.InputError, match=sentence):
            family.observe(ps.Sequences.from_list([rows] if rows.dtype == float else rows.reshape(1, -1)))


@every_family
def test_what_the_family_makes_is_accepted_and_so_is_what_is_missing(family):
    family.build(3).check_values(family.data(missing=0.3).batch().values)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Categorical(0), "num_symbols is 0; expected 1 or more"),
        (lambda: Categorical(2, concentration=0.5), "emission concentration is 0.5; expected 1"),
        (lambda: Bernoulli(0), "num_dims is 0"),
        (lambda: Bernoulli(1, concentration=float("nan")), "emission concentration is nan"),
        (lambda: Poisson(0), "num_dims is 0"),
        (lambda: Poisson(1, prior_shape=0.5), "prior_shape is 0.5 and prior_rate 0.0; expected a shape of 1 or more"),
        (lambda: Poisson(1, prior_rate=-1.0), "prior_rate -1.0"),
        (lambda: Gaussian(0), "num_dims is 0"),
        (lambda: Gaussian(1, "ful"), "unknown covariance 'ful'; did you mean 'full'"),
        (lambda: Gaussian(1, mean_strength=-1.0), "mean_strength is -1.0; expected 0"),
        (lambda: Gaussian(1, covariance_strength=float("inf")), "covariance_strength is inf"),
        (lambda: Gaussian(1, variance_floor=0.0), "variance_floor is 0.0; expected a part of the data's variance"),
        (lambda: GaussianMixture(1, 0), "num_components is 0"),
        (lambda: GaussianMixture(1, 2, weight_concentration=0.0), "weight concentration is 0.0"),
    ],
)
def test_impossible_families_are_refused(make, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: Gaussian.from_parameters([[bad], [1.0]], [[1.0], [1.0]]),
        lambda bad: Gaussian.from_parameters([[0.0], [1.0]], [[[1.0]], [[bad]]], "full"),
        lambda bad: GaussianMixture.from_parameters([[0.5, 0.5]], [[[bad], [1.0]]], [[[1.0], [1.0]]]),
        lambda bad: GaussianMixture.from_parameters([[0.5, bad]], [[[0.0], [1.0]]], [[[1.0], [1.0]]]),
    ],
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_parameters_that_are_no_numbers_are_refused(make, bad):
    with pytest.raises(ps.InputError, match=f"hold {bad}; expected finite numbers"):
        make(bad)


@pytest.mark.parametrize("apart", [0.0, 1.0, 5e3, 1e9])
def test_given_covariances_are_kept_however_far_apart_the_means(apart):
    means, variances = [[0.0, 0.0], [apart, -apart]], [[1.0, 4.0], [0.25, 9.0]]
    full = np.array([[[1.0, 0.9], [0.9, 1.0]], [[4.0, -1.0], [-1.0, 0.3]]])
    banks = {
        "diag": (variances, [np.diag(v) for v in variances]),
        "spherical": ([1.0, 0.25], [np.eye(2), 0.25 * np.eye(2)]),
        "full": (full, full),
        "tied": (full[0], full[[0, 0]]),
    }
    for kind, (given_, expected) in banks.items():
        bank = Gaussian.from_parameters(means, given_, kind)
        np.testing.assert_allclose(bank.covariances[0].detach(), expected, rtol=1e-12)
        bank.project()
        np.testing.assert_allclose(bank.covariances[0].detach(), expected, rtol=1e-12)
    mixed = GaussianMixture.from_parameters([[0.5, 0.5]], [means], [variances])
    np.testing.assert_allclose(mixed.variances[0, 0].detach(), variances, rtol=1e-12)


def test_symbols_have_no_moments():
    bank = Categorical.from_parameters([[0.5, 0.5]])
    with pytest.raises(ps.InputError, match="symbols, which have no mean"):
        bank.moments(bank.raw)


@every_family
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_gives_the_numbers_of_the_cpu(family):
    data = family.data(missing=0.3)
    bank, batch = family.bank(data, **family.prior), data.batch()
    other, far = copy.deepcopy(bank).cuda(), batch.to("cuda")
    counts = responsibilities(bank, batch)
    for one, part, weights in ((bank, batch, counts), (other, far, counts.cuda())):
        one.m_step(one.statistics(weights, part))
        one.observe(data)
    torch.testing.assert_close(other.log_table(far).cpu(), bank.log_table(batch), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(other.log_prior().cpu(), bank.log_prior(), atol=1e-9, rtol=1e-9)
