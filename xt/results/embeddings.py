"""Vectors of images and of their tokens, in the layout in which TRIDENT keeps its features: HDF5 that others read."""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.output import atomic_path, write_atomically
from xt.regions.pyramid_grid import token_sizes
from xt.regions.scattered import Regions


def write_features(
    destination: str | os.PathLike[str],
    features: NDArray[np.floating],
    grid: Regions,
    tokens_per_side: int,
    *,
    name: str,
    encoder: str,
    step: tuple[float, float] = (1.0, 1.0),
    more: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """Write one vector of an image, as TRIDENT's slide encoders do, or one of each token, as its patch encoders do.

    Args:
        features: (C,), or (L, C) in the order of the grid's tokens.
        grid: of the tokens.
        name: of the image.
        encoder: what made them.
        step: (y, x), pixels of level 0 that one of the grid's spans.
        more: further datasets, by name; where tokens differ in size, there is one more, `patch_sizes_level0`, and what
            the attributes say is the smallest.
    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    import h5py

    sides = token_sizes(grid, tokens_per_side)
    side = float(sides.min())
    corners = (grid.token_positions(tokens_per_side) - sides[:, None] / 2) * np.asarray(step)
    if side < sides.max():
        # TRIDENT knows patches of one size alone.
        more = {**(more or {}), "patch_sizes_level0": sides * step[1]}
    said = {
        "patch_size": side,
        "patch_size_level0": side * step[1],
        "overlap": 0,
        "name": name,
        "level0_height": round(grid.height * step[0]),
        "level0_width": round(grid.width * step[1]),
    }
    Path(destination).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(destination) as temporary, h5py.File(temporary, "w") as file:
        stored = file.create_dataset("features", data=np.asarray(features, np.float32))
        stored.attrs.update({"name": name, "encoder": encoder})
        # x and y, in whole pixels.
        file.create_dataset("coords", data=np.rint(corners[:, ::-1]).astype(np.int64)).attrs.update(said)
        for key, values in (more or {}).items():
            file.create_dataset(key, data=values)
    return Path(destination)


def read_vector(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """(C,): the vector of an image that `write_features` wrote."""
    import h5py

    with h5py.File(path, "r") as file:
        return np.asarray(file["features"][()], np.float32)


def write_vectors(
    destination: str | os.PathLike[str], images: Sequence[str], vectors: Sequence[NDArray[np.float32]]
) -> Path:
    """Write a Parquet table with a row for each image: its name in the column `image`, then e0, e1 ... of its vector.

    Raises:
        OutputError: it could not be written; an older table stays as it was.
    """
    import pandas as pd

    values = np.stack(vectors)
    frame = pd.DataFrame(values, columns=[f"e{number}" for number in range(values.shape[1])])
    frame.insert(0, "image", list(images))
    content = io.BytesIO()
    frame.to_parquet(content, index=False)
    write_atomically(destination, content.getvalue())
    return Path(destination)


def write_token_relevance(
    destination: str | os.PathLike[str],
    weights: NDArray[np.floating],
    grid: Regions,
    tokens_per_side: int,
) -> Path:
    """Write a CSV with a row for each token: x and y of its top left corner, its side, and its relevance.

    Args:
        weights: (L,), 1 for a token that counts as much as the average one.
    Raises:
        OutputError: it could not be written.
    """
    sides = token_sizes(grid, tokens_per_side)
    corners = grid.token_positions(tokens_per_side) - sides[:, None] / 2
    rows = [
        f"{x:.9g},{y:.9g},{side:.9g},{weight:.6g}"
        for (y, x), side, weight in zip(corners, sides, weights, strict=True)
    ]
    write_atomically(destination, "\n".join(["x,y,side,relevance", *rows]) + "\n")
    return Path(destination)
