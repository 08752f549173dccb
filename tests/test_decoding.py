"""Documents that a model cannot have written, among others."""

import numpy as np
import pytest
import torch

import probseq as ps
from probseq.decoding import decode_file, forecast_file
from probseq.scoring import Fitted


@pytest.mark.parametrize(("ask", "options"), [(decode_file, {}), (forecast_file, {"steps": 1})])
def test_impossible_documents_are_named_before_anything_is_said(tmp_path, ask, options):
    bank = ps.emissions.Poisson.from_parameters([[0.0], [3.0]])
    fitted = Fitted("counts", 0, ps.HMM.from_parameters([1.0, 0.0], np.eye(2), bank), None, columns=("x",))
    (tmp_path / "rows.csv").write_text("id,x\na,0\na,0\nb,0\nb,2\nc,1\n")
    with pytest.raises(ps.InputError, match=r"impossible under this model.*: id b, id c; leave them out"):
        next(ask(fitted, tmp_path / "rows.csv", column="x", id_column="id", **options))


def test_draws_from_a_posterior_are_averaged(tmp_path):
    """The state that is most probable at each step; what comes next is a mixture, the draws weighted by the past."""
    draws = ps.HMM(2, ps.emissions.Categorical(3), num_restarts=4, seed=2)
    model = ps.PosteriorHMM(draws, num_draws=4)
    fitted = Fitted("vb", 0, model, None)
    (tmp_path / "rows.jsonl").write_text('{"x": [0, 1, 2, 2]}\n{"x": [1]}\n')
    batch = ps.Sequences.from_list([[0, 1, 2, 2]]).batch()
    first = next(decode_file(fitted, tmp_path / "rows.jsonl", column="x", posterior=True))
    assert first["posterior"] == model.posterior_marginals(batch)[0, 0].tolist()
    assert first["states"] == [int(np.argmax(row)) for row in first["posterior"]]
    ahead = next(forecast_file(fitted, tmp_path / "rows.jsonl", column="x", steps=2))["probabilities"][0]
    for symbol, found in ahead.items():
        longer = ps.Sequences.from_list([[0, 1, 2, 2, int(symbol)]]).batch()
        assert found == pytest.approx(float(model.token_log_prob(longer)[0, 0, -1].exp()), abs=1e-12)
    with pytest.raises(ps.InputError, match="draws from a posterior, which have no path in common"):
        next(decode_file(fitted, tmp_path / "rows.jsonl", column="x", num_best=2))


def test_a_forecast_of_vectors_is_that_of_all_draws():
    bank = ps.emissions.Poisson(2)
    draws = ps.HMM(2, bank, num_restarts=6, seed=1)
    draws.emission.log_rate.data += torch.randn(
        draws.emission.log_rate.shape, generator=torch.Generator().manual_seed(0)
    )
    batch = ps.Sequences.from_list([np.array([[1.0, 0.0], [2.0, 3.0]]), np.array([[4.0, 1.0]])]).batch()
    model = ps.PosteriorHMM(draws, num_draws=3)
    found, each = model.forecast(batch, 2), draws.forecast(batch, 2)
    log_prob = draws.token_log_prob(batch).sum(-1).view(2, 3, 2)
    shares = (log_prob - log_prob.logsumexp(1, keepdim=True)).exp()[..., None, None]
    mean = (shares * each.mean.view(2, 3, 2, 2, 2)).sum(1)
    second = (shares * (each.variance + each.mean**2).view(2, 3, 2, 2, 2)).sum(1)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.variance, second - mean**2)
    same = ps.PosteriorHMM(draws.take([0, 0, 0]), num_draws=3).forecast(batch, 2)
    torch.testing.assert_close(same.upper[0], each.upper[0])
