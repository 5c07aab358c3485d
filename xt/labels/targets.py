"""What is known of every place of an image: a mask beside it, points or boxes; as files until it is needed."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xt.errors import ShapeError, TableError
from xt.images import LargeImage, MappedImage, open_image
from xt.labels.alignment import aligned
from xt.labels.box_table import BoxTable
from xt.labels.formats.point_files import PointFile
from xt.labels.labelled import ImageWithBoxes, ImageWithMask, ImageWithPoints, Labelled
from xt.labels.point_table import PointTable

_UNKNOWN = 255


class Target(ABC):
    """The labels of one image.

    Attributes:
        path: of the file they are in; None where they are in no file of their own.
        objects: what that file holds, in the plural.
        given: how many objects that file holds, of which some may lie beside the image; None where that cannot be.
    """

    path: Path | None = None
    objects: str = "points"

    @property
    def given(self) -> int | None:
        return None

    def lying(self, labels: Any) -> int:
        """How many of the objects of its file `on` has found on an image."""
        return len(labels)

    @property
    def known_objects(self) -> int | None:
        """How many objects are to be found; None where only opening the image tells."""
        return None

    @abstractmethod
    def beside(self, image: LargeImage, labels: Any, step: tuple[float, float]) -> Labelled:
        """An image with its labels, both as the model reads the image.

        Args:
            labels: as of `on`, then brought to the image's resolution.
            step: see `Labelled`.
        """

    @abstractmethod
    def on(self, image: LargeImage) -> LargeImage | PointTable | BoxTable:
        """The mask, of the image's size and opened anew, or the points or boxes in the image's pixels.

        Raises:
            ShapeError: the mask does not fit the image, see `aligned`, or has more than one channel; or the boxes are
                those of an image of another size.
            TableError: a point lies outside of the image, or a mask's value for nodata is that of a class.
        """


class Mask(Target):
    """A class for each pixel.

    Attributes:
        holds_numbers: whether its file holds class numbers as they are.
    """

    objects = "polygons"
    holds_numbers = False

    def beside(self, image: LargeImage, labels: Any, step: tuple[float, float]) -> ImageWithMask:
        return ImageWithMask(image, labels, step)


class Points(Target):
    """Points in an image."""

    def beside(self, image: LargeImage, labels: Any, step: tuple[float, float]) -> ImageWithPoints:
        return ImageWithPoints(image, labels, step)


class MaskTarget(Mask):
    """An image of class numbers beside an image.

    Args:
        values: of the file's pixels, the one of each class in the classes' order; None where they are class numbers.
        nodata: of pixels that nothing is said about, for files that do not say so.
        class_names: in the order of the class numbers.
    """

    def __init__(
        self,
        path: Path,
        values: Sequence[int] | None = None,
        nodata: float | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        self.path: Path = path
        self.values = values
        self.nodata = nodata
        self.class_names = tuple(class_names)
        self.holds_numbers = values is None

    def on(self, image: LargeImage) -> LargeImage:
        file = open_image(self.path, nodata=self.nodata)
        try:
            self._check(file)
            mask = aligned(file, image)
        except BaseException:
            file.close()
            raise
        return mask if self.values is None else ClassNumbers(mask, self.values)

    def _check(self, mask: LargeImage) -> None:
        if mask.channels != 1:
            raise ShapeError(
                f"{self.path} has {mask.channels} channels; a mask has one, which holds class numbers: turn colours "
                "into numbers first, one for each class"
            )
        values = range(len(self.class_names)) if self.values is None else self.values
        of_class = dict(zip(values, self.class_names, strict=False))
        # As programs write it that take the background for nothing: of that class nothing would ever be learned.
        if self.nodata is None and mask.nodata in of_class:
            nodata = int(mask.nodata)
            raise TableError(
                f"{self.path} says that nothing is known where it is {nodata}, which is the class "
                f"{of_class[nodata]!r}: set labels.mask_nodata to a value that no class has, such as 255, or to "
                f"{nodata} if that is meant"
            )


class PointTarget(Points):
    """The points of a file."""

    def __init__(self, file: PointFile, class_names: Sequence[str]) -> None:
        self.path: Path = Path(file.source)
        self.file = file
        self.class_names = tuple(class_names)

    @property
    def given(self) -> int:
        return len(self.file.y)

    def on(self, image: LargeImage) -> PointTable:
        return self.file.on(image, self.class_names)


class KnownPoints(Points):
    """Points in pixels that are in memory already.

    Args:
        source: what they came from, for messages.
    """

    def __init__(self, points: PointTable, source: str) -> None:
        self.points = points
        self.source = source

    def on(self, image: LargeImage) -> PointTable:
        inside = self.points.within(0, 0, *image.shape)
        if len(inside) < len(self.points):
            raise ShapeError(
                f"{self.source} has {len(self.points) - len(inside)} points outside of {image.name}, which is "
                f"{image.shape[0]} x {image.shape[1]} pixels"
            )
        return inside


class Boxes(Target):
    """Boxes of an image.

    Attributes:
        image_id: the image's number in files of results.
        category_ids: those of the classes, in their order.
    """

    objects = "polygons"
    image_id: int | str
    category_ids: tuple[int | str, ...]

    def beside(self, image: LargeImage, labels: Any, step: tuple[float, float]) -> ImageWithBoxes:
        return ImageWithBoxes(image, labels, step)

    @abstractmethod
    def on(self, image: LargeImage) -> BoxTable: ...


class BoxTarget(Boxes):
    """The boxes of an image that a file of COCO instances lists.

    Args:
        path: of that file, for messages.
        shape: of the image as the file has it; None where it does not say.
        image_id: the image's number in the file.
        category_ids: the numbers of the classes in the file, in the classes' order.
    """

    def __init__(
        self,
        boxes: BoxTable,
        path: Path,
        shape: tuple[int, int] | None,
        image_id: int | str,
        category_ids: Sequence[int | str],
    ) -> None:
        self.path: Path = path
        self.boxes = boxes
        self.shape = shape
        self.image_id = image_id
        self.category_ids = tuple(category_ids)

    @property
    def known_objects(self) -> int:
        return int((~self.boxes.crowd).sum())

    def on(self, image: LargeImage) -> BoxTable:
        if self.shape is not None and tuple(self.shape) != image.shape:
            raise ShapeError(self._sizes_differ(image, self.shape))
        return self.boxes

    def _sizes_differ(self, image: LargeImage, shape: tuple[int, int]) -> str:
        said = f"{self.path} lists {image.name} as {shape[0]} x {shape[1]} pixels (height x width)"
        size = f"{image.shape[0]} x {image.shape[1]}"
        if image.orientation > 4 and tuple(shape) == image.shape[::-1]:
            return (
                f"{said}, as its pixels are stored, but the orientation tag in the file ({image.orientation}) turns "
                f"them to {size}, and so it is read: boxes drawn on the stored pixels would lie in the wrong place; "
                "draw them on the upright picture, or take the tag out of the file"
            )
        return f"{said}, the file has {size}: its boxes would lie in the wrong place"


class ClassNumbers(MappedImage):
    """A mask whose pixel values stand for classes, as one of class numbers.

    Args:
        values: that of each class, in order; at most 255 of them.
    """

    def __init__(self, image: LargeImage, values: Sequence[int]) -> None:
        super().__init__(image, channels=1, dtype=np.dtype(np.uint8), nodata=_UNKNOWN)
        self._values = np.asarray(values)
        order = np.argsort(values)
        self._sorted, self._numbers = self._values[order], order.astype(np.uint8)

    @property
    def has_nodata(self) -> bool:
        return True

    def map_pixels(self, pixels: np.ndarray) -> NDArray[np.uint8]:
        places = np.searchsorted(self._sorted, pixels).clip(max=len(self._sorted) - 1)
        return self._numbers[places]

    def _read(self, y: int, x: int, height: int, width: int, level: int) -> NDArray[np.uint8]:
        # What holds nothing may have any value.
        return self._read_valid(y, x, height, width, level)[0]

    def _read_valid(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        pixels, valid = self.image._read_level_valid(y, x, height, width, level)
        numbers = self.map_pixels(pixels)
        wrong = valid & (self._values[numbers] != pixels)
        if wrong.any():
            raise ShapeError(
                f"{self.name} holds the value {pixels[wrong][0]} near y={y}, x={x}; labels.mask_values are "
                f"{', '.join(map(str, self._sorted))}, and labels.mask_nodata says what is not known"
            )
        return np.where(valid, numbers, np.uint8(_UNKNOWN)), valid
