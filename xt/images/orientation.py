"""Which way up a file's picture is: the orientation tag of TIFF, and of EXIF or XMP in JPEG, PNG and WebP.

Cameras store what the sensor saw and note how it was held. GDAL reads pixels as they are stored, and of these tags
tells only JPEG's. They are looked for where Pillow's `exif_transpose` looks, so that both decoders show one picture.
OME-TIFF and scanners' own formats say themselves what their axes are; there the tag is not looked at, as in their own
programs.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable, Iterator
from typing import IO, Any
from xml.sax.saxutils import escape

from xt.images.image import LargeImage
from xt.images.views import Turn, Turned

# By number, TIFF 6.0 page 36 and EXIF 2.32 section 4.6.5: how what is stored becomes what is shown.
TURNS = {
    1: Turn(),
    2: Turn(mirror_x=True),
    3: Turn(mirror_y=True, mirror_x=True),
    4: Turn(mirror_y=True),
    5: Turn(swap=True),
    6: Turn(swap=True, mirror_x=True),
    7: Turn(swap=True, mirror_y=True, mirror_x=True),
    8: Turn(swap=True, mirror_y=True),
}
_TAG = 0x0112
_EXIF_MARK = b"Exif\0\0"
_IN_XMP = re.compile(r'tiff:Orientation(?:="|>)([1-8])\b')
# What an entry's type is: only integers are an orientation.
_INTEGERS = {1: "B", 3: "H", 4: "I"}
# More entries than any program writes into a directory.
_MOST_ENTRIES = 4096

Opener = Callable[[], IO[bytes]]


class Upright(Turned):
    """A file's picture as its orientation tag says it is to be seen, under the file's own name."""

    def __init__(self, image: LargeImage, orientation: int) -> None:
        super().__init__(image, "", TURNS[orientation])
        self.orientation = orientation
        # What `xt info` tells of files.
        self.driver = getattr(image, "driver", None)
        self.storage = getattr(image, "storage", None)


def as_stored(image: LargeImage) -> LargeImage:
    """The image as its file stores it, before it is turned."""
    return image.image if isinstance(image, Upright) else image


def read_orientation(dataset: Any, open_file: Opener) -> int:
    """The number that a file gives, 1 to 8; 1 where it gives none, or none that exists.

    Args:
        dataset: the file, opened by rasterio.
        open_file: for its bytes, where GDAL does not tell.
    """
    reader = _READERS.get(dataset.driver)
    if reader is None:
        return 1
    try:
        number = reader(dataset, open_file)
    except (OSError, ValueError, struct.error):
        # A file that is damaged here is refused by who decodes it, or its pixels are whole all the same.
        number = None
    if number is None:
        number = _in_xmp(dataset.tags(ns="xml:XMP").get("xml:XMP", ""))
    return number if number in TURNS else 1


def _of_tiff(dataset: Any, open_file: Opener) -> int | None:
    # The directory that GDAL shows need not be the file's first.
    offset = dataset.get_tag_item("IFD_OFFSET", "TIFF", bidx=1)
    with open_file() as file:
        return _in_tiff(file, None if offset is None else int(offset))


def _of_jpeg(dataset: Any, open_file: Opener) -> int | None:
    number = dataset.tags().get("EXIF_Orientation")
    return None if number is None else int(number)


def _of_png(dataset: Any, open_file: Opener) -> int | None:
    # As ImageMagick wrote it before PNG had a place for it: hexadecimal digits after two lines of other things.
    profile = dataset.tags().get("Raw_profile_type_exif")
    if profile is not None:
        return _in_exif(bytes.fromhex("".join(profile.split("\n")[3:])))
    with open_file() as file:
        for kind, size in _chunks(file, ">I4s", first=8, padding=4):
            if kind == b"eXIf":
                return _in_exif(file.read(size))
            if kind == b"IDAT" and isinstance(file, GdalFile):
                # It may come behind the pixels, but they are not fetched to see.
                return None
    return None


def _of_webp(dataset: Any, open_file: Opener) -> int | None:
    with open_file() as file:
        found: int | None = None
        for kind, size in _chunks(file, "<4sI", first=12, padding=0):
            if kind == b"EXIF" and (exif := _in_exif(file.read(size))) is not None:
                return exif
            if kind == b"XMP ":
                found = _in_xmp(file.read(size).decode("utf-8", "replace"))
    return found


_READERS = {"GTiff": _of_tiff, "COG": _of_tiff, "JPEG": _of_jpeg, "PNG": _of_png, "WEBP": _of_webp}


def _chunks(file: IO[bytes], header: str, *, first: int, padding: int) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk, the file standing at its content."""
    place = first
    file.seek(place)
    while len(start := file.read(8)) == 8:
        one, other = struct.unpack(header, start)
        kind, size = (one, other) if isinstance(one, bytes) else (other, one)
        if not kind.strip(b"\0"):
            return
        yield kind, size
        # RIFF's begin at even places.
        place += 8 + size + (padding or size % 2)
        file.seek(place)


def _in_exif(data: bytes) -> int | None:
    """EXIF is written as a TIFF is."""
    return _in_tiff(io.BytesIO(data.removeprefix(_EXIF_MARK)), None)


def _in_xmp(text: str) -> int | None:
    found = _IN_XMP.search(text)
    return int(found[1]) if found else None


def _in_tiff(file: IO[bytes], directory: int | None) -> int | None:
    """The number in a directory of a TIFF, the first by default."""
    start = file.read(16)
    order = "<" if start.startswith(b"II") else ">"
    is_big = struct.unpack_from(order + "H", start, 2)[0] == 43
    if directory is None:
        (directory,) = struct.unpack_from(order + ("Q" if is_big else "I"), start, 8 if is_big else 4)
    file.seek(directory)
    size, count_code, value = (20, "Q", 12) if is_big else (12, "H", 8)
    (count,) = struct.unpack(order + count_code, file.read(struct.calcsize(count_code)))
    entries = file.read(min(count, _MOST_ENTRIES) * size)
    for place in range(0, len(entries) - size + 1, size):
        tag, kind = struct.unpack_from(order + "HH", entries, place)
        if tag == _TAG and kind in _INTEGERS:
            return int(struct.unpack_from(order + _INTEGERS[kind], entries, place + value)[0])
    return None


class GdalFile(io.RawIOBase):
    """The bytes of a file that only GDAL reaches, in an archive or over the network; zeros beyond its end.

    rasterio has no functions for bytes, but GDAL takes those of any file as a raw image.
    """

    def __init__(self, path: str, open_dataset: Callable[[str], Any]) -> None:
        self._path = path
        self._open = open_dataset
        self._place = 0

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self._place = place
        return place

    def read(self, size: int = -1) -> bytes:
        image = (
            f'<VRTDataset rasterXSize="1" rasterYSize="{size}">'
            '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
            f'<SourceFilename relativetoVRT="0">{escape(self._path)}</SourceFilename>'
            f"<ImageOffset>{self._place}</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>1</LineOffset>"
            "</VRTRasterBand></VRTDataset>"
        )
        with self._open(image) as dataset:
            data: bytes = dataset.read(1).tobytes()
        self._place += size
        return data
