"""What one image can be called: a path, what lies elsewhere, a part of a file or an archive, any file of a DICOM slide.

    scene.tif   https://host/scene.tif   /vsis3/bucket/scene.tif
    HDF5:file.h5://data   NETCDF:"file.nc":wind   SENTINEL2_L2A:MTD.xml:10m:EPSG_32632   GTIFF_DIR:2:file.tif
    /vsizip/archive.zip/folder/scene.tif

Of such names GDAL makes images; here it is known which file on disk they speak of.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from xt.images import dicom
from xt.images.remote import SUBDATASET, is_elsewhere, is_remote, name_of, url_of
from xt.images.suffixes import DICOM, suffix_of

_ARCHIVE = re.compile(r"(/vsi(?:zip|tar|gzip|7z|rar)/)(.+)", re.DOTALL)
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".gz", ".7z", ".rar", ".kmz")
# What stands between the colons: text in quotes may hold some.
_PARTS = re.compile(r'"[^"]*"|[^:]+|(?<=:)(?=:)')
_QUOTES = str.maketrans("", "", '"{}')
_UNSAFE = re.compile(r"[^\w.]+")
_LONGEST_STEM = 120
_NOT_IN_NAMES = str.maketrans('<>:"/\\|?*', "_" * 9)


class PartName(NamedTuple):
    """The name of a part of a file: `before + file + after`."""

    before: str
    file: str
    after: str

    def __str__(self) -> str:
        return self.before + self.file + self.after


def part_name(name: str, base: Path = Path()) -> PartName | None:
    """The name of a part of a file or of a member of an archive, taken apart; None for any other name.

    Args:
        base: where relative paths start.
    """
    name = url_of(name)
    if is_elsewhere(name):
        return None
    archive = _ARCHIVE.match(name)
    if archive is not None:
        return _member(archive[1], archive[2], base)
    known = SUBDATASET.match(name)
    return None if known is None or (base / name).exists() else _subdataset(name, known.end(), base)


def is_there(name: str) -> bool:
    """Whether the file of a name is on disk; what lies elsewhere is taken to be there until its turn comes."""
    part = part_name(name)
    if part is not None:
        # The file may be in an archive.
        return is_there(part.file)
    return is_remote(name) or os.path.exists(name)


def below(base: Path, name: str) -> str:
    """A name in which relative paths start at a folder."""
    part = part_name(name, base)
    if part is not None:
        return f"{part.before}{below(base, part.file)}{part.after}"
    # `open_image` gives "https:/..." its second slash back.
    return name if is_remote(name) else str(base / name)


def files_of(name: str) -> list[str]:
    """The files on disk that the image is in; none of what lies elsewhere."""
    part = part_name(name)
    if part is not None:
        return files_of(part.file)
    if is_remote(name):
        return []
    return dicom.files_of_slide(name) or [name]


def identity(name: str) -> str:
    """The same for all ways to name one image."""
    part = part_name(name)
    if part is not None:
        return f"{part.before}{identity(part.file)}{part.after}".translate(_QUOTES)
    if is_remote(name):
        return url_of(name)
    return str(Path(next(iter(dicom.files_of_slide(name)), name)).resolve())


def short_name(name: str) -> str:
    """What it is called without its folders, nor a signature behind a URL."""
    part = part_name(name)
    if part is not None and not _ARCHIVE.match(name):
        return f"{part.before}{Path(part.file).name}{part.after}"
    if is_remote(name):
        return name_of(name)
    slide = dicom.named(name)
    return Path(slide or name).name or Path(name).resolve().name


def stem(name: str) -> str:
    """What it is called in the names of files that belong to it, safe on any disk: of a part of a file both."""
    part = part_name(name)
    if part is None or _ARCHIVE.match(name):
        short = short_name(name)
        # In the names of folders and of DICOM's files, numbers with dots between them, a dot begins no ending.
        whole = dicom.named(name) is not None and suffix_of(short) not in DICOM
        return (short if whole else Path(short).stem) or "image"
    # The driver's name says nothing that file and part do not.
    inner = f"{part.before.split(':', 1)[1]} {part.after}"
    words = [Path(part.file).stem, *(word for word in _UNSAFE.split(inner) if word)]
    return safe("-".join(words))


def safe(stem: str) -> str:
    """As part of a file's name on any disk."""
    return stem.translate(_NOT_IN_NAMES)[:_LONGEST_STEM]


def expand(name: str) -> list[str]:
    """The names that one with a glob in its file's path means."""
    part = part_name(name)
    if part is None or not glob.has_magic(part.file):
        return [name]
    return [f"{part.before}{file}{part.after}" for file in sorted(glob.glob(part.file, recursive=True))]


def _subdataset(name: str, start: int, base: Path) -> PartName:
    """The file among the parts between colons: the longest that exists, else the first that looks like one."""
    parts = [match.span() for match in _PARTS.finditer(name, start) if match.group()]
    spans = [(parts[i][0], parts[j][1]) for i in range(len(parts)) for j in range(i, len(parts))]
    there = [span for span in spans if (base / _unquoted(name, span)).exists()]
    if not there:
        there = [(begin, end) for begin, end in parts if re.search(r'["./*?]', name[begin:end])] or parts[:1]
        there = there[:1] or [(start, len(name))]
    begin, end = max(there, key=lambda span: span[1] - span[0])
    if name[begin:end].startswith('"'):
        begin, end = begin + 1, end - 1
    before, file, after = name[:begin], name[begin:end], name[end:]
    if before.upper().startswith("HDF5:"):
        # Its parts begin with two slashes, of which a `pathlib.Path` leaves one.
        after = re.sub(r"^(\"?:)/(?!/)", r"\1//", after)
    return PartName(before, file, after)


def _unquoted(name: str, span: tuple[int, int]) -> str:
    return name[span[0] : span[1]].strip('"')


def _member(system: str, path: str, base: Path) -> PartName | None:
    if path.startswith("{") and "}" in path:
        inside, after = path[1:].split("}", 1)
        return PartName(system + "{", inside, "}" + after)
    for begin in _beginnings(path):
        if (base / begin).is_file():
            return PartName(system, begin, path[len(begin) :])
        if Path("/", begin).is_file():
            # A `pathlib.Path` made one slash of two.
            return PartName(system, "/" + begin, path[len(begin) :])
    for begin in _beginnings(path):
        if begin.lower().endswith(_ARCHIVES):
            return PartName(system, begin, path[len(begin) :])
    return None


def _beginnings(path: str) -> Iterator[str]:
    """Of a path, folder by folder."""
    for match in re.finditer(r"(?<=[^/])(?=/)|$", path):
        yield path[: match.start()]
