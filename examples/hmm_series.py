"""A Gaussian hidden Markov model of a series: its states, the path it took through them, and what comes next.

Run it with `python examples/hmm_series.py` for daily returns of the S&P 500 (`pip install 'probseq[series]'`), or with
a table of yours: `python examples/hmm_series.py my.csv --column temperature`. Rows are steps in time; an empty cell is
missing. `--smoke` fits next to nothing.
"""

from __future__ import annotations

import argparse

import numpy as np

import probseq as ps


def load(path: str | None, column: str | None) -> ps.Corpus:
    """One series, split in time: the first part is for fitting."""
    if path is None:
        return ps.load_corpus("sp500", window=None)
    return ps.read_corpus(path, level="vector", window=None, column=column)


def fit(corpus: ps.Corpus, num_states: int, num_restarts: int, num_steps: int) -> dict[str, ps.Fit]:
    """One state, which is a Gaussian without memory, and as many as were asked for."""
    fits = {}
    for states, restarts in ((1, 1), (num_states, num_restarts)):
        model = ps.HMM(states, ps.emissions.Gaussian(corpus.num_dims), num_restarts=restarts, seed=0)
        fits[f"hmm-{states}"] = ps.em(model, corpus.train, num_steps=num_steps)
    return fits


def show_states(model: ps.HMM, columns: tuple[str, ...]) -> None:
    """Mean and standard deviation of every column in every state, and how long a visit lasts."""
    mean, variance = (moment[0].detach().numpy() for moment in model.emission.moments(model.emission.raw))
    print("state  steps per visit  " + "  ".join(f"{name:>20}" for name in columns))
    for k in range(model.num_states):
        steps = 1 / (1 - model.transition[0, k, k].item() + 1e-12)
        cells = (f"{m:9.3f} +- {v**0.5:7.3f}" for m, v in zip(mean[k], variance[k], strict=True))
        print(f"{k:5}  {steps:15.1f}  " + "  ".join(f"{cell:>20}" for cell in cells))


def show_path(model: ps.HMM, series: ps.Sequences, num_visits: int = 8) -> None:
    """The last visits on the most probable path of states."""
    path = model.viterbi(series.batch())[0, 0].numpy()
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    ends = np.append(starts[1:], len(path)) - 1
    for start, end in list(zip(starts, ends, strict=True))[-num_visits:]:
        print(f"steps {start + 1:6} to {end + 1:6}: state {path[start]}")


def show_forecast(model: ps.HMM, series: ps.Sequences, columns: tuple[str, ...], num_steps: int) -> None:
    """Mean and interval of every column after the end of the series."""
    ahead = model.forecast(series.batch(), num_steps, level=0.9)
    print("steps ahead  " + "  ".join(f"{name:>26}" for name in columns))
    for h in range(num_steps):
        values = zip(*(part[0, 0, h].tolist() for part in (ahead.mean, ahead.lower, ahead.upper)), strict=True)
        cells = (f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in values)
        print(f"{h + 1:11}  " + "  ".join(f"{cell:>26}" for cell in cells))


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", help="a .csv file; default: the S&P 500")
    parser.add_argument("--column", help="the columns to read, with commas between them; default: all")
    parser.add_argument("--num-states", type=int, default=3)
    parser.add_argument("--num-restarts", type=int, default=20)
    parser.add_argument("--num-steps", type=int, default=500, help="of EM, at most")
    parser.add_argument("--horizon", type=int, default=5, help="steps to forecast")
    parser.add_argument("--smoke", action="store_true", help="two restarts and three steps")
    args = parser.parse_args()
    if args.smoke:
        args.num_restarts, args.num_steps = 2, 3
    return args


def main() -> None:
    """Load, fit, compare with a model without memory, and print."""
    args = arguments()
    corpus = load(args.path, args.column)
    fits = fit(corpus, args.num_states, args.num_restarts, args.num_steps)
    table = ps.compare(fits, validation=corpus.validation, test=corpus.test)
    name = f"hmm-{args.num_states}"
    model = ps.select(table.models[name], table.chosen[name])
    columns = corpus.columns or tuple(f"column {d + 1}" for d in range(corpus.num_dims))
    whole = ps.Sequences.from_list([np.concatenate([part.values for part in corpus.parts.values()])])
    print(f"{table}\n")
    show_states(model, columns)
    print("\nThe most probable path ends with")
    show_path(model, whole)
    print("\nWhat comes next, and where 90 % of it should lie")
    show_forecast(model, whole, columns, args.horizon)


if __name__ == "__main__":
    try:
        main()
    except ps.InputError as error:
        raise SystemExit(str(error)) from None
