"""Files of features as TRIDENT, CLAM and STAMP write them, by h5py and torch alone."""

from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray


def write_trident(
    path: Path,
    features: NDArray,
    corners: NDArray,
    *,
    size: int = 512,
    encoder: str | None = "uni_v1",
    shape: tuple[int, int] | None = None,
    batched: bool = False,
) -> Path:
    """Corners (N, 2) are x and y of level 0; a chunk a patch, as there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = features[None] if batched else features
    with h5py.File(path, "w") as file:
        chunks = (1, *values.shape[1:]) if values.size else None
        stored = file.create_dataset(
            "features", data=values, chunks=chunks, maxshape=(None, *values.shape[1:])
        )
        stored.attrs.update(name=path.stem, savetodir="somewhere", encoder=encoder or "None")
        coords = file.create_dataset("coords", data=corners.astype(np.int64))
        coords.attrs.update(patch_size=256, patch_size_level0=size, level0_magnification=40)
        coords.attrs.update(target_magnification=20, overlap=0, name=path.stem)
        if shape is not None:
            coords.attrs.update(level0_height=shape[0], level0_width=shape[1])
    return path


def write_clam(folder: Path, stem: str, features: NDArray, corners: NDArray) -> Path:
    """`h5_files` and `pt_files`; without any attribute, as there."""
    for name in ("h5_files", "pt_files"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "h5_files" / f"{stem}.h5", "w") as file:
        file.create_dataset(
            "features", data=features, chunks=(32, features.shape[1]), maxshape=(None, features.shape[1])
        )
        file.create_dataset("coords", data=corners.astype(np.int32))
    torch.save(torch.from_numpy(features), folder / "pt_files" / f"{stem}.pt")
    return folder / "pt_files" / f"{stem}.pt"


def write_stamp(
    path: Path, features: NDArray, corners_um: NDArray, *, um: float = 256.0, px: int = 224
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"] = corners_um.astype(np.float32)
        file["feats"] = features.astype(np.float16)
        file.attrs.update(stamp_version="2.3.0", extractor="virchow2-1234", unit="um", feat_type="tile")
        file.attrs.update(tile_size_um=um, tile_size_px=px)
    return path


def some_features(patches: int, width: int = 12, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(patches, width)).astype(np.float32)


def corners_of(rows: int, columns: int, size: int, x: int = 0, y: int = 0) -> NDArray[np.int64]:
    """Of a full grid, column by column as TRIDENT and CLAM go; x first."""
    return np.array([[x + column * size, y + row * size] for column in range(columns) for row in range(rows)])
