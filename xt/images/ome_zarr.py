"""OME-Zarr 0.4 (Zarr v2) and 0.5 (Zarr v3): many channels, time points and focal planes, with levels."""

from __future__ import annotations

import itertools
import math
import os
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xt.errors import ImageError, MissingPackageError, SlowImageWarning, XTError
from xt.images.blocks import block_cache, read_blocks
from xt.images.image import LargeImage, check_dtype, check_nodata
from xt.images.ome import Plane, channel_names, in_microns
from xt.images.pixel_cache import new_owner
from xt.images.raster import slow_message
from xt.images.storage import Storage, check_claims

_METADATA = (".zattrs", ".zgroup", ".zarray", "zarr.json")
_BLOSC_HEADER_BYTES = 16
# Before version 0.3 these were the axes of every image.
_FIRST_AXES = ("t", "c", "z", "y", "x")


class OmeZarrImage(LargeImage):
    """One time point and focal plane of an OME-Zarr folder, with all its channels.

    Args:
        plane: which time point, focal plane and image; images beyond the first are those of other multiscales, or of
            the numbered folders that bioformats2raw writes.
    Raises:
        ImageError: the folder is no OME-Zarr, or damaged.
        ConfigError: there is no such plane.
        MissingPackageError: zarr is not installed.
    """

    driver = "OME-Zarr"

    def __init__(
        self, path: str | os.PathLike[str], nodata: float | None = None, plane: Plane | None = None
    ) -> None:
        self.path = str(path)
        plane = plane or Plane()
        self._arguments = (self.path, nodata, plane)
        with _noted(self.path):
            group, multiscale, notes = _find(self.path, plane)
            self._arrays = [_array(group, dataset, self.path) for dataset in multiscale["datasets"]]
            axes = _axes(multiscale, self._arrays[0], self.path)
            microns = _microns(multiscale, axes)
        place = {axis: number for number, axis in enumerate(axes)}
        sizes = {axis: self._arrays[0].shape[number] for axis, number in place.items()}
        _check_levels(self._arrays, axes, self.path)
        with _noted(self.path):
            names = _names(notes, sizes.get("c", 1))
        plane.check(self.path, time=sizes.get("t", 1), z=sizes.get("z", 1))
        self._axes = axes
        self._chosen = {"t": plane.time, "z": plane.z}
        dtype = check_dtype(np.dtype(self._arrays[0].dtype), self.path).newbyteorder("=")
        for array in self._arrays:
            check_claims(self.path, sizes.get("c", 1), math.prod(array.chunks) * dtype.itemsize)
        chunk = [int(self._arrays[0].chunks[place[axis]]) for axis in "yx"]
        super().__init__(
            self.path,
            [(array.shape[place["y"]], array.shape[place["x"]]) for array in self._arrays],
            sizes.get("c", 1),
            dtype,
            microns_per_pixel=microns,
            nodata=check_nodata(nodata, dtype, self.path),
            channel_names=names,
        )
        height, width = (min(size, side) for size, side in zip(chunk, self.shape, strict=True))
        self.storage = Storage(
            shape=self.shape, block=(height, width), bytes_per_pixel=dtype.itemsize * self.channels
        )
        row = -(-self.shape[1] // width) * height * width * self.storage.bytes_per_pixel
        # Regions with a halo reach into the row above.
        block_cache.widen(2 * row + row // 4)
        if self.storage.slow:
            warnings.warn(slow_message(self.path, self.storage), SlowImageWarning, stacklevel=3)
        self._owner = new_owner()
        self._release = weakref.finalize(self, block_cache.drop, self._owner)

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> np.ndarray:
        array = self._arrays[level]
        rows, columns = (int(array.chunks[self._axes.index(axis)]) for axis in "yx")
        # Band after band in memory, which is what tensors want.
        bands = np.empty((self.channels, height, width), self.dtype)

        def block(row: int, column: int) -> np.ndarray:
            return block_cache.get(
                (self._owner, level, row, column),
                lambda: self._decode(level, row * rows, column * columns, rows, columns),
            )

        read_blocks((y, x, height, width), (rows, columns), block, bands.transpose(1, 2, 0))
        return bands.transpose(1, 2, 0)

    def _decode(self, level: int, y: int, x: int, rows: int, columns: int) -> np.ndarray:
        """The chunks of all channels at one place: (h, w, channels)."""
        bottom, right = (
            min(y + rows, self.level_shapes[level][0]),
            min(x + columns, self.level_shapes[level][1]),
        )
        window: dict[str, Any] = {
            "y": slice(y, bottom),
            "x": slice(x, right),
            "c": slice(None),
            **self._chosen,
        }
        try:
            _require_whole_chunks(self.path, self._arrays[level], [window[axis] for axis in self._axes])
            pixels = np.asarray(self._arrays[level][tuple(window[axis] for axis in self._axes)])
        except Exception as error:
            # Stores and codecs share no class of errors.
            raise ImageError(
                f"{self.path} is damaged or incomplete: rows {y} to {bottom} and columns {x} to "
                f"{right} of level {level} cannot be decoded ({error}); get the folder again from its source"
            ) from error
        left = [axis for axis in self._axes if axis in "cyx"]
        if "c" not in left:
            left, pixels = ["c", *left], pixels[np.newaxis]
        return pixels.transpose([left.index(axis) for axis in "yxc"])

    def close(self) -> None:
        super().close()
        self._release()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, self._arguments


def _require_whole_chunks(path: str, array: Any, window: list[int | slice]) -> None:
    """Refuse chunks that were cut off: Blosc decodes them to whatever lies in memory (c-blosc 1.21), without an error.

    Raises:
        EOFError: names the file.
    """
    codecs = getattr(array.metadata, "codecs", None) or (array.metadata.compressor,)
    if getattr(array, "shards", None) is not None or not any(
        "blosc" in type(codec).__name__.lower() for codec in codecs
    ):
        return
    ranges = []
    for part, size, chunk in zip(window, array.shape, array.chunks, strict=True):
        first, stop, _ = part.indices(size) if isinstance(part, slice) else (part, part + 1, 1)
        ranges.append(range(first // chunk, (stop - 1) // chunk + 1))
    for place in itertools.product(*ranges):
        file = Path(path, array.path, array.metadata.encode_chunk_key(place))
        if not file.is_file():
            # It holds the fill value.
            continue
        with file.open("rb") as stream:
            header = stream.read(_BLOSC_HEADER_BYTES)
        stored = file.stat().st_size
        if len(header) < _BLOSC_HEADER_BYTES or int.from_bytes(header[12:16], "little") > stored:
            raise EOFError(f"{file} is cut off after {stored} bytes")


def is_zarr(path: Path) -> bool:
    """Whether a folder says it is Zarr."""
    return any((path / name).is_file() for name in _METADATA)


def is_ome_zarr(path: Path) -> bool:
    """Whether a folder is an image, and not any other Zarr, such as a store of features."""
    for name in (".zattrs", "zarr.json"):
        file = path / name
        if file.is_file():
            text = file.read_text(errors="replace")
            return '"multiscales"' in text or '"bioformats2raw.layout"' in text
    return False


def _reopen(path: str, nodata: float | None, plane: Plane) -> OmeZarrImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowImageWarning)
        return OmeZarrImage(path, nodata, plane)


@contextmanager
def _noted(path: str) -> Iterator[None]:
    """Reading what the folder's metadata say, which may be of any form.

    Raises:
        ImageError: they are of another than OME-Zarr's.
    """
    try:
        yield
    except XTError:
        raise
    except Exception as error:  # zarr raises whatever a form that it does not expect leads to
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ImageError(
            f"{path} has metadata that are not those of OME-Zarr ({what}): they were changed or damaged; get the "
            "folder again from its source"
        ) from error


def _find(path: str, plane: Plane) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
    """The group of an image, its multiscale metadata, and all its metadata."""
    group = _open_group(path)
    notes = _notes(group)
    if "plate" in notes:
        raise ImageError(f"{path} is a plate of many images: open one of its fields, such as {path}/A/1/0")
    multiscales = notes.get("multiscales")
    if multiscales:
        plane.check(path, series=len(multiscales))
        return group, multiscales[plane.series], notes
    if "bioformats2raw.layout" in notes:
        inner = sorted((name for name in group.group_keys() if name.isdecimal()), key=int)
        plane.check(path, series=len(inner))
        group = group[inner[plane.series]]
        notes = _notes(group)
        if notes.get("multiscales"):
            return group, notes["multiscales"][0], notes
    raise ImageError(
        f"{path} is Zarr without the metadata of OME-Zarr (multiscales), so that its axes are not known: open an "
        "array in it with zarr and pass it as a NumPy array (height, width, channels)"
    )


def _open_group(path: str) -> Any:
    try:
        import zarr
        from zarr.errors import BaseZarrError
    except ImportError as error:
        raise MissingPackageError("OME-Zarr folders are read through zarr: pip install zarr") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            node = zarr.open(path, mode="r")
    except (BaseZarrError, OSError, ValueError, KeyError) as error:
        raise ImageError(
            f"{path} is no Zarr folder that can be opened, or it is damaged ({error})"
        ) from error
    if isinstance(node, zarr.Array):
        raise ImageError(
            f"{path} is a single Zarr array without the metadata of OME-Zarr: open the folder above it, or pass the "
            "array as a NumPy array (height, width, channels)"
        )
    return node


def _notes(group: Any) -> Mapping[str, Any]:
    """OME's metadata: since version 0.5 below a key of its own."""
    attributes = dict(group.attrs)
    inner = attributes.get("ome")
    return inner if isinstance(inner, Mapping) else attributes


def _array(group: Any, dataset: Mapping[str, Any], path: str) -> Any:
    try:
        return group[dataset["path"]]
    except (KeyError, OSError, ValueError) as error:
        raise ImageError(
            f"{path} lacks a level that its metadata names, {dataset.get('path')!r} ({error})"
        ) from error


def _axes(multiscale: Mapping[str, Any], array: Any, path: str) -> tuple[str, ...]:
    named = multiscale.get("axes")
    axes = (
        tuple(str(axis["name"] if isinstance(axis, Mapping) else axis).lower() for axis in named)
        if named
        else _FIRST_AXES[-array.ndim :]
    )
    if len(axes) != array.ndim or not {"y", "x"} <= set(axes) <= set(_FIRST_AXES):
        raise ImageError(
            f"{path} has the axes {', '.join(axes)} for {array.ndim} dimensions; expected y, x and any of t, c, z"
        )
    return axes


def _check_levels(arrays: Sequence[Any], axes: Sequence[str], path: str) -> None:
    """Refuse levels that differ in more than height and width, or hold nothing."""

    def kept(array: Any) -> tuple[Any, ...]:
        sizes = [size for axis, size in zip(axes, array.shape, strict=False) if axis not in "yx"]
        return array.ndim, np.dtype(array.dtype).newbyteorder("="), sizes

    for number, array in enumerate(arrays):
        if min(*array.shape, *array.chunks) < 1:
            raise ImageError(
                f"{path}: level {number} has the shape {array.shape} in chunks of {array.chunks}: no pixels"
            )
        if kept(array) != kept(arrays[0]):
            raise ImageError(
                f"{path}: level {number} is of shape {array.shape} and {array.dtype}, level 0 of {arrays[0].shape} and "
                f"{arrays[0].dtype}; levels differ in height and width alone"
            )


def _microns(multiscale: Mapping[str, Any], axes: Sequence[str]) -> tuple[float, float] | None:
    named = multiscale.get("axes") or ()
    units = [axis.get("unit") if isinstance(axis, Mapping) else None for axis in named]
    scale = [1.0] * len(axes)
    found = False
    for each in (
        *(multiscale["datasets"][0].get("coordinateTransformations") or ()),
        *(multiscale.get("coordinateTransformations") or ()),
    ):
        if each.get("type") == "scale" and len(each.get("scale", ())) == len(axes):
            scale = [one * float(other) for one, other in zip(scale, each["scale"], strict=True)]
            found = True
    if not found or len(units) != len(axes):
        return None
    y, x = axes.index("y"), axes.index("x")
    return in_microns((scale[y], scale[x]), (units[y], units[x]))


def _names(notes: Mapping[str, Any], channels: int) -> tuple[str, ...] | None:
    named = (notes.get("omero") or {}).get("channels") or ()
    if len(named) != channels:
        return None
    return channel_names([str(each["label"]) if each.get("label") else None for each in named])
