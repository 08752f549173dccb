import numpy as np
import pytest

from probseq.data import cache, preparation
from probseq.data.corpus import read_corpus


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {i} of this text\n" for i in range(500)), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def cache_everything(monkeypatch):
    monkeypatch.setattr(cache, "MIN_CHARACTERS", 1)


@pytest.fixture
def built(monkeypatch):
    """Counts how often text was tokenised."""
    calls = []
    tokenise = preparation._tokenise

    def counted(*given):
        calls.append(1)
        return tokenise(*given)

    monkeypatch.setattr(preparation, "_tokenise", counted)
    return calls


def entries(folder):
    return sorted(path.name for path in (folder / "corpora").iterdir())


def test_the_second_time_is_read_and_equal(text_file, cache_folder, built):
    first, second = read_corpus(text_file), read_corpus(text_file)
    assert len(built) == 1
    assert len(entries(cache_folder)) == 1
    assert first.vocabulary == second.vocabulary
    for part in first.parts:
        assert np.array_equal(first.parts[part].values, second.parts[part].values)
        assert np.array_equal(first.parts[part].offsets, second.parts[part].offsets)
        assert first.documents[part] == second.documents[part]


@pytest.mark.parametrize(
    "changed", [{"level": "word"}, {"seed": 1}, {"end": True}, {"min_count": 5}, {"fractions": (0.2, 0.1)}]
)
def test_other_options_are_another_entry(text_file, cache_folder, changed):
    read_corpus(text_file)
    read_corpus(text_file, **changed)
    assert len(entries(cache_folder)) == 2


def test_windows_and_limits_share_an_entry(text_file, cache_folder, built):
    read_corpus(text_file, window=16)
    read_corpus(text_file, window=32, train_tokens=500)
    assert len(built) == 1
    assert len(entries(cache_folder)) == 1


def test_changed_text_is_another_entry(text_file, cache_folder):
    read_corpus(text_file)
    text_file.write_text(text_file.read_text(encoding="utf-8").replace("line 7 ", "line x "), encoding="utf-8")
    read_corpus(text_file)
    assert len(entries(cache_folder)) == 2


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "manifest.json").write_text("{", encoding="utf-8"),
        lambda entry: (entry / "manifest.json").write_text("[]", encoding="utf-8"),
        lambda entry: (entry / "manifest.json").unlink(),
        lambda entry: (entry / "test" / "values.npy").write_bytes(b""),
        lambda entry: (entry / "test" / "offsets.npy").write_bytes(b"\x93NUMPY junk"),
        lambda entry: (entry / "train" / "values.npy").unlink(),
        lambda entry: flip_byte(entry / "train" / "values.npy"),
    ],
)
def test_a_damaged_entry_is_built_again(text_file, cache_folder, built, damage):
    first = read_corpus(text_file)
    damage(next((cache_folder / "corpora").iterdir()))
    second = read_corpus(text_file)
    assert len(built) == 2
    assert np.array_equal(first.train.values, second.train.values)
    read_corpus(text_file)
    assert len(built) == 2, "the entry was not repaired"
    assert len(entries(cache_folder)) == 1


def test_a_cache_that_cannot_be_written_is_no_error(text_file, cache_folder, monkeypatch, built):
    cache_folder.write_text("a file where the folder should be", encoding="utf-8")
    assert read_corpus(text_file).train.num_tokens == read_corpus(text_file).train.num_tokens
    assert len(built) == 2


def test_small_texts_and_uncached_ones_leave_nothing(text_file, cache_folder, monkeypatch):
    read_corpus(text_file, cached=False)
    monkeypatch.setattr(cache, "MIN_CHARACTERS", 10**6)
    read_corpus(text_file)
    assert not cache_folder.exists()


def test_the_folder_is_the_users_unless_named(monkeypatch, tmp_path):
    assert cache.directory() == tmp_path / "cache" / "corpora"
    monkeypatch.delenv("PROBSEQ_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    assert cache.directory() == tmp_path / "probseq" / "corpora"
