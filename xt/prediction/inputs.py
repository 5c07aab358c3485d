"""Which images are meant by files, folders and globs."""

import glob
import os
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from xt.errors import ImageError
from xt.images import dicom, names, stack_parts
from xt.images.folders import images_below, only_images
from xt.images.ome_zarr import is_ome_zarr
from xt.images.remote import is_remote, url_of


def find_images(given: Sequence[str], without: Path | None = None) -> list[str]:
    """Every image once, in the order given; folders are searched with all their subfolders, in sorted order.

    Args:
        given: files, folders and globs, also of files of which a part is named ("HDF5:*.h5://data"); what GDAL finds
            elsewhere ("/vsicurl/...", "s3://...") passes unchanged, as do stacks ("VH.tif|VV.tif"). A DICOM slide is
            one image, whichever of its files is named.
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
    """The same for all ways to name one image, or the images of one stack."""
    return "|".join(names.identity(part) for part in stack_parts(path))


def image_name(path: str) -> str:
    """A file's name without its folders, nor a signature behind a URL."""
    return names.short_name(path)


def image_stem(path: str) -> str:
    """What an image is called in the names of its results: a file by itself, a stack by what its files' names begin
    with (s3_VH.tif and s3_VV.tif: s3), or else by their folder."""
    parts = stack_parts(path)
    if len(parts) == 1:
        return names.stem(path)
    # Whole words only: VH and VV have but a letter in common.
    words = [re.split(r"([_. -]+)", names.stem(part)) for part in parts]
    shared = takewhile(lambda there: len(set(there)) == 1, zip(*words, strict=False))
    beginning = "".join(word for word, *_ in shared).rstrip("_. -")
    if beginning:
        return beginning
    if any(map(is_remote, parts)):
        there = {url_of(part).split("?")[0].rsplit("/", 1)[0] for part in parts}
        return there.pop().rsplit("/", 1)[-1] if len(there) == 1 else "stack"
    folders = [Path(names.identity(part)).parent for part in parts]
    return names.safe(Path(os.path.commonpath(folders)).name) or "stack"


def file_version(path: str) -> list[int] | None:
    """Size and time of change, as make and rsync tell versions apart; None where that cannot be known.

    To hash a slide would take as long as to predict it. Of an image in several files all sizes and the last change.
    """
    try:
        states = [os.stat(file) for file in names.files_of(path)]
    except OSError:
        return None
    if not states:
        return None
    return [sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)]


def _expand(entry: str, without: Path | None) -> list[str]:
    path = Path(entry)
    if path.is_dir() and not is_ome_zarr(path):
        images = images_below(path, without)
        if not images:
            raise ImageError(_nothing_in(path))
        return images
    part = names.part_name(entry)
    if path.is_file() and part is None:
        # Of a slide in several files one name, whichever is given.
        return [dicom.named(entry) or entry]
    if path.is_dir() or len(stack_parts(entry)) > 1 or (part is None and is_remote(entry)):
        return [entry]
    if part is not None and not glob.has_magic(part.file):
        if not is_remote(entry) and not names.is_there(entry):
            raise ImageError(f"there is no file {part.file}, of which {entry} would be a part")
        return [entry]
    if not glob.has_magic(entry):
        raise ImageError(f"there is no file or folder {entry}")
    return _matches(entry, without)


def _matches(entry: str, without: Path | None) -> list[str]:
    """The images that a glob means."""
    if names.part_name(entry) is not None:
        images = names.expand(entry)
    else:
        found = [Path(match) for match in sorted(glob.glob(entry, recursive=True))]
        files = [match for match in found if match.is_file() or is_ome_zarr(match)]
        images = only_images([file for file in files if not _is_below(file, without)], any_name=True)
        images += [
            slide for folder in found if folder.is_dir() and (slide := dicom.named(folder)) is not None
        ]
    if not images:
        raise ImageError(f"no file matches {entry}")
    return list(dict.fromkeys(images))


def _nothing_in(folder: Path) -> str:
    if folder.suffix == ".zarr":
        return (
            f"the folder {folder} holds no image; a store of `xt encode` stands for the pixels of images: name these, "
            "and the store as features (--features)"
        )
    return f"the folder {folder} holds no image; images are files ending in .tif, .png, .svs ..." + (
        "; parts of .h5 and .nc files are named one by one, as xt info FILE says"
        if any(folder.rglob("*.h5")) or any(folder.rglob("*.nc"))
        else ""
    )


def _is_below(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder.resolve())
