"""The tables that the command line prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from probseq.baseline import behind_counting
from probseq.data.preparation import WHOLE_DOCUMENTS
from probseq.data.sources import rows_of_sources

if TYPE_CHECKING:
    from probseq.data.catalog import CorpusEntry
    from probseq.data.corpus import Corpus
    from probseq.restarts import Sensitivity
    from probseq.study import Run
    from probseq.topics import TopicReading

_NAMED = 3  # stop words, or lists of them, in a title
_WIDTH = 120  # where the output is no terminal
_HUGE = 1e9  # numbers of a fit that went astray, whose digits say nothing
_BESIDE = {
    "lower_bound": "by a lower bound on log p(x), at most",
    "completion": "of every second word given the others, which is no likelihood",
}


def print_run(run: Run) -> None:
    """The ranking of a run."""
    token = "token" if run.corpus.is_symbolic else "step"
    columns = ["rank", "model", f"nats/{token}", f"bits/{token}", "perplexity", "params", "restarts", "sec"]
    density = any(score.density for score in run.comparison.test.values())
    title = f"{run.corpus.name}, level {run.corpus.level}{_left_out(run)}: test data, smaller is better"
    table = _table(title, [column for column in columns if not (density and column == "perplexity")])
    for row in run.comparison.rows():
        mark = "" if row["likelihood"] == "exact" else f" ({row['likelihood']})"
        table.add_row(
            str(row["rank"]),
            escape(row["model"] + mark),
            _number(row["nats_per_token"], 4),
            _number(row["bits_per_token"], 4),
            *([] if density else [_number(row["perplexity"], 3)]),
            f"{row['num_parameters']:,}",
            str(row["num_restarts"]),
            _number(row["fit_seconds"], 1),
        )
    _print(table)
    for note in run.comparison.notes():
        print(note)
    if run.errors:
        print_errors(run)
    for name, fit in run.fits.items():
        for problem in fit.details.get("problems", []):
            print(f"{name}: {problem}")
    for name, words in behind_counting(run.comparison, run.counted).items():
        print(f"{name}: {words}")


def _left_out(run: Run) -> str:
    """What makes these tokens others than those of the same level elsewhere."""
    data = run.study.data
    words = data.stop_words or []
    said = f", without {', '.join(words[:_NAMED])}{', ...' * (len(words) > _NAMED)}" if words else ""
    return said + (f", min_count {data.min_count}" if data.min_count else "")


def _of_what(history: str, window: int) -> str:
    if history in ("source", "target"):
        return "targets given their sources" if history == "source" else "whole targets, sources unseen"
    windows = "whole documents" if window >= WHOLE_DOCUMENTS else f"windows of {window:,} tokens"
    return f"{windows}, given the document before them" if history == "document" else windows


def print_errors(run: Run) -> None:
    """Nats of a whole target, and the errors of the target that was found, for models of pairs."""
    several = len(rows_of_sources(run.corpus.test)) < len(run.corpus.test)  # else the best of all is the one reference
    rates = ["WER", "PER", "macro", *["WER*", "PER*"] * several]
    columns = ["model", "nats/target", "restarts", *rates]
    table = _table("targets found by beam search for the test sources, smaller is better", columns)
    for row in run.comparison.rows():
        score, errors = run.comparison.test[row["model"]], run.errors.get(row["model"])
        spread = score.nats_per_sequence
        found = [] if errors is None else [errors.one.wer, errors.one.per_micro, errors.one.per_macro]
        found += [] if errors is None else [errors.best.wer, errors.best.per_micro]
        table.add_row(
            escape(row["model"]),
            _number(row["nats_per_sequence"], 3),
            f"{spread.min():.3f} .. {spread.max():.3f}" if len(spread) > 1 else "1",
            *([f"{100 * one:.1f}%" for one in found] or ["-"] * 5)[: len(rates)],
        )
    _print(table)
    star = "; *: against the best of all references, micro" if several else ""
    print(
        "WER: sources whose target is not exactly the first reference; PER: edits per symbol of it, of all sources\n"
        f"together (micro), or the mean over sources (macro){star}"
    )


def print_scores(result: dict[str, Any]) -> None:
    """What `probseq.scoring.score_file` found."""
    how = _of_what(result["history"], result["window"])
    title = f"{result['model']}, restart {result['restart']}, {result['likelihood']}, {how}"
    token = "token" if result["observations"] == "symbols" else "step"
    named = ["source", "target"] if result["history"] in ("source", "target") else ["document"]
    table = _table(title, [*named, f"{token}s", "log p, nats", "log p, bits", f"nats/{token}", f"bits/{token}"])
    for row in [*result["documents"], {"document": "total", "target": "", **result["total"]}]:
        table.add_row(
            escape(row["document"]),
            *[escape(row[name]) for name in named[1:]],
            f"{row['num_tokens']:,}",
            _number(row["log_prob_nats"], 2),
            _number(row["log_prob_bits"], 2),
            _number(row["nats_per_token"], 4),
            _number(row["bits_per_token"], 4),
        )
    _print(table)
    if impossible := [row["document"] for row in result["documents"] if row["log_prob_nats"] == float("-inf")]:
        of = f"{len(impossible):,} of {len(result['documents']):,}"
        print(f"impossible to the model, so that the total is too: {of}, the first of them {impossible[0]!r}")
    if result["likelihood"] == "estimate":
        found = (result[key] for key in ("monte_carlo_error", "drift"))
        error, drift = ("unknown" if one is None else f"{one:.4f}" for one in found)
        print(f"an estimate, nats/{token}: its standard error is {error}, its drift {drift}")
    for name, nats in result["beside"].items():
        print(f"beside it, {_BESIDE[name]}: {_number(nats, 4)} nats/{token}")
    if result["history"] in ("source", "target"):
        print(f"{_number(result['nats_per_sequence'], 4)} nats per target")
    if result["num_unknown"]:
        print(f"not in the vocabulary, and scored as <unk>: {result['num_unknown']:,} {token}s")


def print_sensitivities(found: dict[str, Sensitivity]) -> None:
    """What `probseq.sensitivities` found: a row for each model, and of a single one all its restarts."""
    columns = ["model", "restarts", "found", "best", "spread", "1 run", "optima", "same state"]
    tolerance = min(one.tolerance for one in found.values())
    table = _table(f"restarts: nats per token, found the best to within {tolerance:g}", columns)
    for name, one in found.items():
        failed = f" ({one.num_failed} failed)" if one.num_failed else ""
        table.add_row(
            escape(name),
            f"{one.num_restarts}{failed}",
            f"{one.num_at_best(one.tolerance)} ({one.hit_rate(one.tolerance):.0%})",
            _number(float(one.nats_per_token[one.best]), 4),
            _number(one.spread, 4),
            _number(float(one.expected_best[0]), 4),
            one.optima_label or "-",
            "-" if one.mean_agreement is None else f"{one.mean_agreement:.0%}",
        )
    _print(table)
    if any(one.cut_off for one in found.values()):
        print("optima: where runs were cut off before they converged, two that were on one way count as two")
    for name, one in found.items():
        if one.standard_error is not None:
            print(f"{name}: values are estimated; found the best to within {one.tolerance:.2g}, four standard errors")
    if len(found) == 1:
        print_restarts(next(iter(found.values())))


def print_restarts(one: Sensitivity) -> None:
    """A row for each restart, best first, and the expected best of as many runs as stand in the row."""
    frame = one.frame
    columns = {"restart": "restart", "nats_per_token": "nats/token", "above_best": "above best", "optimum": "optimum"}
    columns |= {"agreement_with_best": "same state", "steps": "steps", "stop_reason": "stopped by"}
    shown = [column for column in columns if column in frame]
    table = _table(one.measure, ["rank", *(columns[column] for column in shown), "best of so many"])
    expected = one.expected_best
    for rank, row in enumerate(frame.to_dict("records"), start=1):
        cells = [f"{row[c]:.6f}" if isinstance(row[c], float) else str(row[c]) for c in shown]
        table.add_row(str(rank), *cells, f"{expected[rank - 1]:.6f}")
    _print(table)


def print_topics(name: str, reading: TopicReading, by: str = "relevance") -> None:
    """What `probseq.run_topics` found: a row for each topic, the most prevalent first."""
    number = f"{reading.num_topics} topic{'s' * (reading.num_topics != 1)}"
    title = f"{name}, restart {reading.restart}: {number}, diversity {reading.diversity:.2f}"
    table = _table(title, ["topic", "of words", "coherence", "found again", f"words by {by}"])
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    others = reading.agreement.num_others
    for k in reading.order:
        table.add_row(
            str(k),
            f"{reading.prevalence[k]:.1%}",
            f"{reading.coherence[k]:.3f}",
            f"{reading.agreement.found[k]} of {others}" if others else "-",
            escape(" ".join(reading.words[by][k])),
        )
    _print(table)
    print(*reading.notes(), sep="\n", end="\n" * bool(reading.notes()))
    if others:
        print("found again: restarts that have a topic with half of its 20 most relevant words, or more")


def print_states(rows: Iterable[list[Any]]) -> None:
    """What `probseq.decoding.decoded_rows` says, with tabs."""
    for row in rows:
        print(*("" if cell is None else cell for cell in row), sep="\t")


def print_rows(rows: Iterable[list[Any]]) -> None:
    """Rows of a table, their header first."""
    header, *body = rows
    table = _table("", header)
    for row in body:
        table.add_row(*(escape(str(cell)) for cell in row))
    _print(table)


def print_entries(entries: list[CorpusEntry]) -> None:
    """The catalog of corpora."""
    table = Table(title="Corpora", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("name", "what", "size", "levels (default first)", "installed"):
        table.add_column(column)
    for entry in entries:
        levels = [entry.level, *(level for level in entry.levels if level != entry.level)]
        installed = "yes" if entry.installed else escape(entry.install_command)
        table.add_row(entry.name, escape(entry.title), escape(entry.size), ", ".join(levels), installed)
    _print(table)


def print_corpus(entry: CorpusEntry, corpus: Corpus) -> None:
    """One corpus and the sizes of its parts."""
    for line in (entry.title, entry.description, corpus.description):
        Console(soft_wrap=True).print(escape(line))
    table = _table(f"level {corpus.level}", ["part", "documents", "sequences", "tokens"])
    for name, part in corpus.parts.items():
        table.add_row(name, f"{corpus.num_documents[name]:,}", f"{len(part):,}", f"{part.num_tokens:,}")
    _print(table)
    if not corpus.is_symbolic:
        names = f": {', '.join(corpus.columns)}" if corpus.columns else ""
        print(f"vectors of size {corpus.num_dims}{escape(names)}; a study models them as {corpus.emission} by default")
    for kind, vocabulary in {"symbols": corpus.vocabulary, "source symbols": corpus.source_vocabulary}.items():
        if vocabulary is not None:
            shown = " ".join(repr(symbol) for symbol in vocabulary.symbols[:40])
            more = " ..." if len(vocabulary) > 40 else ""
            Console(soft_wrap=True).print(escape(f"{len(vocabulary):,} {kind}: {shown}{more}"), highlight=False)


def _table(title: str, columns: list[str]) -> Table:
    """A table that fits in 80 columns: names are folded where there is no room, numbers never."""
    table = Table(
        title=escape(title) or None, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    for column in columns:
        if column in ("model", "document", "source", "target", "part", "column", "symbol"):
            table.add_column(column, min_width=11, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    return table


def _print(table: Table) -> None:
    console = Console()
    Console(width=None if console.is_terminal else _WIDTH).print(table)


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:,.{digits}f}" if abs(value) < _HUGE else f"{value:.3e}"
