"""What holds in both generations of ArviZ: these tests need numpy and ArviZ alone, and `make test-arviz1` runs them."""

import numpy as np
import pytest
from scipy.special import betaln, logsumexp
from scipy.stats import beta

from probseq.errors import InputError
from probseq.export_arrays import from_arrays, import_arviz

az = import_arviz()
FIRST = az.__version__.startswith("0.")
LENGTHS = 3 + np.arange(24) % 4
ONES = 1 + np.arange(24) * 7 % (LENGTHS - 1)
DRAWS = 400  # 3 sqrt(400) is whole, so that both generations smooth the same 60 largest weights
# PYTHONPATH=tests .venv/bin/python -c "import test_export_arrays as t; print(t.loo(t.export(*t.coin()))[0])"
ELPD = -75.68295537770175
# the same of `t.coin(chains=2)`, by ArviZ 0.23
ELPD_OF_CHAINS = -75.68147728571076


def coin(chains=1):
    """Coin tosses under the prior Beta(2, 2): quantiles of the exact posterior, and the log-likelihoods under them."""
    a, b = 2.0 + ONES.sum(), 2.0 + (LENGTHS - ONES).sum()
    quantiles = (np.arange(DRAWS) * 247 % DRAWS + 0.5) / DRAWS  # all of them once, in an order without a trend
    heads = beta.ppf(quantiles, a, b).reshape(chains, -1)
    return heads, ONES * np.log(heads)[..., None] + (LENGTHS - ONES) * np.log1p(-heads)[..., None]


def export(heads, log_likelihood, **groups):
    return from_arrays({"heads": heads}, log_likelihood, **groups)


def loo(data, **options):
    """Sum, standard error, terms and shapes: the fields have other names in each generation."""
    found = az.loo(data, pointwise=True, **options)
    names = ("elpd_loo", "se", "loo_i", "pareto_k") if FIRST else ("elpd", "se", "elpd_i", "pareto_k")
    return tuple(np.asarray(found[name]) for name in names)


def smoothed(log_weights):
    """Pareto smoothed importance weights as the paper defines them (Vehtari et al. 2024, section 3), as logarithms."""
    log_weights, num = np.sort(log_weights - log_weights.max()), len(log_weights)
    tail = int(min(num / 5, 3 * np.sqrt(num)))
    cutoff = np.exp(log_weights[-tail - 1])
    excess = np.exp(log_weights[-tail:]) - cutoff
    # The posterior mean of the Pareto distribution's b = -k / sigma on a grid (Zhang and Stephens 2009).
    size = 30 + int(np.sqrt(tail))
    grid = 1 / excess[-1] + (1 - np.sqrt(size / (np.arange(size) + 0.5))) / (3 * excess[int(tail / 4 + 0.5) - 1])
    shape = np.log1p(-grid[:, None] * excess).mean(axis=1)
    profile = tail * (np.log(-grid / shape) - shape - 1)
    b = np.exp(profile - logsumexp(profile)) @ grid
    k = np.log1p(-b * excess).mean()
    sigma, k = -k / b, (tail * k + 10 * 0.5) / (tail + 10)
    place = (np.arange(tail) + 0.5) / tail
    log_weights[-tail:] = np.minimum(np.log(cutoff + sigma / k * ((1 - place) ** -k - 1)), 0)
    return log_weights - logsumexp(log_weights), k


def by_hand(log_likelihood):
    """``log E[p(x_i | theta)]`` under the weights ``1 / p(x_i | theta)``, smoothed, for every sequence."""
    rows = np.sort(log_likelihood.reshape(-1, log_likelihood.shape[-1]), axis=0)[::-1]  # weights in rising order
    return np.array([logsumexp(row + smoothed(-row)[0]) for row in rows.T])


def test_the_groups_and_their_dimensions():
    heads, log_likelihood = coin(chains=2)
    padded = np.where(np.arange(6) < LENGTHS[:, None], 1, -1)
    data = export(
        heads,
        log_likelihood,
        observed={"x": padded},
        constant={"length": LENGTHS},
        restarts={"objective": np.array([-1.0, -2.0, -1.5]), "stop_reason": np.array(["a", "b", "c"])},
        sample_stats={"diverging": np.zeros((2, 200), bool)},
        dims={"length": ["sequence"]},
        coords={"sequence": [f"s{i}" for i in range(24)]},
        attrs={"inference_library": "probseq"},
    )
    groups = {name: dict(data[name].sizes) for name in ("posterior", "log_likelihood", "observed_data", "restarts")}
    assert groups == {
        "posterior": {"chain": 2, "draw": 200},
        "log_likelihood": {"chain": 2, "draw": 200, "sequence": 24},
        "observed_data": {"sequence": 24, "time": 6},
        "restarts": {"restart": 3},
    }
    assert type(data).__name__ == ("InferenceData" if FIRST else "DataTree")
    assert data["log_likelihood"]["x"].sel(sequence="s3").values == pytest.approx(log_likelihood[..., 3], abs=0)
    assert data["constant_data"]["length"].values.tolist() == LENGTHS.tolist()
    assert data["sample_stats"]["diverging"].shape == (2, 200)
    assert data["posterior"].attrs["inference_library"] == "probseq"


