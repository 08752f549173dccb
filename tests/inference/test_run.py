import io
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

import probseq as ps
from probseq.inference import starts
from probseq.inference.run import Budgets, run


def go(step, **options):
    settings = {
        "num_restarts": 2, "budgets": Budgets(10), "objective": "o", "title": "t", "progress": False, **options
    }  # fmt: skip
    return run(step, "model", **settings)


def test_a_stopped_restart_takes_no_part_in_later_steps():
    seen = []

    def step(number, active):
        seen.append(list(active))
        return np.arange(len(active), dtype=float), {0: "converged"} if number == 1 and 0 in active else {}

    fit = go(step, budgets=Budgets(4))
    assert seen == [[0, 1], [0, 1], [1], [1]]
    assert fit.stop_reason == ["converged", "max_steps"]
    assert fit.num_steps.tolist() == [2, 4]
    assert np.isnan(fit.history[2:, 0]).all()


def test_the_loop_ends_when_all_have_stopped():
    fit = go(lambda number, active: (np.zeros(len(active)), dict.fromkeys(active, "converged")))
    assert fit.history.shape == (1, 2)
    assert fit.stop_reason == ["converged", "converged"]


def test_ctrl_c_stops_between_steps_and_keeps_what_was_reached():
    finished = []

    def step(number, active):
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        finished.append(number)
        return np.zeros(len(active)), {}

    handler = signal.getsignal(signal.SIGINT)
    fit = go(step)
    assert finished == [0, 1, 2]  # the step in progress was not cut
    assert fit.stop_reason == ["interrupted", "interrupted"]
    assert fit.history.shape == (3, 2)
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_twice_raises():
    def step(number, active):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return np.zeros(len(active)), {}

    with pytest.raises(KeyboardInterrupt):
        go(step)


def test_it_runs_outside_the_main_thread():
    fits = []
    thread = threading.Thread(target=lambda: fits.append(go(lambda n, a: (np.zeros(len(a)), {}))))
    thread.start()
    thread.join()
    assert fits[0].stop_reason == ["max_steps", "max_steps"]


def test_progress_is_silent_unless_stderr_is_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    step = lambda number, active: (np.log(0.5) * np.ones(len(active)), {})
    for stream, shown in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        go(step, progress=None, title="fitting")
        text = stream.getvalue()
        assert ("fitting" in text) is shown
        assert ("best 1.0000 bits/token" in text) is shown


SYMBOLS = ps.emissions.Categorical(3)
FITS = {
    "em": lambda **more: ps.em(ps.HMM(2, SYMBOLS, start="unigram"), DATA, **more),
    "em, minibatches": lambda **more: ps.em(ps.HMM(2, SYMBOLS, start="unigram"), DATA, minibatch=1, **more),
    "svi": lambda **more: ps.svi(ps.BayesianHMM(2, SYMBOLS, start="unigram"), DATA, **more),
    "gradient": lambda **more: ps.fit_gradient(ps.HMM(2, SYMBOLS, start="unigram"), DATA, **more),
}
DATA = ps.Sequences.from_list([[0, 1, 2, 1], [2, 1, 0]])


@pytest.fixture
def slow_start(monkeypatch):
    """A clock that nothing moves but a start, which takes 100 seconds."""
    clock, real = [0.0], starts.initialize

    def slow(model, data):
        real(model, data)
        clock[0] += 100.0

    monkeypatch.setattr("probseq.inference.run.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(starts, "initialize", slow)


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_the_seconds_of_a_fit_begin_with_its_start(slow_start, fit):
    """In what it says, and in its budget."""
    long = fit(num_steps=3, seconds=200)
    assert (long.seconds, len(long.history)) == (100.0, 3)
    short = fit(num_steps=3, seconds=60)
    assert (short.stop_reason, len(short.history)) == (["max_seconds"], 1)


def test_the_seconds_of_draws_begin_with_their_start(slow_start):
    model = ps.HMM(2, SYMBOLS, transition_concentration=1.1)
    assert ps.nuts(model, DATA, num_samples=2, num_warmup=0, num_chains=1).seconds == 100.0


def test_a_start_counts_once_in_a_fit_that_is_resumed(slow_start, tmp_path):
    for steps in (2, 4):
        fit = FITS["gradient"](num_steps=steps, checkpoint=tmp_path / "fit", resume=steps == 4)
        assert (fit.seconds, len(fit.history)) == (100.0, steps)
