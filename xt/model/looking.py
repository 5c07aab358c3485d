"""A model that looks at other regions for a while, and how many it has looked at."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from xt.regions.choice import RegionChoice

if TYPE_CHECKING:
    from xt.images import LargeImage
    from xt.model.dense import DecodedRegions
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


def warm_up(model: "XT") -> None:
    """Encode a region of nothing: what a process does once is done then, and what is timed next does not pay for it."""
    encoder = model.region_encoder
    if not encoder.takes_pixels:
        return
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    side = encoder.region_size + 2 * encoder.halo
    with torch.inference_mode():
        encoder(torch.zeros(1, encoder.in_channels, side, side, device=model.device))
    for module, training in modes.items():
        module.training = training


LooksOn = Callable[["LargeImage", "Iterator[DecodedRegions]"], "Iterator[DecodedRegions]"]


@dataclass
class Looked:
    """What was looked at in a pass over images: so many regions, in so many seconds, by the clock and of processors."""

    regions: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What is done in the block counts."""
        began, of_processors = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began
            self.processor_seconds += time.process_time() - of_processors


def side_by_side(chosen: Looked, everything: Looked) -> dict[str, float]:
    """Which share of all regions was looked at, and the times of both passes; those of all are called `..._all`."""
    return {
        "share": chosen.regions / everything.regions,
        "seconds": chosen.seconds,
        "seconds_all": everything.seconds,
        "processor_seconds": chosen.processor_seconds,
        "processor_seconds_all": everything.processor_seconds,
    }


@contextmanager
def counting(model: "XT", looks_on: LooksOn | None = None) -> Iterator[Looked]:
    """What the model looks at meanwhile, and how long: its own time, with the reading of regions.

    Args:
        looks_on: is handed what is decoded of each image of a model that answers about every place.
    """
    looked, decode = Looked(), model.decode
    begun: list[ExitStack] = []

    def start(*_: Any) -> None:
        begun.append(ExitStack())
        begun[-1].enter_context(looked.timed())

    def count(*_: Any) -> None:
        begun.pop().close()
        looked.regions += model.num_regions

    def watched(image: "LargeImage", **options: Any) -> "Iterator[DecodedRegions]":
        parts = timed(decode(image, **options))
        yield from parts if looks_on is None else looks_on(image, parts)
        looked.regions += model.num_regions

    def timed(parts: "Iterator[DecodedRegions]") -> "Iterator[DecodedRegions]":
        while True:
            with looked.timed():
                part = next(parts, None)
            if part is None:
                return
            yield part

    hooks = [model.register_forward_pre_hook(start), model.register_forward_hook(count)]
    # In place of the method, for this model alone.
    vars(model)["decode"] = watched
    try:
        yield looked
    finally:
        del vars(model)["decode"]
        for hook in hooks:
            hook.remove()
