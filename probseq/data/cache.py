"""Tokenised corpora on disk, so that a large text is tokenised once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import platformdirs

from probseq.data.documents import PARTS
from probseq.data.sequences import Sequences
from probseq.data.vocabulary import Vocabulary

MIN_CHARACTERS = 1_000_000  # smaller texts are tokenised faster than they are found
_FORMAT = 2  # raised when what is stored, or how text is tokenised, changes

Tokenised = tuple[dict[str, Sequences], Vocabulary, Vocabulary | None]
"""The parts, the vocabulary, and that of the sources where there are any."""


def directory() -> Path:
    """Where tokenised corpora are kept: ``$PROBSEQ_CACHE``, or else the user's cache directory."""
    return Path(os.environ.get("PROBSEQ_CACHE") or platformdirs.user_cache_dir("probseq")) / "corpora"


def key(contents: Iterable[str], options: list[Any]) -> str:
    """The name of an entry: a hash of all contents, the options and the version of the format."""
    whole = hashlib.sha256(json.dumps([_FORMAT, options]).encode())
    for content in contents:
        whole.update(f"\n{content}".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()[:40]


def load_or_build(key: str, build: Callable[[], Tokenised]) -> Tokenised:
    """The entry of that name; if there is none, or it is damaged, what `build` returns, which is then kept.

    A cache that cannot be written is no error: the next call builds again.
    """
    folder = directory() / key
    if folder.is_dir():
        # whatever a damaged file raises (and that differs by what is damaged), the remedy is the same
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, TypeError):
            return _load(folder)
    built = build()
    with contextlib.suppress(OSError):
        _save(folder, *built)
    return built


def _checksum(parts: dict[str, Sequences]) -> dict[str, list[int]]:
    pairs = {part: [data] if data.source is None else [data, data.source] for part, data in parts.items()}
    return {
        part: [zlib.crc32(array.data) for one in both for array in (one.values, one.offsets)]
        for part, both in pairs.items()
    }


def _load(folder: Path) -> Tokenised:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    parts = {part: Sequences.load(folder / part) for part in PARTS}
    if _checksum(parts) != manifest["checksum"]:
        raise ValueError("the stored arrays are not those that were saved")
    sources = manifest["source_vocabulary"]
    return parts, Vocabulary.from_dict(manifest["vocabulary"]), sources and Vocabulary.from_dict(sources)


def _save(folder: Path, parts: dict[str, Sequences], vocabulary: Vocabulary, sources: Vocabulary | None) -> None:
    """Write beside the final place, then move: a reader never sees half an entry."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-", ignore_cleanup_errors=True) as new:
        written = Path(new) / folder.name
        for part, data in parts.items():
            data.save(written / part)
        manifest = {
            "vocabulary": vocabulary.to_dict(),
            "source_vocabulary": sources and sources.to_dict(),
            "checksum": _checksum(parts),
        }
        (written / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(written, folder)
