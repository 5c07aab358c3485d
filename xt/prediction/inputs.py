"""Which images are meant by files, folders and globs."""

import glob
import os
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from xt.errors import ImageError
from xt.images import stack_parts
from xt.images.ome_zarr import is_ome_zarr
from xt.images.remote import is_remote, name_of, url_of

# What is looked for in folders; a file that is named itself may have any suffix.
_PLAIN = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".j2k", ".webp", ".bmp", ".vrt", ".img", ".ntf")
_SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
SUFFIXES = frozenset(_PLAIN + _SLIDES)


def find_images(given: Sequence[str], without: Path | None = None) -> list[str]:
    """Every image once, in the order given; folders are searched with all their subfolders, in sorted order.

    Args:
        given: files, folders and globs; what GDAL finds elsewhere ("/vsicurl/...", "s3://...") passes unchanged, as do
            stacks ("VH.tif|VV.tif").
        without: a folder whose files are left out, as the results of an earlier run.
    Raises:
        ImageError: a file does not exist, a glob matches nothing, a folder holds no image.
    """
    found: dict[str, str] = {}
    for entry in given:
        for path in _expand(entry, without):
            found.setdefault(identity(path), path)
    return list(found.values())


def identity(path: str) -> str:
    """The same for all ways to write the path of one file, or of the files of one stack."""
    return "|".join(
        url_of(part) if is_remote(part) else str(Path(part).resolve()) for part in stack_parts(path)
    )


def image_name(path: str) -> str:
    """A file's name without its folders, nor a signature behind a URL."""
    return name_of(path) if is_remote(path) else Path(path).name


def image_stem(path: str) -> str:
    """What an image is called in the names of its results: a file by itself, a stack by what its files' names begin
    with (s3_VH.tif and s3_VV.tif: s3), or else by their folder."""
    parts = stack_parts(path)
    if len(parts) == 1:
        return Path(image_name(path)).stem or "image"
    # Whole words only: VH and VV have but a letter in common.
    words = [re.split(r"([_. -]+)", Path(image_name(part)).stem) for part in parts]
    shared = takewhile(lambda there: len(set(there)) == 1, zip(*words, strict=False))
    beginning = "".join(word for word, *_ in shared).rstrip("_. -")
    if beginning:
        return beginning
    if any(map(is_remote, parts)):
        folders = {url_of(part).split("?")[0].rsplit("/", 1)[0] for part in parts}
        return folders.pop().rsplit("/", 1)[-1] if len(folders) == 1 else "stack"
    return Path(os.path.commonpath([Path(part).resolve().parent for part in parts])).name or "stack"


def file_version(path: str) -> list[int] | None:
    """Size and time of change, as make and rsync tell versions apart; None where that cannot be known.

    To hash a slide would take as long as to predict it.
    """
    if is_remote(path):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _expand(entry: str, without: Path | None) -> list[str]:
    path = Path(entry)
    if is_remote(entry) or path.is_file() or is_ome_zarr(path) or len(stack_parts(entry)) > 1:
        return [entry]
    if path.is_dir():
        images = _in_folder(path, without)
        if not images:
            raise ImageError(
                f"the folder {entry} holds no image; images are files ending in .tif, .png, .svs ..."
            )
        return images
    if not glob.has_magic(entry):
        raise ImageError(f"there is no file or folder {entry}")
    matches = [Path(match) for match in sorted(glob.glob(entry, recursive=True))]
    images = [
        str(match)
        for match in matches
        if (match.is_file() or is_ome_zarr(match)) and not _is_below(match, without)
    ]
    if not images:
        raise ImageError(f"no file matches {entry}")
    return images


def _in_folder(folder: Path, without: Path | None) -> list[str]:
    return [
        str(path)
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith(".")
        and (path.is_file() if path.suffix.lower() in SUFFIXES else _is_zarr(path))
        and not _is_below(path, without)
    ]


def _is_zarr(path: Path) -> bool:
    # In folders by its name too: each array inside would be asked otherwise.
    return path.suffix == ".zarr" and is_ome_zarr(path)


def _is_below(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder.resolve())
