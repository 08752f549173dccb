"""Models and runs on disk: safetensors and JSON, so that loading executes no code."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch

from probseq.data.vocabulary import Vocabulary
from probseq.errors import InputError, unknown
from probseq.inference.checkpointing import make_folder, write_whole
from probseq.inference.run import Fit
from probseq.models import MODELS
from probseq.models.base import Model
from probseq.models.given import ConditionalModel

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
_VOCABULARY, _SOURCES = "vocabulary.json", "source_vocabulary.json"
NAME = r"^\w[\w.-]*$"  # what a model may be called: it names a folder


@dataclass
class SavedModel:
    """What a model folder holds.

    Attributes:
        model: all R restarts.
        chosen: the restart that was chosen on validation, or None.
        vocabulary: what its symbols mean, or None.
        fit: how it was fitted, or None.
        source_vocabulary: what the symbols of its sources mean, or None.
    """

    model: Model
    chosen: int | None
    vocabulary: Vocabulary | None
    fit: Fit[Any] | None
    source_vocabulary: Vocabulary | None = None


@dataclass(repr=False)
class LoadedRun:
    """What a run folder holds.

    Attributes:
        saved: model name -> model, vocabulary and fit.
        rows: the rows of ``comparison.json``, best first.
        data: what the data was.
        environment: versions, platform and device of the run.
        study: the study as plain values; `ps.read_study(folder / "study.toml")` gives it back as a `Study`.
    """

    saved: dict[str, SavedModel]
    rows: list[dict[str, Any]]
    data: dict[str, Any]
    environment: dict[str, str]
    study: dict[str, Any]

    def __repr__(self) -> str:
        return f"LoadedRun({', '.join(self.saved)})"

    @property
    def models(self) -> dict[str, Model]:
        """Model name -> model, all restarts."""
        return {name: one.model for name, one in self.saved.items()}

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What the symbols mean; the same for every model."""
        return next(iter(self.saved.values())).vocabulary

    @property
    def source_vocabulary(self) -> Vocabulary | None:
        """What the symbols of the sources mean, where there are any."""
        return next((one.source_vocabulary for one in self.saved.values() if one.source_vocabulary), None)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows)


def save(
    model: Model,
    folder: str | Path,
    vocabulary: Vocabulary | None = None,
    fit: Fit[Any] | None = None,
    *,
    chosen: int | None = None,
    source_vocabulary: Vocabulary | None = None,
) -> None:
    """Write ``model.json``, ``weights.safetensors`` and, where given, the vocabularies and ``fit.json``.

    Args:
        model: the model, with all its restarts.
        folder: where; made if missing, and older files of these names are replaced.
        vocabulary: what the symbols mean.
        fit: how the model was fitted.
        chosen: the restart that was chosen on validation.
        source_vocabulary: what the symbols of the sources mean.

    Raises:
        InputError: a model of another class than `load` knows, or files that cannot be written; all are written before
            the first is put in its place, so what was there stays.
    """
    name = type(model).__name__
    if name not in MODELS:
        raise unknown("model class", name, MODELS)
    folder = Path(folder)
    make_folder(folder)
    # A copy each, because safetensors refuses tensors that share memory (tied weights).
    weights = {key: value.detach().cpu().clone().contiguous() for key, value in model.state_dict().items()}
    content = safetensors.torch.save(weights)
    extras = {
        _VOCABULARY: None if vocabulary is None else {"schema": SCHEMA, **vocabulary.to_dict()},
        _SOURCES: None if source_vocabulary is None else {"schema": SCHEMA, **source_vocabulary.to_dict()},
        "fit.json": None if fit is None else _fit_to_dict(fit),
    }
    written = {file: values for file, values in extras.items() if values is not None}
    document = {"schema": SCHEMA, "class": name, "config": model.config(), "chosen": chosen}
    document |= {"files": list(written), "weights_sha256": hashlib.sha256(content).hexdigest()}
    contents = {folder / file: _bytes(values) for file, values in (written | {"model.json": document}).items()}
    write_whole({folder / "weights.safetensors": content} | contents)
    for file in extras.keys() - written.keys():  # of an older model
        (folder / file).unlink(missing_ok=True)


def load(folder: str | Path) -> Model | LoadedRun:
    """What `save` or `run_study` wrote: a model folder gives the model, a run folder a `LoadedRun`.

    Raises:
        InputError: no such folder, or a file in it that is missing, corrupted or of another schema.
    """
    folder = Path(folder)
    return load_run(folder) if is_run(folder) else load_model(folder).model


