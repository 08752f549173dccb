"""Writing the folder of a run: all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
import torch

from probseq.checkpoint import SCHEMA, plain, save
from probseq.data.corpus import Corpus
from probseq.errors import InputError
from probseq.inference.run import UNLIMITED_STEPS
from probseq.models.given import ConditionalModel

if TYPE_CHECKING:
    from probseq.study import Run, Study


_FILES = {"comparison.json", "comparison.csv", "report.html", "study.toml", "models"}


@contextmanager
def new_folder(out: Path, replace: bool = False) -> Iterator[Path]:
    """A temporary sibling of `out` to write in; it becomes `out` at the end, and vanishes on an error.

    Args:
        out: the folder.
        replace: whether a run that is there, and nothing else, gives way to the new one once that is whole.

    Raises:
        InputError: `out` exists, or its parent cannot be written; both before anything is done.
    """
    replace = replace and _is_run_alone(out)
    if not replace:
        check_free(out)
    created = [parent for parent in out.absolute().parents if not parent.exists()]
    partial = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}"
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write in {out.parent}: {error.strerror}; choose another folder with --out") from None
    try:
        yield partial
        if replace:
            _exchange(partial, out)
        else:
            check_free(out)
            os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in created:
            with suppress(OSError):  # something else was put there meanwhile
                parent.rmdir()
        raise


def _is_run_alone(out: Path) -> bool:
    return out.is_dir() and not out.is_symlink() and {path.name for path in out.iterdir()} == _FILES


def _exchange(partial: Path, out: Path) -> None:
    before = partial.with_name(f"{partial.name}-before")
    os.replace(out, before)
    try:
        os.replace(partial, out)
    except OSError:
        os.replace(before, out)
        raise
    shutil.rmtree(before, ignore_errors=True)


def free_folder(study: Study, resume: bool = False) -> Path:
    """``runs/NAME-LEVEL-seedS`` (or NAME alone where it is the level), or the first free one of ``-2``, ``-3``, ...

    To `resume`, the last of these names that has checkpoints.
    """
    level = study.data.level or ("char" if study.data.path else study.name)
    stem = "-".join([study.name, *([] if level == study.name else [level]), f"seed{study.seed}"])
    folder, number, begun = Path("runs") / stem, 1, None
    while folder.exists() or checkpoints_of(folder).exists():
        begun = folder if checkpoints_of(folder).exists() else begun
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
    return begun if resume and begun is not None else folder


def checkpoints_of(out: Path) -> Path:
    """Where the networks of a run keep their checkpoints until its folder is written."""
    return out.parent / f"{out.name}.checkpoints"


def check_free(out: Path) -> None:
    """Raise `InputError` if there is something at `out`."""
    if out.exists() or out.is_symlink():
        raise InputError(f"the output folder {out} exists; remove it or choose another with --out")


def write_run(run: Run, folder: Path) -> None:
    """Write the comparison, the report, the study and every model into `folder`."""
    import pandas as pd

    from probseq.report import render  # matplotlib and jinja2 would slow down `import probseq`

    document = {
        "schema": SCHEMA,
        "data": describe_data(run.corpus, run.study.data.window, run.study.data.history),
        "environment": run.environment,
        "seconds": run.seconds,
        "rows": run.comparison.rows(),
        "errors": (errors := {name: one.named() for name, one in run.errors.items()}),
    }
    text = json.dumps(plain(document), indent=2, allow_nan=False)
    (folder / "comparison.json").write_text(text + "\n", encoding="utf-8")
    table = run.comparison.frame.join(pd.DataFrame.from_dict(errors, orient="index"), on="model")
    table.to_csv(folder / "comparison.csv", index=False)
    (folder / "report.html").write_text(render(run), encoding="utf-8")
    (folder / "study.toml").write_text(study_to_toml(run.study), encoding="utf-8")
    for name, fit in run.fits.items():
        sources = run.corpus.source_vocabulary if isinstance(fit.model, ConditionalModel) else None
        chosen = run.comparison.chosen[name]
        save(fit.model, folder / "models" / name, run.corpus.vocabulary, fit, chosen=chosen, source_vocabulary=sources)


def study_to_toml(study: Study) -> str:
    """The study with its defaults filled in; a setting that is None is left out, because TOML has no null."""
    values = study.model_dump(mode="json", exclude_none=True)
    values["models"] = {name: {"kind": model.pop("kind")} | model for name, model in values["models"].items()}
    for model in values["models"].values():
        if model.get("num_steps") == UNLIMITED_STEPS and ("seconds" in model or "num_tokens" in model):
            del model["num_steps"]  # it is what another budget alone means
    return tomli_w.dumps(values)


def describe_data(corpus: Corpus, window: int, history: str) -> dict[str, Any]:
    """What the data was: sizes by part, and a checksum over every symbol in order."""
    parts = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    checksum = hashlib.sha256()
    for part in parts.values():
        for one in (part, part.source):
            if one is not None:
                checksum.update(one.offsets.tobytes())
                checksum.update(one.values.tobytes())
    return {
        "name": corpus.name,
        "level": corpus.level,
        "window": window,
        "history": history,
        "num_symbols": None if corpus.vocabulary is None else len(corpus.vocabulary),
        "num_source_symbols": None if corpus.source_vocabulary is None else len(corpus.source_vocabulary),
        "columns": list(corpus.columns),
        "num_documents": dict(corpus.num_documents),
        "num_sequences": {name: len(part) for name, part in parts.items()},
        "num_tokens": {name: part.num_tokens for name, part in parts.items()},
        "sha256": checksum.hexdigest(),
    }


def describe_environment(device: str) -> dict[str, str]:
    """Versions and hardware that a number may depend on; no names of hosts, users or folders."""
    return {
        "probseq": metadata.version("probseq"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyro": metadata.version("pyro-ppl"),
        "numpy": metadata.version("numpy"),
        "platform": f"{platform.system()} {platform.machine()}",
        "processors": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }
