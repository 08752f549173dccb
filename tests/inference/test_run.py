import io
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

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
