"""What the region encoder found in many images, in one Zarr group: made by `xt encode`, trained from without pixels.

    STORE.zarr/            group; attributes `format`, `identity`, `settings`, `nodata`, `alpha`, `dtype`, `views`
      encoder              the region encoder itself: network and pixel scaling, the bytes of a safetensors file
      5f0c...-0            one array an image and view, (regions, N, C); attributes `image`, `size`, `mtime_ns`, `grid`;
                           with `thumbnails` in the store's own its last row is the whole image in one region's size

Stored are the pooled features of the network, before norm and projection, so that these train together with context
encoder and head, and a whole model comes out. Positions follow from the grid. An array is there completely or not at
all. Views are the image's flips and turns, see `VIEWS`.
"""

import hashlib
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import compress, decompress

import numpy as np
from numpy.typing import NDArray

from xt.errors import CheckpointError, ConfigError, ImageError, MissingPackageError, TableError
from xt.images import stack_parts
from xt.images.bands import ALPHA, Alpha
from xt.images.names import files_of, identity
from xt.regions.encoded import EncodedImage
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.scattered import PixelRegions

if TYPE_CHECKING:
    from torch import Tensor

    from xt.labels.image_table import ImageTable
    from xt.model.xt import XT

# As the first stores were written, whose features were called tokens.
FORMAT = "xt tokens 1"
# Of settings that stores of before did not have.
_WHERE_ABSENT = {"readout": "last_map", "encoder_dtype": "float32"}
# Quarter turns after flips. One view is the image itself, the first four are its flips, all eight are its symmetries.
VIEWS = tuple(
    (flip_y, flip_x, turns) for turns, flip_y, flip_x in product((0, 1), (False, True), (False, True))
)


