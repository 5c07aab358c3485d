"""TIFFs of several pages: those that are channels of one image are put together, as a virtual dataset of GDAL's.

What a page is, programs say in many ways, which tifffile knows: ImageJ's hyperstacks, QPTIFF, its own shapes, pages of
one size and type. GDAL shows the first page, and takes for levels of it whatever smaller page is marked as reduced.
"""

from __future__ import annotations

import itertools
import math
import struct
import warnings
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from xt.errors import DataWarning, ImageError, XTError
from xt.images.ome import Plane, in_microns
from xt.images.page_dataset import Page, Pages, describe_pages
from xt.images.raster import RasterImage
from xt.images.storage import MOST_PLANES, check_claims, is_reduced

# Axes, by tifffile's letters, along which pages are channels: of wavelengths, and where nobody says what they are.
_CHANNELS = "CEIQ"
_UNNAMED = "IQ"
_PAGE_NAME = 285
_MASK = 4
# Of a value, by TIFF's number of its type.
_BYTES = dict(zip((*range(1, 14), 16, 17, 18), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 8, 8, 8), strict=True))
_AGAIN = "; get the file again from its source"


def together(image: RasterImage, plane: Plane) -> str | None:
    """GDAL's description of all the channels that the pages of a TIFF are; None if its first page is all.

    Warns of what is not shown (`DataWarning`).

    Raises:
        ConfigError: the file has no such time point, plane or image.
    """
    pages = _read_pages(image, plane)
    if pages is None:
        return None
    if pages.left_out and plane == Plane():
        warnings.warn(f"{image.path}: {'; '.join(pages.left_out)}", DataWarning, stacklevel=4)
    if pages.channels[0].offset is None and len(pages.channels) == 1 and plane == Plane():
        return None
    return describe_pages(pages)


def _read_pages(image: RasterImage, plane: Plane) -> Pages | None:
    import tifffile

    try:
        with tifffile.TiffFile(image.path) as file:
            return _pages(file, image.path, plane)
    except XTError:
        raise
    except Exception as error:
        # Whatever is wrong with notes of other programs: GDAL reads the first page all the same.
        warnings.warn(
            f"{image.path} has several pages, of which the first is read, as what they are cannot be told ({error})",
            DataWarning,
            stacklevel=5,
        )
        plane.check(image.path, time=1, z=1, series=1)
        return None


def _pages(file: Any, path: str, plane: Plane) -> Pages:
    _require_whole(file, path)
    series = [each for each in file.series if each.keyframe.subfiletype & _MASK == 0] or list(file.series)
    # Pictures in colour are no channels of each other: each is an image of its own.
    split = _pictures(series)
    plane.check(path, series=split or len(series))
    one = series[0 if split else plane.series]
    sizes = dict(zip(one.axes, one.shape, strict=True))
    samples = sizes.get("S", 1)
    leading = {axis: size for axis, size in sizes.items() if axis not in "YXS"}
    plane.check(path, time=leading.get("T", 1), z=leading.get("Z", 1))
    count = math.prod(leading.values())
    if count > MOST_PLANES:
        raise ImageError(f"{path} says that it has {count:,} pages, which no file holds: it is damaged")
    shown = 1 if split else math.prod(size for axis, size in leading.items() if axis in _CHANNELS)
    check_claims(path, shown * samples, 0)
    chosen: dict[str, Any] = {"T": plane.time, "Z": plane.z}
    for axis in leading:
        if axis in _CHANNELS:
            chosen[axis] = plane.series if split and leading[axis] > 1 else slice(None)
    places = np.arange(count).reshape(tuple(leading.values()))
    numbers = np.atleast_1d(places[tuple(chosen.get(axis, 0) for axis in leading)]).ravel().tolist()
    labels = _labels(file, one, places.size)
    whole = list(one.pages)
    if len(whole) < places.size and one.dataoffset is not None:
        step = math.prod((sizes["Y"], sizes["X"], samples)) * one.dtype.itemsize
        like = path
        channels = [Page(path, labels[number], one.dataoffset + number * step) for number in numbers]
        levels = []
    else:
        channels = [_page(whole[number], path, labels[number]) for number in numbers]
        # Of the file's first page GDAL finds the mask as well.
        is_first = whole[numbers[0]].offset == file.pages.first.offset
        like = path if is_first else channels[0].name
        levels = [
            (shape, [_page(group[number], path, None) for number in numbers])
            for shape, group in _levels(file, one, whole)
        ]
    return Pages(
        like,
        channels,
        levels,
        _microns(file, one),
        tuple(_left_out(series, leading, split, sizes, plane)),
        file.byteorder,
        one.dtype.itemsize,
    )


