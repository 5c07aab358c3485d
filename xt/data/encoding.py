"""From images to a feature store: every region through the region encoder once, in the memory of one region batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from xt.data.augmentation import Turning
from xt.data.feature_store import (
    FORMAT,
    VIEWS,
    FeatureStore,
    identity_of,
    import_zarr,
    pack_grid,
    settings_of,
    version_of,
)
from xt.errors import ConfigError, PixelError
from xt.images import LargeImage, open_image
from xt.images.bands import ALPHA, Alpha
from xt.images.resolution import say_resolution
from xt.model.thumbnail import thumbnails_of
from xt.model.xt import XT
from xt.output import (
    atomic_folder,
    check_writable_folder,
    lock_folder,
    remove_leftovers,
    remove_leftovers_of,
)
from xt.progress import OnStep
from xt.regions.reader import RegionReader
from xt.regions.scattered import PixelRegions
from xt.streaming.map import streamed_map

DTYPES = ("float16", "float32")
# One file of an array: much less makes many files, much more makes a batch of regions slow to read.
_CHUNK_BYTES = 2**20


@contextmanager
def open_for_encoding(
    path: str | os.PathLike[str],
    model: XT,
    *,
    dtype: str | None = None,
    views: int | None = None,
    nodata: float | None = None,
    alpha: Alpha = ALPHA,
) -> Iterator[FeatureStore]:
    """The store at `path` for this model's region encoder, made if it is not there; nobody else writes meanwhile.

    Args:
        dtype: of the features, "float16" (half the disk; three digits) or "float32"; None for the store's, or float16.
        views: 1, 4 (flips) or 8 (flips and quarter turns) of each image; None for the store's, or 1.
        nodata, alpha: as for `open_image`.

    Raises:
        CheckpointError: the store was made by another region encoder.
        ConfigError: the store has another dtype or number of views, or there are none such.
        OutputError: the folder cannot be written to, or another run writes to it.
    """
    if model.config.image_size is not None:
        raise ConfigError(
            "the model takes photographs (image_size), which are resized and changed anew in each epoch; `xt encode` "
            "is for images of any size at full resolution"
        )
    if dtype not in (None, *DTYPES) or views not in (None, 1, 4, 8):
        raise ConfigError(f"dtype must be float16 or float32 and views 1, 4 or 8, got {dtype} and {views}")
    path = Path(path)
    if not path.exists():
        _create(path, model, dtype or DTYPES[0], views or 1, nodata, alpha)
    store = FeatureStore(path)
    store.check_encoder(model, nodata, alpha)
    for name, wanted, there in (("dtype", dtype, store.dtype.name), ("views", views, store.views)):
        if wanted not in (None, there):
            raise ConfigError(
                f"{path} was made with {name} {there}, not {wanted}: go on with that, or choose another store"
            )
    # Inside an array: Zarr warns of strange files between the arrays of a group.
    lock = lock_folder(path / "encoder", "encode")
    try:
        remove_leftovers(path)
        remove_leftovers_of(path)
        yield store
    finally:
        if lock is not None:
            lock.close()


def encode_image(
    store: FeatureStore,
    model: XT,
    image: str | os.PathLike[str],
    progress: OnStep | None = None,
    microns_per_pixel: float | None = None,
) -> None:
    """Encode all views of an image file into the store, which has each of them afterwards or not at all.

    The model is used as it is: on its device, in the mode it is in (evaluation is meant).

    Args:
        progress: called as (regions done, all) after each region batch; the first view's, then the next one's.
        microns_per_pixel: for a file that does not say.

    Raises:
        ConfigError: the model has a resolution, and the image does not say its own.
        ImageError: the image cannot be read, or has no region to look at.
        PixelError: a feature is not a number, or too large for the store's dtype.
        ShapeError: the image has another number of channels than the model.
        OutputError: the store cannot be written.
    """
    with open_image(os.fspath(image), store.nodata, alpha=store.alpha) as opened:
        version = version_of(image)
        say_resolution(opened, microns_per_pixel)
        read = model.as_read(opened).image
        for view in range(store.views):
            seen = oriented(read, view)
            grid = model.grid(seen)
            model.check([seen], [grid])
            attributes = {"image": str(image), **version, "view": view, "grid": pack_grid(grid)}
            with atomic_folder(store.place(image, view)) as folder:
                array: _ArrayWriter | None = None
                done = 0
                for features in _with_thumbnail(store, model, seen, grid):
                    if array is None:
                        rows = len(grid) + store.thumbnails
                        array = _ArrayWriter(folder, rows, features, store.dtype, attributes)
                    array.append(_in_dtype(features, store.dtype, seen.name))
                    done = min(done + len(features), len(grid))
                    if progress is not None:
                        progress(done, len(grid))
                assert array is not None, "the model's check refuses an empty grid"
                array.close()


def _with_thumbnail(
    store: FeatureStore, model: XT, image: LargeImage, grid: PixelRegions
) -> Iterator[NDArray[np.float32]]:
    """(regions, N, C) features of one region batch after the other, last the thumbnail's where the store has these."""
    yield from encoded_batches(model, image, grid)
    if store.thumbnails:
        (small,), (one,) = thumbnails_of([image], [grid])
        yield from encoded_batches(model, small, one)


