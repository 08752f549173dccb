"""The hidden states that a fitted model sees behind a user's file, and what it expects to come after it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from probseq.data.sequences import Batch, Sequences
from probseq.errors import InputError, unknown
from probseq.evaluate import evaluate
from probseq.models.hmm import HMM
from probseq.models.posterior_hmm import PosteriorHMM
from probseq.scoring import Fitted, read_sequences

Row = dict[str, Any]
_SHOWN = 5  # of the most probable symbols of a step


def decode_file(
    fitted: Fitted,
    path: Path,
    *,
    posterior: bool = False,
    num_best: int = 1,
    column: str | None = None,
    id_column: str | None = None,
) -> Iterator[Row]:
    """For each document what was observed, its most probable paths of states, and the probability of each state.

    Args:
        fitted: an HMM; or draws from a posterior, of which the state at each step is the one that is most probable
            there, averaged over the aligned draws: these need not make a path that is possible as a whole.
        path: a file as `read_corpus` takes it.
        posterior: give ``p(s_t | x)`` of every state too.
        num_best: how many paths, the most probable first.
        column, id_column: of a table. Default: as in the model's run.

    Yields:
        Plain values: ``document``, ``symbols`` or ``values`` (None where missing), ``states`` (of the best path),
        ``paths`` and their ``log_probs`` ``log p(s, x)`` if there is more than one, and ``posterior``.

    Raises:
        InputError: a model whose hidden state is computed, not drawn: it has no states to decode. Or documents that are
            impossible under the model, before anything is yielded.
    """
    model = _hmm(fitted, "states to decode")
    if num_best < 1:
        raise InputError(f"received --num-best {num_best}; expected 1 or more")
    if num_best > 1 and isinstance(model, PosteriorHMM):
        raise InputError(f"{fitted.name} is draws from a posterior, which have no path in common; leave --num-best out")
    names, documents = read_sequences(fitted, path, column, id_column)
    _check_possible(model, names, documents)
    for i, name in enumerate(names):
        batch = documents.batch(np.array([i]))
        decoded: Row = {"document": name, **_observed(fitted, documents[i])}
        if isinstance(model, PosteriorHMM):
            decoded["states"] = model.posterior_marginals(batch)[0, 0].argmax(dim=-1).tolist()
        elif num_best == 1:
            decoded["states"] = model.viterbi(batch)[0, 0].tolist()
        else:
            paths, log_probs = model.k_best(batch, num_best)
            finite = [b for b in range(num_best) if math.isfinite(log_probs[0, 0, b])]
            decoded["paths"] = [paths[0, 0, b].tolist() for b in finite]
            decoded["log_probs"] = [float(log_probs[0, 0, b]) for b in finite]
            decoded["states"] = decoded["paths"][0]
        if posterior:
            decoded["posterior"] = model.posterior_marginals(batch)[0, 0].tolist()
        yield decoded


def forecast_file(
    fitted: Fitted,
    path: Path,
    *,
    steps: int,
    level: float = 0.9,
    column: str | None = None,
    id_column: str | None = None,
) -> Iterator[Row]:
    """What comes after each document of a file.

    Args:
        fitted: an HMM, or draws from a posterior, which are averaged.
        path: a file as `read_corpus` takes it.
        steps: how far ahead.
        level: of vectors, the probability that the interval holds.
        column, id_column: of a table. Default: as in the model's run.

    Yields:
        Plain values: ``document``, and by step ``mean``, ``lower`` and ``upper`` of every column; or of symbols the
        ``probabilities`` of the most probable ones.

    Raises:
        InputError: a model without states, documents that are impossible under it, or a level outside 0 to 1.
    """
    model = _hmm(fitted, "states to forecast from")
    names, documents = read_sequences(fitted, path, column, id_column)
    _check_possible(model, names, documents)
    for i, name in enumerate(names):
        batch = documents.batch(np.array([i]))
        ahead = (
            _symbols_ahead(fitted, model, batch, steps)
            if fitted.is_symbolic
            else (_vectors_ahead(model, batch, steps, level))
        )
        yield {"document": name, **ahead}


def _symbols_ahead(fitted: Fitted, model: HMM | PosteriorHMM, batch: Batch, steps: int) -> Row:
    probs = model.symbols_ahead(batch, steps)[0, 0].numpy()  # (H, V)
    symbols = range(probs.shape[1]) if fitted.vocabulary is None else fitted.vocabulary.symbols
    order = np.argsort(-probs, axis=1, kind="stable")[:, :_SHOWN]
    likely = [{str(symbols[v]): float(row[v]) for v in top} for row, top in zip(probs, order, strict=True)]
    return {"probabilities": likely}


def _vectors_ahead(model: HMM | PosteriorHMM, batch: Batch, steps: int, level: float) -> Row:
    ahead = model.forecast(batch, steps, level)
    return {name: getattr(ahead, name)[0, 0].tolist() for name in ("mean", "lower", "upper")}


def _hmm(fitted: Fitted, wanted: str) -> HMM | PosteriorHMM:
    if not isinstance(fitted.model, (HMM, PosteriorHMM)):
        raise InputError(f"the model {fitted.name} has no {wanted}; expected an HMM (see --model)")
    return fitted.model


def _check_possible(model: HMM | PosteriorHMM, names: list[str], documents: Sequences) -> None:
    """Raise `InputError` unless every document has a path of states."""
    log_prob = evaluate(model, documents).log_prob[0]
    if lost := [name for name, value in zip(names, log_prob, strict=True) if value == -math.inf]:
        raise InputError(
            f"impossible under this model, so without a path of states: {', '.join(lost)}; leave them out, or fit with "
            "a prior"
        )


def _observed(fitted: Fitted, values: Any) -> Row:
    if not fitted.is_symbolic:
        return {"values": [[None if math.isnan(x) else x for x in row] for row in values.tolist()]}
    ids = values.tolist()
    return {"symbols": ids if fitted.vocabulary is None else [fitted.vocabulary.symbols[s] for s in ids]}


def decoded_rows(fitted: Fitted, documents: Iterable[Row], quoted: bool = False) -> Iterator[list[Any]]:
    """What `decode_file` yields as the rows of a table, its header first: a row for each step.

    With `quoted` a symbol is written as in Python, so that a tab or a line break can be seen.

    Columns: document, step, the symbol or the D numbers, the state (``state_2`` of the second path, and so on), and
    ``p_k``, the posterior probability of state k.
    """
    documents = list(documents)
    observed = list(fitted.columns) if not fitted.is_symbolic else ["symbol"]
    num_paths = max(len(_paths(one)) for one in documents)
    states = ["state", *(f"state_{b}" for b in range(2, num_paths + 1))]
    yield ["document", "step", *observed, *states, *(f"p_{k}" for k in range(len(_posterior(documents[0])[0])))]
    for one in documents:
        absent = [None] * (num_paths - len(_paths(one)))  # a short sequence may have fewer paths
        for t, (cells, found) in enumerate(zip(_cells(one, quoted), _posterior(one), strict=True)):
            yield [one["document"], t, *cells, *(path[t] for path in _paths(one)), *absent, *map(_short, found)]


def _cells(document: Row, quoted: bool) -> list[list[Any]]:
    if "values" in document:
        return [[None if x is None else _short(x) for x in row] for row in document["values"]]
    return [[repr(symbol) if quoted else symbol] for symbol in document["symbols"]]


def _paths(document: Row) -> list[list[int]]:
    return document.get("paths") or [document["states"]]


def _posterior(document: Row) -> list[list[float]]:
    return document.get("posterior") or [[] for _ in document["states"]]


def _short(number: float) -> str:
    return f"{number:.6g}"


def forecast_rows(fitted: Fitted, documents: Iterable[Row]) -> Iterator[list[Any]]:
    """What `forecast_file` yields as the rows of a table, its header first: a row a step and number, or symbol."""
    if fitted.is_symbolic:
        yield ["document", "step", "symbol", "probability"]
        for one in documents:
            for h, probabilities in enumerate(one["probabilities"], start=1):
                yield from ([one["document"], h, symbol, _short(p)] for symbol, p in probabilities.items())
        return
    yield ["document", "step", "column", "mean", "lower", "upper"]
    for one in documents:
        for h, bounds in enumerate(zip(one["mean"], one["lower"], one["upper"], strict=True), start=1):
            for d, column in enumerate(fitted.columns):
                yield [one["document"], h, column, *(_short(bound[d]) for bound in bounds)]


def write_table(out: Path, documents: list[Row], rows: Iterable[list[Any]]) -> None:
    """Write a .csv file of rows, or a .json file of documents, which must not exist.

    Raises:
        InputError: another type of file, or a place that is taken or cannot be written.
    """
    kind = out.suffix.lower()
    if kind not in (".csv", ".json"):
        raise unknown("file type of --out", kind or out.name, (".csv", ".json"))
    if out.exists():
        raise InputError(f"the file {out} exists; remove it or choose another with --out")
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            if kind == ".json":
                json.dump(documents, file)
            else:
                csv.writer(file, lineterminator="\n").writerows(rows)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another file with --out") from None
