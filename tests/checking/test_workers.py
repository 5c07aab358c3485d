"""Many images at once: every job is answered, also those whose reading ends the process."""

import os
from pathlib import Path

import pytest

from xt.checking.image_facts import Job, Looking
from xt.checking.workers import look_at_all
from xt.data.dataset import Reading

HOW = Looking(reading=Reading(region_size=32))
JOBS = [Job(row=row, path=Path(f"{row}.tif")) for row in range(60)]


def name_of(job: Job, how: Looking) -> str:
    assert how == HOW
    return job.path.name


def deadly(job: Job, how: Looking) -> str:
    """As a decoder that writes where it must not."""
    if job.row in (3, 41):
        os._exit(11)
    return name_of(job, how)


def broken(job: Job) -> str:
    return f"broken {job.row}"


@pytest.mark.parametrize("workers", [0, 2])
def test_every_job_is_answered_once(workers):
    found = list(look_at_all(name_of, JOBS, HOW, workers, broken))
    assert sorted((job.row, name) for job, name in found) == [(row, f"{row}.tif") for row in range(60)]


def test_a_process_that_ends_ends_no_other_job():
    found = {job.row: name for job, name in look_at_all(deadly, JOBS, HOW, 2, broken)}
    assert len(found) == 60
    assert {row for row, name in found.items() if name == f"broken {row}"} == {3, 41}
    assert found[59] == "59.tif"
