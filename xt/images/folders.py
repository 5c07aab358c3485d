"""Which images lie in a folder: every one once, whatever files it is made of."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from xt.errors import DataWarning
from xt.images import dicom
from xt.images.ome_zarr import is_ome_zarr
from xt.images.suffixes import is_image_name


def images_below(folder: str | os.PathLike[str], without: Path | None = None) -> list[str]:
    """The images in a folder and all its subfolders, in sorted order; names that begin with a dot are left out.

    A DICOM slide counts once, an OME-Zarr is one image and no folder. Other DICOM files are left out, and said.

    Args:
        without: a folder whose files are left out, as the results of an earlier run.
    """
    left_out = None if without is None else without.resolve()
    return only_images(sorted(_files(Path(folder), left_out)))


def only_images(paths: Sequence[Path], *, any_name: bool = False) -> list[str]:
    """Those of some files and OME-Zarr folders that are images, a slide of several files once.

    Args:
        any_name: take files whatever their ending, as they were named.
    """
    found: dict[str, None] = {}
    others: Counter[str] = Counter()
    for path in paths:
        if dicom.may_be_dicom(path) and dicom.is_dicom(path):
            name = dicom.named(path)
            if name is None:
                header = dicom.header_of(path)
                if not header.is_slide and header.kind != "directory":
                    others[header.kind] += 1
            else:
                found[name] = None
        elif path.is_dir() or any_name or is_image_name(path):
            found[str(path)] = None
    if others:
        kinds = ", ".join(sorted(others))
        warnings.warn(
            f"{paths[0].parent}: {others.total()} DICOM files are no whole slide images ({kinds}) and are left out",
            DataWarning,
            stacklevel=3,
        )
    return list(found)


def _files(folder: Path, without: Path | None) -> Iterator[Path]:
    for name in os.listdir(folder):
        path = folder / name
        if name.startswith(".") or (without is not None and path.resolve() == without):
            continue
        if not path.is_dir():
            yield path
        elif path.suffix == ".zarr":
            # Only by its name: each folder would be asked otherwise.
            if is_ome_zarr(path):
                yield path
        else:
            yield from _files(path, without)
