import io
import os
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console

from xt.cli import busy
from xt.cli.busy import busy_sentence, wait_passively
from xt.cli.progress import ProgressBars
from xt.progress import Pace, ProgressLines, duration


def bars_in_a_log(
    seconds_between_lines: float, notice: str | None = None
) -> tuple[ProgressBars, io.StringIO]:
    log = io.StringIO()
    return ProgressBars(Console(file=log, width=60), seconds_between_lines, lambda: notice), log


class Clock:
    """Stands for the module `time`: it goes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("xt.progress.time", clock)
    return clock


def test_in_a_log_file_only_the_end_and_some_lines_between_are_shown():
    bars, log = bars_in_a_log(seconds_between_lines=1000)
    with bars:
        bar = bars.add("slide[1].svs", unit="regions")
        for done in range(1, 101):
            bar.update(done, 100)
        bar.update(100, 100)  # said twice, shown once
    assert log.getvalue() == "slide[1].svs: 100 of 100 regions, 0 s\n"

    bars, log = bars_in_a_log(seconds_between_lines=0)
    with bars:
        bars.add("slide.svs", total=3, unit="regions").advance(2)
    assert re.fullmatch(r"slide\.svs: 2 of 3 regions, 0 s(, about 0 s left)?\n", log.getvalue())


def test_a_log_tells_the_time_left_and_the_newest_numbers(clock):
    bars, log = bars_in_a_log(seconds_between_lines=10)
    with bars:
        bar = bars.add("slide.svs", unit="regions")
        for done in range(1, 101):
            clock.now += 0.3
            bar.update(done, 100, note=f"loss {1 / done:.3f}")
    lines = log.getvalue().splitlines()
    assert lines == [
        "slide.svs: 34 of 100 regions, 10 s, about 20 s left, loss 0.029",
        "slide.svs: 68 of 100 regions, 20 s, about 10 s left, loss 0.015",
        "slide.svs: 100 of 100 regions, 30 s, loss 0.010",
    ]


def test_a_log_of_hours_has_a_line_a_minute(clock):
    bars, log = bars_in_a_log(seconds_between_lines=10)
    with bars:
        bar = bars.add("train", total=4 * 3600)
        for done in range(4 * 3600):
            clock.now += 1
            bar.update(done + 1)
    lines = log.getvalue().splitlines()
    assert lines[0] == "train: 10 of 14400, 10 s, about 3 h 59 min left"
    assert 200 < len(lines) < 320
    assert "left" not in lines[-1]


@pytest.mark.parametrize(
    ("steps", "total", "left"),
    [
        pytest.param([(1, 50), (2, 60), (3, 70)], 100, 3.0, id="gone on with: what was there took no time"),
        pytest.param([(60, 1), (61, 2), (62, 3), (63, 4), (130, 70)], 100, 30.5, id="a slow first step"),
        pytest.param([(1, 1)], 100, 99.0, id="after one step"),
        pytest.param([(0.001, 50), (2, 51)], 60, 18.0, id="gone on with, and said at once"),
        pytest.param([], 100, None, id="nothing done"),
        pytest.param([(1, 0), (2, 0)], 100, None, id="nothing done, said twice"),
        pytest.param([(1, 100)], 100, None, id="all done"),
        pytest.param([(1, 101)], 100, None, id="more than all"),
    ],
)
def test_the_pace_is_that_of_the_newer_half(steps, total, left):
    pace, now = Pace(0.0), 0.0
    for now, done in steps:
        pace.update(done, now)
    assert pace.seconds_left(total, now) == (None if left is None else pytest.approx(left, rel=0.05))


def test_the_time_left_runs_down_between_steps_and_is_not_told_when_a_step_takes_longer_than_thought():
    pace = Pace(0.0)
    pace.update(1, 10.0)
    assert pace.seconds_left(3, 10.0) == 20
    assert pace.seconds_left(3, 15.0) == 15
    assert pace.seconds_left(3, 31.0) is None


def test_a_pace_holds_few_points_however_often_it_is_told():
    pace = Pace(0.0)
    for step in range(100_000):
        pace.update(step, step / 100)
    assert len(pace._points) < 400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (7199.6, "2 h 0 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_long_work_on_a_busy_machine_is_told_so_once(clock):
    bars, log = bars_in_a_log(seconds_between_lines=10, notice="this machine is busy")
    with bars:
        first, second = bars.add("a", total=4), bars.add("b", total=4)
        for done in range(1, 5):
            clock.now += 6
            first.update(done)
            second.update(done)
    assert log.getvalue().count("this machine is busy") == 1
    assert log.getvalue().startswith("this machine is busy\na: 2 of 4")

    bars, log = bars_in_a_log(seconds_between_lines=10, notice="this machine is busy")
    with bars:
        bars.add("short", total=1).update(1)
    assert "busy" not in log.getvalue()


@pytest.mark.parametrize(
    ("load", "cores", "told"),
    [
        (6.2, 2, "this machine is busy: 6.2 processes want its 2 cores; expect about 4 times the time"),
        (1.5, 1, "1.5 processes want its 1 core; expect about 2 times"),
        (2.0, 2, None),
        (0.0, 2, None),
        (30.0, 64, None),
    ],
)
def test_a_machine_is_busy_when_its_load_is_above_its_cores(monkeypatch, load, cores, told):
    monkeypatch.setattr(busy.os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(busy.os, "cpu_count", lambda: cores)
    sentence = busy_sentence()
    assert sentence is None if told is None else told in sentence


def test_a_machine_that_does_not_tell_its_load_is_not_called_busy(monkeypatch):
    def unknown():
        raise OSError

    monkeypatch.setattr(busy.os, "getloadavg", unknown)
    assert busy_sentence() is None
    monkeypatch.delattr(busy.os, "getloadavg")
    assert busy_sentence() is None


def test_on_a_terminal_bars_are_drawn():
    screen = io.StringIO()
    with ProgressBars(Console(file=screen, force_terminal=True, width=80)) as bars:
        bar = bars.add("slide[1].svs", unit="regions")
        time.sleep(0.01)
        bar.update(5, 20, note="loss 0.53 [of 1]")
        bars.print("a line above")
        gone = bars.add("other.svs")
        gone.remove()
    shown = screen.getvalue()
    assert "slide[1].svs" in shown
    assert "5/20" in shown
    assert "s left" in shown
    assert "loss 0.53 [of 1]" in shown
    assert all(len(line) <= 80 for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).splitlines())
    assert "a line above" in shown


@pytest.mark.parametrize(
    "said", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "100"}, {"KMP_BLOCKTIME": "200"}]
)
def test_threads_wait_as_the_user_says_and_else_passively(said):
    environment = dict(said)
    wait_passively(environment)
    assert environment == said
    environment = {"OMP_NUM_THREADS": "3"}
    wait_passively(environment)
    assert environment == {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize(
    ("statement", "policy"),
    [
        ("import xt.cli.main; xt.cli.main.main(['--version'])", "PASSIVE"),
        ("import xt, xt.cli.main", "None"),
    ],
)
def test_the_command_line_sets_the_policy_before_torch_is_loaded_and_the_library_sets_nothing(
    statement, policy
):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    code = f"{statement}; import os, sys; print('torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"False {policy}"


def test_lines_in_a_notebook(clock, capsys):
    written: list[str] = []
    bar = ProgressLines(written.append).add("a.svs", total=30, unit="regions")
    for done in range(1, 31):
        clock.now += 1
        bar.update(done)
    assert written == [
        "a.svs: 10 of 30 regions, 10 s, about 20 s left",
        "a.svs: 20 of 30 regions, 20 s, about 10 s left",
        "a.svs: 30 of 30 regions, 30 s",
    ]
    ProgressLines().print("said")
    assert capsys.readouterr() == ("", "said\n")
