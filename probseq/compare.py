"""`compare`: models side by side on the same tokens, each restart chosen on validation and reported on test."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from probseq.data.sequences import Sequences, check_sequences
from probseq.errors import InputError
from probseq.evaluate import Score, evaluate, standard_error_of_rate, standard_error_of_sum
from probseq.inference.run import Fit
from probseq.models.base import SequenceModel
from probseq.restarts import RestartSummary

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("rank", "model", "likelihood", "nats_per_token", "bits_per_token", "perplexity", "nats_per_sequence"),
    *("elpd", "se", "elpd_diff", "dse", "num_parameters", "num_restarts"),
    *("restart_min", "restart_median", "restart_max", "fit_seconds"),
)

_MARKS = {"exact": "", "lower bound": "<=", "estimate": "~"}
_FOOTNOTES = {
    "lower bound": "a lower bound on the likelihood: the model needs at most this many nats, so its rank is at "
    "worst the one shown, and its differences are bounds too; a bound has no perplexity",
    "estimate": "an estimate, on average too low; its Monte Carlo standard error, and what its replicates "
    "gained over one of them alone (its drift), in nats per token: ",
    "unknown": "; unknown where there is one replicate, or windows are scored given the document before them",
    "density": "densities of real vectors: the numbers depend on the unit of measurement, the differences do not; a "
    "density has no perplexity",
    "diverged": "every restart diverged; the numbers are those of the last good weights, ranked after all others: ",
    "draws": "the probability of a sequence is its average over draws from a posterior (log-mean-exp); so many draws: ",
}


@dataclass(frozen=True, repr=False)
class Comparison:
    """Models scored on the same sequences. Every test number of a model is that of its chosen restart.

    Columns of `frame` (``rank`` 1 is the fewest test nats per token; elpd, se, elpd_diff and dse are in nats):

    - ``likelihood``: exact, lower bound or estimate. A bound is ranked by its bound, the worst that is possible.
    - ``nats_per_token`` = -elpd / observed tokens, ``bits_per_token``, ``perplexity`` (NaN for a bound or a density).
    - ``nats_per_sequence`` = -elpd / N: of pairs whose targets are words, nats per word.
    - ``elpd``, the log-probability of the test data, and ``se`` = sqrt(N var), its standard error over sequences.
    - ``elpd_diff`` = elpd of rank 1 - elpd, so 0 for rank 1 and positive below, and ``dse``, its standard error, paired
      over sequences. As in ArviZ. They are errors of sums, which are larger for longer sequences: divided by tokens
      they are no errors of a rate, which `lead` and ``test[name].nats_per_token_se`` give.
    - ``restart_min``, ``restart_median``, ``restart_max``: test nats per token over all restarts; a restart that failed
      (NaN) counts as inf.
    - ``fit_seconds``: NaN where a model was given without its `Fit`.

    Attributes:
        models: the models, with all their restarts.
        validation: the validation `Score` of each model, all restarts.
        test: the test `Score` of each model, all restarts.
        chosen: the restart of each model that is best on validation.
        fits: the fits among what was given.
    """

    models: dict[str, SequenceModel]
    validation: dict[str, Score]
    test: dict[str, Score]
    chosen: dict[str, int]
    fits: dict[str, Fit[Any]]

    @property
    def ranking(self) -> list[str]:
        """Names of the models, the fewest test nats per token first; equals in the order given; last the `diverged`."""
        nats, lost = {name: self._nats(name) for name in self.test}, self.diverged
        return sorted(nats, key=lambda name: (name in lost, math.inf if math.isnan(nats[name]) else nats[name]))

    @property
    def diverged(self) -> list[str]:
        """Models of which every restart came upon numbers that are not finite, and went back to where it was before."""
        return [name for name, fit in self.fits.items() if set(fit.stop_reason) == {"nonfinite"}]

    def _nats(self, name: str) -> float:
        return float(self.test[name].nats_per_token[self.chosen[name]])

    @property
    def frame(self) -> pd.DataFrame:
        """The table: one row for each model, in the order of `ranking`."""
        import pandas as pd

        return pd.DataFrame(self._records(), columns=list(COLUMNS))

    @property
    def uncertainty(self) -> str:
        """Monte Carlo standard error and drift of every estimate, in nats per token; empty where there is none."""
        parts = []
        for name in self.ranking:
            score, restart = self.test[name], self.chosen[name]
            if score.likelihood == "estimate":
                numbers = (float(of[restart]) for of in (score.monte_carlo_error, score.drift_per_token))
                parts.append(f"{name} {' and '.join(_number(number, '{:.4f}', 'unknown') for number in numbers)}")
        return "; ".join(parts)

    def lead(self, name: str) -> tuple[float, float]:
        """Nats per token that a model needs more than rank 1, and the standard error of that, paired over sequences."""
        total, _, error = self._paired(name)
        return total / self.test[name].total_tokens, error

    def _paired(self, name: str) -> tuple[float, float, float]:
        """elpd of rank 1 minus that of a model, and the standard errors of this difference and of it per token."""
        first = self.ranking[0]
        return _paired(self.test[first], self.chosen[first], self.test[name], self.chosen[name])

    def rows(self) -> list[dict[str, Any]]:
        """The table for JSON: plain values, None for NaN and inf.

        Each row has the columns of `frame`, ``restart_nats_per_token`` (test, all R restarts), and of the chosen
        restart ``validation_nats_per_token``, ``monte_carlo_error`` and ``drift`` (test, nats per token; see `Score`),
        ``nats_per_token_se`` and ``nats_per_token_dse``, the standard errors of `nats_per_token` and of `lead`.
        """
        rows = []
        for record in self._records():
            name = record["model"]
            record["restart_nats_per_token"] = self.test[name].nats_per_token.tolist()
            record["validation_nats_per_token"] = float(self.validation[name].nats_per_token[self.chosen[name]])
            for key, numbers in (
                ("monte_carlo_error", self.test[name].monte_carlo_error),
                ("drift", self.test[name].drift_per_token),
                ("nats_per_token_se", self.test[name].nats_per_token_se),
            ):
                record[key] = float(numbers[self.chosen[name]])
            record["nats_per_token_dse"] = self.lead(name)[1]
            rows.append({key: _plain(value) for key, value in record.items()})
        return rows

    def _records(self) -> list[dict[str, Any]]:
        return [self._record(rank, name) for rank, name in enumerate(self.ranking, start=1)]

    def _record(self, rank: int, name: str) -> dict[str, Any]:
        model, score, restart = self.models[name], self.test[name], self.chosen[name]
        difference, dse, _ = self._paired(name)
        spread = np.nan_to_num(score.nats_per_token, nan=math.inf, posinf=math.inf)
        fit = self.fits.get(name)
        values = (
            rank,
            name,
            score.likelihood,
            *(float(column[restart]) for column in (score.nats_per_token, score.bits_per_token, score.perplexity)),
            float(score.nats_per_sequence[restart]),
            float(score.elpd[restart]),
            float(score.se[restart]),
            difference,
            dse,
            int(model.num_parameters),
            int(model.num_restarts),
            *(float(of(spread)) for of in (np.min, _median, np.max)),
            math.nan if fit is None else float(fit.seconds),
        )
        return dict(zip(COLUMNS, values, strict=True))

    def _of_sequences(self) -> list[str]:
        """A column more where models condition on a source: then a sequence is a whole, and no window."""
        return ["nats/sequence"] * any(hasattr(model, "given") for model in self.models.values())

    def _table(self) -> list[list[str]]:
        """The header and the rows that a person reads, as text."""
        header = ["rank", "model", "likelihood", "nats/token", "bits/token", "perplexity", *self._of_sequences()]
        header += ["elpd_diff", "dse"]
        lines = [[*header, "parameters", "restarts (min .. max)", "fit seconds"]]
        for row in self._records():
            mark = _MARKS[row["likelihood"]]
            spread = f"{row['num_restarts']} ({row['restart_min']:.4f} .. {row['restart_max']:.4f})"
            lines.append(
                [
                    str(row["rank"]),
                    row["model"],
                    row["likelihood"],
                    f"{mark}{row['nats_per_token']:.4f}",
                    f"{mark}{row['bits_per_token']:.4f}",
                    _number(row["perplexity"], "{:.3f}"),
                    *(f"{mark}{row['nats_per_sequence']:.3f}" for _ in self._of_sequences()),
                    _number(row["elpd_diff"], "{:,.1f}"),
                    _number(row["dse"], "{:,.1f}"),
                    f"{row['num_parameters']:,}",
                    spread if row["num_restarts"] > 1 else "1",
                    _number(row["fit_seconds"], "{:.1f}"),
                ]
            )
        return lines

    def notes(self, marks: Mapping[str, str] = _MARKS) -> list[str]:
        """One footnote for each kind of number that is not an exact probability, or is not to be trusted.

        Args:
            marks: what stands before the numbers of a kind, where it is not what a terminal shows.
        """
        notes = [_FOOTNOTES["density"]] if any(score.density for score in self.test.values()) else []
        kinds = {name: self.test[name].likelihood for name in self.ranking}
        if self.diverged:
            notes.append(_FOOTNOTES["diverged"] + ", ".join(self.diverged))
        if "lower bound" in kinds.values():
            notes.append(f"{marks['lower bound'].strip()} {_FOOTNOTES['lower bound']}")
        if self.uncertainty:
            unknown = _FOOTNOTES["unknown"] if "unknown" in self.uncertainty else ""
            notes.append(f"{marks['estimate'].strip()} {_FOOTNOTES['estimate']}{self.uncertainty}{unknown}")
        if draws := [f"{name} {num}" for name in self.ranking if (num := getattr(self.models[name], "num_draws", 0))]:
            notes.append(_FOOTNOTES["draws"] + ", ".join(draws))
        return notes

    def to_text(self) -> str:
        """The table for a terminal, with a footnote for every kind of number that is not an exact probability."""
        table = self._table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(_align(i, cell, widths[i]) for i, cell in enumerate(row)).rstrip() for row in table]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:], *([rule, *self.notes()] if self.notes() else [])])

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        header, *body = [[html.escape(cell) for cell in row] for row in self._table()]
        lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in body]
        head = "".join(f"<th>{cell}</th>" for cell in header)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes())
        rows = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{notes}"


def compare(models: Mapping[str, SequenceModel | Fit[Any]], *, validation: Sequences, test: Sequences) -> Comparison:
    """Score models on the same sequences: the restart is chosen on `validation`, every number reported is on `test`.

    Args:
        models: a name for each model. A `Fit` also says how long the fit took.
        validation: sequences to choose each model's restart on.
        test: other sequences, to report.

    Returns:
        A `Comparison`; print it, or take its ``frame``.

    Raises:
        InputError: no models, a name that is not text, models of different observations or vocabularies, data that a
            model cannot score.

    Example:
        >>> from probseq.models.ngram import Uniform
        >>> data = Sequences.from_list([[0, 1], [1]])
        >>> table = compare({"uniform": Uniform(2)}, validation=data, test=data)
        >>> round(table.rows()[0]["nats_per_token"], 6)
        0.693147
    """
    _check_models(models)
    fits = {name: given for name, given in models.items() if isinstance(given, Fit)}
    plain = {name: given.model if isinstance(given, Fit) else given for name, given in models.items()}
    _check_same_support(plain)
    _check_same_vocabulary(plain)
    check_sequences(validation, "validation")
    check_sequences(test, "test")
    on_validation = {name: evaluate(model, validation) for name, model in plain.items()}
    on_test = {name: evaluate(model, test) for name, model in plain.items()}
    chosen = {name: RestartSummary.from_score(score).best for name, score in on_validation.items()}
    return Comparison(plain, on_validation, on_test, chosen, fits)


def _check_models(models: Mapping[str, SequenceModel | Fit[Any]]) -> None:
    if not isinstance(models, Mapping) or not models:
        received = "no models" if isinstance(models, Mapping) else f"a {type(models).__name__}"
        raise InputError(f'received {received}; expected a mapping of names to models: compare({{"hmm": model}}, ...)')
    for name, given in models.items():
        if not isinstance(name, str):
            raise InputError(f"the model name {name!r} is a {type(name).__name__}; expected text")
        if not isinstance(given, Fit) and not hasattr(given, "token_log_prob"):
            remedy = ", which is its .fit" if isinstance(getattr(given, "fit", None), Fit) else ""
            raise InputError(f"{name!r} is a {type(given).__name__}; expected a model or a Fit{remedy}")


def _check_same_support(models: Mapping[str, SequenceModel]) -> None:
    """A probability and a density, or those of different vocabularies, never share a table."""
    (first, reference), *others = models.items()
    for name, model in others:
        if model.support != reference.support:
            raise InputError(
                f"{first!r} scores {_described(reference)} and {name!r} scores {_described(model)}; "
                "only models of the same observations share a table"
            )


def _check_same_vocabulary(models: Mapping[str, SequenceModel]) -> None:
    """Equally many symbols may be others. What a model has not seen in data of a corpus, it does not know."""
    known = {name: digest for name, model in models.items() if (digest := getattr(model, "vocabulary", None))}
    first, *others = known or [""]
    for name in others:
        if known[name] != known[first]:
            raise InputError(
                f"{first!r} and {name!r} have seen data of different vocabularies; only models of the same tokens "
                "share a table: fit both to one corpus, with one level, min_count and list of stop words"
            )


def _described(model: SequenceModel) -> str:
    kind, size = model.support
    return f"{size} symbols" if kind == "symbols" else f"vectors of {size} {kind}"


def _paired(first: Score, r: int, other: Score, s: int) -> tuple[float, float, float]:
    """elpd of `first` minus elpd of `other`, and the standard errors of this sum and of it per token, over sequences.

    A sequence that is impossible under both makes no difference between them.
    """
    a, b = first.log_prob[r], other.log_prob[s]
    with np.errstate(invalid="ignore"):
        difference = np.where(a == b, 0.0, a - b)
    if np.isposinf(difference).any() and np.isneginf(difference).any():  # each has sequences impossible to it alone
        return 0.0, math.inf, math.inf
    weights, tokens = first.weights, first.num_tokens
    errors = standard_error_of_sum(difference, weights), standard_error_of_rate(difference, tokens, weights)
    return float(weights @ difference), *errors


def _median(values: NDArray[np.float64]) -> float:
    """The median, also among infinities (where numpy's mean of the middle two may be NaN)."""
    low, high = np.sort(values)[[(len(values) - 1) // 2, len(values) // 2]]
    return float(low if low == high else (low + high) / 2)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float, form: str, missing: str = "-") -> str:
    return missing if math.isnan(value) else form.format(value)


def _align(column: int, cell: str, width: int) -> str:
    """Names to the left, numbers to the right."""
    return cell.ljust(width) if column in (1, 2) else cell.rjust(width)
