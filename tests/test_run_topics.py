"""Topics from the command line: fitting, the report, and reading a run folder."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import fails, succeeds

import probseq as ps
from probseq.run_topics import open_topics, time_frame

SEA, FIELD = "the ship and the navy sail across the sea", "a farmer has wheat and corn in the field"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Addresses of many years, early ones on the sea and late ones in the field; one model folder with a run."""
    folder = tmp_path_factory.mktemp("topics")
    with (folder / "speeches.jsonl").open("w") as file:
        for year in range(1800, 1840):
            about = SEA if year % 2 or year < 1810 else FIELD
            text = "\n\n".join(f"{about} {about.split()[i + 1]} {year}" for i in range(3))
            file.write(json.dumps({"text": text, "year": year}) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ("--num-topics", 2, "--num-restarts", 3, "--num-steps", 3, "--unit", "paragraph", "--min-count", 2)
        more = ("--set", "num_particles=4", "--set", "num_replicates=2")
        stop = ("--stop-words", "english,punctuation")
        succeeds("fit", "lda", "--data", "speeches.jsonl", *options, *stop, *more, "--out", "run")
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return "run"


def test_a_fit_of_topics_is_of_words_in_whole_documents(run):
    study = ps.read_study(f"{run}/study.toml")
    assert (study.data.level, study.data.window, study.data.unit, study.data.min_count) == (
        "word",
        10**9,
        "paragraph",
        2,
    )
    assert study.data.stop_words == ["english", "punctuation"]
    assert study.models["lda"].num_topics == 2


def test_the_topics_of_a_run_are_those_of_its_documents(run):
    name, found = open_topics(Path(run), num_words=4)
    assert name == "lda"
    about = [set(words) for words in found.words["probability"]]
    assert sorted(one <= set(SEA.split()) for one in about) == [False, True]
    assert sorted(one <= set(FIELD.split()) for one in about) == [False, True]
    assert found.agreement.num_others == 2
    assert re.fullmatch(r"line \d+, paragraph \d", found.titles[0][0])
    table = time_frame(found)
    sea = next(k for k in range(2) if "ship" in about[k])
    shares, early = table[f"topic {sea}"], table["begins"] < 1810
    assert table["begins"].iloc[0] == 1800
    np.testing.assert_allclose(shares[early], 1, atol=0.1)
    assert shares[~early].max() < 0.8


def test_what_the_command_prints(run):
    shown = succeeds("topics", run, "--by", "frex")
    assert "2 topics, diversity" in shown
    assert "of 2" in shown
    assert "words by frex" in shown
    found = json.loads(succeeds("topics", run, "--format", "json", "--num-words", 3))
    assert len(found["topics"]) == 2
    assert len(found["topics"][0]["relevance"]) == 3
    assert len(found["over_time"]) == len(found["spans"])


def test_files_are_written(run, tmp_path):
    succeeds("topics", run, "--out", tmp_path / "new")
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["map.svg", "over-time.csv", "over-time.svg", "topics.csv"]
    assert "found_again" in (tmp_path / "new" / "topics.csv").read_text()
    assert "exists" in fails("topics", run, "--out", tmp_path / "new")


def test_the_topics_of_a_model_on_a_file(run):
    for source, name in ((run, r"line \d+, paragraph \d"), (f"{run}/models/lda", r"line \d+")):  # only a run knows more
        shown = json.loads(succeeds("topics", source, "--data", "speeches.jsonl", "--format", "json"))
        assert shown["spans"] is None
        assert re.fullmatch(name, shown["topics"][0]["documents"][0])


def test_a_score_says_how_good_the_estimate_is_and_what_stands_beside_it(run):
    found = json.loads(succeeds("score", run, "speeches.jsonl", "--format", "json"))
    assert len(found["documents"]) == 120  # paragraphs, as in the run
    model = ps.load(run).saved["lda"]
    corpus = ps.read_study(f"{run}/study.toml").data.load(0)
    assert 0 <= found["monte_carlo_error"] < 0.1
    assert 0 <= found["drift"] < 0.1
    assert set(found["beside"]) == {"lower_bound", "completion"}
    nats = found["total"]["nats_per_token"]
    assert nats < found["beside"]["lower_bound"] + 2 * found["monte_carlo_error"]
    bound = sum(
        float(model.model.lower_bound(part.batch())[model.chosen].sum())
        for part in (corpus.train, corpus.validation, corpus.test)
    )
    bound /= -sum(part.num_tokens for part in (corpus.train, corpus.validation, corpus.test))
    assert found["beside"]["lower_bound"] == pytest.approx(bound, rel=1e-4)
    shown = succeeds("score", run, "speeches.jsonl")
    assert f"its standard error is {found['monte_carlo_error']:.4f}, its drift {found['drift']:.4f}" in shown
    assert "a lower bound on log p(x), at most" in shown
    assert "which is no likelihood" in shown


def test_rare_words_are_no_word_of_a_topic(run):
    _, found = open_topics(Path(run), num_words=99)
    assert "<unk>" in ps.load(run).vocabulary.symbols
    assert not any("<unk>" in words for rows in found.words.values() for words in rows)


def test_a_model_with_classes_has_default_words_too(run):
    sizes = ("--num-topics", 2, "--num-classes", 2, "--num-restarts", 1, "--num-steps", 1)
    few = ("--set", "num_particles=4", "--set", "num_replicates=2")
    succeeds("fit", "syntax-topics", "--data", "speeches.jsonl", *sizes, *few, "--out", "both")
    study = ps.read_study("both/study.toml")
    assert (study.data.level, study.data.window) == ("word", 10**9)
    assert study.models["syntax-topics"].num_classes == 2


def test_the_report_has_a_section(run):
    page = Path(run, "report.html").read_text()
    assert 'id="topics"' in page
    assert "What the topics of lda are" in page
    assert re.search(r"Of 2 topics of lda, \d (is|are) there again in both other restarts", page)
    assert "For a topic model it is every topic of each word" in page
    assert "every path of states" not in page
    assert "optim" not in page.partition('id="sensitivity"')[2].partition("</section>")[0]
    assert 'id="final-wide-title"' not in page  # of three restarts, which the strip shows
    assert "≈ an estimate" in page
    assert "~" not in page
    for key in ("topics-wide", "topics-narrow", "time-wide"):
        assert f'id="{key}-title"' in page
    assert "<code>" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run/models/lda",), "holds no data; give documents with --data FILE"),
        (("run", "--model", "hmm"), "unknown model 'hmm'"),
        (("run", "--by", "fex"), "unknown measure of words 'fex'; did you mean 'frex'"),
        (("run", "--restart", 9), "restart 9 of 3"),
        (("nowhere",), "there is no folder nowhere"),
    ],
)
def test_bad_requests_are_one_sentence(run, arguments, sentence):
    assert sentence in fails("topics", *arguments)


def test_a_model_without_topics_is_refused(run, tmp_path):
    ps.save(ps.Unigram(3), tmp_path / "unigram")
    assert "no model in" in fails("topics", tmp_path / "unigram", "--data", "speeches.jsonl")


def test_only_an_lda_has_default_words(run):
    study = "--out", "other"
    succeeds("fit", "unigram", "--data", "speeches.jsonl", *study)
    assert ps.read_study("other/study.toml").data.level == "char"
    assert "no model in other has topics" in fails("topics", "other")
    assert "unknown key 'stop_words'" in fails(
        "fit", "unigram", "--data", "speeches.jsonl", "--set", "stop_words=['a']"
    )