def is_run(folder: Path) -> bool:
    """True for a run folder, False for a model folder.

    Raises:
        InputError: it is neither.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected a run folder or a model folder")
    if (folder / "comparison.json").exists() or (folder / "models").is_dir():
        return True
    if (folder / "model.json").exists() or (folder / "weights.safetensors").exists():
        return False
    raise InputError(f"{folder} has neither comparison.json (a run) nor model.json (a model); expected one of them")


def load_model(folder: str | Path) -> SavedModel:
    """Everything in a model folder; see `load`."""
    folder = Path(folder)
    path = folder / "model.json"
    document = _read(path, {"class": str, "config": dict, "weights_sha256": str, "files": list})
    if document["class"] not in MODELS:
        raise InputError(f"{path}: {unknown('model class', document['class'], MODELS)}")
    try:
        model = MODELS[document["class"]].from_config(document["config"])
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is corrupted: no {document['class']} has this config ({error})") from None
    chosen = document.get("chosen")
    if chosen is not None and chosen not in range(model.num_restarts):
        raise InputError(f"{path} is corrupted: the chosen restart is {chosen}, and there are {model.num_restarts}")
    _load_weights(model, folder / "weights.safetensors", document["weights_sha256"])
    vocabulary = _load_vocabulary(folder / _VOCABULARY, document, model.num_symbols)
    model.vocabulary = None if vocabulary is None else vocabulary.digest
    sources = None
    if isinstance(model, ConditionalModel):
        sources = _load_vocabulary(folder / _SOURCES, document, model.num_source_symbols)
        model.source_vocabulary = None if sources is None else sources.digest
    fit = _load_fit(folder, model) if "fit.json" in document["files"] else None
    return SavedModel(model.eval(), chosen, vocabulary, fit, sources)


def load_run(folder: str | Path) -> LoadedRun:
    """Everything in a run folder; see `load`."""
    folder = Path(folder)
    document = _read(folder / "comparison.json", {"rows": list, "data": dict, "environment": dict})
    try:
        study = tomllib.loads(_text(folder / "study.toml"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{folder / 'study.toml'} is corrupted: {error}") from None
    names = [str(row.get("model", "")) if isinstance(row, dict) else "" for row in document["rows"]]
    if not names or not all(re.fullmatch(NAME, name) for name in names):
        raise InputError(f"{folder / 'comparison.json'} is corrupted: it has no rows, or a row without a model's name")
    saved = {name: load_model(folder / "models" / name) for name in names}
    return LoadedRun(saved, document["rows"], document["data"], document["environment"], study)


def plain(value: Any) -> Any:
    """JSON-ready values: numpy scalars and arrays become lists and numbers, numbers that are not finite None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _load_weights(model: Model, path: Path, checksum: str) -> None:
    try:
        content = path.read_bytes()
    except OSError:
        raise InputError(f"{path} is missing; the folder is not complete") from None
    if hashlib.sha256(content).hexdigest() != checksum:
        raise InputError(f"{path} is corrupted: its SHA-256 is not the one in model.json")
    weights = safetensors.torch.load(content)
    for key, tensor in model.state_dict(keep_vars=True).items():
        if key in weights:
            tensor.data = tensor.data.to(weights[key].dtype)  # a model that was fitted in float64 stays so
    try:
        model.load_state_dict(weights)
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"{path} does not fit model.json: {str(error).splitlines()[-1].strip()}") from None


def _load_vocabulary(path: Path, model: Mapping[str, Any], num_symbols: int) -> Vocabulary | None:
    """The vocabulary in that file, where the model was saved with one."""
    if path.name not in model["files"]:
        return None
    document = _read(path, {})
    try:
        vocabulary = Vocabulary.from_dict(document)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path} is corrupted: {error}") from None
    if len(vocabulary) != num_symbols:
        raise InputError(f"{path} is corrupted: {len(vocabulary)} symbols, not {num_symbols}")
    return vocabulary


def _fit_to_dict(fit: Fit[Any]) -> dict[str, Any]:
    names = ("objective", "history", "stop_reason", "seconds", "validation_steps", "validation", "details")
    return {"schema": SCHEMA, **{name: getattr(fit, name) for name in names}}


def _load_fit(folder: Path, model: Model) -> Fit[Any]:
    path = folder / "fit.json"
    document = _read(path, {"objective": str, "history": list, "stop_reason": list, "validation_steps": list})
    restarts = model.num_restarts
    try:
        validation = document["validation"]
        return Fit(
            model=model,
            objective=document["objective"],
            history=np.array(document["history"], dtype=np.float64).reshape(-1, restarts),  # null becomes NaN
            stop_reason=document["stop_reason"],
            seconds=float(document["seconds"]),
            validation_steps=np.array(document["validation_steps"], dtype=np.int64),
            validation=None if validation is None else np.array(validation, np.float64).reshape(-1, restarts),
            details=document["details"],
        )
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path} is corrupted: {error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} is missing; the folder is not complete") from None
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is corrupted: {error}") from None


def _read(path: Path, members: Mapping[str, type]) -> dict[str, Any]:
    """A JSON object of our schema with these members."""
    try:
        document = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is corrupted: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} is corrupted: it holds a {type(document).__name__}; expected a JSON object")
    if document.get("schema") != SCHEMA:
        raise InputError(f"{path} has schema {document.get('schema')}; this version of probseq reads schema {SCHEMA}")
    for key, kind in members.items():
        if not isinstance(document.get(key), kind):
            raise InputError(f"{path} is corrupted: {key!r} is missing or not a {kind.__name__}")
    return document


def _bytes(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(plain(document), allow_nan=False) + "\n").encode()
