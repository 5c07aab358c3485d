"""Looking at many images at once, in processes of their own: a file that ends such a process ends nothing else."""

import multiprocessing
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from xt.checking.image_facts import Job, Looking

Found = TypeVar("Found")
Look = Callable[[Job, Looking], Found]
"""A function of a module: processes find it by its name."""

# To start processes takes as long as to look at so many small images.
_FEW = 48
# Jobs that a process is given beforehand, so that it need not wait.
_EACH = 8
_jobs: Sequence[Job] = ()
_how: Looking | None = None


def look_at_all(
    look: Look[Found], jobs: Sequence[Job], how: Looking, workers: int, broken: Callable[[Job], Found]
) -> Iterator[tuple[Job, Found]]:
    """What `look` says about each job, as soon as it is known.

    Args:
        workers: processes; with none, or for a few jobs, this one does it all.
        broken: says it of a job that ended its process.
    """
    if workers < 1 or len(jobs) <= _FEW:
        yield from ((job, look(job, how)) for job in jobs)
        return
    waiting = list(range(len(jobs)))
    while waiting:
        done: set[int] = set()
        for place, found in _together(look, jobs, how, workers, waiting):
            done.add(place)
            yield jobs[place], found
        waiting = [place for place in waiting if place not in done]
        if waiting:
            # One of those begun ended its process; which, is seen when they are looked at one by one.
            tried = yield from _one_by_one(look, jobs, how, waiting[: workers * _EACH], broken)
            waiting = [place for place in waiting if place not in tried]


def _together(
    look: Look[Found], jobs: Sequence[Job], how: Looking, workers: int, waiting: Sequence[int]
) -> Iterator[tuple[int, Found]]:
    """Until all are done, or a process has ended."""
    places = iter(waiting)
    running: dict[Future[Found], int] = {}
    with _pool(jobs, how, workers) as pool:
        try:
            while True:
                while len(running) < workers * _EACH and (place := next(places, None)) is not None:
                    running[pool.submit(_look, look, place)] = place
                if not running:
                    return
                future = next(as_completed(running))
                place = running.pop(future)
                yield place, future.result()
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _one_by_one(
    look: Look[Found],
    jobs: Sequence[Job],
    how: Looking,
    waiting: Sequence[int],
    broken: Callable[[Job], Found],
) -> Generator[tuple[Job, Found], None, set[int]]:
    done: set[int] = set()
    pool = _pool(jobs, how, 1)
    try:
        for place in waiting:
            done.add(place)
            try:
                yield jobs[place], pool.submit(_look, look, place).result()
            except BrokenProcessPool:
                yield jobs[place], broken(jobs[place])
                pool.shutdown(wait=False)
                pool = _pool(jobs, how, 1)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return done


def _pool(jobs: Sequence[Job], how: Looking, workers: int) -> ProcessPoolExecutor:
    # Forked from a process of few threads that has loaded everything, where there is such a thing.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(jobs, how))


def _begin(jobs: Sequence[Job], how: Looking) -> None:
    global _jobs, _how
    _jobs, _how = jobs, how


def _look(look: Look[Found], place: int) -> Found:
    assert _how is not None
    return look(_jobs[place], _how)
