"""What a fitted model, read from its folder, says about a user's file, and what it writes itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from probseq.checkpoint import is_run, load_model, load_run
from probseq.data.documents import Document
from probseq.data.readers import read_documents, read_text
from probseq.data.sequences import Sequences
from probseq.data.series import read_series
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError
from probseq.errors import unknown as unknown_name
from probseq.evaluate import evaluate
from probseq.models.base import Model


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
    """

    name: str
    restart: int
    model: Model
    vocabulary: Vocabulary | None
    data: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

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
    if is_run(folder):
        run = load_run(folder)
        data, columns = run.study["data"], run.data.get("columns", [])
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
    return Fitted(name, restart, model, saved.vocabulary, data, tuple(columns))


def score_file(
    fitted: Fitted, path: Path, window: int | None = None, *, column: str | None = None, id_column: str | None = None
) -> dict[str, Any]:
    """Log-probability of every document of a file, and of all of them, in plain values.

    Documents are scored in windows, as in a comparison: the first token of a window is predicted from nothing. Of
    vectors, only tokens that were observed count.

    Args:
        fitted: the model.
        path: a file as `read_corpus` takes it; a .txt file is one document.
        window: tokens in a window, at most. Default: as in the model's run, else 256.
        column, id_column: of a table. Default: as in the model's run.
    """
    names, documents = read_sequences(fitted, path, column, id_column)
    unknown = None if fitted.vocabulary is None else fitted.vocabulary.unknown
    window = window if window is not None else int(fitted.data.get("window", 256))
    windows = documents.windows(window)
    score = evaluate(fitted.model, windows)
    row = np.searchsorted(documents.offsets, windows.offsets[:-1], side="right") - 1  # the document of each window
    log_prob = np.bincount(row, weights=score.log_prob[0], minlength=len(documents))
    return {
        "model": fitted.name,
        "restart": fitted.restart,
        "likelihood": score.likelihood,
        "observations": fitted.model.support[0],
        "window": window,
        "documents": [
            {"document": name, **_units(int(n), float(lp))}
            for name, n, lp in zip(names, documents.num_observed, log_prob, strict=True)
        ],
        "total": _units(int(documents.num_observed.sum()), math.fsum(log_prob)),
        "num_unknown": 0 if unknown is None else int((documents.values == unknown).sum()),
    }


def sample_text(
    model: Model,
    vocabulary: Vocabulary | None,
    *,
    num: int,
    length: int,
    prefix: str = "",
    seed: int = 0,
) -> list[str]:
    """Texts drawn from a model of symbols with one restart, each up to its end symbol.

    Args:
        model: R = 1.
        vocabulary: what its symbols mean; where None, texts are numbers with spaces between them.
        num: how many.
        length: symbols in each, the prefix included.
        prefix: what each begins with.
        seed: of the draws.

    Raises:
        InputError: nothing to draw, or a prefix that does not fit.
    """
    start = _encode(prefix, vocabulary)
    _check_sizes(num, length, len(start))
    generator = torch.Generator(model.device).manual_seed(seed)
    drawn = model.sample(num, length, prefix=start.tolist(), generator=generator)
    return [_to_text(symbols, vocabulary) for symbols in drawn]


def sample_vectors(
    model: Model, columns: Iterable[str], *, num: int, length: int, prefix: str = "", seed: int = 0
) -> list[str]:
    """Series drawn from a model of vectors, as the lines of a table: sample, step, and the D numbers of each step.

    Args:
        model: R = 1.
        columns: the names of the D numbers.
        num: how many series.
        length: steps in each.
        prefix: must be empty: what a series begins with cannot be given as text.
        seed: of the draws.

    Raises:
        InputError: nothing to draw, or a prefix.
    """
    if prefix:
        raise InputError(f"received --prefix {prefix!r}, and the model is of vectors; leave it out")
    _check_sizes(num, length, 0)
    generator = torch.Generator(model.device).manual_seed(seed)
    drawn = model.sample(num, length, generator=generator)
    header = ",".join(["sample", "step", *(quote(one) for one in columns)])
    return [header, *(f"{i},{t},{numbers(row)}" for i, one in enumerate(drawn) for t, row in enumerate(one))]


def numbers(row: Iterable[float]) -> str:
    """The cells of a table: six significant digits each."""
    return ",".join("" if math.isnan(one) else f"{one:.6g}" for one in row)


def quote(cell: str) -> str:
    """A cell of a .csv file."""
    return '"{}"'.format(cell.replace('"', '""')) if any(c in cell for c in ',"\n\r') else cell


def _check_sizes(num: int, length: int, prefix: int) -> None:
    if num < 1:
        raise InputError(f"received --num {num}; expected 1 or more")
    if length < max(1, prefix):
        held = f", which hold the {prefix} of the prefix" if prefix else ""
        raise InputError(f"received --length {length}; expected {max(1, prefix)} or more tokens{held}")


def _encode(text: str, vocabulary: Vocabulary | None) -> NDArray[Any]:
    if vocabulary is not None:
        return vocabulary.encode(text)
    try:
        return np.array(text.split(), dtype=np.int64)
    except ValueError:
        raise InputError(f"received {text!r}; the model was fitted to numbers: expected '3 1 4' or the like") from None


def _to_text(symbols: NDArray[Any], vocabulary: Vocabulary | None) -> str:
    if vocabulary is None:
        return " ".join(map(str, symbols.tolist()))
    if vocabulary.end is not None:
        symbols = symbols[: [*symbols.tolist(), vocabulary.end].index(vocabulary.end)]
    return vocabulary.decode(symbols)


def read_sequences(
    fitted: Fitted, path: Path, column: str | None = None, id_column: str | None = None
) -> tuple[list[str], Sequences]:
    """The documents of a file as the model reads them, and their names; a .txt file is one document.

    Args:
        fitted: the model.
        path: the file.
        column, id_column: of a table. Default: as in the model's run.

    Raises:
        InputError: a file that cannot be read, or holds something else than the model was fitted to.
    """
    given = {"column": column, "id_column": id_column}
    columns = {key: given[key] or fitted.data.get(key) for key in given}
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
    encoded = [_symbols(document, vocabulary) for document in documents]
    return [document.name for document in documents], Sequences.from_list(encoded)


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


def _units(num_tokens: int, log_prob: float) -> dict[str, float | None]:
    bits = log_prob / math.log(2)
    return {
        "num_tokens": num_tokens,
        "log_prob_nats": log_prob,
        "log_prob_bits": bits,
        "nats_per_token": -log_prob / num_tokens if num_tokens else None,
        "bits_per_token": -bits / num_tokens if num_tokens else None,
    }
