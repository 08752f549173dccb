"""A study of pairs from end to end, and what the commands say of its models."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from commands import fails, probseq_cli, succeeds

import probseq as ps
from probseq import study
from probseq.specs import KINDS
from probseq.specs.networks import GradientSpec
from probseq.study import make_study, preset

EXAMPLES = Path(__file__).parent.parent / "examples"

PHONES = {"a": "AH", "b": "B", "c": "K"}
WORDS = ["".join(one) for n in (1, 2, 3) for one in itertools.product("abc", repeat=n)]
STUDY = """
[data]
path = "pairs.tsv"
level = "symbol"
source_level = "char"
[models.unigram]
kind = "unigram"
[models.table]
kind = "alignment-hmm"
num_restarts = 2
num_steps = 3
[models.attention]
kind = "seq2seq"
hidden_dim = 4
num_restarts = 1
num_steps = 4
[models.mixture]
kind = "hmm-decoder"
states = "latent"
num_states = 2
num_components = 2
hidden_dim = 4
num_restarts = 1
num_steps = 4
[models.posterior]
kind = "svi-hmm-decoder"
hidden_dim = 4
num_restarts = 2
num_steps = 3
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    spoken = [(word, " ".join(PHONES[c] for c in word)) for word in WORDS]
    again = [(word, text.replace("AH", "AE")) for word, text in spoken if "a" in word]
    rows = "".join(f"{word}\t{text}\n" for word, text in [*spoken, *again])
    (folder / "pairs.tsv").write_text(rows)
    (folder / "words.txt").write_text("cab\n\nbazaar\n")
    (folder / "study.toml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "output.txt").write_text(succeeds("compare", "study.toml", "--out", "run"))
    return folder


@pytest.fixture(autouse=True)
def inside(here, monkeypatch):
    monkeypatch.chdir(here)


def opened(name, here):
    saved = ps.load(here / "run").saved[name]
    return ps.select(saved.model, saved.chosen), saved.vocabulary, saved.source_vocabulary


def log_prob(model, vocabulary, sources, source, target):
    data = ps.Sequences.from_list(
        [vocabulary.encode_document(target)], source=ps.Sequences.from_list([sources.encode_document(source)])
    )
    return ps.evaluate(model, data).log_prob[0, 0]


def test_run_knows_its_errors_and_its_sources(here):
    document = json.loads((here / "run" / "comparison.json").read_text())
    assert list(document["errors"]) == ["table", "attention", "mixture", "posterior"]
    corpus = ps.read_pairs("pairs.tsv")
    for name, found in document["errors"].items():
        model, vocabulary, sources = opened(name, here)
        assert (vocabulary, sources) == (corpus.vocabulary, corpus.source_vocabulary)
        assert found == ps.decoding_errors(model, corpus.test, vocabulary.end).named()
        assert ps.evaluate(model, corpus.test).nats_per_sequence[0] == pytest.approx(
            next(row["nats_per_sequence"] for row in document["rows"] if row["model"] == name), rel=1e-6
        )
    assert ps.load(here / "run").source_vocabulary == corpus.source_vocabulary
    assert not (here / "run" / "models" / "unigram" / "source_vocabulary.json").exists()
    assert document["data"]["num_source_symbols"] == corpus.num_source_symbols


def test_the_table_has_the_errors_of_those_that_have_some(here):
    errors = json.loads((here / "run" / "comparison.json").read_text())["errors"]
    table = pd.read_csv(here / "run" / "comparison.csv").set_index("model")
    rates = list(errors["table"])
    assert len(rates) == 6
    assert table.loc["unigram", rates].isna().all()
    for name, found in errors.items():
        assert table.loc[name, rates].tolist() == pytest.approx([found[rate] for rate in rates])


def test_errors_are_those_of_the_chosen_restart(monkeypatch):
    searched = []
    compared = lambda *args, **options: replace(ps.compare(*args, **options), chosen={"table": 1})
    monkeypatch.setattr(study, "compare", compared)
    monkeypatch.setattr(study, "_errors", lambda model, corpus: searched.append(model))
    model = {"kind": "alignment-hmm", "num_restarts": 2, "num_steps": 1}
    data = {"path": "pairs.tsv", "level": "symbol", "source_level": "char"}
    run = study.run_study(make_study({"data": data, "models": {"table": model}}), progress=False)
    other, chosen = (run.fits["table"].model.select(r).log_jumps.tolist() for r in (0, 1))
    assert [one.log_jumps.tolist() for one in searched] == [chosen]
    assert chosen != other


def test_terminal_and_report_show_them(here):
    printed, page = (here / "output.txt").read_text(), (here / "run" / "report.html").read_text()
    errors = json.loads((here / "run" / "comparison.json").read_text())["errors"]
    assert "nats/target" in printed
    for found in errors.values():
        rate = f"{100 * found['PER macro, one reference']:.1f}"
        assert rate in printed
        assert rate in page
    for title in ("What each symbol of a target looks at, or comes from", "The components of mixture"):
        assert title in page
    assert "WER*" in printed
    drawn = page[page.index('<section id="samples">') :]
    assert drawn.count("<h3>") >= 4
    of = {name: drawn.partition(f"<h3>{name}")[2].partition("</pre>")[0] for name in ("unigram", "attention")}
    assert of["attention"].count(" → ") > 1
    assert " → " not in of["unigram"]


def test_targets_are_found_with_exact_log_probabilities(here):
    for name in ("table", "attention", "mixture"):
        found = json.loads(succeeds(
            "decode", "run", "--model", name, "--input", "words.txt", "--n-best", 3, "--format", "json",
            *["--posterior"] * (name != "attention")
        ))  # fmt: skip
        assert [(one["source"], one["rank"]) for one in found] == [
            (w, r) for w in ("cab", "", "bazaar") for r in (1, 2, 3)
        ]
        model, vocabulary, sources = opened(name, here)
        for one in found:
            expected = log_prob(model, vocabulary, sources, one["source"], one["target"])
            assert one["log_prob"] == pytest.approx(expected, abs=1e-4)
            if name != "attention":
                assert len(one["states"]) == len(one["target"].split()) + 1
                np.testing.assert_allclose(np.sum(one["posterior"], axis=1), 1, atol=1e-5)
            assert ("components" in one) == (name == "mixture")
            if name == "mixture":  # latent states are numbered by component
                state = np.array(one["posterior"]).reshape(-1, 2, 2).sum(axis=2)
                np.testing.assert_allclose(state, [one["components"]] * len(state), atol=1e-4)
        if name == "table":
            letters = [*"bazaar", "<end>"]  # the z as it was typed, although training had none
            assert found[-1]["from"] == [letters[s] for s in found[-1]["states"]]
    table = succeeds("decode", "run", "words.txt", "--model", "table")
    assert table.splitlines()[0].split("\t") == ["source", "rank", "target", "log_prob", "from"]


def test_a_search_is_as_wide_and_as_long_as_it_is_told(here):
    ask = ("decode", "run", "words.txt", "--model", "attention", "--format", "json", "--n-best", 9)
    model, vocabulary, sources = opened("attention", here)
    given = model.given(ps.Sequences.from_list([sources.encode_document("cab")]))
    for options, width, penalty in (((), 9, 0.0), (("--num-beams", 12), 12, 0.0), (("--length-penalty", 1), 9, 1.0)):
        found = [one for one in json.loads(succeeds(*ask, *options)) if one["source"] == "cab"]
        expected = ps.beam_search(given, width, 34, vocabulary.end, num_best=9, length_penalty=penalty)
        np.testing.assert_allclose([one["log_prob"] for one in found], expected.log_prob, atol=1e-4)
    ranked = [one["log_prob"] for one in found]
    assert ranked != sorted(ranked, reverse=True)


def test_pairs_are_scored_whole(here):
    scored = json.loads(succeeds("score", "run", "pairs.tsv", "--model", "attention", "--format", "json"))
    model, vocabulary, sources = opened("attention", here)
    first = scored["documents"][3]
    assert first["log_prob_nats"] == pytest.approx(log_prob(model, vocabulary, sources, "aa", "AH AH"), abs=1e-5)
    assert (first["document"], first["target"], first["num_tokens"]) == ("aa", "AH AH", 3)
    assert (scored["documents"][-1]["document"], scored["documents"][-1]["target"]) == ("cca", "K K AE")
    total = sum(one["log_prob_nats"] for one in scored["documents"])
    assert scored["nats_per_sequence"] == pytest.approx(-total / len(scored["documents"]))
    assert "targets given their sources" in succeeds("score", "run", "pairs.tsv", "--model", "attention")


def test_a_model_that_does_not_see_the_sources_scores_the_same_targets(here):
    scored = json.loads(succeeds("score", "run", "pairs.tsv", "--model", "unigram", "--format", "json"))
    saved, corpus = ps.load(here / "run").saved["unigram"], ps.read_pairs("pairs.tsv")
    expected = [ps.evaluate(saved.model, part).log_prob.sum() for part in corpus.parts.values()]
    assert scored["total"]["log_prob_nats"] == pytest.approx(sum(expected))
    assert len(scored["documents"]) == sum(map(len, corpus.parts.values()))
    assert "whole targets, sources unseen" in succeeds("score", "run", "pairs.tsv", "--model", "unigram")


def test_a_posterior_is_scored_at_its_mean(here):
    corpus, spec = ps.read_pairs("pairs.tsv"), ps.read_study("study.toml").models["posterior"]
    alone = spec.build(corpus, 0)
    ps.svi(alone, corpus.train, num_steps=3, batch_size=len(corpus.train), seed=0)  # fewer pairs than in a minibatch
    saved = ps.load(here / "run").saved["posterior"].model
    expected = ps.evaluate(alone, corpus.test).log_prob
    np.testing.assert_allclose(ps.evaluate(saved, corpus.test).log_prob, expected, rtol=1e-5)


def test_targets_are_drawn(here):
    arguments = ("--model", "mixture", "--input", "words.txt", "--num", 2, "--length", 6)
    drawn = json.loads(succeeds("sample", "run", *arguments, "--format", "json"))
    assert [one["source"] for one in drawn] == ["cab", "cab", "", "", "bazaar", "bazaar"]
    model, vocabulary, sources = opened("mixture", here)
    ended = [one for one in drawn if one["num_tokens"] == len(one["text"].split()) + 1]
    assert ended
    for one in ended:
        expected = log_prob(model, vocabulary, sources, one["source"], one["text"])
        assert one["log_prob_nats"] == pytest.approx(expected, abs=1e-4)


def test_a_kind_of_pairs_reads_a_file_as_pairs(here):
    succeeds("fit", "hmm-decoder", "--data", "pairs.tsv", "--num-steps", 1, "--num-restarts", 1, "--hidden-dim", 4,
             "--out", "lone")  # fmt: skip
    study = ps.read_study("lone/study.toml")
    assert (study.data.source_level, study.data.level) == ("char", "symbol")
    assert ps.load("lone").source_vocabulary.level == "char"


def test_a_kind_of_sequences_reads_the_targets_where_sources_have_a_level(here):
    succeeds("fit", "unigram", "--data", "pairs.tsv", "--source-level", "char", "--out", "targets")
    assert ps.load("targets").rows[0]["num_parameters"] == ps.read_pairs("pairs.tsv").num_symbols - 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sample", "run", "--model", "mixture"), "mixture draws targets of sources; name a text file"),
        (("sample", "run", "--model", "unigram", "--input", "words.txt"), "the model unigram has no sources"),
        (
            ("sample", "run", "--model", "table", "--input", "words.txt", "--prefix", "B", "--stream"),
            "received --prefix, --stream, and a target is drawn from its beginning to its end; leave it out",
        ),
        (
            ("decode", "run", "words.txt", "--model", "table", "--column", "a"),
            "--column, and sources are lines of text",
        ),
        (("decode", "run"), "received the file None and --input None; expected exactly one of them"),
        (("decode", "run", "words.txt", "--input", "words.txt"), "expected exactly one of them"),
        (("decode", "run", "none.txt", "--model", "table"), "none.txt cannot be read"),
        (("score", "run", "words.txt", "--model", "table"), "unknown file type of pairs '.txt'"),
        (("fit", "seq2seq", "--data", "sotu"), "kind 'seq2seq' says how probable a target is given its source, and "),
    ],
)
def test_what_cannot_be_asked(arguments, sentence):
    assert sentence in fails(*arguments)