def _require_whole(file: Any, path: str) -> None:
    """A directory says where its values are, and where the next one is: of a file that was cut off, they are not there.

    Raises:
        ImageError: so it is.
    """
    handle, form = file.filehandle, file.tiff
    following = 0
    # Counted first: going through pages of which one leads back to another would not end.
    count_pages = len(file.pages)
    for number in range(count_pages):
        page = file.pages[number]
        handle.seek(page.offset)
        (count,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
        entries = handle.read(count * form.tagsize)
        (following,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
        for place in range(0, len(entries), form.tagsize):
            _, kind = struct.unpack_from(file.byteorder + "HH", entries, place)
            values, offset = struct.unpack_from(
                file.byteorder + form.offsetformat[-1] * 2, entries, place + 4
            )
            size = values * _BYTES.get(kind, 0)
            if size > form.offsetsize and offset + size > handle.size:
                raise ImageError(
                    f"{path} is damaged or cut off: what its pages say lies beyond its end{_AGAIN}"
                )
    if following >= handle.size:
        raise ImageError(
            f"{path} is damaged or cut off: it has more pages than the {count_pages} that are there{_AGAIN}"
        )


def _pictures(series: Sequence[Any]) -> int:
    """How many pictures in colour a file is, if its pages are nothing but these."""
    sizes = dict(zip(series[0].axes, series[0].shape, strict=True))
    several = [axis for axis, size in sizes.items() if size > 1 and axis not in "YXS"]
    if len(series) == 1 and sizes.get("S", 1) > 1 and len(several) == 1 and several[0] in _UNNAMED:
        return int(sizes[several[0]])
    return 0


def _left_out(
    series: Sequence[Any], leading: dict[str, int], split: int, sizes: dict[str, int], plane: Plane
) -> Iterator[str]:
    if split:
        yield f"the first of {split} pictures is read; series=1 is the second"
        return
    for axis, words, argument in (("T", "time points", "time"), ("Z", "focal planes", "z")):
        if leading.get(axis, 1) > 1:
            yield f"the first of {leading[axis]} {words} is read; {argument}=1 is the second"
    for axis, size in leading.items():
        if size > 1 and axis not in _CHANNELS + "TZ":
            yield f"the first of {size} along the axis {axis} is read"
    size = sizes["Y"] * sizes["X"]
    larger = [
        number
        for number, each in enumerate(series)
        if number != plane.series and each.keyframe.imagelength * each.keyframe.imagewidth >= size
    ]
    if larger:
        yield f"the first of {len(series)} images of different kinds is read; another is series={larger[0]}"


def _page(page: Any, path: str, label: str | None) -> Page:
    return Page(f"GTIFF_DIR:off:{page.offset}:{path}", label)


def _levels(file: Any, series: Any, pages: Sequence[Any]) -> list[tuple[tuple[int, int], list[Any]]]:
    """Sizes and pages of the levels: smaller, of the same kind, and one for each page."""
    first = series.keyframe
    used = {page.offset for page in pages}
    groups: dict[tuple[int, int], list[Any]] = {}
    below = [page.aspage().pages or () for page in pages]
    others = (page.aspage() for page in file.pages if page.offset not in used)
    for page in itertools.chain(*zip(*below, strict=False), others):
        page = page.aspage()
        if _kind(page) == _kind(first) and page.subfiletype & _MASK == 0:
            groups.setdefault((page.imagelength, page.imagewidth), []).append(page)
    shape = first.imagelength, first.imagewidth
    found = [
        (low, group) for low, group in groups.items() if len(group) == len(pages) and is_reduced(shape, low)
    ]
    return sorted(found, key=lambda level: level[0], reverse=True)


def _kind(page: Any) -> tuple[Any, ...]:
    return page.samplesperpixel, page.dtype, page.planarconfig


def _labels(file: Any, series: Any, count: int) -> list[str | None]:
    """What the pages are called: by ImageJ, by QPTIFF, or by TIFF's own tag."""
    if file.is_imagej:
        given = (file.imagej_metadata or {}).get("Labels") or []
        labels = [str(label) or None for label in given]
    elif series.kind == "qpi":
        labels = [_in_qpi(page.aspage().description) for page in series.pages]
    else:
        tags = [page.aspage().tags.get(_PAGE_NAME) for page in series.pages]
        labels = [None if tag is None else str(tag.value).strip() or None for tag in tags]
    return labels if len(labels) == count else [None] * count


def _in_qpi(description: str) -> str | None:
    try:
        root = ElementTree.fromstring(description)
    except ElementTree.ParseError:
        return None
    # What the dye marks, else the filter.
    return root.findtext("Biomarker") or root.findtext("Name")


def _microns(file: Any, series: Any) -> tuple[float, float] | None:
    """ImageJ writes pixels for one of a unit that only its description names."""
    unit = (file.imagej_metadata or {}).get("unit") if file.is_imagej else None
    if unit is None:
        return None
    tags = series.keyframe.tags
    try:
        per_unit = [tags[name].value for name in ("YResolution", "XResolution")]
        y, x = (value[1] / value[0] for value in per_unit)
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    unit = str(unit).replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    return in_microns((y, x), (unit, unit))
