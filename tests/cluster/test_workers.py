"""Units over processes that are killed, refuse, and stay busy."""

import os
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, CancelledError
from pathlib import Path

import pytest

from tests.cluster.toy_work import ToyWork, begun
from xt.cluster import processes
from xt.cluster.processes import local_handles
from xt.cluster.units import Outcome, Plan, WorkUnit, units_of
from xt.cluster.workers import Workers
from xt.errors import XTError


def do(folder, names: list[str], num_workers: int = 1, **settings) -> tuple[Plan, dict[str, Outcome]]:
    """The plan at the end, and the last outcome of each image."""
    plan, outcomes = Plan(), {}
    handles = local_handles(ToyWork(folder, **settings), [f"device {n}" for n in range(num_workers)])
    with Workers(handles, plan) as workers:
        for outcome in workers.run(units_of((name, name) for name in names)):
            if outcome is not None:
                outcomes[outcome.unit.image] = outcome
    return plan, outcomes


def test_one_worker_does_all_and_is_begun_anew_where_it_was_killed(tmp_path):
    names = ["a", "broken-b", "unlucky-c", "strange-d", "warned-e", "large-f", "torn-g", "h"]
    plan, outcomes = do(tmp_path, names)
    assert list(plan.failed) == ["broken-b", "strange-d", "torn-g"]
    assert plan.failed["broken-b"] == "broken-b is damaged"
    assert plan.failed["strange-d"] == "ZeroDivisionError: by nought"
    assert (plan.num_images, plan.num_bands, plan.all_bands) == (8, 5, 5)
    done = {name: outcome.result for name, outcome in outcomes.items() if outcome.result}
    assert sorted(done) == ["a", "h", "large-f", "unlucky-c", "warned-e"]
    assert {result["device"] for result in done.values()} == {"device 0"}
    assert done["a"]["worker"] != done["unlucky-c"]["worker"] == done["h"]["worker"], "a new process"
    assert outcomes["warned-e"].warnings == ("mind the gap",)
    log = begun(tmp_path)
    assert log.count("unlucky-c None False") == 2
    assert log.count("a None False") == log.count("h None False") == 1
    # An image that was begun is finished before others are begun; one with a broken band is not finished.
    first = log.index("large-f None False")
    assert log[first + 1 : first + 5] == [
        "large-f (0, 2) False", "large-f (2, 4) False", "large-f (4, 5) False", "large-f None True",
    ]  # fmt: skip
    assert "torn-g None True" not in log
    assert "torn-g (2, 4) False" in log


def test_two_workers_share_the_work_and_one_image_kills_none_but_itself(tmp_path):
    names = ["deadly-a", "x1", "pair-a", "pair-b", "x2"]
    plan, outcomes = do(tmp_path, names, num_workers=2)
    assert list(plan.failed) == ["deadly-a"]
    reason = "the worker was lost again and again at deadly-a (A process in the process pool was terminated abruptly"
    assert plan.failed["deadly-a"].startswith(reason)
    assert begun(tmp_path).count("deadly-a None False") == 3
    # Each of the two waits for the other.
    assert {outcomes[name].result["device"] for name in ("pair-a", "pair-b")} == {"device 0", "device 1"}
    assert plan.num_images == 5


@pytest.mark.parametrize(
    ("names", "settings", "expected"),
    [
        (["full-a", "slow-b"], {}, "the disk is full"),
        (["a", "b"], {"refused": "no such option"}, "no such option"),
    ],
)
def test_a_refusal_ends_the_run_at_once(tmp_path, names, settings, expected):
    with pytest.raises(XTError, match=expected):
        do(tmp_path, names, num_workers=2, **settings)
    if "slow-b" in names:
        assert "slow-b ended" not in begun(tmp_path), "and does not wait for a worker that is busy"


def test_a_worker_that_is_ended_while_it_begins_ends(tmp_path):
    """As by Ctrl-C in the first moment."""
    (handle,) = local_handles(ToyWork(tmp_path), [None])
    future = handle.submit(WorkUnit(image="a", stem="a"))
    handle.close()
    assert future.done()
    with pytest.raises((BrokenExecutor, CancelledError)):
        future.result()
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_can_begin_no_process_says_so(tmp_path, monkeypatch):
    def refused(_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(processes._processes.Process, "start", refused)
    plan, _ = do(tmp_path, ["a", "b"])
    assert list(plan.failed) == ["a", "b"]
    assert "the worker was lost again and again at a ([Errno 12] Cannot allocate memory)" in plan.failed["a"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes as Linux shows them")
def test_nothing_is_left_of_a_driver_that_was_killed(tmp_path):
    """A worker that is busy ends with it, and one that waits."""
    code = (
        "import sys; from pathlib import Path; from tests.cluster.test_workers import do\n"
        "if __name__ == '__main__': do(Path(sys.argv[1]), ['slow-a', 'b'], num_workers=2)"
    )
    script = tmp_path / "driver.py"
    script.write_text(code)
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, script, tmp_path], env=environment) as driver:
        while not (tmp_path / "log").exists() or len(begun(tmp_path)) < 2:
            assert driver.poll() is None
            time.sleep(0.05)
        children = Path(f"/proc/{driver.pid}/task").glob("*/children")
        workers = [pid for some in children for pid in some.read_text().split()]
        assert len(workers) >= 2
        driver.kill()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_progress_is_told(tmp_path):
    seen = set()
    with Workers(local_handles(ToyWork(tmp_path), [None]), Plan()) as workers:
        for _ in workers.run(units_of([("slow-a", "slow-a")])):
            seen.add(workers.handles[0].latest)
            if seen - {None}:
                break
    (told,) = seen - {None}
    assert (told.what, told.done, told.total) == ("slow-a", 1, 2)
