"""By which endings files are taken for images where a folder is searched, and whose formats are refused.

A file that is named itself may be called anything.
"""

from __future__ import annotations

import os
from pathlib import PurePath

from xt.errors import ImageError
from xt.images.sources import source_of

_TIFF = (".tif", ".tiff", ".btf", ".tf8", ".qptiff")
_PLAIN = (".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".webp", ".bmp", ".vrt", ".img", ".ntf", ".nitf")
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
DICOM = (".dcm", ".dicom")
# Of these the part that GDAL reads is a picture of the label or of the whole glass, or an index.
_THUMBNAILS = {
    ".mrxs": "the folder of the same name, which a MIRAX slide has, is missing or incomplete: put it beside the file",
    ".vms": "the JPEG files that belong to a Hamamatsu VMS slide are missing or incomplete: put them beside the file",
    ".vmu": "the files that belong to a Hamamatsu VMU slide are missing or incomplete: put them beside the file",
    ".scn": "it is not a Leica SCN slide, or it is damaged: get the file again from its source",
    ".bif": "it is not a Ventana BIF slide, or it is damaged: get the file again from its source",
}
_CONVERT = "convert it to OME-TIFF first, with QuPath (File > Export images) or bfconvert of Bio-Formats"
# What xt does not read, and GDAL would read wrongly or name no reason.
_FOREIGN = {
    ".vsi": "is the index of an Olympus (Evident) slide, whose own picture is a thumbnail (the "
    "pixels are in the .ets files beside it)",
    ".ets": "holds pixels of an Olympus (Evident) slide, which only its .vsi file explains",
    ".isyntax": "is a Philips iSyntax slide",
    ".i2syntax": "is a Philips iSyntax slide",
    ".czi": "is a Zeiss CZI file",
    ".nd2": "is a Nikon ND2 file",
    ".lif": "is a Leica LIF file",
    ".oir": "is an Olympus OIR file",
    ".ndpis": 'is an index of Hamamatsu slides, one a channel: name its .ndpi files joined by "|" instead of it',
}
SUFFIXES = frozenset([*_TIFF, *_PLAIN, *SLIDES, *DICOM, *_FOREIGN]) - {".ets"}


def suffix_of(path: str | os.PathLike[str]) -> str:
    """In small letters, with its dot."""
    return PurePath(path).suffix.lower()


def is_image_name(path: str | os.PathLike[str]) -> bool:
    return suffix_of(path) in SUFFIXES or source_of(os.fspath(path)) is not None


def refuse_foreign(path: str) -> None:
    """Refuse a file whose format xt does not read.

    Raises:
        ImageError: says what it is and what to do.
    """
    what = _FOREIGN.get(suffix_of(path))
    if what is not None:
        advice = "" if "instead" in what else f", which xt does not read: {_CONVERT}"
        raise ImageError(f"{path} {what}{advice}")


def refuse_thumbnail(path: str) -> None:
    """Refuse a slide that OpenSlide does not know again, where GDAL would read a picture of something else.

    Raises:
        ImageError: says what is probably missing.
    """
    what = _THUMBNAILS.get(suffix_of(path))
    if what is not None:
        raise ImageError(f"{path} cannot be read as a slide: {what}")