def test_restarts_have_no_r_hat():
    data = export(*coin(chains=2), restarts={"objective": np.array([-1.0, -2.0])})
    assert list(az.rhat(data).data_vars) == ["heads"]
    assert list(az.summary(data).index) == ["heads"]
    assert "chain" not in data["restarts"].dims


def test_loo_is_the_hand_computation():
    heads, log_likelihood = coin()
    elpd, se, terms, shapes = loo(export(heads, log_likelihood))
    hand = by_hand(log_likelihood)
    assert terms == pytest.approx(hand, abs=1e-10)
    assert elpd == pytest.approx(hand.sum(), abs=1e-10)
    assert shapes == pytest.approx([smoothed(-row)[1] for row in log_likelihood[0].T], abs=1e-10)
    # What is left to the generations: 0.x divides the variance by N, and 1.x by N - 1.
    assert se == pytest.approx(np.sqrt(24 * hand.var(ddof=0 if FIRST else 1)), abs=1e-10)


def test_loo_is_the_same_number_in_both_generations():
    assert loo(export(*coin()))[0] == pytest.approx(ELPD, abs=1e-9)


def test_loo_of_more_chains_differs_by_one_smoothed_weight_at_most():
    """The number of smoothed weights depends on the effective sample size; 0.x rounds it up, and 1.x rounds it down."""
    heads, log_likelihood = coin(chains=2)
    assert loo(export(heads, log_likelihood), reff=1.0)[0] == pytest.approx(ELPD, abs=1e-9)
    assert loo(export(heads, log_likelihood))[0] == pytest.approx(ELPD_OF_CHAINS, abs=1e-4)


def test_loo_is_the_refit_without_each_sequence():
    """The probability of a sequence given all others, in closed form: a ratio of Beta functions."""
    a, b = 2.0 + ONES.sum(), 2.0 + (LENGTHS - ONES).sum()
    exact = betaln(a, b) - betaln(a - ONES, b - (LENGTHS - ONES))
    _, _, terms, shapes = loo(export(*coin()))
    assert (shapes < 0.2).all()  # where smoothing is to be trusted
    assert terms == pytest.approx(exact, abs=2e-3)
    assert terms.sum() == pytest.approx(exact.sum(), abs=1e-2)


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # ArviZ 0.23 with pandas 3.1
def test_compare_is_the_hand_computation():
    heads, log_likelihood = coin()
    wrong = log_likelihood - 0.3 * np.sin(np.arange(24)) - 0.2  # another model of the same data
    models = {"coin": export(heads, log_likelihood), "wrong": export(heads, wrong)}
    table = az.compare(models) if FIRST else az.compare(models, round_to="none")
    difference = by_hand(log_likelihood) - by_hand(wrong)
    assert table.index.tolist() == ["coin", "wrong"]
    assert table["rank"].tolist() == [0, 1]
    # 0.x says how much worse a model is, 1.x how much better.
    assert table["elpd_diff"]["wrong"] * (1 if FIRST else -1) == pytest.approx(difference.sum(), abs=1e-10)
    assert table["dse"]["wrong"] == pytest.approx(np.sqrt(24 * difference.var()), abs=1e-10)


def test_tokens_are_refused():
    heads, log_likelihood = coin()
    tokens = np.repeat(log_likelihood[..., None], 3, axis=-1)
    with pytest.raises(InputError, match="chain x draw x sequence, because the tokens of a sequence are not exchange"):
        export(heads, tokens)


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_an_impossible_sequence_is_refused(value):
    heads, log_likelihood = coin(chains=2)
    log_likelihood[1, 7, 3] = value
    with pytest.raises(InputError, match=r"sequence 3 under draw 7 of chain 1 is (-inf|nan); expected finite"):
        export(heads, log_likelihood)


def test_shapes_that_do_not_fit():
    heads, log_likelihood = coin(chains=2)
    with pytest.raises(InputError, match="heads of group posterior has shape \\(400,\\); expected chain x draw"):
        export(heads.reshape(-1), log_likelihood)
    with pytest.raises(
        InputError, match="dimension draw has 200 entries in group log_likelihood and 100 in group post"
    ):
        export(heads[:, :100], log_likelihood)
    with pytest.raises(InputError, match="sequence has 24 entries in group log_likelihood and 2 labels"):
        export(heads, log_likelihood, coords={"sequence": [0, 1]})


def test_one_draw_and_no_log_likelihood():
    data = from_arrays({"heads": np.full((1, 1), 0.5)})
    assert data["posterior"]["heads"].shape == (1, 1)
    with pytest.raises((TypeError, ValueError), match=r"log.likelihood"):
        az.loo(data)