class FeatureStore:
    """A store that is there.

    Attributes:
        path: its folder.
        identity: sha256 of the region encoder's weights and of all settings that decide what it finds.
        settings: those, as in `ModelConfig`.
        nodata: the value of pixels that hold nothing, as it was given.
        alpha: what a band is that a file calls alpha, as it was given.
        dtype: of the features.
        views: 1, 4 or 8 of each image.
        thumbnails: whether the whole image in one region's size was encoded, too.

    Raises:
        CheckpointError: there is no store, or it is damaged.
        MissingPackageError: Zarr is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        zarr = import_zarr()
        self.path = Path(path)
        try:
            attributes = zarr.open_group(str(self.path), mode="r").attrs.asdict()
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self.path} is not a feature store ({error}); `xt encode` writes them"
            ) from error
        if attributes.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.path} is a Zarr group, but not a feature store of this version (its format is "
                f"{attributes.get('format')!r}, expected {FORMAT!r}); `xt encode` writes them"
            )
        self.identity: str = attributes["identity"]
        self.settings: dict[str, Any] = attributes["settings"]
        self.nodata = None if attributes["nodata"] is None else float(attributes["nodata"])
        self.alpha: Alpha = attributes.get("alpha", ALPHA)
        self.dtype = np.dtype(attributes["dtype"])
        self.views: int = attributes["views"]
        self.thumbnails: bool = attributes.get("thumbnails", False)

    def __contains__(self, image: str | os.PathLike[str]) -> bool:
        """Whether this very version of the image is there in all views."""
        found = [self._attributes(image, view) for view in range(self.views)]
        return all(entry is not None and not _has_changed(image, entry) for entry in found)

    def image(self, image: str | os.PathLike[str]) -> "StoredImage":
        """What stands for an image file in `model(...)`.

        Raises:
            TableError: the image is not in the store.
            ImageError: the file was changed after it was encoded.
        """
        return StoredImage(self, str(image))

    def of_table(self, table: "ImageTable") -> "ImageTable":
        """All images of a table: those that are missing are refused (`check_images`), for they can be encoded."""
        return table

    def check_images(self, images: Sequence[str | os.PathLike[str]], source: str) -> None:
        """Refuse images that are not there, or were changed after they were encoded; `source` names their table.

        Raises:
            TableError: says how many and which.
        """
        missing = [image for image in images if image not in self]
        if missing:
            some = ", ".join(str(image) for image in missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise TableError(
                f"{source}: {len(missing)} of {len(images)} images are not in {self.path}, or were changed after they "
                f"were encoded: {some}; run `xt encode` again with the same --out, it adds what is missing"
            )

    def check_settings(self, model: "XT", nodata: float | None = None, alpha: Alpha = ALPHA) -> None:
        """Refuse a model whose region encoder is of another kind, or sees the images otherwise.

        Raises:
            CheckpointError: says what differs.
        """
        ours = settings_of(model) | {"nodata": None if nodata is None else str(float(nodata)), "alpha": alpha}
        theirs = self.settings | {
            "nodata": None if self.nodata is None else str(self.nodata),
            "alpha": self.alpha,
        }
        for name in {**ours, **theirs}:
            value, there = (settings.get(name, _WHERE_ABSENT.get(name, 0)) for settings in (ours, theirs))
            if there != value:
                section = "data" if name in ("nodata", "alpha") else "model"
                raise CheckpointError(
                    f"{self.path} was made by another region encoder: its {section}.{name} is {there}, here it "
                    f"is {value}; set it to that, or encode the images again into another store"
                )
        if model.thumbnail is not None and not self.thumbnails:
            raise CheckpointError(
                f"{self.path} was encoded without thumbnails, at which the model looks (model.thumbnail): encode the "
                "images again into another store, or leave model.thumbnail out"
            )

    def check_encoder(self, model: "XT", nodata: float | None = None, alpha: Alpha = ALPHA) -> None:
        """Refuse a model whose region encoder would have found something else.

        Raises:
            CheckpointError: says what differs.
        """
        self.check_settings(model, nodata, alpha)
        if self.identity != identity_of(model):
            raise CheckpointError(
                f"{self.path} was made by another region encoder: of the same kind, but with other weights or "
                "another pixel_mean and pixel_std; encode the images again with this one into another store"
            )

    def check_augmentation(self, flips: bool, quarter_turns: bool) -> None:
        """Refuse random flips or turns of images that were not encoded that way.

        Raises:
            ConfigError: says what to do.
        """
        needed = 8 if quarter_turns else 4 if flips else 1
        if needed > self.views:
            names = [name for name, on in (("flips", flips), ("quarter_turns", quarter_turns)) if on]
            raise ConfigError(
                f"data.augmentation asks for {' and '.join(names)}, which need {needed} views of each image, and "
                f"{self.path} has {self.views}: set {' and '.join(f'data.augmentation.{name}' for name in names)} to "
                f"false, or encode with --views {needed}"
            )

    def encoder_state(self) -> "dict[str, Tensor]":
        """Weights of the region encoder, as its `feature_weights` gave them."""
        import safetensors.torch

        content = import_zarr().open_array(str(self.path / "encoder"), mode="r")[:]
        return safetensors.torch.load(np.asarray(content).tobytes())

    def place(self, image: str | os.PathLike[str], view: int) -> Path:
        """The folder of an image's array; named by the file's absolute path, for names alone are not unique."""
        # What GDAL finds elsewhere has no other name.
        name = "|".join(identity(part) for part in stack_parts(str(image)))
        return self.path / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}-{view}"

    def _attributes(self, image: str | os.PathLike[str], view: int) -> dict[str, Any] | None:
        # Read past Zarr, which takes ten times as long: a table may have a hundred thousand images.
        # What cannot be read counts as missing: `xt encode` makes it anew.
        try:
            content = (self.place(image, view) / "zarr.json").read_text(encoding="utf-8")
            attributes: dict[str, Any] = json.loads(content)["attributes"]
        except (OSError, ValueError, KeyError):
            return None
        return attributes


class StoredImage(EncodedImage):
    """One view of an image in a store; `flip` and `rotate` give the others."""

    def __init__(self, store: FeatureStore, image: str, view: int = 0) -> None:
        attributes = store._attributes(image, view)
        if attributes is None:
            raise TableError(f"{image} is not in {store.path}: run `xt encode` again with the same --out")
        if _has_changed(image, attributes):
            raise ImageError(
                f"{image} was changed after it was encoded into {store.path}: run `xt encode` again with the same "
                "--out"
            )
        self.store = store
        self.name = image
        self.view = view
        self.channels = store.settings["in_channels"]
        self.grid = unpack_grid(attributes["grid"])
        self.feature_shape = (store.settings["tokens_per_region"], attributes["features"])
        self.dtype = store.dtype
        self._array: Any = None

    def read_features(self, start: int, stop: int) -> NDArray[np.floating]:
        place = self.store.place(self.name, self.view)
        try:
            if self._array is None:
                self._array = import_zarr().open_array(str(place), mode="r")
            features = np.asarray(self._array[start:stop])
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(place, self.name, str(error)) from error
        # What is missing in an array is read as NaN.
        if features.shape != (stop - start, *self.feature_shape) or not np.isfinite(features).all():
            raise _damaged(place, self.name, "a part is missing")
        return features

    def thumbnail(self) -> EncodedImage:
        return StoredThumbnail(self) if self.store.thumbnails else super().thumbnail()

    def flip(self, axis: str) -> "StoredImage":
        return self._other(np.flip(_corners(self.view), ("y", "x").index(axis)))

    def rotate(self, quarter_turns: int) -> "StoredImage":
        return self._other(np.rot90(_corners(self.view), quarter_turns))

    def close(self) -> None:
        self._array = None

    def _other(self, corners: NDArray[np.int64]) -> "StoredImage":
        view = next(view for view in range(len(VIEWS)) if np.array_equal(_corners(view), corners))
        if view >= self.store.views:
            raise ConfigError(
                f"{self.name} was encoded in {self.store.views} of 8 views, and this flip or turn is not among them: "
                "encode it with --views 8"
            )
        return StoredImage(self.store, self.name, view)


class StoredThumbnail(EncodedImage):
    """The last row of a stored image's array, as an image of one region."""

    def __init__(self, image: StoredImage) -> None:
        self.image = image
        self.name, self.channels = image.name, image.channels
        size = int(image.grid.region_size)
        self.grid = RegionGrid(height=size, width=size, region_size=size)
        self.feature_shape, self.dtype = image.feature_shape, image.dtype

    def read_features(self, start: int, stop: int) -> NDArray[np.floating]:
        last = len(self.image.grid)
        return self.image.read_features(last + start, last + stop)

    def flip(self, axis: str) -> EncodedImage:
        return StoredThumbnail(self.image.flip(axis))

    def rotate(self, quarter_turns: int) -> EncodedImage:
        return StoredThumbnail(self.image.rotate(quarter_turns))

    def close(self) -> None:
        self.image.close()


