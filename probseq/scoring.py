"""What a fitted model, read from its folder, says about a user's file: scores, paths of states, samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError
from probseq.errors import unknown as unknown_name
from probseq.evaluate import evaluate
from probseq.models.base import Model
from probseq.models.hmm import HMM


@dataclass
class Fitted:
    """One restart of a saved model.

    Attributes:
        name: of the model.
        restart: its number among all restarts.
        model: R = 1.
        vocabulary: what its symbols mean, or None where it was fitted to numbers.
        data: the settings of the data of the run it comes from; empty where only the model's folder is known.
    """

    name: str
    restart: int
    model: Model
    vocabulary: Vocabulary | None
    data: Mapping[str, Any] = field(default_factory=dict)


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
    if is_run(folder):
        run = load_run(folder)
        data = run.study["data"]
        name = name or run.rows[0]["model"]
        if name not in run.saved:
            raise unknown_name("model", name, run.saved)
        saved = run.saved[name]
    elif name not in (None, folder.name):
        raise InputError(f"{folder} is the folder of one model; leave --model {name} out, or give the run folder")
    else:
        name, saved = folder.resolve().name, load_model(folder)
    restart = (saved.chosen or 0) if restart is None else restart
    return Fitted(name, restart, saved.model.select(restart), saved.vocabulary, data)


def score_file(fitted: Fitted, path: Path, window: int | None = None) -> dict[str, Any]:
    """Log-probability of every document of a file, and of all of them, in plain values.

    Documents are scored in windows, as in a comparison: the first token of a window is predicted from nothing.

    Args:
        fitted: the model.
        path: a file as `read_corpus` takes it; a .txt file is one document.
        window: tokens in a window, at most. Default: as in the model's run, else 256.
    """
    names, documents = _read(fitted, path)
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
        "window": window,
        "documents": [
            {"document": name, **_units(int(n), float(lp))}
            for name, n, lp in zip(names, documents.lengths, log_prob, strict=True)
        ],
        "total": _units(documents.num_tokens, math.fsum(log_prob)),
        "num_unknown": 0 if unknown is None else int((documents.values == unknown).sum()),
    }


def decode_file(fitted: Fitted, path: Path, posterior: bool) -> Iterator[dict[str, Any]]:
    """For each document its symbols, and the most probable path of states or each state's posterior probability.

    Raises:
        InputError: a model whose hidden state is computed, not drawn: it has no states to decode.
    """
    model = fitted.model
    if not isinstance(model, HMM):
        raise InputError(f"the model {fitted.name} has no states to decode; expected an HMM (see --model)")
    names, documents = _read(fitted, path)
    for i, name in enumerate(names):
        batch = documents.batch(np.array([i]))
        symbols = documents[i].tolist()
        text = symbols if fitted.vocabulary is None else [fitted.vocabulary.symbols[s] for s in symbols]
        if posterior:
            yield {"document": name, "symbols": text, "posterior": model.posterior_marginals(batch)[0, 0].tolist()}
        else:
            yield {"document": name, "symbols": text, "states": model.viterbi(batch)[0, 0].tolist()}


def sample_text(
    model: Model, vocabulary: Vocabulary | None, *, num: int, length: int, prefix: str = "", seed: int = 0
) -> list[str]:
    """Texts drawn from a model of one restart, each up to its end symbol.

    Args:
        model: R = 1.
        vocabulary: what its symbols mean; where None, texts are numbers with spaces between them.
        num: how many.
        length: symbols in each, the prefix included.
        prefix: what each begins with.
        seed: of the draws.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    drawn = model.sample(num, length, prefix=_encode(prefix, vocabulary).tolist(), generator=generator)
    return [_to_text(symbols, vocabulary) for symbols in drawn]


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


def _read(fitted: Fitted, path: Path) -> tuple[list[str], Sequences]:
    """The documents of a file as symbols, its columns named as in the run; a .txt file is one document."""
    vocabulary = fitted.vocabulary
    level = vocabulary.level if vocabulary is not None else "char"
    if path.suffix.lower() == ".txt" and path.is_file():
        documents = [Document(read_text(path, level), path.name)]
    else:
        columns = {key: fitted.data.get(key) for key in ("column", "id_column")}
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


def _units(num_tokens: int, log_prob: float) -> dict[str, float]:
    bits = log_prob / math.log(2)
    return {
        "num_tokens": num_tokens,
        "log_prob_nats": log_prob,
        "log_prob_bits": bits,
        "nats_per_token": -log_prob / num_tokens,
        "bits_per_token": -bits / num_tokens,
    }
