"""OME-TIFF and OME-Zarr files to test with, written by tifffile and zarr."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from tests.images.files import smooth

MICRONS = {
    "PhysicalSizeX": 0.5,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.25e-3,
    "PhysicalSizeYUnit": "mm",
}


def planes(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Pixels of any number of axes, no two alike."""
    flat = smooth(shape[-2], int(np.prod(shape)) // shape[-2], 1, dtype)
    return flat.reshape(shape)


def write_ome_tiff(
    path: Path, pixels: np.ndarray, axes: str, levels: int = 1, names: list[str] | None = None,
    microns: dict[str, Any] = MICRONS, **options: Any,
) -> Path:  # fmt: skip
    y, x = axes.index("Y"), axes.index("X")
    metadata = {"axes": axes, **microns, **({"Channel": {"Name": names}} if names else {})}
    options = {"tile": (32, 48), "compression": "zlib", **options}
    with tifffile.TiffWriter(path, ome=True, bigtiff=levels > 2) as file:
        file.write(pixels, metadata=metadata, subifds=levels - 1, **options)
        for level in range(1, levels):
            steps = [
                slice(None, None, 2**level) if axis in (y, x) else slice(None) for axis in range(pixels.ndim)
            ]
            file.write(np.ascontiguousarray(pixels[tuple(steps)]), subfiletype=1, **options)
    return path


def write_ome_zarr(
    path: Path, pixels: np.ndarray, axes: str, version: str = "0.4", levels: int = 1, names: list[str] | None = None,
    units: bool = True, chunks: tuple[int, ...] | None = None, **options: Any,
) -> Path:  # fmt: skip
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for level in range(levels):
        steps = tuple(slice(None, None, 2**level) if axis in "yx" else slice(None) for axis in axes)
        low = pixels[steps]
        array = group.create_array(
            str(level),
            shape=low.shape,
            dtype=low.dtype,
            chunks=chunks or (1,) * (low.ndim - 2) + (32, 48),
            **options,
        )
        array[...] = low
        scale = [{"y": 0.25, "x": 0.5}.get(axis, 1.0) * (2**level if axis in "yx" else 1) for axis in axes]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    kinds = {"t": "time", "c": "channel"}
    notes: dict[str, Any] = {
        "multiscales": [
            {
                "axes": [
                    {"name": axis, "type": kinds.get(axis, "space")}
                    | ({"unit": "micrometer"} if units and axis in "zyx" else {})
                    for axis in axes
                ],
                "datasets": datasets,
            }
        ]
    }
    if names:
        notes["omero"] = {"channels": [{"label": name} for name in names]}
    if version == "0.4":
        notes["multiscales"][0]["version"] = "0.4"
        group.attrs.update(notes)
    else:
        group.attrs["ome"] = {"version": version, **notes}
    return path
