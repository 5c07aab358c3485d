"""A model that looks at other regions for a while, and how many it has looked at."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xt.regions.choice import RegionChoice

if TYPE_CHECKING:
    from xt.model.xt import XT


@contextmanager
def looking_at(model: "XT", choice: RegionChoice | None) -> Iterator[None]:
    """The model with this choice of regions for a while; None for its own."""
    reading = model.reading
    if choice is not None:
        model.reading = replace(reading, choice=choice)
    try:
        yield
    finally:
        model.reading = reading


@dataclass
class Looked:
    """What was looked at in a pass over images: so many regions, in so many seconds."""

    regions: int = 0
    seconds: float = 0.0


@contextmanager
def counting(model: "XT") -> Iterator[Looked]:
    """What the model looks at meanwhile, and how long: its own time, with the reading of regions."""
    looked = Looked()
    started: list[float] = []

    def start(*_: Any) -> None:
        started.append(time.perf_counter())

    def count(*_: Any) -> None:
        looked.regions += model.num_regions
        looked.seconds += time.perf_counter() - started.pop()

    hooks = [model.register_forward_pre_hook(start), model.register_forward_hook(count)]
    try:
        yield looked
    finally:
        for hook in hooks:
            hook.remove()
