"""A folder of features that other programs have found, one file an image, matched to a table by the files' names."""

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xt.data.feature_files import FeatureFile
from xt.data.feature_names import H5, is_feature_name
from xt.data.feature_store import FeatureStore
from xt.errors import DataWarning, ImageError, TableError
from xt.images.names import short_name
from xt.labels.image_table import ImageTable

_ZARR = ("zarr.json", ".zgroup")
# Where CLAM and TRIDENT put coordinates, seen from the folder of features.
_COORDINATES = ("h5_files/{}.h5", "patches/{}.h5", "patches/{}_patches.h5")
_NAMED = 3


class FeatureKind(NamedTuple):
    """What features are, of whatever image.

    Attributes:
        width: numbers of a patch, C.
        made_by: what found them, as their files call it; None where they do not say.
    """

    width: int
    made_by: str | None


class FeatureFolder:
    """A folder of feature files, with all its subfolders.

    Args:
        path: of the folder.

    Raises:
        TableError: there is no such folder, or no file of features in it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._files: dict[str, list[Path]] = defaultdict(list)
        for file in sorted(self.path.rglob("*")):
            if is_feature_name(file) and not file.name.startswith("."):
                self._files[file.stem].append(file)
        if not self._files:
            what = "has no files of features" if self.path.is_dir() else "is no folder"
            raise TableError(
                f"{self.path} {what}: expected .h5 or .pt files as TRIDENT, CLAM or STAMP write them, or a store of "
                "`xt encode`"
            )

    def __contains__(self, image: str | os.PathLike[str]) -> bool:
        return self._found(image) is not None

    def image(self, image: str | os.PathLike[str]) -> FeatureFile:
        """What stands for an image in `model(...)`.

        Raises:
            TableError: it has no file here, or several.
            ImageError: its file is not one of features.
        """
        found = self._found(image)
        if found is None:
            raise TableError(
                f"{image} has no features in {self.path}: a file of its name ending in .h5 or .pt"
            )
        return open_features(found, name=str(image))

    def of_table(self, table: ImageTable) -> ImageTable:
        """The images of a table that have features; the others are left out, and said by a `DataWarning`.

        Raises:
            TableError: more than half of them have none, so that something is wrong with the names.
        """
        lacking = [path for path in table.paths if path not in self]
        if not lacking:
            return table
        names = ", ".join(short_name(str(path)) for path in lacking[:_NAMED])
        have = "has" if len(lacking) == 1 else "have"
        said = (
            f"{table.source}: {len(lacking)} of {len(table)} images {have} no features in {self.path}: "
            f"{names}{', ...' if len(lacking) > _NAMED else ''}"
        )
        if 2 * len(lacking) > len(table):
            first = short_name(str(lacking[0]))
            raise TableError(
                f"{said}; files are found by the image's name, with or without its ending: {Path(first).stem}.h5 "
                f"of {first}"
            )
        warnings.warn(
            f"{said}; they are left out of training, validation and test", DataWarning, stacklevel=2
        )
        return table.subset(place for place, path in enumerate(table.paths) if path in self)

    def check_images(self, images: Sequence[str | os.PathLike[str]], source: str) -> None:
        """Refuse images whose features are not all of one kind; errors as of `kind`."""
        self.kind(images)

    def kind(self, images: Sequence[str | os.PathLike[str]]) -> FeatureKind:
        """What the features of some images are; all files are looked at, their numbers are not.

        Raises:
            ImageError: a file is not one of features, or two are of different encoders.
        """
        first: FeatureFile | None = None
        for image in images:
            found = self.image(image)
            first = first or found
            for name, ours, theirs in (
                ("numbers a patch", first.feature_shape[1], found.feature_shape[1]),
                ("the encoder", first.encoder, found.encoder),
            ):
                if ours != theirs:
                    raise ImageError(
                        f"{first.path} and {found.path} are not of one encoder: {name} {ours} and {theirs}; name "
                        "the folder of one alone (data.features)"
                    )
        assert first is not None, "a table has images"
        return FeatureKind(first.feature_shape[1], first.encoder)

    def _found(self, image: str | os.PathLike[str]) -> Path | None:
        name = short_name(os.fspath(image))
        # A name may have dots in it, and a table need not give the slide's ending; that of OME-TIFF has two parts.
        for stem in (name, Path(name).stem, Path(Path(name).stem).stem):
            files = self._files.get(stem, [])
            h5 = [file for file in files if file.suffix.lower() in H5]
            if len(h5) > 1 or (not h5 and len(files) > 1):
                raise TableError(
                    f"{self.path} has several files of features of {name}: "
                    f"{', '.join(map(str, (h5 or files)[:_NAMED]))}; name the folder of one encoder"
                )
            if files:
                # CLAM's .h5 has all that its .pt has, and the coordinates.
                return (h5 or files)[0]
        return None


def open_features(path: str | os.PathLike[str], name: str | None = None) -> FeatureFile:
    """The features in a file; of a PyTorch file with the coordinates that lie beside it as CLAM and TRIDENT put them.

    Raises:
        ImageError: it holds none, or nothing says where they lie.
    """
    path = Path(path)
    beside = None
    if path.suffix.lower() not in H5:
        places = [path.with_suffix(ending) for ending in H5]
        places += [path.parent.parent / pattern.format(path.stem) for pattern in _COORDINATES]
        beside = next((place for place in places if place.is_file()), None)
    return FeatureFile(path, beside, name)


def features_at(place: str | os.PathLike[str]) -> FeatureStore | FeatureFolder:
    """A store that `xt encode` made, or a folder of other programs' files.

    Raises:
        TableError: it is neither.
        CheckpointError: it is a store of another kind.
    """
    is_store = Path(place).suffix == ".zarr" or any((Path(place) / name).exists() for name in _ZARR)
    return FeatureStore(place) if is_store else FeatureFolder(place)
