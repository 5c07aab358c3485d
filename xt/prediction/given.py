"""Which images are meant: by files, folders and globs, folders of xView3 scenes, or as they are."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xt.config.predict import PredictConfig
from xt.errors import ConfigError
from xt.prediction.inputs import find_images, identity

if TYPE_CHECKING:
    from xt.images import LargeImage

RADAR = ("VH_dB.tif", "VV_dB.tif")


class GivenImages(NamedTuple):
    """Images by name, in the order given.

    Attributes:
        names: paths, or what an image that is open is called.
        opened: those that are open already.
    """

    names: list[str]
    opened: dict[str, "LargeImage"]


def given_images(images: Any, config: PredictConfig, without: Path) -> GivenImages:
    """Every image once.

    Args:
        images: a path, glob or folder, an open image, a list of such; or names to open images and arrays.
        without: a folder whose files are left out.
    Raises:
        ImageError: a file does not exist, a glob matches nothing, a folder holds no image.
        ConfigError: an array has no name, or two images have one.
    """
    from xt.images import LargeImage

    found: dict[str, str] = {}
    opened: dict[str, LargeImage] = {}
    for given, image in _named(images):
        if given is None and isinstance(image, str | os.PathLike):
            names, is_open = _below(os.fspath(image), config, without), False
        else:
            image = image if isinstance(image, LargeImage) else _from_array(image, given, config)
            names, is_open = [given or image.name], True
        for name in names:
            known = found.setdefault(identity(name), name)
            # A file twice is once; of two that are open, or one, nobody knows whether they are the same.
            if known in opened or (is_open and known is not name):
                raise ConfigError(
                    f"two images are called {name}: give images by name, as in {{'left': image, 'right': other}}"
                )
            if is_open:
                opened[name] = image
    return GivenImages(list(found.values()), opened)


def _from_array(image: Any, name: str | None, config: PredictConfig) -> "LargeImage":
    from xt.images.array import ArrayImage, is_tensor

    if not (hasattr(image, "__array__") or is_tensor(image)):
        raise ConfigError(
            "expected paths, open images, or names with open images or arrays, got "
            f"{type(image).__name__}{'' if name is None else f' for {name!r}'}"
        )
    if name is None:
        raise ConfigError("an array has no name for its results: give images by name, as in {'scene': array}")
    return ArrayImage(image, config.nodata, name)


def _named(images: Any) -> Iterable[tuple[str | None, Any]]:
    """Each image with the name that it was given, if any."""
    from xt.images import LargeImage

    if isinstance(images, Mapping):
        return images.items()
    is_one = isinstance(images, str | os.PathLike | LargeImage) or hasattr(images, "__array__")
    if is_one or not isinstance(images, Iterable):
        images = [images]
    return ((None, image) for image in images)


def _below(entry: str, config: PredictConfig, without: Path) -> list[str]:
    """The images that a path means; a folder of xView3 scenes gives one stack a scene instead of its files."""
    if Path(entry).is_dir() and any(next(Path(entry).rglob(name), None) for name in RADAR):
        from xt.data.xview3 import find_scenes, scene_files

        scenes = find_scenes(entry).values()
        return ["|".join(map(str, scene_files(scene, list(config.channels)))) for scene in scenes]
    return find_images([entry], without=without)
