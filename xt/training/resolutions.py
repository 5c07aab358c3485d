"""Whether the images of a cohort are of one resolution, said before anything is trained on them."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from xt.data.sources import Source
from xt.errors import ConfigError, DataWarning, XTError
from xt.images import open_image
from xt.images.resolution import PixelSize, Resolution, metres_on_the_ground, pixel_size, say_resolution
from xt.labels.image_table import ImageTable
from xt.model.config import ModelConfig
from xt.training.callbacks import Report

# Beyond this share, pixels of one cohort are of different sizes.
_TENTH = 1.1
# Most of the time is spent waiting for files.
_THREADS = 8
_SETTINGS = {"micrometres": "model.microns_per_pixel", "metres": "model.map_units_per_pixel"}


class _Found(NamedTuple):
    """What is known of an image's resolution.

    Attributes:
        ground: see `metres_on_the_ground`.
        given: micrometres as the table says, where the file says something else.
        refused: why it cannot be read at the model's resolution.
    """

    path: Path
    size: PixelSize | None
    ground: float | None
    given: float | None
    refused: str | None


def check_resolutions(
    tables: Sequence[ImageTable | None], model: ModelConfig, data: Source, report: Report | None = None
) -> None:
    """Open every image, without reading pixels, and say what is odd about the resolutions of all of them together.

    Without a resolution of the model's a `DataWarning` tells where they differ by more than a tenth, or where some are
    known and others are not. Photographs, encoded images and those averaged down have none that matters.

    Raises:
        ConfigError: the model has a resolution, and there are images that do not say theirs.
        ImageError: an image cannot be opened.
    """
    if model.image_size is not None or data.encoded is not None or data.view == "downsample":
        return
    resolution = model.resolution
    there = [table for table in tables if table is not None]
    source = there[0].source
    found = list(_all_found(there, resolution, report))
    refused = [each for each in found if each.refused is not None]
    if refused:
        more = f" (and {len(refused) - 1} more of {len(found)} images)" if len(refused) > 1 else ""
        raise ConfigError(f"{source}: {refused[0].refused}{more}")
    for sentence in (
        *_of_contradictions(found),
        *_of_stretched_maps(found),
        *(() if resolution.is_set else _of_differences(found)),
    ):
        warnings.warn(f"{source}: {sentence}", DataWarning, stacklevel=2)


def _all_found(
    tables: Sequence[ImageTable], resolution: Resolution, report: Report | None
) -> Iterator[_Found]:
    # One file may stand in several rows.
    given = {table.paths[row]: table.microns_of(row) for table in tables for row in range(len(table))}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="xt-resolutions") as pool:
        for done, found in enumerate(pool.map(lambda item: _look(resolution, *item), given.items()), start=1):
            if report is not None:
                report("look at images", done, len(given), {})
            yield found


def _look(resolution: Resolution, path: Path, microns: float | None) -> _Found:
    refused = None
    with open_image(path) as file:
        own = pixel_size(file)
        agrees = own is None or microns is None or own.unit != "micrometres" or _is_close(own.mean, microns)
        say_resolution(file, microns)
        try:
            resolution.as_read(file)
        except XTError as error:
            refused = str(error)
        return _Found(
            path, pixel_size(file), metres_on_the_ground(file), None if agrees else microns, refused
        )


def _size(found: tuple[float, Path]) -> float:
    return found[0]


def _is_close(one: float, other: float) -> bool:
    return 1 / _TENTH <= one / other <= _TENTH


def _of_differences(found: Sequence[_Found]) -> Iterator[str]:
    known = [each for each in found if each.size is not None]
    unknown = [each for each in found if each.size is None]
    if known and unknown:
        size = known[0].size
        assert size is not None
        yield (
            f"{len(unknown)} of {len(found)} images, such as {unknown[0].path}, do not say their resolution, and "
            f"{known[0].path} has {size.mean:.3g} {size.unit} per pixel: nobody knows whether they are of one. Name it "
            "in the table's column microns_per_pixel"
        )
    for unit in ("micrometres", "metres", "degrees"):
        sizes = [
            (each.size.mean, each.path) for each in known if each.size is not None and each.size.unit == unit
        ]
        if not sizes:
            continue
        (least, finest), (most, coarsest) = min(sizes, key=_size), max(sizes, key=_size)
        if _is_close(most, least):
            continue
        usual = Counter(f"{size:.3g}" for size, _ in sizes).most_common(1)[0][0]
        what = (
            f"set {_SETTINGS[unit]}, such as to {usual}, and all are read at one"
            if unit in _SETTINGS
            else "warp them to one grid in metres"
        )
        yield (
            f"images are of different resolutions, {least:.3g} {unit} per pixel in {finest} to {most:.3g} in "
            f"{coarsest}, so that the model sees the same things at different sizes: {what}"
        )


def _of_contradictions(found: Sequence[_Found]) -> Iterator[str]:
    contradicted = [each for each in found if each.given is not None]
    if contradicted:
        first = contradicted[0]
        assert first.size is not None
        yield (
            f"{len(contradicted)} of {len(found)} images say another resolution than the table, such as {first.path} "
            f"with {first.size.mean:.3g} micrometres per pixel and {first.given:.3g} in the table: the files' is taken"
        )


def _of_stretched_maps(found: Sequence[_Found]) -> Iterator[str]:
    stretched = [each for each in found if each.ground is not None and not _is_close(each.ground, 1)]
    if stretched:
        first = stretched[0]
        yield (
            f"on the maps of {len(stretched)} of {len(found)} images a metre is not a metre on the ground, such as "
            f"{first.ground:.2g} in {first.path}: warp them to a system that keeps lengths, such as UTM, where that "
            "matters"
        )