LATENT = {"states": "latent", "num_states": 3, "num_components": 2, "order": 0}
WALK = {"num_components": 2, "monotone": True, "jumps": [0, 2]}
READ = {"cell": "gru", "bidirectional": False, "hidden_dim": 6, "embed_dim": 5, "num_layers": 2}
SETTINGS = [
    ("seq2seq", {"attention": "additive", "dropout": 0.25, **READ}),
    ("transformer-seq2seq", {"num_layers": 1, "num_heads": 2, "embed_dim": 8, "dropout": 0.25}),
    ("hmm-decoder", {"emission": "previous", "dropout": 0.25, **LATENT, **READ}),
    ("hmm-decoder", {"emission": "previous", "dropout": 0.25, **WALK, **READ}),
    ("svi-hmm-decoder", {"emission": "state", "prior_scale": 0.5, "num_restarts": 2, **LATENT, **READ}),
    ("svi-hmm-decoder", {"emission": "state", "prior_scale": 0.5, "num_restarts": 2, **WALK, **READ}),
    ("alignment-hmm", {"order": 0, "monotone": True, "jumps": [0, 2], "num_restarts": 2, "concentration": 1.5}),
]
CORPUS = SimpleNamespace(
    is_parallel=True, num_source_symbols=31, num_symbols=40, vocabulary=SimpleNamespace(end=39)
)  # the sizes of cmudict


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_every_setting_reaches_the_model(kind, settings):
    model = KINDS[kind](kind=kind, **settings).build(CORPUS, 3)
    config = model.config() if kind in ("svi-hmm-decoder", "alignment-hmm") else model.nets[0].config()
    assert {name: config[name] for name in settings} == settings
    assert config.get("end", 39) == 39
    defaults = KINDS[kind](kind=kind)
    assert all(getattr(defaults, name) != value for name, value in settings.items())


