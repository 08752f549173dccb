"""A study: data, models and budgets in one TOML file; `run_study` fits, compares and writes a run folder."""

from __future__ import annotations

import math
import re
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from probseq.baseline import counting_nats
from probseq.checkpoint import NAME
from probseq.compare import Comparison, compare
from probseq.data.corpus import Corpus
from probseq.errors import InputError, unknown
from probseq.impossible_pairs import refuse_impossible
from probseq.inference.device import resolve_device
from probseq.inference.run import Fit, interrupts
from probseq.models.base import Model
from probseq.models.given import ConditionalModel
from probseq.run_folder import describe_environment, new_folder, write_run
from probseq.sampling import sample_targets, sample_text, sample_vectors
from probseq.specs import KINDS, ModelSpec, Settings
from probseq.specs.data import DataSpec
from probseq.specs.training import Training
from probseq.transduction import TranscriptionErrors, decoding_errors, rows_of_sources

_SAMPLE_LENGTH, _SAMPLE_WORDS, _SAMPLE_SOURCES = 300, 80, 12
_EMPTY = "∅"  # a target without symbols
_TYPES = {  # pydantic's names of what a value should have been, in words
    "int_type": "a whole number, such as 8",
    "float_type": "a number, such as 0.5",
    "string_type": 'text, such as "sotu"',
    "bool_type": "true or false",
    "dict_type": "a table of settings",
    "list_type": "a list, such as [0, 2]",
    "model_type": "a table of settings",
    "model_attributes_type": "a table of settings",
    "finite_number": "a finite number",
    "too_short": "at least one",
}