@torch.inference_mode()
def encoded_batches(model: XT, image: LargeImage, grid: PixelRegions) -> Iterator[NDArray[np.float32]]:
    """(regions, N, C) features of one region batch after the other."""
    encoder, settings = model.region_encoder, model.streaming
    reader = RegionReader(
        [image],
        [grid],
        region_batch=model.region_batch,
        halo=encoder.halo,
        device=model.device,
        threads=settings.threads,
    )
    parameters, limit = list(encoder.network.parameters()), model.limits.of("features")
    for batch in reader:
        # A map over one batch, for what it does when the device runs out of memory.
        yield streamed_map(encoder.features, [batch], parameters, limit=limit).float().cpu().numpy()


def oriented(image: Turning, view: int) -> Turning:
    """One of the `VIEWS` of an image, lazily."""
    flip_y, flip_x, turns = VIEWS[view]
    image = image.flip("y") if flip_y else image
    image = image.flip("x") if flip_x else image
    return image.rotate(turns) if turns else image


class _ArrayWriter:
    """Writes one array from its first region to its last, a whole chunk at a time."""

    def __init__(
        self, folder: Path, regions: int, first: NDArray, dtype: np.dtype, attributes: dict[str, Any]
    ) -> None:
        _, tokens, features = first.shape
        rows = min(max(_CHUNK_BYTES // (tokens * features * dtype.itemsize), 1), regions)
        self._array = import_zarr().create_array(
            store=str(folder),
            shape=(regions, tokens, features),
            chunks=(rows, tokens, features),
            dtype=dtype,
            # Features are noise to a compressor: it would save a tenth and cost more time than reading.
            compressors=None,
            # So that a missing part is noticed.
            fill_value=float("nan"),
            attributes={**attributes, "features": features},
            overwrite=True,
        )
        self._chunk = np.empty((rows, tokens, features), dtype)
        self._filled = 0
        self._written = 0

    def append(self, features: NDArray) -> None:
        while len(features):
            room = len(self._chunk) - self._filled
            part, features = features[:room], features[room:]
            self._chunk[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == len(self._chunk):
                self._flush()

    def close(self) -> None:
        if self._filled:
            self._flush()

    def _flush(self) -> None:
        stop = self._written + self._filled
        self._array[self._written : stop] = self._chunk[: self._filled]
        self._written, self._filled = stop, 0


def _create(path: Path, model: XT, dtype: str, views: int, nodata: float | None, alpha: Alpha) -> None:
    zarr = import_zarr()
    check_writable_folder(path.parent)
    content = np.frombuffer(safetensors.torch.save(model.region_encoder.feature_weights()), np.uint8)
    with atomic_folder(path) as folder:
        group = zarr.create_group(
            str(folder),
            attributes={
                "format": FORMAT,
                "identity": identity_of(model),
                "settings": settings_of(model),
                # As text: JSON has no NaN.
                "nodata": None if nodata is None else str(float(nodata)),
                "alpha": alpha,
                "dtype": dtype,
                "views": views,
                # Only then, so that stores of models without are as they have always been.
                **({"thumbnails": True} if model.thumbnail is not None else {}),
            },
        )
        group.create_array("encoder", data=content, chunks=(min(len(content), 2**26),))


def _in_dtype(features: NDArray[np.float32], dtype: np.dtype, name: str) -> NDArray[np.floating]:
    largest = float(np.abs(features).max())
    if largest <= float(np.finfo(dtype).max):
        return features.astype(dtype)
    if np.isfinite(largest):
        raise PixelError(
            f"{name} has features up to {largest:.3g}, too large for {dtype}: encode with --dtype float32"
        )
    raise PixelError(
        f"the region encoder's answer for {name} is not a number: either the image holds NaN or huge (1e19) "
        "pixels that are not declared as nodata, or the weights are damaged"
    )
