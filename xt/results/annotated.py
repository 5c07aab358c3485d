"""Vectors as an AnnData file (.h5ad), which scanpy, squidpy and SpatialData's tables are made of.

Written after its on-disk format (anndata.readthedocs.io, "On-disk format": anndata 0.1.0, array, string-array and
dataframe 0.2.0) by h5py alone: the package itself, which others read it with, holds pandas back on some Pythons.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.output import atomic_path

_EMPTY = ("layers", "obsp", "varm", "varp")


def write_annotated(
    destination: str | os.PathLike[str],
    vectors: NDArray[np.floating],
    names: Sequence[str],
    known: Mapping[str, Sequence[Any] | NDArray[Any]],
    *,
    spatial: NDArray[np.floating] | None = None,
    said: Mapping[str, str | float] | None = None,
) -> Path:
    """Write one row of `X` for each image or token.

    Args:
        vectors: (N, C).
        names: of the rows.
        known: (N,) each, columns of `obs`: numbers, or texts.
        spatial: (N, 2) x and y, as `obsm["spatial"]`.
        said: of all of them, as `uns`.
    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    import h5py

    Path(destination).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(destination) as temporary, h5py.File(temporary, "w") as file:
        _encoded(file, "anndata", "0.1.0")
        _write(file, "X", np.asarray(vectors, np.float32))
        _write_frame(file, "obs", names, known)
        _write_frame(file, "var", [f"e{number}" for number in range(vectors.shape[1])], {})
        places = _encoded(file.create_group("obsm"), "dict", "0.1.0")
        if spatial is not None:
            _write(places, "spatial", np.asarray(spatial, np.float64))
        for name in _EMPTY:
            _encoded(file.create_group(name), "dict", "0.1.0")
        uns = _encoded(file.create_group("uns"), "dict", "0.1.0")
        for name, value in (said or {}).items():
            kind = "string" if isinstance(value, str) else "numeric-scalar"
            _encoded(uns.create_dataset(name, data=value), kind, "0.2.0")
    return Path(destination)


def _write_frame(
    file: Any, name: str, index: Sequence[str], columns: Mapping[str, Sequence[Any] | NDArray[Any]]
) -> None:
    import h5py

    frame = _encoded(file.create_group(name), "dataframe", "0.2.0")
    frame.attrs["_index"] = "_index"
    # A slash would make a group of a column.
    columns = {column.replace("/", "_"): values for column, values in columns.items()}
    frame.attrs.create("column-order", list(columns), shape=(len(columns),), dtype=h5py.string_dtype())
    _write(frame, "_index", np.array(index, dtype=object))
    for column, values in columns.items():
        _write(frame, column, np.asarray(values))


def _write(group: Any, name: str, values: NDArray[Any]) -> None:
    import h5py

    if values.dtype.kind in "OU":
        texts = [str(value) for value in values]
        stored = group.create_dataset(name, data=texts, shape=(len(texts),), dtype=h5py.string_dtype())
        _encoded(stored, "string-array", "0.2.0")
        return
    _encoded(group.create_dataset(name, data=values), "array", "0.2.0")


def _encoded(item: Any, kind: str, version: str) -> Any:
    item.attrs["encoding-type"] = kind
    item.attrs["encoding-version"] = version
    return item
