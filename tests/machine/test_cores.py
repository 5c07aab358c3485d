"""What the machine gives to a process."""

import os

import pytest

from xt.machine import usable_cores


def test_a_process_has_the_cores_that_a_scheduler_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 9}, raising=False)
    assert usable_cores() == 3


@pytest.mark.parametrize(("there", "cores"), [(6, 6), (None, 1)])
def test_where_no_scheduler_tells_it_has_all_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, there: int | None, cores: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: there)
    assert usable_cores() == cores
