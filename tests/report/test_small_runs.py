"""Runs at the edges: what is left when there is almost no data."""

import probseq as ps
from probseq.report import render


def study(**data):
    models = {
        "unigram": {"kind": "unigram"},
        "hmm": {"kind": "hmm", "num_states": 2, "num_restarts": 2, "num_steps": 2},
    }
    return ps.Study.model_validate({"data": data, "models": models})


def test_a_single_test_sequence_has_no_standard_error():
    run = ps.run_study(study(corpus="earthquakes", level="symbol"), progress=False)
    assert len(run.corpus.test) == 1
    assert run.comparison.frame["se"].isna().all()
    assert "With a single test sequence, no error can be given." in render(run)


def test_control_characters_of_the_data_become_visible(tmp_path):
    text = "".join(f"line {i} with a bell \x07 and a \x00 in it\n" for i in range(60))
    (tmp_path / "odd.txt").write_text(text, encoding="utf-8")
    run = ps.run_study(study(path=str(tmp_path / "odd.txt"), level="char"), progress=False)
    page = render(run)
    assert not {c for c in page if ord(c) < 32} - {"\n", "\t"}
