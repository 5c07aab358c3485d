"""Pages put together: a virtual dataset of GDAL's, in which each is a band, with their levels."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple
from xml.etree import ElementTree

from xt.errors import ImageError
from xt.images.gdal import open_for_facts

_numbers = itertools.count()


class Page(NamedTuple):
    """A plane of pixels: a directory of a TIFF, or a part of the pixels of one that holds them all in a row."""

    name: str
    """GDAL's, of a dataset."""
    label: str | None
    offset: int | None = None
    """Of the first pixel in the file, if there is no directory."""


@dataclass(frozen=True)
class Pages:
    """An image made of pages.

    Attributes:
        like: GDAL's name of the page whose size, type and notes are those of the image.
        channels: a page for each, or for each three of a picture in colour.
        levels: the same of each level but the first, with its (height, width).
        microns_per_pixel: (y, x), where it is said in another way than TIFF's.
        left_out: what of the file is not shown, in words.
        order: of bytes, "<" or ">".
        item_bytes: of a sample.
    """

    like: str
    channels: list[Page]
    levels: list[tuple[tuple[int, int], list[Page]]]
    microns_per_pixel: tuple[float, float] | None
    left_out: tuple[str, ...]
    order: str
    item_bytes: int


def describe_pages(pages: Pages) -> str:
    """A virtual dataset that says what one page says, with all the channels and levels."""
    root, block = _as_virtual(pages.like)
    if pages.microns_per_pixel is not None:
        _set_resolution(root, pages.microns_per_pixel)
    samples = root.findall("VRTRasterBand")
    first = list(root).index(samples[0])
    for template in samples:
        root.remove(template)
    for number, (page, sample) in enumerate(
        itertools.product(range(len(pages.channels)), range(len(samples)))
    ):
        band = copy.deepcopy(samples[sample])
        band.set("band", str(number + 1))
        label = pages.channels[page].label
        if label is not None:
            _set(band, "Description", label if len(samples) == 1 else f"{label} {sample + 1}")
        if pages.channels[page].offset is None:
            _point_to_directories(band, pages, page, block)
        else:
            _point_to_bytes(band, pages, page, sample, len(samples))
        root.insert(first + number, band)
    return ElementTree.tostring(root, encoding="unicode")


def _as_virtual(page: str) -> tuple[ElementTree.Element, tuple[int, int]]:
    """GDAL's description of a page, and the (height, width) of its tiles."""
    from rasterio import shutil

    name = f"/vsimem/xt-pages-{next(_numbers)}.vrt"
    with open_for_facts(page) as dataset:
        block = dataset.block_shapes[0]
        shutil.copy(dataset, name, driver="VRT")
    try:
        with open_for_facts(name) as virtual:
            return ElementTree.fromstring(_xml_of(virtual)), block
    except ElementTree.ParseError as error:
        raise ImageError(
            f"{page} has notes that are no text ({error}): it is damaged, or to be written anew without them"
        ) from error
    finally:
        shutil.delete(name)


def _xml_of(virtual: Any) -> str:
    try:
        text: str = virtual.tags(ns="xml:VRT")["xml:VRT"]
    except UnicodeDecodeError as error:
        # Descriptions of older programs are in Latin-1, as the micrometres of ImageJ; GDAL hands them on as they are.
        return error.object.decode("utf-8", errors="replace")
    return text


def _point_to_directories(band: ElementTree.Element, pages: Pages, page: int, block: tuple[int, int]) -> None:
    source, size = _need(band, "SimpleSource"), _need(band, "SimpleSource/SrcRect")
    _need(source, "SourceFilename").text = pages.channels[page].name
    height, width = block
    band.set("blockXSize", str(width))
    band.set("blockYSize", str(height))
    # With these a source is not opened before it is read.
    ElementTree.SubElement(
        source,
        "SourceProperties",
        RasterXSize=size.get("xSize", ""),
        RasterYSize=size.get("ySize", ""),
        DataType=band.get("dataType", ""),
        BlockXSize=str(width),
        BlockYSize=str(height),
    )
    for _, level in pages.levels:
        overview = ElementTree.SubElement(band, "Overview")
        ElementTree.SubElement(overview, "SourceFilename", relativeToVRT="0").text = level[page].name
        ElementTree.SubElement(overview, "SourceBand").text = _need(source, "SourceBand").text


def _point_to_bytes(band: ElementTree.Element, pages: Pages, page: int, sample: int, samples: int) -> None:
    width = int(_need(band, "SimpleSource/SrcRect").get("xSize", ""))
    band.remove(_need(band, "SimpleSource"))
    band.set("subClass", "VRTRawRasterBand")
    item = pages.item_bytes
    ElementTree.SubElement(band, "SourceFilename", relativeToVRT="0").text = pages.channels[page].name
    for name, value in (
        ("ImageOffset", (pages.channels[page].offset or 0) + sample * item),
        ("PixelOffset", samples * item),
        ("LineOffset", width * samples * item),
        ("ByteOrder", "MSB" if pages.order == ">" else "LSB"),
    ):
        ElementTree.SubElement(band, name).text = str(value)


def _set_resolution(root: ElementTree.Element, microns: tuple[float, float]) -> None:
    tags = next(each for each in root.findall("Metadata") if each.get("domain") is None)
    said = {
        "TIFFTAG_YRESOLUTION": f"{1e4 / microns[0]:.10g}",
        "TIFFTAG_XRESOLUTION": f"{1e4 / microns[1]:.10g}",
        "TIFFTAG_RESOLUTIONUNIT": "3 (pixels/cm)",
    }
    for tag in tags.findall("MDI"):
        if tag.get("key") in said:
            tags.remove(tag)
    for key, value in said.items():
        ElementTree.SubElement(tags, "MDI", key=key).text = value


def _set(element: ElementTree.Element, name: str, text: str) -> None:
    found = element.find(name)
    (ElementTree.SubElement(element, name) if found is None else found).text = text


def _need(element: ElementTree.Element, name: str) -> ElementTree.Element:
    found = element.find(name)
    if found is None:
        raise ImageError(f"GDAL describes a page without {name}")
    return found
