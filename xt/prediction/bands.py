"""Bands: ranges of an image's region batches, decoded by several processes at a time, each into a store of its own.

    DEST.partial/                 of the image: header, context, and the region batches that are joined already
    DEST.partial/band-FIRST-STOP  a `RegionStore` of region batches FIRST to STOP

A band is joined by moving what it holds behind the region batches that the image's store has. Region batches are cut as
without bands, and each is computed alone: what is joined is, byte for byte, what one process would have stored.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xt.results.region_store import BAND, RegionStore

_NAME = re.compile(rf"{BAND}(\d+)-(\d+)")


class Band(NamedTuple):
    """Region batches `first` to `stop`, half-open, in the grid's order: in raster order, rows of regions."""

    first: int
    stop: int

    def folder(self, partial: Path) -> Path:
        return partial / f"{BAND}{self.first:08d}-{self.stop:08d}"


def cut_bands(num_batches: int, batches_per_band: int, done: int = 0) -> list[Band]:
    """The bands of an image that have anything left to do.

    Args:
        done: region batches that are in the image's store already. Borders do not depend on it, so that a band that an
            earlier run began is the same one.
    """
    starts = range(0, num_batches, batches_per_band)
    bands = [Band(first, min(first + batches_per_band, num_batches)) for first in starts]
    return [band for band in bands if band.stop > done]


def bands_in(partial: Path) -> list[Band]:
    """The bands that lie in an image's partial folder, whole or begun, by where they begin."""
    names = (_NAME.fullmatch(path.name) for path in partial.iterdir())
    return sorted(Band(int(name[1]), int(name[2])) for name in names if name)


def join_bands(store: RegionStore) -> int | None:
    """Move what bands hold behind what the image's store holds, as far as there is no gap.

    Killed in between, a region batch may lie in both: the band goes only when all of it was taken.

    Returns:
        Where the next band begins behind a gap; None if there is none.
    """
    for band in bands_in(store.folder):
        if band.first > store.num_batches:
            return band.first
        with band_store(store.folder, band, store.header) as part:
            for number in range(store.num_batches - band.first, part.num_batches):
                store.append(part.batch(number, np.uint8))
            # The band's bytes go only when they are safe elsewhere.
            store.sync()
            if part.seconds:
                store.spend(part.seconds)
            part.remove()
    return None


def band_store(partial: Path, band: Band, header: dict[str, object]) -> RegionStore:
    """The store of a band of the work that `header` identifies.

    Raises:
        OutputError: there is one of other work, or another process has it.
    """
    return RegionStore(band.folder(partial), {**header, "band": list(band)})
