"""The topics of a topic model in a run folder, and writing them to tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probseq.checkpoint import LoadedRun, SavedModel, is_run, load_model, load_run
from probseq.errors import InputError, unknown
from probseq.run_folder import new_folder
from probseq.scoring import open_fitted, read_sequences
from probseq.study import make_study
from probseq.topics import TopicReading, has_topics, read_corpus_topics, read_topics

if TYPE_CHECKING:
    import pandas as pd


def open_topics(
    folder: Path,
    name: str | None = None,
    restart: int | None = None,
    file: Path | None = None,
    *,
    num_words: int = 10,
    num_documents: int = 3,
    column: str | None = None,
    id_column: str | None = None,
) -> tuple[str, TopicReading]:
    """The name of a topic model in a folder, and its topics.

    Args:
        folder: a run folder or a model folder.
        name: of the model, where the folder is a run. Default: the best one with topics.
        restart: default: the one that was chosen on validation.
        file: documents to read the topics from. Default: the training data of the run, which is read again.
        num_words: words shown for each topic.
        num_documents: documents named for each topic.
        column, id_column: of a table. Default: as in the model's run.

    Raises:
        InputError: no such folder, model or restart, a model without topics, or data that cannot be read, or that have
            changed since the run.
    """
    options: dict[str, Any] = {"num_words": num_words, "num_documents": num_documents}
    run = load_run(folder) if is_run(folder) else None
    name, saved = _with_topics(folder, run, name)
    restart = (saved.chosen or 0) if restart is None else restart
    if file is not None:
        fitted = open_fitted(folder, name if run else None)
        titles, documents = read_sequences(fitted, file, column, id_column)
        return name, read_topics(saved.model, documents, saved.vocabulary, restart=restart, titles=titles, **options)
    if run is None:
        raise InputError(f"{folder} is the folder of a model, which holds no data; give documents with --data FILE")
    corpus = make_study(run.study).data.load(int(run.study.get("seed", 0)))
    return name, read_corpus_topics(saved.model, corpus, restart, **options)


def _with_topics(folder: Path, run: LoadedRun | None, name: str | None) -> tuple[str, SavedModel]:
    """The model of that name, or the best one that has topics."""
    saved = {folder.resolve().name: load_model(folder)} if run is None else run.saved  # best first
    if name is not None and name not in saved:
        raise unknown("model", name, saved)
    found = {one: model for one, model in saved.items() if has_topics(model.model) and name in (None, one)}
    if not found:
        which = f"the model {name}" if name else "no model"
        raise InputError(
            f"{which} in {folder} has {'no ' if name else ''}topics; fit one: probseq fit lda --data FOLDER "
            "--num-topics 20"
        )
    return next(iter(found.items()))


def topics_frame(reading: TopicReading) -> pd.DataFrame:
    """One row for each topic that is not empty, the most prevalent first, with the names of its documents."""
    return reading.frame.assign(documents=["; ".join(reading.titles[k]) for k in reading.order])


def time_frame(reading: TopicReading) -> pd.DataFrame:
    """One row for each span of time, one column for each topic: its share of the words."""
    import pandas as pd

    if reading.spans is None or reading.over_time is None:
        raise InputError("the documents have no years; expected a corpus whose documents have one, such as sotu")
    columns = {f"topic {k}": reading.over_time[:, k] for k in np.sort(reading.order)}
    return pd.DataFrame({"begins": reading.spans, **columns})


def to_plain(name: str, reading: TopicReading) -> dict[str, Any]:
    """Everything as plain values."""
    rows = topics_frame(reading).to_dict("records")
    for row in rows:
        k = row["topic"]
        row |= {by: words[k] for by, words in reading.words.items()}
        row |= {"documents": reading.titles[k], "map": reading.points[k].tolist()}
    return {
        "model": name,
        "restart": reading.restart,
        "diversity": reading.diversity,
        "num_empty": int(reading.empty.sum()),
        "topics": rows,
        "spans": None if reading.spans is None else reading.spans.tolist(),
        "over_time": None if reading.over_time is None else np.asarray(reading.over_time).tolist(),
    }


def write_topics(reading: TopicReading, out: Path) -> list[str]:
    """Write tables (.csv) and figures (.svg) into a new folder; returns the names of the files.

    Raises:
        InputError: `out` exists or cannot be written.
    """
    from probseq import plots

    with new_folder(out) as partial:
        topics_frame(reading).to_csv(partial / "topics.csv", index=False)
        plots.plot_topic_map(reading).savefig(partial / "map.svg")
        if reading.spans is not None:
            time_frame(reading).to_csv(partial / "over-time.csv", index=False)
            plots.plot_topics_over_time(reading).savefig(partial / "over-time.svg")
        return sorted(path.name for path in partial.iterdir())
