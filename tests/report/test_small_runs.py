"""Runs at the edges: what is left when there is almost no data."""

import itertools

import numpy as np
import pytest

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


WORDS = ["".join(one) for one in itertools.product("abc", repeat=3)]
STRICT = {"monotone": True, "jumps": [1, 2], "num_restarts": 1, "num_steps": 1}
KINDS = {"alignment-hmm": STRICT, "hmm-decoder": {**STRICT, "hidden_dim": 4, "num_components": 2}}


def pairs(folder, part):
    """A study of pairs in which no target is longer than its source, but one of this part."""

    def write(longest):
        rows = [f"{word}\t{' '.join(word)}{' a a' if word == longest else ''}\n" for word in WORDS]
        (folder / "pairs.tsv").write_text("".join(rows))

    write(None)
    corpus = ps.read_pairs(folder / "pairs.tsv")
    write(corpus.source_vocabulary.decode(corpus.parts[part].source[0][:-1]))
    return {"path": str(folder / "pairs.tsv"), "level": "symbol", "source_level": "char"}


def test_an_impossible_test_pair_costs_a_model_its_score_alone(tmp_path):
    models = {kind: {"kind": kind, **KINDS[kind]} for kind in KINDS}
    run = ps.run_study(ps.Study.model_validate({"data": pairs(tmp_path, "test"), "models": models}), progress=False)
    for kind in KINDS:
        assert np.isneginf(run.comparison.test[kind].log_prob).sum() == 1
    assert run.comparison.frame["nats_per_token"].tolist() == [np.inf] * 2
    page = render(run)
    assert "no model is finite" in page
    assert "What each symbol of a target looks at" not in page  # of the impossible pair


@pytest.mark.parametrize("part", ["train", "validation"])
def test_an_impossible_pair_to_fit_is_named_before_the_first_fit(tmp_path, monkeypatch, part):
    models = {"unigram": {"kind": "unigram"}} | {kind: {"kind": kind, **KINDS[kind]} for kind in KINDS}
    study = ps.Study.model_validate({"data": pairs(tmp_path, part), "models": models})
    monkeypatch.setattr("probseq.specs.counts.CountSpec.fit", lambda *args, **options: pytest.fail("has begun"))
    with pytest.raises(ps.InputError, match="has a target of 6 symbols and a source of 4, ends included"):
        ps.run_study(study, progress=False)
