"""Read ahead: what takes time is begun some steps before it is wanted."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing
from typing import TypeVar

Begun = TypeVar("Begun")
Item = TypeVar("Item")
Result = TypeVar("Result")

BATCHES_AHEAD = 2
"""Region batches that are read while another is worked on: so three are in memory."""


def begun_ahead(
    begun: Iterable[Begun], count: int = BATCHES_AHEAD, cancel: Callable[[Begun], object] = lambda begun: None
) -> Generator[Begun]:
    """What an iterable gives, in its order, each taken from it `count` steps before it is given on.

    Args:
        begun: begins something whenever the next one is taken from it.
        cancel: called for what nobody waits for any more, as the loop over this has ended early.
    """
    waiting: deque[Begun] = deque()
    try:
        for each in begun:
            waiting.append(each)
            # Once it is given on, it is whoever has taken it that keeps it in memory.
            del each
            if len(waiting) > count:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for left in waiting:
            cancel(left)


def made_ahead(
    make: Callable[[Item], Result], items: Iterable[Item], pool: Executor, count: int = BATCHES_AHEAD
) -> Iterator[Result]:
    """`make(item)` of each item, in their order, which the pool makes `count` steps ahead."""
    futures = (pool.submit(make, item) for item in items)
    with closing(begun_ahead(futures, count, Future.cancel)) as begun:
        yield from map(Future.result, begun)