class Study(Settings):
    """Everything that a comparison depends on.

    Example:
        >>> preset("quick").models["hmm-2"].num_states
        2
    """

    name: Annotated[str, Field(pattern=NAME)] = "study"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="of the data split, the starting points and the updates"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data: DataSpec
    models: dict[Annotated[str, Field(pattern=NAME)], ModelSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _of_pairs(self) -> Study:
        paired = any(spec.of_pairs for spec in self.models.values())
        return self.model_copy(update={"data": self.data.of_pairs()}) if paired else self

    @model_validator(mode="after")
    def _one_row_a_name(self) -> Study:
        for name, spec in self.models.items():
            for seconds in getattr(spec, "snapshots", None) or ():
                if (row := snapshot_name(name, seconds)) in self.models:
                    raise InputError(f"the snapshot of {name} is called {row}, like a model; call that model otherwise")
        return self


def snapshot_name(name: str, seconds: float) -> str:
    """What a model is called as it was after so many seconds: ``gru-at-60s``, never with an exponent."""
    return f"{name}-at-{np.format_float_positional(seconds, trim='-')}s"


@dataclass
class Run:
    """What `run_study` found.

    Attributes:
        study: the study, with every default filled in.
        corpus: the data.
        fits: model name -> fit.
        comparison: the ranking.
        environment: versions, platform, device and threads.
        seconds: wall-clock seconds of everything.
        samples: model name -> text drawn from its chosen restart; of vectors the lines of a table.
        counted: nats per test token of how often each symbol occurs in train; None for vectors.
        errors: model name -> error rates of the targets that its chosen restart finds for the test sources; of models
            without sources none.
    """

    study: Study
    corpus: Corpus
    fits: dict[str, Fit[Any]]
    comparison: Comparison
    environment: dict[str, str]
    seconds: float
    samples: dict[str, str]
    counted: float | None = None
    errors: dict[str, TranscriptionErrors] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """True if Ctrl-C ended it early; models that were not begun are missing."""
        stopped = any("interrupted" in fit.stop_reason for fit in self.fits.values())
        return stopped or any(name not in self.fits for name in self.study.models)


def make_study(values: Mapping[str, Any]) -> Study:
    """A study out of plain values.

    Raises:
        InputError: an unknown key, model kind or level (with the closest valid one), a missing or impossible value.
    """
    try:
        return Study.model_validate(dict(values))
    except ValidationError as error:
        raise _sentence(error) from None


def read_study(path: str | Path) -> Study:
    """A study out of a TOML file; its name defaults to the file's.

    Raises:
        InputError: no such file, not TOML, or not a study (see `make_study`).
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"the study {path} is not UTF-8 text; expected a TOML file") from None
    except OSError as error:
        raise InputError(f"cannot read the study {path}: {error.strerror}; expected a TOML file") from None
    return _parse(text, str(path), re.sub(r"[^\w.-]+", "-", path.stem).strip("-.") or "study")


def presets() -> list[str]:
    """The names that `preset` accepts."""
    return sorted(p.name.removesuffix(".toml") for p in _preset_folder().iterdir() if p.name.endswith(".toml"))


def preset(name: str) -> Study:
    """A study that comes with the package.

    Raises:
        InputError: no such preset.
    """
    if name not in presets():
        raise unknown("preset", name, presets())
    return _parse((_preset_folder() / f"{name}.toml").read_text(encoding="utf-8"), f"preset {name}", name)


def run_study(
    study: Study,
    out: str | Path | None = None,
    progress: bool | None = None,
    *,
    checkpoints: str | Path | None = None,
    resume: bool = False,
    tensorboard: str | Path | None = None,
) -> Run:
    """Load the data, fit every model, compare, sample text, and write the run folder.

    The folder appears whole or not at all. Ctrl-C during a fit keeps what that fit reached, skips the models after it
    and still compares and writes; see `Run.interrupted`. During the comparison and the writing the first Ctrl-C is
    ignored, the second ends everything.

    Args:
        study: what to do.
        out: the folder to write, which must not exist; to resume, it may be that of the run that Ctrl-C ended, which is
            replaced. None writes nothing.
        progress: False is silent; otherwise progress is shown where stderr is a terminal.
        checkpoints: a folder where every network, under its name, keeps checkpoints of its training, and a line for
            each step in ``metrics.jsonl``. They are removed once `out` is written, unless Ctrl-C ended a fit; those of
            a network that diverged stay, and so does whatever else is in the folder.
        resume: networks go on from their checkpoints, where they have any; the rest is done again.
        tensorboard: a folder where every network, under its name, writes TensorBoard's event files.

    Raises:
        InputError: data that cannot be used, an `out` that exists or cannot be written, no CUDA where it is asked for,
            checkpoints that are damaged or another run's, none to resume.
    """
    begin = time.perf_counter()
    device = str(resolve_device(study.device))
    folders = [None if one is None else Path(one) for one in (checkpoints, tensorboard)]
    training = Training(folders[0], folders[1], resume)
    if out is None:
        return _run(study, device, progress, begin, training)
    with new_folder(Path(out), replace=resume) as folder:
        run = _run(study, device, progress, begin, training)
        with interrupts():
            write_run(run, folder)
    if not run.interrupted:  # what they hold is in `out`; but not what came before a divergence
        training.remove([name for name in study.models if "nonfinite" not in run.fits[name].stop_reason])
    return run


def _run(study: Study, device: str, progress: bool | None, begin: float, training: Training) -> Run:
    corpus = study.data.load(study.seed)
    columns = {"column": ",".join(corpus.columns)} if study.data.path and corpus.columns else {}
    data = study.data.model_copy(update={"level": corpus.level, **columns})
    study = study.model_copy(update={"data": data, "device": device})
    fits = _fit_all(study, corpus, device, progress, training)
    with interrupts():  # what took minutes to fit is not thrown away for a Ctrl-C in the seconds that follow
        comparison = compare(fits, validation=corpus.validation, test=corpus.test)
        chosen = {name: fit.model.select(comparison.chosen[name]) for name, fit in fits.items()}
        samples = {name: _sample(model, corpus, study.seed + i) for i, (name, model) in enumerate(chosen.items())}
        counted = counting_nats(corpus)
        errors = {name: _errors(model, corpus) for name, model in chosen.items() if isinstance(model, ConditionalModel)}
    environment = describe_environment(device)
    seconds = time.perf_counter() - begin
    return Run(study, corpus, fits, comparison, environment, seconds, samples, counted, errors)


def _fit_all(
    study: Study, corpus: Corpus, device: str, progress: bool | None, training: Training
) -> dict[str, Fit[Any]]:
    """Fit the models in turn, until the last or until Ctrl-C; what was reached is kept."""
    training.check(list(study.models))
    built = {name: spec.build(corpus, study.seed) for name, spec in study.models.items()}
    refuse_impossible(built, corpus)
    fits: dict[str, Fit[Any]] = {}
    for number, (name, spec) in enumerate(study.models.items(), start=1):
        if sys.stderr.isatty() if progress is None else progress:
            print(f"{number}/{len(built)} {name}", file=sys.stderr)
        try:
            options = training.options(name, spec)
            fits[name] = spec.fit(built[name], corpus, seed=study.seed, device=device, progress=progress, **options)
            fits |= {snapshot_name(name, seconds): one for seconds, one in fits[name].snapshots.items()}
        except KeyboardInterrupt:
            if not fits:
                raise
            break
        if "interrupted" in fits[name].stop_reason:
            break
    return fits


def _sample(model: Model, corpus: Corpus, seed: int) -> str:
    if not corpus.is_symbolic:
        return "\n".join(sample_vectors(model, corpus.columns, num=1, length=_SAMPLE_LENGTH, seed=seed))
    if isinstance(model, ConditionalModel):
        return _sample_targets(model, corpus, seed)
    length = _SAMPLE_WORDS if corpus.level == "word" else _SAMPLE_LENGTH
    num = _SAMPLE_SOURCES if corpus.is_parallel else 1
    drawn = sample_text(model, corpus.vocabulary, num=num, length=length, seed=seed)
    return "\n".join(one.text or _EMPTY if corpus.is_parallel else one.text for one in drawn)


def _errors(model: ConditionalModel, corpus: Corpus) -> TranscriptionErrors:
    end = None if corpus.vocabulary is None else corpus.vocabulary.end
    if end is None:
        raise InputError(f"corpus {corpus.name!r} has no end symbol that its targets are closed by")
    return decoding_errors(model, corpus.test, end)


def _sample_targets(model: ConditionalModel, corpus: Corpus, seed: int) -> str:
    """A line for each of some test sources, evenly spaced: the source, and a target drawn for it."""
    vocabulary, read = corpus.vocabulary, corpus.source_vocabulary
    if vocabulary is None or read is None or corpus.test.source is None:
        return ""
    first = [int(rows[0]) for rows in rows_of_sources(corpus.test)]
    sources = corpus.test.source[first[:: math.ceil(len(first) / _SAMPLE_SOURCES)]]
    drawn = sample_targets(model, vocabulary, sources, length=_SAMPLE_LENGTH, seed=seed)
    return "\n".join(f"{read.decode(x[:-1])} → {one.text or _EMPTY}" for x, one in zip(sources, drawn, strict=True))


def _preset_folder() -> Traversable:
    return resources.files("probseq") / "presets"


def _parse(text: str, source: str, name: str) -> Study:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source} is not a TOML file: {error}") from None
    return make_study({"name": name, **values})


def _sentence(error: ValidationError) -> InputError:
    """One thing that is wrong, as: place, what was received, what is expected."""
    detail = min(error.errors(), key=lambda one: one["type"] == "missing")  # a misspelled key is also a missing one
    place = [str(part) for part in detail["loc"]]
    spec: type[Settings] = {"data": DataSpec}.get(place[0], Study) if place else Study
    if len(place) > 2 and place[0] == "models" and place[2] in KINDS:
        spec = KINDS[place.pop(2)]  # pydantic puts the kind between the model's name and its key
    received, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            fault = str(unknown("key", place[-1], spec.model_fields))
        case "union_tag_invalid":
            place, fault = [*place, "kind"], str(unknown("model kind", context["tag"], KINDS))
        case "union_tag_not_found":
            place, fault = [*place, "kind"], f"missing; expected one of {', '.join(KINDS)}"
        case "literal_error":
            fault = str(unknown(place[-1], str(received), re.findall(r"'([^']*)'", context["expected"])))
        case "missing":
            fault = "missing; a study needs it"
        case "string_pattern_mismatch":
            place = [part for part in place if part != "[key]"]
            fault = f"received {received!r}; expected a name of letters, digits, '_', '-' and '.'"
        case "value_error":
            fault = str(context["error"])
        case kind if kind in _TYPES:
            fault = f"received {received!r}; expected {_TYPES[kind]}"
        case _:
            expected = detail["msg"].removeprefix("Input should be ").replace("greater than or equal to", "a number >=")
            expected = expected.replace("greater than", "a number >").replace("less than", "a number <")
            fault = f"received {received!r}; expected {expected}"
    return InputError(f"{'.'.join(place)}: {fault}" if place else fault)