@pytest.mark.parametrize("kind", ["hmm-decoder", "svi-hmm-decoder"])
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_states": 8}, "num_states is a setting of states='latent', not of states='alignment', order=1; leave it"),
        ({"order": 0, "monotone": True}, "monotone is a setting of states='alignment', order=1, not of states='align"),
        ({"states": "latent", "jumps": [1, 1]}, "jumps is a setting of states='alignment', order=1, not of states='la"),
    ],
)
def test_settings_that_states_do_not_have_are_refused(kind, settings, sentence):
    with pytest.raises(ps.InputError, match=rf"^models\.chain: {sentence}"):
        make_study({"data": {"path": "pairs.tsv"}, "models": {"chain": {"kind": kind, **settings}}})


@pytest.mark.parametrize(("kind", "net"), [("seq2seq", ps.Seq2Seq), ("hmm-decoder", ps.HMMDecoder)])
def test_a_kind_and_its_network_have_the_same_defaults(kind, net):
    config = KINDS[kind](kind=kind).build(CORPUS, 0).nets[0].config()
    assert config == {**net(31, 40).config(), **({"end": 39} if kind == "hmm-decoder" else {})}


def test_no_attention_is_the_bottleneck():
    model = KINDS["seq2seq"](kind="seq2seq", attention="none", hidden_dim=4).build(CORPUS, 0)
    assert model.nets[0].config()["attention"] is None


