"""Documents that a model cannot have written, among others."""

import numpy as np
import pytest

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
