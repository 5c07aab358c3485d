"""Features that other programs have found in an image's patches: one HDF5 or PyTorch file an image.

    TRIDENT  NAME.h5  features (N, C) or (1, N, C), attribute `encoder`; coords (N, 2), attributes patch_size_level0 ...
    CLAM     h5_files/NAME.h5  features, coords;  pt_files/NAME.pt  a tensor (N, C), whose coords lie in the .h5
    STAMP    NAME.h5  feats, coords in micrometres, attributes `tile_size_um`, `tile_size_px`, `extractor`

Coordinates are x and y of a patch's top left corner in level-0 pixels; STAMP's become pixels as its encoder saw them,
for its files do not say the slide's own. Nothing in a file is executed.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from xt.data.feature_names import DATASETS, H5
from xt.errors import ImageError
from xt.regions.encoded import EncodedImage
from xt.regions.scattered import ScatteredRegions, usual_step

_COORDINATES = "coords"
# Side of a patch where neither its file nor its neighbours tell.
_USUAL_PATCH = 256.0


class FeatureFile(EncodedImage):
    """The features in one file, each patch's a region of one token; opened when they are first read.

    Mirrored and turned are the places of the patches alone: their features stay those of the patches as they were.

    Args:
        path: of the file.
        beside: an HDF5 file with its coordinates, where it has none itself.
        name: of the image; None for the file's.

    Attributes:
        encoder: what found the features, where the file says it.

    Raises:
        ImageError: it holds no features or no coordinates, or they do not fit each other.
    """

    channels = None
    grid: ScatteredRegions

    def __init__(
        self, path: str | os.PathLike[str], beside: Path | None = None, name: str | None = None
    ) -> None:
        self.path = Path(path)
        self.name = name or str(path)
        self._file: Any = None
        with self._opened() as content:
            shape, self.dtype = _shape_of(content, self.path), content.dtype
            self.encoder = content.encoder
            places = content.places
        if places is None and beside is not None:
            with _H5Content(beside) as content:
                places = content.places
        if places is None:
            raise ImageError(
                f"{self.path} does not say where its patches lie: expected coordinates beside it, as in CLAM's "
                f"h5_files or in {self.path.stem}.h5"
            )
        if len(places.corners) != shape[0]:
            raise ImageError(
                f"{self.path} has features of {shape[0]} patches and coordinates of {len(places.corners)}: they "
                "are not of one image"
            )
        self.grid = places.regions()
        self.feature_shape = (1, shape[1])

    def read_features(self, start: int, stop: int) -> NDArray[np.floating]:
        if self._file is None:
            self._file = self._opened()
        features = self._file.read(start, stop)
        if not np.isfinite(features).all():
            row = start + int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            raise ImageError(f"{self.path}: the features of patch {row} are not numbers (NaN or infinity)")
        return features[:, None]

    def flip(self, axis: str) -> "FeatureFile":
        return self._placed(self.grid.flipped(axis))

    def rotate(self, quarter_turns: int) -> "FeatureFile":
        return self._placed(self.grid.rotated(quarter_turns))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> "_H5Content | _TensorContent":
        return _H5Content(self.path) if self.path.suffix.lower() in H5 else _TensorContent(self.path)

    def _placed(self, regions: ScatteredRegions) -> "FeatureFile":
        other = object.__new__(FeatureFile)
        other.__dict__ |= self.__dict__ | {"grid": regions, "_file": None}
        return other


class _Places(NamedTuple):
    """Where patches lie.

    Attributes:
        corners: (N, 2), x and y of the top left ones.
        size: of a patch; None where nothing says it.
        shape: (height, width) of the image, likewise.
    """

    corners: NDArray[np.float64]
    size: float | None
    shape: tuple[int, int] | None

    def regions(self) -> ScatteredRegions:
        origins = self.corners[:, ::-1]
        size = self.size or usual_step(origins) or _USUAL_PATCH
        # Patches at the edges may reach beyond it.
        height, width = self.shape or np.ceil(origins.max(axis=0) + size).astype(int).tolist()
        return ScatteredRegions(
            height=height, width=width, region_size=size, origins=np.ascontiguousarray(origins)
        )


class _H5Content:
    """An open HDF5 file."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        try:
            self.file = h5py.File(path, "r")
        except OSError as error:
            raise ImageError(f"{path} cannot be read as HDF5: {error}") from error
        try:
            self.features = self._features()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> "_H5Content":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()

    @property
    def shape(self) -> tuple[int, ...]:
        return () if self.features is None else tuple(self.features.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32) if self.features is None else self.features.dtype

    @property
    def described(self) -> str:
        return f"it holds {', '.join(map(str, self.file)) or 'nothing'}"

    @property
    def encoder(self) -> str | None:
        """As TRIDENT and STAMP say it."""
        said = None if self.features is None else self.features.attrs.get("encoder")
        said = self.file.attrs.get("extractor") if said is None else said
        return None if said is None or str(said) == "None" else str(said)

    @property
    def places(self) -> _Places | None:
        if _COORDINATES not in self.file:
            return None
        stored = self.file[_COORDINATES]
        try:
            corners = np.asarray(stored[()], np.float64)
        except (OSError, ValueError, TypeError) as error:
            raise ImageError(f"{self.path}: its coordinates cannot be read ({error})") from error
        corners = corners[0] if corners.ndim == 3 and len(corners) == 1 else corners
        if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
            raise ImageError(
                f"{self.path}: expected coordinates (patches, 2), x and y in level-0 pixels, got numbers of shape "
                f"{corners.shape}{'' if np.isfinite(corners).all() else ', some of them not finite'}"
            )
        said: Mapping[str, Any] = {**self.file.attrs, **stored.attrs}
        if "tile_size_um" in said or said.get("unit") == "um":
            return _of_stamp(corners, said, self.path)
        sides = [_number(said.get(f"level0_{name}")) for name in ("height", "width")]
        shape = (int(sides[0]), int(sides[1])) if sides[0] and sides[1] else None
        return _Places(corners, _size_of(said), shape)

    def read(self, start: int, stop: int) -> NDArray[np.floating]:
        try:
            features = self.features[0, start:stop] if self.features.ndim == 3 else self.features[start:stop]
        except OSError as error:
            raise ImageError(f"{self.path} is damaged: its features cannot be read ({error})") from error
        return np.asarray(features)

    def _features(self) -> Any:
        import h5py

        found = next((self.file[name] for name in DATASETS if name in self.file), None)
        return found if isinstance(found, h5py.Dataset) else None


