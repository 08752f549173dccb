"""`compare`: chosen on validation, reported on test, paired over sequences, and honest about what each number is."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from fixed_model import Fixed

from probseq.compare import COLUMNS, compare
from probseq.data.sequences import Sequences
from probseq.errors import InputError
from probseq.inference.run import Fit
from probseq.models.ngram import Uniform
from probseq.models.topic import LDA

INF = math.inf
FIT = Fit(Uniform(2), "", np.zeros((1, 1)), ["converged"], 0.0)
VALIDATION = Sequences.from_list([[0, 0], [0, 1]])
TEST = Sequences.from_list([[0, 1, 1], [1], [0, 0], [0, 1]], weights=[1, 2, 1, 1])


def table(**models):
    return compare(models, validation=VALIDATION, test=TEST)


def test_frame_has_exactly_the_columns_of_the_design():
    frame = table(a=Fixed([[-1.0, -2.0]]), b=Uniform(2)).frame
    assert list(frame.columns) == [
        "rank", "model", "likelihood", "nats_per_token", "bits_per_token", "perplexity", "nats_per_sequence", "elpd",
        "se", "elpd_diff", "dse", "num_parameters", "num_restarts", "restart_min", "restart_median", "restart_max",
        "fit_seconds",
    ]  # fmt: skip
    assert frame["model"].tolist() == ["b", "a"]
    assert frame["rank"].tolist() == [1, 2]


def test_vocabularies_of_one_size_are_told_apart_by_what_the_models_have_seen():
    """Also where the data to score do not say of which vocabulary they are."""
    new, one, same, other = (Uniform(2) for _ in range(4))
    one.vocabulary, same.vocabulary, other.vocabulary = "a" * 64, "a" * 64, "b" * 64
    assert table(new=new, one=one, same=same).ranking == ["new", "one", "same"]
    with pytest.raises(InputError, match="'one' and 'other' have seen data of different vocabularies"):
        table(new=new, one=one, same=same, other=other)


def test_restart_is_chosen_on_validation_and_reported_on_test():
    # validation is three of symbol 0 and one of 1; test has more of symbol 1, where restart 1 would win
    comparison = table(a=Fixed([[-1.0, -2.0], [-2.0, -1.0], [-3.0, -3.0]]))
    assert comparison.chosen == {"a": 0}
    row = comparison.rows()[0]
    per_restart = [(4 * 1 + 5 * 2) / 9, (4 * 2 + 5 * 1) / 9, 3.0]
    assert row["restart_nats_per_token"] == pytest.approx(per_restart)
    assert row["nats_per_token"] == pytest.approx(per_restart[0])
    assert row["validation_nats_per_token"] == pytest.approx(5 / 4)
    assert (row["restart_min"], row["restart_median"], row["restart_max"]) == pytest.approx(
        (per_restart[1], per_restart[0], 3.0)
    )
    assert row["num_restarts"] == 3


def test_what_diverged_is_ranked_last_and_said_to_have():
    lost = Fit(Fixed([[-0.1, -0.1]] * 2), "", np.zeros((1, 2)), ["nonfinite", "nonfinite"], 0.0)
    half = Fit(Fixed([[-0.8, -0.8]] * 2), "", np.zeros((1, 2)), ["nonfinite", "max_steps"], 0.0)
    comparison = table(lost=lost, half=half, uniform=Uniform(2))
    assert comparison.diverged == ["lost"]
    assert comparison.ranking == ["uniform", "half", "lost"]
    assert comparison.frame["rank"].tolist() == [1, 2, 3]
    (diverged,) = comparison.notes()
    assert diverged.startswith("every restart diverged")
    assert diverged.endswith(": lost")


def test_differences_are_paired_over_sequences():
    comparison = table(good=Fixed([[-1.0, -1.0]]), bad=Fixed([[-1.5, -3.0]]))
    first, second = comparison.rows()
    assert (first["elpd_diff"], first["dse"]) == (0, 0)
    differences = np.array([4.5, 2, 2, 1, 2.5])  # the second sequence twice
    assert second["elpd_diff"] == pytest.approx(differences.sum())
    assert second["dse"] == pytest.approx(math.sqrt(5 * differences.var()))
    assert second["elpd_diff"] == pytest.approx(first["elpd"] - second["elpd"])
    tokens = comparison.test["bad"].num_tokens[[0, 1, 1, 2, 3]]
    rest = differences - differences.sum() / tokens.sum() * tokens
    error = math.sqrt(rest @ rest) / tokens.sum()
    assert comparison.lead("bad") == pytest.approx((differences.sum() / tokens.sum(), error))
    assert second["nats_per_token_dse"] == pytest.approx(error)
    assert second["nats_per_token_se"] == pytest.approx(comparison.test["bad"].nats_per_token_se[0])


def test_impossible_sequences_give_infinities_never_nan():
    comparison = table(
        worse=Fixed([[-1.0, -INF], [-2.0, -INF]]), good=Fixed([[-1.0, -1.0]]), worst=Fixed([[-INF, -1.0]])
    )
    frame = comparison.frame.set_index("model")
    assert frame.index.tolist() == ["good", "worse", "worst"]  # equals keep the order given
    assert frame.loc["worse", ["nats_per_token", "elpd_diff", "dse", "restart_median"]].tolist() == [INF] * 4
    assert frame.loc["worse", "elpd"] == -INF
    assert frame["elpd_diff"].notna().all()
    row = comparison.rows()[1]
    assert row["nats_per_token"] is row["elpd"] is row["elpd_diff"] is None
    assert row["restart_nats_per_token"] == [None, None]


def test_no_nan_where_every_model_finds_something_impossible():
    frame = table(a=Fixed([[-1.0, -INF]]), b=Fixed([[-INF, -1.0]]), c=Fixed([[-2.0, -INF]])).frame
    assert frame["elpd_diff"].tolist() == [0, 0, 2]  # a sequence impossible under both makes no difference
    assert frame["dse"].iloc[1] == INF


def test_a_failed_restart_counts_as_infinitely_bad():
    row = table(a=Fixed([[math.nan, -1.0], [-1.0, -1.0]])).frame.iloc[0]
    assert (row["nats_per_token"], row["restart_min"], row["restart_max"]) == (1, 1, INF)


def test_a_bound_is_ranked_by_its_bound_and_marked():
    comparison = table(exact=Fixed([[-1.0, -1.0]]), bound=Fixed([[-1.1, -1.1]], "lower bound"), bad=Uniform(2))
    assert comparison.ranking == ["bad", "exact", "bound"]
    text = comparison.to_text()
    assert "<=1.1000" in text
    assert "<=1.0000" not in text
    assert "<= a lower bound on the likelihood" in text.splitlines()[-1]
    assert comparison.rows()[2]["perplexity"] is None
    assert comparison.rows()[2]["likelihood"] == "lower bound"
    assert "lower bound" not in str(table(exact=Uniform(2)))


def test_densities_have_no_perplexity_and_a_note():
    reals = ("reals", 1)
    comparison = table(narrow=Fixed([[2.0, 2.0]], support=reals), wide=Fixed([[-1.0, -1.0]], support=reals))
    assert [row["perplexity"] for row in comparison.rows()] == [None, None]
    assert [row["nats_per_token"] for row in comparison.rows()] == [-2, 1]
    lines = comparison.to_text().splitlines()
    assert lines[2].split()[3:6] == ["-2.0000", "-2.8854", "-"]
    assert lines[-1].startswith("densities of real vectors")
    assert "densities" not in str(table(exact=Uniform(2)))


def test_an_estimate_is_marked_with_its_error():
    text = str(table(sampled=Fixed([[-1.0, -1.0]], "estimate")))
    assert "~1.0000" in text
    assert "nats per token: sampled unknown and unknown; unknown where there is one replicate, or windows are" in text


def test_the_error_and_the_drift_of_an_estimate_reach_every_table():
    model = LDA.from_parameters([[0.9, 0.1], [0.2, 0.8]], alpha=0.5, num_particles=8)
    found = table(lda=model, exact=Uniform(2))
    rows = {row["model"]: row for row in found.rows()}
    assert rows["exact"]["monte_carlo_error"] == rows["exact"]["drift"] == 0
    error, drift = rows["lda"]["monte_carlo_error"], rows["lda"]["drift"]
    assert error == found.test["lda"].monte_carlo_error[0] > 0
    assert drift == found.test["lda"].drift_per_token[0] > 0
    assert found.uncertainty == f"lda {error:.4f} and {drift:.4f}"
    assert str(found).endswith(f"in nats per token: {found.uncertainty}")


def test_fits_bring_their_seconds():
    model = Fixed([[-1.0, -1.0]])
    fit = Fit(model, "log-likelihood per token (nats)", np.zeros((1, 1)), ["converged"], seconds=2.5)
    comparison = table(fitted=fit, plain=model)
    assert [row["fit_seconds"] for row in comparison.rows()] == [2.5, None]
    assert comparison.fits == {"fitted": fit}
    assert comparison.models["fitted"] is model


def test_rows_are_json_with_the_columns_and_more():
    rows = table(a=Fixed([[-1.0, -INF]], "lower bound"), b=Uniform(2)).rows()
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    more = ["restart_nats_per_token", "validation_nats_per_token", "monte_carlo_error", "drift"]
    more += ["nats_per_token_se", "nats_per_token_dse"]
    assert list(rows[0]) == [*COLUMNS, *more]


def test_html_escapes_names():
    page = compare({"<b>&": Uniform(2)}, validation=VALIDATION, test=TEST)._repr_html_()
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        ({}, "received no models"),
        ([Uniform(2)], "received a list"),
        ({3: Uniform(2)}, "the model name 3 is a int; expected text"),
        ({"a": 3}, "'a' is a int; expected a model or a Fit"),
        ({"a": SimpleNamespace(fit=FIT)}, "expected a model or a Fit, which is its .fit"),
        (
            {"a": Uniform(2), "b": Uniform(3)},
            "'a' scores 2 symbols and 'b' scores 3 symbols; only models of the same observations share a table",
        ),
        (
            {"a": Fixed([[0.0]], support=("counts", 2)), "b": Fixed([[0.0]], support=("reals", 2))},
            "'a' scores vectors of 2 counts and 'b' scores vectors of 2 reals",
        ),
        ({"a": Uniform(2), "b": Fixed([[0.0]], support=("reals", 2))}, "'a' scores 2 symbols and 'b' scores vectors"),
    ],
)
def test_bad_models(models, sentence):
    with pytest.raises(InputError, match=sentence):
        compare(models, validation=VALIDATION, test=TEST)


def test_bad_data():
    with pytest.raises(InputError, match="test holds a list; expected Sequences"):
        compare({"a": Uniform(2)}, validation=VALIDATION, test=[[0, 1]])
    with pytest.raises(InputError, match="validation holds no sequences"):
        compare({"a": Uniform(2)}, validation=Sequences.from_list([]), test=TEST)
    with pytest.raises(TypeError, match="validation"):
        compare({"a": Uniform(2)}, test=TEST)
