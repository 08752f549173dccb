"""The estimator: scikit-learn's own checks, hmmlearn from equal parameters, and data in one array with lengths."""

import subprocess
import sys

import numpy as np
import pytest
from hmmlearn import hmm as peer
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import probseq as ps
from probseq.estimator import HMMEstimator

LENGTHS = [30, 1, 49]
ROWS_ARE_ORDERED = "the rows of X are a sequence: what a row's state is depends on the rows around it"
NOT_OF_SEQUENCES = {
    "check_methods_sample_order_invariance": ROWS_ARE_ORDERED,
    "check_methods_subset_invariance": ROWS_ARE_ORDERED,
}


# The families of real vectors only: the checks give others numbers that are neither counts nor symbols.
@parametrize_with_checks(
    [
        HMMEstimator(emission=emission, num_restarts=2, num_steps=10, random_state=0)
        for emission in ("gaussian", "gaussian-mixture")
    ],
    expected_failed_checks=lambda estimator: NOT_OF_SEQUENCES,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def two_levels(num_rows: int = 80, scale: float = 3.0) -> np.ndarray:
    """Rows ``(num_rows, 2)`` that jump between two levels."""
    rng = np.random.default_rng(0)
    level = np.repeat(rng.integers(0, 2, num_rows // 5), 5)
    return rng.normal(size=(num_rows, 2)) + scale * level[:, None]


def fitted(emission: str = "gaussian", X: np.ndarray | None = None, **options) -> HMMEstimator:
    options = {"num_restarts": 3, "num_steps": 30, "random_state": 0} | options
    return HMMEstimator(emission=emission, **options).fit(two_levels() if X is None else X, lengths=LENGTHS)


def as_hmmlearn(estimator: HMMEstimator):
    """hmmlearn's model with the same parameters."""
    model, emission = estimator.model_, estimator.model_.emission
    states = model.num_states
    if estimator.emission == "categorical":
        other = peer.CategoricalHMM(states)
        other.emissionprob_ = emission.probs[0].detach().numpy()
        other.n_features = emission.num_symbols
    elif estimator.emission == "poisson":
        other = peer.PoissonHMM(states)
        other.lambdas_ = emission.rates[0].detach().numpy()
        other.n_features = 2
    else:
        other = peer.GaussianHMM(states, covariance_type=estimator.covariance)
        covariances = emission.covariances[0].detach().numpy()
        other.means_ = emission.means[0].detach().numpy()
        other.n_features = 2
        other.covars_ = {
            "diag": covariances.diagonal(axis1=1, axis2=2),
            "full": covariances,
            "tied": covariances[0],
            "spherical": covariances[:, 0, 0],
        }[estimator.covariance]
    other.startprob_, other.transmat_ = model.initial[0].detach().numpy(), model.transition[0].detach().numpy()
    return other


CASES = [
    ("gaussian", {"covariance": "diag"}),
    ("gaussian", {"covariance": "full"}),
    ("gaussian", {"covariance": "tied"}),
    ("gaussian", {"covariance": "spherical"}),
    ("poisson", {}),
    ("categorical", {"num_symbols": 9}),
]


@pytest.mark.parametrize(("emission", "options"), CASES)
def test_from_equal_parameters_it_equals_hmmlearn(emission, options):
    X = two_levels()
    if emission != "gaussian":
        X = np.clip(X.round() + 2, 0, 8)
    X = X[:, :1] if emission == "categorical" else X
    estimator = fitted(emission, X, num_states=3, **options)
    other, same = as_hmmlearn(estimator), X if emission == "gaussian" else X.astype(int)
    assert estimator.score(X, lengths=LENGTHS) == pytest.approx(other.score(same, LENGTHS), rel=1e-10)
    np.testing.assert_allclose(
        estimator.predict_proba(X, lengths=LENGTHS), other.predict_proba(same, LENGTHS), atol=1e-9
    )
    np.testing.assert_array_equal(estimator.predict(X, lengths=LENGTHS), other.predict(same, LENGTHS))


def test_the_best_restart_is_kept():
    X = two_levels(scale=1.0)
    estimator = fitted(X=X, num_states=4, num_restarts=10)
    data = ps.Sequences(X, np.cumsum([0, *LENGTHS]))
    every = ps.evaluate(estimator.fit_.model, data).elpd
    assert estimator.score(X, lengths=LENGTHS) == pytest.approx(every.max(), rel=1e-12)
    assert np.ptp(every) > 0.01  # so that it matters which one


def test_lengths_cut_the_rows_into_sequences():
    X = two_levels()
    estimator = fitted()
    parts = np.split(X, np.cumsum(LENGTHS)[:-1])
    assert estimator.score(X, lengths=LENGTHS) == pytest.approx(sum(estimator.score(part) for part in parts))
    assert estimator.score(X) != pytest.approx(estimator.score(X, lengths=LENGTHS))
    for method in ("predict", "predict_proba", "score_samples"):
        whole = getattr(estimator, method)(X, LENGTHS)
        np.testing.assert_allclose(whole, np.concatenate([getattr(estimator, method)(part) for part in parts]))
    assert estimator.score_samples(X, LENGTHS).sum() == pytest.approx(estimator.score(X, lengths=LENGTHS))


def test_what_is_missing_is_integrated_out():
    X = two_levels()
    X[5, 0] = np.nan
    X[40] = np.nan
    estimator = fitted(X=X)
    assert np.isfinite(estimator.score(X, lengths=LENGTHS))
    assert estimator.score_samples(X, LENGTHS)[40] == pytest.approx(0.0, abs=1e-12)
    gone = np.delete(X[:31], 30, axis=0)  # a sequence of which nothing was observed says nothing
    hidden = np.vstack([gone, [[np.nan, np.nan]]])
    assert estimator.score(hidden, lengths=[30, 1]) == pytest.approx(estimator.score(gone))


def test_symbols():
    X = np.array([[0], [1], [0], [1], [0], [2]] * 10, dtype=float)
    estimator = HMMEstimator(emission="categorical", num_states=2, random_state=0).fit(X)
    assert estimator.model_.num_symbols == 3
    assert HMMEstimator(emission="categorical", num_symbols=5, random_state=0).fit(X).model_.num_symbols == 5
    X[3] = np.nan
    assert estimator.score_samples(X)[3] == pytest.approx(0.0, abs=1e-12)
    drawn, states = estimator.sample(20, random_state=1)
    assert drawn.shape == (20, 1)
    assert set(drawn[:, 0]) <= {0, 1, 2}
    assert states.shape == (20,)


def test_samples_come_from_the_model():
    estimator = fitted()
    X, states = estimator.sample(3000, random_state=0)
    mean = estimator.model_.emission.means[0].detach().numpy()
    for k in range(2):
        assert X[states == k].mean(axis=0) == pytest.approx(mean[k], abs=0.3)
    again, _ = estimator.sample(3000, random_state=0)
    np.testing.assert_array_equal(X, again)


@pytest.mark.parametrize("emission", ["bernoulli", "gaussian-mixture"])
def test_the_other_families(emission):
    X = (two_levels() > 1.5).astype(float) if emission == "bernoulli" else two_levels()
    estimator = fitted(emission, X)
    path = estimator.predict(X, LENGTHS)
    assert len(np.unique(path)) == 2
    assert estimator.predict_proba(X, LENGTHS).sum(axis=1) == pytest.approx(1.0)


def test_a_clone_fits_alike():
    estimator = HMMEstimator(num_states=3, covariance="full", num_restarts=2, num_steps=5, random_state=4)
    assert estimator.get_params()["covariance"] == "full"
    X = two_levels()
    assert clone(estimator).fit(X).score(X) == estimator.fit(X).score(X)


def test_in_a_pipeline_and_a_grid_search():
    X = two_levels(400)
    pipeline = make_pipeline(StandardScaler(), HMMEstimator(num_restarts=2, num_steps=20, random_state=0))
    search = GridSearchCV(pipeline, {"hmmestimator__num_states": [1, 2]}, cv=KFold(2), error_score="raise")
    search.fit(X)
    assert search.best_params_ == {"hmmestimator__num_states": 2}
    assert search.score(X) == pytest.approx(search.best_estimator_.score(X))


@pytest.mark.parametrize(
    ("options", "X", "arguments", "sentence"),
    [
        ({"emission": "normal"}, np.zeros((4, 1)), {}, "unknown emission 'normal'"),
        ({"covariance": "diagonal"}, np.zeros((4, 1)), {}, "unknown covariance 'diagonal'; did you mean 'diag'"),
        ({"num_states": 0}, np.zeros((4, 1)), {}, "num_states is 0"),
        ({}, np.zeros((4, 1)), {"lengths": [2, 3]}, "lengths add up to 5 and X has 4 rows"),
        ({}, np.zeros((4, 1)), {"lengths": [0, 4]}, "sequence 0 has length 0"),
        ({}, np.zeros((4, 1)), {"lengths": [2.5, 1.5]}, "lengths are an array of float64 with shape .2,.; expected a"),
        ({}, np.zeros((4, 1)), {"lengths": [[2, 2]]}, r"lengths are an array of int64 with shape \(1, 2\)"),
        ({}, np.zeros((4, 1)), {"lengths": 4}, r"lengths are an array of int64 with shape \(\)"),
        ({}, np.zeros((4, 1)), {"lengths": ["2", "2"]}, "lengths are an array of <U1"),
        ({"emission": "categorical"}, np.full((4, 1), 1e12), {}, "X holds the symbol 1000000000000, and the emission"),
        ({}, np.zeros((4, 1)), {"y": [2, 2]}, "y has shape .2,. for 4 rows; y is not used: pass lengths by its name"),
        ({"emission": "categorical"}, np.full((4, 1), 0.5), {}, "X does not hold symbols"),
        ({"emission": "categorical"}, np.zeros((4, 2)), {}, "X does not hold symbols"),
        ({"emission": "categorical"}, np.full((4, 1), -1.0), {}, "X does not hold symbols"),
        ({"emission": "poisson"}, np.full((4, 1), 0.5), {}, "the data contain 0.5; expected counts"),
        ({"emission": "bernoulli"}, np.full((4, 1), 2.0), {}, "the data contain 2"),
        ({}, np.full((4, 1), np.nan), {}, "every token of data is missing"),
    ],
)
def test_errors(options, X, arguments, sentence):
    with pytest.raises(ps.InputError, match=sentence):
        HMMEstimator(random_state=0, **options).fit(X, **arguments)


def test_a_symbol_that_training_did_not_have_is_an_error():
    estimator = HMMEstimator(emission="categorical", random_state=0).fit(np.array([[0], [1]] * 5))
    with pytest.raises(ps.InputError, match="2"):
        estimator.score(np.array([[2]]))


def test_without_scikit_learn_it_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; import probseq; import probseq.estimator"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError: the estimators need scikit-learn; install it: pip install 'probseq[sklearn]'" in done.stderr
