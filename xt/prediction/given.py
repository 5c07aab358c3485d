"""Which images are meant: by files, folders and globs, folders of xView3 scenes, or as they are."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from xt.config.predict import PredictConfig
from xt.data.feature_names import feature_files_below, is_feature_name
from xt.errors import ConfigError
from xt.images.folders import images_below
from xt.labels.formats.suffixes import TABLES
from xt.prediction.inputs import file_version, find_images, identity

if TYPE_CHECKING:
    from xt.data.sources import TableSource
    from xt.images import LargeImage

OVERLAY, LOOKED_AT = ".overlay.png", ".regions.geojson"
RADAR = ("VH_dB.tif", "VV_dB.tif")


class GivenImages(NamedTuple):
    """Images by name, in the order given.

    Attributes:
        names: paths, or what an image that is open is called; of cases their names.
        opened: those that are open already.
        cases: the paths of the images of each case, where a table says that several have one answer.
        microns: resolution of the images whose files may not say it, where a table does, by path.
    """

    names: list[str]
    opened: dict[str, "LargeImage"]
    cases: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    microns: Mapping[str, float] = MappingProxyType({})


def given_images(
    images: Any, config: PredictConfig, without: Path, like: "TableSource | None" = None
) -> GivenImages:
    """Every image once.

    Args:
        images: a path, glob or folder, a table, an open image, a list of such; or names to open images and arrays.
        like: whose columns tables have, where the configuration does not say; that of the model's training.
        without: a folder whose files are left out.
    Raises:
        ImageError: a file does not exist, a glob matches nothing, a folder holds no image.
        ConfigError: an array has no name, or two images have one.
    """
    from xt.images import LargeImage

    found: dict[str, str] = {}
    opened: dict[str, LargeImage] = {}
    cases: dict[str, tuple[str, ...]] = {}
    microns: dict[str, float] = {}
    for given, image in _named(images):
        if given is None and isinstance(image, str | os.PathLike) and _is_table(image):
            names, is_open = _of_table(os.fspath(image), config, like, cases, microns), False
        elif given is None and isinstance(image, str | os.PathLike):
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
    return GivenImages(list(found.values()), opened, cases, microns)


def _is_table(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() in TABLES and Path(path).is_file()


def _of_table(
    path: str,
    config: PredictConfig,
    like: "TableSource | None",
    cases: dict[str, tuple[str, ...]],
    microns: dict[str, float],
) -> list[str]:
    """The images that a table lists, or the cases that they are of; cases and resolutions are put down."""
    from xt.data.sources import TableSource

    usual = like or TableSource(table=path)
    source = TableSource(
        table=path,
        root=config.root,
        image_column=config.image_column or usual.image_column,
        case_column=config.case_column or usual.case_column,
        microns_column=usual.microns_column,
    )
    paths = [str(image) for image in source.image_paths()]
    sizes = source.microns() or (None,) * len(paths)
    microns.update({image: size for image, size in zip(paths, sizes, strict=True) if size is not None})
    of = source.cases()
    if of is None:
        return paths
    for name, image in zip(of, paths, strict=True):
        if name in cases and image in cases[name]:
            raise ConfigError(f"{path}: {image} stands twice in the case {name!r}")
        cases[name] = (*cases.get(name, ()), image)
    return list(dict.fromkeys(of))


def wanted_of(name: str, given: GivenImages, config: PredictConfig) -> tuple[set[str], dict[str, object]]:
    """Endings of the files that an image or a case is to have, and what makes another result of it, as JSON values."""
    settings = config.of_results
    if name in given.cases:
        files = [[path, file_version(path)] for path in given.cases[name]]
        return config.endings - {OVERLAY}, {**settings, "case": files}
    # Of features there is no picture.
    return config.endings - ({OVERLAY} if is_feature_name(name) else set()), settings


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
    if Path(entry).is_dir() and (files := feature_files_below(entry)) and not images_below(entry, without):
        return files
    return find_images([entry], without=without)
