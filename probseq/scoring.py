"""What a fitted model, read from its folder, says about a user's file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probseq.checkpoint import is_run, load_model, load_run
from probseq.data.documents import Document
from probseq.data.paragraphs import cut_paragraphs
from probseq.data.parallel import has_columns, read_pair_documents
from probseq.data.preparation import encode_all
from probseq.data.readers import read_documents, read_text
from probseq.data.sequences import Sequences
from probseq.data.series import read_series
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError
from probseq.errors import unknown as unknown_name
from probseq.evaluate import evaluate
from probseq.models.base import Model
from probseq.models.given import ConditionalModel
from probseq.topics import beside_likelihood


@dataclass
class Fitted:
    """One restart of a saved model.

    Attributes:
        name: of the model.
        restart: its number among all restarts.
        model: R = 1.
        vocabulary: what its symbols mean, or None where it was fitted to numbers.
        data: the settings of the data of the run it comes from; empty where only the model's folder is known.
        columns: of vectors, the names of their D numbers.
        source_vocabulary: where the data were pairs, what the symbols of the sources mean, unless no model saw them.
        paired: whether the data were pairs.
    """

    name: str
    restart: int
    model: Model
    vocabulary: Vocabulary | None
    data: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    source_vocabulary: Vocabulary | None = None
    paired: bool = False

    @property
    def is_conditional(self) -> bool:
        """True for a model of targets given their sources."""
        return isinstance(self.model, ConditionalModel)

    @property
    def of_pairs(self) -> bool:
        """True for a model that was fitted to pairs, even if it does not see the sources."""
        return self.is_conditional or self.paired

    @property
    def is_symbolic(self) -> bool:
        """True for a model of symbols, False for one of vectors."""
        return self.model.support[0] == "symbols"


def open_fitted(folder: Path, name: str | None = None, restart: int | None = None) -> Fitted:
    """A model of a run folder (default: the best of the comparison), or the model of a model folder.

    Args:
        folder: a run folder or a model folder.
        name: of the model, where the folder is a run.
        restart: default: the one that was chosen on validation.

    Raises:
        InputError: no such folder, model or restart, or a file that is missing or corrupted.
    """
    data: Mapping[str, Any] = {}
    columns: list[str] = []
    sources: Vocabulary | None = None
    paired = False
    if is_run(folder):
        run = load_run(folder)
        data, columns = run.study["data"], run.data.get("columns", [])
        sources, paired = run.source_vocabulary, run.data.get("num_source_symbols") is not None
        name = name or run.rows[0]["model"]
        if name not in run.saved:
            raise unknown_name("model", name, run.saved)
        saved = run.saved[name]
    elif name not in (None, folder.name):
        raise InputError(f"{folder} is the folder of one model; leave --model {name} out, or give the run folder")
    else:
        name, saved = folder.resolve().name, load_model(folder)
    restart = (saved.chosen or 0) if restart is None else restart
    model = saved.model.select(restart)
    if not columns and model.support[0] != "symbols":
        columns = [f"x{i}" for i in range(1, model.support[1] + 1)]
    sources = saved.source_vocabulary or sources
    return Fitted(name, restart, model, saved.vocabulary, data, tuple(columns), sources, paired)


def score_file(
    fitted: Fitted,
    path: Path,
    window: int | None = None,
    *,
    column: str | None = None,
    id_column: str | None = None,
    source_column: str | None = None,
) -> dict[str, Any]:
    """Log-probability of every document of a file, and of all of them, in plain values.

    Documents are scored in windows, as in the model's run: the first token of a window is predicted from nothing, or
    from all that came before it in the document. Of vectors, only tokens that were observed count. Targets are scored
    whole, given their sources where the model sees them.

    Args:
        fitted: the model.
        path: a file as `read_corpus` takes it; a .txt file is one document.
        window: tokens in a window, at most. Default: as in the model's run, else 256.
        column, id_column, source_column: of a table. Default: as in the model's run.
    """
    names, documents = read_sequences(fitted, path, column, id_column, source_column)
    unknown = None if fitted.vocabulary is None else fitted.vocabulary.unknown
    window = window if window is not None else int(fitted.data.get("window", 256))
    history = _history(fitted)
    windows = documents if fitted.of_pairs else documents.windows(window, history == "document")
    score = evaluate(fitted.model, windows)
    beside = beside_likelihood(fitted.model, documents if history == "document" else windows)
    row = np.searchsorted(documents.offsets, windows.offsets[:-1], side="right") - 1  # the document of each window
    targets: list[dict[str, str]] = [{}] * len(documents)
    if fitted.of_pairs and fitted.vocabulary is not None:
        targets = [{"target": fitted.vocabulary.decode(one[:-1])} for one in documents]
    log_prob = np.bincount(row, weights=score.log_prob[0], minlength=len(documents))
    return {
        "model": fitted.name,
        "restart": fitted.restart,
        "likelihood": score.likelihood,
        "observations": fitted.model.support[0],
        "window": None if fitted.of_pairs else window,
        "history": history,
        "documents": [
            {"document": name, **target, **_units(int(n), float(lp))}
            for name, target, n, lp in zip(names, targets, documents.num_observed, log_prob, strict=True)
        ],
        "total": _units(int(documents.num_observed.sum()), math.fsum(log_prob)),
        "monte_carlo_error": _known(score.monte_carlo_error[0]),
        "drift": _known(score.drift_per_token[0]),
        "beside": {name: _known(nats[0]) for name, nats in beside.items()},
        "nats_per_sequence": -math.fsum(log_prob) / len(documents),
        "num_unknown": 0 if unknown is None else int((documents.values == unknown).sum()),
    }


def _history(fitted: Fitted) -> str:
    """What a token is predicted from: its target with or without the source, its document, or its window."""
    if fitted.of_pairs:
        return "source" if fitted.is_conditional else "target"
    return str(fitted.data.get("history", "window"))


def read_sequences(
    fitted: Fitted,
    path: Path,
    column: str | None = None,
    id_column: str | None = None,
    source_column: str | None = None,
) -> tuple[list[str], Sequences]:
    """The documents of a file as the model reads them, and their names; a .txt file is one document.

    Where the documents of its run were paragraphs, these are paragraphs too. A model that was fitted to pairs reads
    pairs; a pair is named after its source.

    Args:
        fitted: the model.
        path: the file.
        column, id_column: of a table. Default: as in the model's run.
        source_column: of pairs. Where neither it nor `column` is given, they are as in the model's run if the file has
            both, and else the usual ones.

    Raises:
        InputError: a file that cannot be read, or holds something else than the model was fitted to.
    """
    given = {"column": column, "id_column": id_column}
    columns = {key: given[key] or fitted.data.get(key) for key in given}
    if fitted.of_pairs:
        return _read_pairs(fitted, path, source_column, column)
    if source_column is not None:
        raise InputError(
            f"received the source column {source_column!r}, and {fitted.name} is not of pairs; leave it out"
        )
    if not fitted.is_symbolic:
        documents, _ = read_series(path, **columns)
        expected = fitted.model.support[1]
        for document in documents:
            if (found := np.shape(document.content)[1]) != expected:
                raise InputError(
                    f"{document.name} has {found} numbers in a row, and the model was fitted to {expected}; "
                    "name the columns with --column (a,b)"
                )
        return [document.name for document in documents], Sequences.from_list([d.content for d in documents])
    vocabulary = fitted.vocabulary
    level = vocabulary.level if vocabulary is not None else "char"
    if path.suffix.lower() == ".txt" and path.is_file():
        documents = [Document(read_text(path, level), path.name)]
    else:
        documents = read_documents(path, level=level, **columns)
    if fitted.data.get("unit") == "paragraph":
        documents = cut_paragraphs(documents, () if vocabulary is None else vocabulary.stop_words)
    encoded = [_symbols(document, vocabulary) for document in documents]
    return [document.name for document in documents], Sequences.from_list(encoded)


def _read_pairs(
    fitted: Fitted, path: Path, source_column: str | None, column: str | None
) -> tuple[list[str], Sequences]:
    usual = fitted.data.get("source_column"), fitted.data.get("column")
    if source_column is None and column is None and has_columns(path, *usual):
        source_column, column = usual
    vocabulary, sources = check_vocabularies(fitted) if fitted.is_conditional else (fitted.vocabulary, None)
    assert vocabulary is not None  # pairs are texts, and whatever was fitted to them was saved with one
    level = str(fitted.data.get("source_level", "char")) if sources is None else sources.level
    pairs = read_pair_documents(path, vocabulary.level, level, column=column, source_column=source_column)
    return [f"{pair.source}" for pair in pairs], encode_all(pairs, vocabulary, sources)


def check_vocabularies(fitted: Fitted) -> tuple[Vocabulary, Vocabulary]:
    """What targets and sources are made of.

    Raises:
        InputError: the model was saved without one of them.
    """
    if fitted.vocabulary is None or fitted.source_vocabulary is None:
        raise InputError(f"the model {fitted.name} was saved without its vocabularies, so no text can be read for it")
    return fitted.vocabulary, fitted.source_vocabulary


def _symbols(document: Document, vocabulary: Vocabulary | None) -> NDArray[Any]:
    content = document.content
    if not isinstance(content, str) and vocabulary is not None:
        raise InputError(f"{document.name} holds numbers, and the model was fitted to text: expected text")
    if not isinstance(content, str):
        symbols = content
    elif vocabulary is None:
        raise InputError(f"{document.name} is text, and the model was fitted to numbers; expected lists of symbols")
    else:
        try:
            symbols = vocabulary.encode_document(content)
        except InputError as error:
            raise InputError(f"{document.name}: {error}") from None
    if len(symbols) == 0:
        raise InputError(f"{document.name} has no symbols; expected at least one: remove it")
    return symbols


def _known(number: float) -> float | None:
    """None in place of what is no number, which JSON does not have."""
    return float(number) if np.isfinite(number) else None


def _units(num_tokens: int, log_prob: float) -> dict[str, float | None]:
    bits = log_prob / math.log(2)
    return {
        "num_tokens": num_tokens,
        "log_prob_nats": log_prob,
        "log_prob_bits": bits,
        "nats_per_token": -log_prob / num_tokens if num_tokens else None,
        "bits_per_token": -bits / num_tokens if num_tokens else None,
    }
