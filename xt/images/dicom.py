"""DICOM slides: a slide is all files of one series in a folder, one or more for each level.

OpenSlide reads it when given any of them. Here it is known which files these are, so that they are one image whichever
is named, and what is to be said of DICOM files that are no slides.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt.errors import ImageError, MissingPackageError
from xt.images.suffixes import DICOM, is_image_name

_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_DIRECTORY = "1.2.840.10008.1.3.10"
# Up to which element a header is read: what makes slides slow to open comes behind.
_SERIES_TAG = 0x0020000E
# In the type of an image: of tissue, not of the label or the whole glass.
_OF_TISSUE = "VOLUME"


@dataclass(frozen=True)
class Header:
    """Of a DICOM file.

    Attributes:
        series: the number that all files of a slide share; "" if the file is damaged.
        kind: what the file is in DICOM's words, such as "CT Image Storage".
        is_slide: whether it belongs to a whole slide image.
        shows_tissue: whether it is a level of it.
    """

    series: str
    kind: str
    is_slide: bool
    shows_tissue: bool


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a DICOM file, whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def is_dicom_or_folder(path: str) -> bool:
    return os.path.isdir(path) or is_dicom(path)


def may_be_dicom(path: Path) -> bool:
    """Whether a file's name does not speak against it: archives name them by numbers, without an ending."""
    suffix = path.suffix.lower()
    return suffix in DICOM or suffix == "" or suffix[1:].isdigit()


def files_of_slide(name: str | os.PathLike[str]) -> list[str]:
    """All files of the slide that a DICOM file, or a folder of one slide, belongs to, sorted; none of anything else."""
    path = Path(name)
    if path.is_dir():
        slides = slides_in(path)
        return list(slides[0]) if len(slides) == 1 else []
    if not may_be_dicom(path) or not is_dicom(path):
        return []
    return list(next((files for files in slides_in(path.parent) if str(path) in files), ()))


def named(name: str | os.PathLike[str]) -> str | None:
    """What a slide is called, whichever of its files or their folder is named: the folder if there is no other image in
    it, else the first of the files; None of what is no DICOM slide."""
    files = files_of_slide(name)
    if not files:
        return None
    folder = Path(files[0]).parent
    return str(folder) if holds_only_one(folder) else files[0]


def slides_in(folder: Path) -> tuple[tuple[str, ...], ...]:
    """The files of each slide that lies in a folder, in sorted order; its subfolders left aside."""
    return _slides_in(str(folder), _changed(folder))[0]


def holds_only_one(folder: Path) -> bool:
    """Whether a folder holds the files of one slide and no further file that could be an image."""
    slides, others = _slides_in(str(folder), _changed(folder))
    return len(slides) == 1 and not others


def file_to_open(name: str) -> str:
    """The file to give to OpenSlide for a DICOM file or a folder.

    Raises:
        ImageError: it is no slide, or a folder of several.
    """
    path = Path(name)
    if path.is_dir():
        return _only_slide(path)
    header = header_of(path)
    if header.kind == "directory":
        raise ImageError(
            f"{name} is a directory of DICOM files, not an image: name a slide's folder, or one of its files"
        )
    if header.series and not header.is_slide:
        raise ImageError(
            f"{name} is a DICOM file but no whole slide image ({header.kind}): of DICOM only slides are read; "
            "convert it to TIFF or PNG first (dcm2img of DCMTK)"
        )
    if header.is_slide and not files_of_slide(name):
        raise ImageError(
            f"{name} shows the label or an overview of a slide, whose own pixels are in other files: name one of these"
        )
    return name


def header_of(path: str | os.PathLike[str]) -> Header:
    """What a DICOM file says it is; a damaged one says nothing."""
    return _header_of(str(path), _changed(Path(path)))


def _only_slide(folder: Path) -> str:
    slides = slides_in(folder)
    if len(slides) > 1:
        some = ", ".join(Path(files[0]).name for files in slides[:3]) + (", ..." if len(slides) > 3 else "")
        raise ImageError(
            f"{folder} is a folder of {len(slides)} DICOM slides: name a file of the one that is meant ({some})"
        )
    if not slides:
        kinds = {header_of(each).kind for each in folder.iterdir() if each.is_file() and is_dicom(each)}
        what = f" but no whole slide image ({', '.join(sorted(kinds))})" if kinds else ""
        raise ImageError(
            f"{folder} is a folder{' of DICOM files' if kinds else ''}{what}, but an image file is expected"
        )
    if not holds_only_one(folder):
        raise ImageError(
            f"{folder} is a folder of a DICOM slide and of other images: name the one that is meant, of the slide any "
            f"of its files ({Path(slides[0][0]).name})"
        )
    return slides[0][0]


@functools.lru_cache(maxsize=1024)
def _slides_in(folder: str, changed: int) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """The files of each slide, and whether there are other images."""
    series: dict[str, list[str]] = {}
    tissue = set()
    others = False
    for path in sorted(Path(folder).iterdir()):
        if path.name.startswith("."):
            continue
        if not may_be_dicom(path) or not path.is_file() or not is_dicom(path):
            others |= is_image_name(path) or path.suffix == ".zarr"
            continue
        header = header_of(path)
        # Of a damaged one nothing is known but its name.
        key = header.series or str(path)
        if header.is_slide or not header.series:
            series.setdefault(key, []).append(str(path))
        if header.shows_tissue or not header.series:
            tissue.add(key)
    return tuple(tuple(files) for key, files in series.items() if key in tissue), others


@functools.lru_cache(maxsize=65536)
def _header_of(path: str, changed: int) -> Header:
    pydicom = _import_pydicom()
    try:
        with open(path, "rb") as file:
            read = pydicom.filereader.read_partial(file, stop_when=lambda tag, *_: tag > _SERIES_TAG)
        sop_class = str(read.get("SOPClassUID", "") or read.file_meta.get("MediaStorageSOPClassUID", ""))
        series = str(read.get("SeriesInstanceUID", ""))
        image_type = tuple(read.get("ImageType", ()) or ())
    except Exception:
        # pydicom's errors on damaged files have no common base.
        return Header("", "damaged", False, False)
    if sop_class == _DIRECTORY:
        return Header("directory", "directory", False, False)
    is_slide = sop_class == _SLIDE
    kind = str(pydicom.uid.UID(sop_class).name) if sop_class else "of no known kind"
    return Header(series, kind, is_slide, is_slide and _OF_TISSUE in image_type)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _import_pydicom() -> Any:
    try:
        import pydicom
        import pydicom.filereader
        import pydicom.uid
    except ImportError as error:
        raise MissingPackageError("DICOM slides are told apart by pydicom: pip install pydicom") from error
    return pydicom