ATTENTION, TRANSFORMER = {"kind": "seq2seq", "attention": "dot"}, {"kind": "transformer-seq2seq"}
CHAIN, WALK_ALONG = ({"kind": "hmm-decoder", "states": states} for states in ("latent", "alignment"))
WALKS = {
    "align-0": {**WALK_ALONG, "order": 0},
    "align-1": {**WALK_ALONG, "order": 1, "monotone": False},
    "monotone": {**WALK_ALONG, "order": 1, "monotone": True},
}
NETWORKS = {  # that each study compares, and how often each begins
    "preset": {
        "bottleneck": {"kind": "seq2seq", "attention": "none"},
        "attention": ATTENTION,
        "transformer": TRANSFORMER,
        "latent-32": {**CHAIN, "num_states": 32, "num_components": 1},
        "latent-32x4": {**CHAIN, "num_states": 32, "num_components": 4},
        "latent-128": {**CHAIN, "num_states": 128, "num_components": 1},
        "latent-128x4": {**CHAIN, "num_states": 128, "num_components": 4},
        **WALKS,
    },
    "full": {"attention": ATTENTION, "transformer": TRANSFORMER, "latent": CHAIN, "align": WALK_ALONG},
    "epochs": {"attention": ATTENTION, **WALKS},
}
STUDIES = {
    "preset": preset("g2p"),
    "full": ps.read_study(EXAMPLES / "g2p.toml"),
    "epochs": ps.read_study(EXAMPLES / "g2p_epochs.toml"),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_pronunciations_compares_these_networks_at_equal_terms(name):
    study = STUDIES[name]
    for row, settings in NETWORKS[name].items():
        found = study.models[row].model_dump()
        assert {key: found[key] for key in settings} == settings, row
    specs = {row: spec for row, spec in study.models.items() if isinstance(spec, GradientSpec)}
    assert specs.keys() == NETWORKS[name].keys()
    sizes = [spec.build(CORPUS, 0).num_parameters for spec in specs.values()]
    assert max(sizes) < 1.05 * min(sizes)
    equal = ["seconds", "num_restarts", "batch_size", "schedule", "dropout"]
    equal += ["num_steps", "learning_rate", "warmup_steps"] * (name == "epochs")
    assert len({tuple(getattr(spec, key) for key in equal) for spec in specs.values()}) == 1
    assert all((spec.seconds is None) == (name == "epochs") for spec in specs.values())
    assert {spec.num_restarts for spec in specs.values()} == {3 if name == "preset" else 1}
    assert study.data.corpus == "cmudict"


def test_the_preset_has_its_baselines_and_three_beginnings_of_all_that_begins_somewhere():
    models = STUDIES["preset"].models
    assert [models[name].kind for name in ("unigram", "ngram", "table")] == ["unigram", "ngram", "alignment-hmm"]
    begun = {name: spec.num_restarts for name, spec in models.items() if hasattr(spec, "num_restarts")}
    assert begun.keys() == models.keys() - {"unigram", "ngram"}
    assert set(begun.values()) == {3}


@pytest.mark.parametrize(
    ("kind", "settings_of_sources", "level"),
    [
        ("seq2seq", {}, "char"),
        ("uniform", {"source_column": "word"}, "char"),
        ("uniform", {"source_min_count": 1}, "char"),
        ("alignment-hmm", {"source_level": "word"}, "word"),
        ("uniform", {}, None),
    ],
)
def test_a_file_is_of_pairs_where_a_kind_or_a_setting_is(kind, settings_of_sources, level):
    study = make_study({"data": {"path": "pairs.tsv", **settings_of_sources}, "models": {"one": {"kind": kind}}})
    assert study.data.source_level == level
    corpus = {"data": {"corpus": "dates"}, "models": {"one": {"kind": kind}}}
    assert make_study(corpus).data.source_level is None
    if settings_of_sources:
        with pytest.raises(ps.InputError, match="source_level, source_column and source_min_count are settings of"):
            make_study({**corpus, "data": {"corpus": "dates", **settings_of_sources}})


def test_a_study_without_a_source_level_reads_pairs(here):
    assert len(make_study({"data": {"path": "pairs.tsv"}, "models": {"a": {"kind": "seq2seq"}}}).data.load(0).train) > 9


def test_a_file_of_pairs_that_is_read_as_documents(here):
    hint = "where they are pairs of a source and a target, fit with --source-level char (in Python ps.read_pairs)"
    assert f"pairs.tsv has two columns of text; name one of them with --column, or {hint}" in fails(
        "fit", "unigram", "--data", "pairs.tsv"
    )
    (here / "pairs.jsonl").write_text('{"source": "a", "target": "AH"}\n')
    assert hint in fails("fit", "unigram", "--data", "pairs.jsonl")


def test_a_run_of_pairs_without_a_model_of_sources_scores_them(here):
    succeeds("fit", "unigram", "--data", "pairs.tsv", "--source-min-count", 1, "--out", "alone")
    assert ps.read_study("alone/study.toml").data.source_min_count == 1
    found = json.loads(succeeds("score", "alone", "pairs.tsv", "--format", "json"))
    assert found["history"] == "target"
    expected = json.loads(succeeds("score", "run", "pairs.tsv", "--model", "unigram", "--format", "json"))
    assert found["total"] == expected["total"]


def test_columns_of_a_run_are_looked_for_and_others_may_be_named(here):
    rows = [line.split("\t") for line in (here / "pairs.tsv").read_text().splitlines()]
    for name, header in (("named", "n\tword\tpron"), ("other", "n\tx\ty")):
        lines = [header, *(f"0\t{source}\t{target}" for source, target in rows)]
        (here / f"{name}.tsv").write_text("\n".join(lines))
    (here / "plain.jsonl").write_text("\n".join(json.dumps({"source": x, "target": y}) for x, y in rows))
    columns = ("--source-column", "word", "--column", "pron")
    short = ("--num-steps", 1, "--num-restarts", 1)
    succeeds("fit", "alignment-hmm", "--data", "named.tsv", *columns, *short, "--out", "n")
    expected = json.loads(succeeds("score", "n", "named.tsv", "--format", "json"))["total"]
    for arguments in (("pairs.tsv",), ("plain.jsonl",), ("other.tsv", "--source-column", "x", "--column", "y")):
        assert json.loads(succeeds("score", "n", *arguments, "--format", "json"))["total"] == expected
    assert "unknown column of named.tsv 'x'" in fails("score", "n", "named.tsv", "--source-column", "x")
    (here / "text.txt").write_text("AH B\n" * 99)
    succeeds("fit", "unigram", "--data", "text.txt", "--level", "symbol", "--out", "texts")
    assert "received the source column 'x', and unigram is not of pairs; leave it out" in fails(
        "score", "texts", "text.txt", "--source-column", "x"
    )


def test_a_list_is_asked_for_in_its_form(here):
    sentence = "models.alignment-hmm.jumps: received '1,2'; expected a list, such as [0, 2]"
    assert sentence in fails("fit", "alignment-hmm", "--data", "pairs.tsv", "--set", "jumps=1,2")


def test_an_empty_file_of_sources(here):
    (here / "empty.txt").write_text("")
    assert "empty.txt is empty; expected a source a line" in fails("decode", "run", "empty.txt", "--model", "table")


def test_a_budget_that_ends_before_the_second_look_is_told(here):
    result = probseq_cli(
        "fit", "seq2seq", "--data", "pairs.tsv", "--hidden-dim", 4, "--num-restarts", 1, "--seconds", 0.2,
        "--set", "eval_every=100000", "--out", "short",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "steps in 0.2 seconds, and one look at the validation data; give it more seconds, or a" in result.stderr
    saved = (here / "short" / "study.toml").read_text()
    assert "num_steps" not in saved  # no limit, where seconds are one
    assert ps.read_study("short/study.toml").models["seq2seq"].num_steps == 10**9