def settings_of(model: "XT") -> dict[str, Any]:
    """Everything but weights that decides what a model's region encoder finds in an image, as JSON gives it back."""
    reading = model.reading
    settings = model.region_encoder.settings() | {"order": reading.order, "foreground": reading.foreground}
    for name in ("microns_per_pixel", "map_units_per_pixel"):
        # Only then, so that stores of models without them keep the identity that they have always had.
        if getattr(reading.resolution, name):
            settings[name] = getattr(reading.resolution, name)
    result: dict[str, Any] = json.loads(json.dumps(settings))
    return result


def identity_of(model: "XT") -> str:
    """sha256 of the region encoder's weights and settings, in hexadecimal."""
    import torch

    digest = hashlib.sha256(json.dumps(settings_of(model), sort_keys=True).encode())
    for name, value in sorted(model.region_encoder.feature_weights().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pack_grid(grid: PixelRegions) -> dict[str, Any]:
    """A grid as JSON; its mask as packed bits and its places as numbers, compressed, in base 64."""
    if isinstance(grid, PyramidGrid):
        places = compress(grid.places.astype("<i8").tobytes())
        return pack_grid(grid.fine) | {"places": b64encode(places).decode()}
    bits = None if grid.mask is None else np.packbits(grid.mask).tobytes()
    return {
        "height": grid.height,
        "width": grid.width,
        "region_size": grid.region_size,
        "order": grid.order,
        "mask": None if bits is None else b64encode(compress(bits)).decode(),
    }


def unpack_grid(packed: dict[str, Any]) -> PixelRegions:
    """The inverse of `pack_grid`."""
    if "places" in packed:
        places = np.frombuffer(decompress(b64decode(packed["places"])), "<i8").reshape(-1, 3)
        fine = unpack_grid({name: value for name, value in packed.items() if name != "places"})
        assert isinstance(fine, RegionGrid)
        return PyramidGrid(fine, places.astype(np.int64))
    whole = RegionGrid(**(packed | {"mask": None}))
    if packed["mask"] is None:
        return whole
    bits = np.frombuffer(decompress(b64decode(packed["mask"])), np.uint8)
    mask = (
        np.unpackbits(bits, count=whole.rows * whole.columns).astype(bool).reshape(whole.rows, whole.columns)
    )
    return RegionGrid(**(packed | {"mask": mask}))


def version_of(image: str | os.PathLike[str]) -> dict[str, int | None]:
    """Size and time of change of a file, as make and rsync tell versions; None where there is no such file.

    Of a stack, all its files' size and the last change.
    """
    try:
        states = [os.stat(file) for part in stack_parts(str(image)) for file in files_of(part) or [part]]
    except OSError:
        return {"size": None, "mtime_ns": None}
    return {
        "size": sum(state.st_size for state in states),
        "mtime_ns": max(state.st_mtime_ns for state in states),
    }


def import_zarr() -> Any:
    """Zarr, which only feature stores need.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise MissingPackageError("feature stores are Zarr groups: pip install 'zarr>=3'") from error
    return zarr


def _has_changed(image: str | os.PathLike[str], attributes: dict[str, Any]) -> bool:
    # The pixels need not be there any more; if they are, they must be the same.
    return any(value not in (None, attributes[name]) for name, value in version_of(image).items())


def _corners(view: int) -> NDArray[np.int64]:
    """Where the four corners of an image come to lie in a view."""
    flip_y, flip_x, turns = VIEWS[view]
    corners = np.arange(4).reshape(2, 2)
    corners = corners[::-1] if flip_y else corners
    corners = corners[:, ::-1] if flip_x else corners
    return np.rot90(corners, turns)


def _damaged(place: Path, name: str, reason: str) -> ImageError:
    return ImageError(
        f"{place} (the features of {name}) is damaged ({reason}): remove it and run `xt encode` again"
    )
