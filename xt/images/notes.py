"""What a file says about its pixels besides their values, and how it comes into another file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rasterio.rpc import RPC

Tags = Mapping[str, Mapping[str, str]]
Color = tuple[int, int, int, int]

# Of how a file stores its pixels, not of what they mean; and what is written by other means.
_OF_STORAGE = frozenset(
    {"IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "TIFF", "xml:VRT", "rio_creation_kwds"}
)
# Said by pixels that are upright, and what PNG repeats of other domains.
_TURNED = frozenset({"EXIF_Orientation", "Raw_profile_type_exif", "XML_com.adobe.xmp"})
_XMP = "xml:XMP"
_PROFILE, _ICC = "COLOR_PROFILE", "SOURCE_ICC_PROFILE"
_ORIENTATION_IN_XMP = re.compile(r'(tiff:Orientation(?:="|>))[1-8]\b')
_DESCRIPTION = "TIFFTAG_IMAGEDESCRIPTION"
# Of programs that say there how many pages of which kind a TIFF has.
LAYOUTS = ("ImageJ=", '{"shape"')
_STATISTICS = "STATISTICS_"
_PALETTE = "palette"


@dataclass(frozen=True, kw_only=True)
class BandNotes:
    """Of one channel.

    Attributes:
        name: what it shows.
        scale, offset: its values times `scale` plus `offset` are what they mean, in `unit`.
        color: GDAL's colour interpretation.
        palette: red, green, blue and opacity of each value.
        tags: by domain, "" the default one.
    """

    name: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    unit: str | None = None
    color: str | None = None
    palette: Mapping[int, Color] | None = None
    tags: Tags = field(default_factory=dict)

    def without_statistics(self) -> BandNotes:
        """As of other pixels of the same kind."""
        tags = {
            domain: {name: value for name, value in tags.items() if not name.startswith(_STATISTICS)}
            for domain, tags in self.tags.items()
        }
        return BandNotes(**{**vars(self), "tags": tags})


@dataclass(frozen=True, kw_only=True)
class FileNotes:
    """Of a file.

    Attributes:
        tags: by domain, "" the default one.
        rpcs: rational polynomials that it has beside a transform.
    """

    tags: Tags = field(default_factory=dict)
    rpcs: RPC | None = None


# What is kept of a band, and how to see whether it is. Grey is what a band is of which nothing is said.
_KEPT: dict[str, Callable[[BandNotes, BandNotes], bool]] = {
    "names": lambda old, new: old.name in (None, new.name),
    "scales": lambda old, new: old.scale == new.scale,
    "offsets": lambda old, new: old.offset == new.offset,
    "units": lambda old, new: old.unit in (None, new.unit),
    "colour interpretations": lambda old, new: old.color in (None, "gray", "undefined", _PALETTE, new.color),
    "colour tables": lambda old, new: (old.palette or {}).items() <= (new.palette or {}).items(),
}


def file_notes(dataset: Any) -> FileNotes:
    """Those of a file that rasterio has opened."""
    try:
        rpcs = dataset.rpcs
    except (KeyError, ValueError):
        # A part of them is missing.
        rpcs = None
    tags = _tags(dataset, None)
    default = {name: value for name, value in tags.get("", {}).items() if name not in _TURNED}
    if default.get(_DESCRIPTION, "").startswith(LAYOUTS):
        del default[_DESCRIPTION]
    tags[""] = default
    if _PROFILE in tags:
        # Of what else PNG says there, such as that it is plain sRGB, TIFF has no place.
        tags[_PROFILE] = {name: value for name, value in tags[_PROFILE].items() if name == _ICC}
    if _XMP in tags:
        tags[_XMP] = {_XMP: _ORIENTATION_IN_XMP.sub(r"\g<1>1", tags[_XMP][_XMP])}
    return FileNotes(tags=tags, rpcs=rpcs)


def band_notes(dataset: Any, bands: Sequence[int]) -> tuple[BandNotes, ...]:
    """Those of some bands, numbered from 1, of a file that rasterio has opened."""
    return tuple(_band(dataset, band) for band in bands)


def write_notes(dataset: Any, notes: FileNotes, bands: Sequence[BandNotes]) -> None:
    """Say it in a GeoTIFF that rasterio writes."""
    for domain, tags in notes.tags.items():
        _write_tags(dataset, domain, tags)
    for number, band in enumerate(bands, start=1):
        for domain, tags in band.tags.items():
            _write_tags(dataset, domain, tags, bidx=number)
    dataset.descriptions = [band.name for band in bands]
    # Zero and one are what is taken where nothing is said.
    if any((band.scale, band.offset) != (1, 0) for band in bands):
        dataset.scales = [band.scale for band in bands]
        dataset.offsets = [band.offset for band in bands]
    if any(band.unit for band in bands):
        dataset.units = [band.unit or "" for band in bands]
    if notes.rpcs is not None:
        dataset.rpcs = notes.rpcs
    _write_colors(dataset, bands)


def lost_notes(dataset: Any, notes: FileNotes, bands: Sequence[BandNotes]) -> list[str]:
    """What of it a written file does not say, in words."""
    there = band_notes(dataset, dataset.indexes)
    pairs = list(enumerate(zip(bands, there, strict=True), start=1))
    lost = []
    for words, is_kept in _KEPT.items():
        gone = [str(number) for number, (old, new) in pairs if not is_kept(old, new)]
        if gone:
            lost.append(f"{words} of band{'s' * (len(gone) > 1)} {', '.join(gone[:8])}")
    if notes.rpcs is not None and dataset.rpcs is None:
        lost.append("rational polynomials")
    for old_tags, new_tags, words in (
        (notes.tags, _tags(dataset, None), ""),
        *((old.tags, new.tags, f" of band {number}") for number, (old, new) in pairs),
    ):
        for domain, tags in old_tags.items():
            gone_tags = [name for name in tags if name not in new_tags.get(domain, {})]
            if gone_tags and domain:
                lost.append(f"metadata in the domain {domain}{words}")
            elif gone_tags:
                lost.append(f"tags {', '.join(gone_tags[:8])}{words}")
    return lost


def _band(dataset: Any, band: int) -> BandNotes:
    place = band - 1
    color = dataset.colorinterp[place].name
    return BandNotes(
        name=dataset.descriptions[place] or None,
        scale=dataset.scales[place],
        offset=dataset.offsets[place],
        unit=dataset.units[place] or None,
        color=color,
        palette=dataset.colormap(band) if color == _PALETTE else None,
        tags=_tags(dataset, band),
    )


def _tags(dataset: Any, band: int | None) -> dict[str, Mapping[str, str]]:
    where: tuple[int, ...] = () if band is None else (band,)
    domains = [domain for domain in dataset.tag_namespaces(*where) if domain not in _OF_STORAGE]
    found = {domain: dataset.tags(*where, ns=domain) for domain in domains}
    return {domain: tags for domain, tags in {"": dataset.tags(*where), **found}.items() if tags}


def _write_tags(dataset: Any, domain: str, tags: Mapping[str, str], **where: int) -> None:
    if domain.startswith("xml:"):
        # A text, which rasterio takes for a name and a value.
        name, _, value = tags[domain].partition("=")
        tags = {name: value}
    dataset.update_tags(ns=domain or None, **where, **tags)


def _write_colors(dataset: Any, bands: Sequence[BandNotes]) -> None:
    from rasterio.enums import ColorInterp

    # TIFF has a place for one colour table, of one band of small integers.
    holds_palette = dataset.count == 1 and dataset.dtypes[0] in ("uint8", "uint16")
    if any(band.color is not None for band in bands):
        colors = [band.color or "undefined" for band in bands]
        dataset.colorinterp = [
            ColorInterp["gray" if color == _PALETTE and not holds_palette else color] for color in colors
        ]
    if holds_palette and bands[0].palette is not None:
        dataset.write_colormap(1, dict(bands[0].palette))