class _TensorContent:
    """A tensor from a PyTorch file, or a mapping with one and its coordinates."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = _loaded(path)
        except Exception as error:  # torch.load raises whatever the damage leads to
            raise ImageError(
                f"{path} is not read: expected a tensor (patches, width) as torch.save writes it, and nothing "
                f"that would have to be executed ({type(error).__name__}); write it again as a tensor or as HDF5"
            ) from error
        self.content: Mapping[str, Any] = content if isinstance(content, Mapping) else {DATASETS[0]: content}

    def __enter__(self) -> "_TensorContent":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.content = {}

    @cached_property
    def features(self) -> Any:
        found = next((self.content[name] for name in DATASETS if name in self.content), None)
        if not isinstance(found, torch.Tensor):
            return None
        # NumPy has no bfloat16.
        return found.detach().float() if found.dtype == torch.bfloat16 else found.detach()

    @property
    def shape(self) -> tuple[int, ...]:
        return () if self.features is None else tuple(self.features.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32) if self.features is None else self.features[:0].numpy().dtype

    @property
    def described(self) -> str:
        kinds = {type(value).__name__ for value in self.content.values()}
        return f"it holds {', '.join(map(str, self.content)) or 'nothing'} of the types {', '.join(sorted(kinds))}"

    @property
    def encoder(self) -> str | None:
        said = self.content.get("encoder")
        return said if isinstance(said, str) else None

    @property
    def places(self) -> _Places | None:
        corners = self.content.get(_COORDINATES)
        if not isinstance(corners, torch.Tensor) or corners.ndim != 2 or corners.shape[1] != 2:
            return None
        return _Places(corners.double().numpy(), None, None)

    def read(self, start: int, stop: int) -> NDArray[np.floating]:
        part = self.features[0, start:stop] if self.features.ndim == 3 else self.features[start:stop]
        found: NDArray[np.floating] = part.numpy()
        return found


def _loaded(path: Path) -> Any:
    """What lies in a PyTorch file, from the disk where its format allows it."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        return torch.load(path, map_location="cpu", weights_only=True)


def _shape_of(content: _H5Content | _TensorContent, path: Path) -> tuple[int, int]:
    """(N, C) of the features.

    Raises:
        ImageError: they are none.
    """
    shape = content.shape
    if not shape:
        raise ImageError(
            f"{path} holds no features: expected numbers (patches, width) called features, as TRIDENT and CLAM "
            f"write them, or feats, as STAMP does; {content.described}"
        )
    shape = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if len(shape) != 2 or content.dtype.kind != "f":
        what = ": one vector for the whole image has no places" if len(shape) == 1 and shape[0] else ""
        raise ImageError(
            f"{path}: expected features (patches, width) of floating point, got {content.dtype} of shape "
            f"{content.shape}{what}"
        )
    if 0 in shape:
        raise ImageError(f"{path} is empty: it has features of {shape[0]} patches; leave the image out")
    return shape[0], shape[1]


def _size_of(said: Mapping[str, Any]) -> float | None:
    """Side of a patch in level-0 pixels, as TRIDENT or CLAM say it beside the coordinates."""
    if (size := _number(said.get("patch_size_level0"))) is not None:
        return size
    size, by = _number(said.get("patch_size")), _number(said.get("downsample"))
    if size is None or by is None:
        return None
    return size * by * (_number(said.get("custom_downsample")) or 1)


def _of_stamp(corners: NDArray[np.float64], said: Mapping[str, Any], path: Path) -> _Places:
    size, pixels = (_number(said.get(name)) for name in ("tile_size_um", "tile_size_px"))
    size = size or _number(said.get("tile_size"))
    if not size:
        raise ImageError(
            f"{path}: its coordinates are in micrometres, and nothing says how large a tile is (tile_size_um)"
        )
    side = pixels or 224.0
    return _Places(corners * (side / size), side, None)


def _number(said: Any) -> float | None:
    """The first positive number in an attribute; None for none."""
    try:
        value = float(np.asarray(said).ravel()[0])
    except (TypeError, ValueError, IndexError):
        return None
    return value if np.isfinite(value) and value > 0 else None
