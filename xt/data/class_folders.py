"""A folder with one sub-folder of images per class, as a table of images."""

from collections.abc import Sequence
from pathlib import Path

from xt.data.table import IMAGE_SUFFIXES, ImageTable, class_indices, names_of_labels
from xt.errors import TableError
from xt.images.ome_zarr import is_ome_zarr


def read_folder(
    path: str | Path, *, class_names: Sequence[str] | None = None, split_names: Sequence[str] = ()
) -> ImageTable:
    """Read a folder with one sub-folder of images per class; hidden files and other kinds of file are left
    out.

    Args:
        split_names: if the folder has a sub-folder named as the first of these, the class folders are looked
            for in the sub-folders of these names.
    Raises:
        TableError: no such folder, or no images in it.
    """
    path = Path(path)
    if not path.is_dir():
        raise TableError(f"{path}: expected a folder with one sub-folder of images per class; there is none")
    divided = bool(split_names) and (path / split_names[0]).is_dir()
    parts = (
        [(name, path / name) for name in split_names if (path / name).is_dir()] if divided else [("", path)]
    )
    rows: list[tuple[Path, str, str]] = []
    for split, part in parts:
        for folder in sorted(inner for inner in part.iterdir() if inner.is_dir() and inner.name[0] != "."):
            rows += [(file, folder.name, split) for file in sorted(folder.rglob("*")) if _is_image(file)]
    if not rows:
        raise TableError(
            f"{path}: found no images; expected one sub-folder per class with files such as .tif, .svs or "
            ".png in it"
        )
    files, labels, splits = zip(*rows, strict=True)
    names = names_of_labels(labels, class_names)
    return ImageTable(
        str(path), files, class_indices(labels, names, str(path)), names, tuple(splits) if divided else None
    )


def _is_image(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    # OME-Zarr is a folder.
    return (
        path.is_file()
        if path.suffix.lower() in IMAGE_SUFFIXES
        else path.suffix == ".zarr" and is_ome_zarr(path)
    )
