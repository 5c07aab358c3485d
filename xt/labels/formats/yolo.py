"""YOLO's boxes: a text file an image, a line a box, in shares of the image's width and height.

    class x_centre y_centre width height

An image without a text file, or with an empty one, has no objects. A text file without an image is reported.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xt.errors import TableError
from xt.images import open_image
from xt.labels.formats.box_conversion import (
    Conversion,
    LabelledBox,
    LabelledImage,
    files_by_stem,
    images_by_stem,
    together,
)
from xt.labels.formats.text_files import read_text

# Shares may lie beyond 0 and 1 by what writers round.
_ROUNDING = 1e-3
_NUMBERS = 5
# The classes' names, which labelling programs put beside the labels.
_NAMES = "classes"


def read_yolo(
    labels: str | Path,
    images: str | Path,
    *,
    class_names: Sequence[str],
    names: Sequence[str] | None = None,
) -> Conversion:
    """The boxes of a folder of text files.

    Args:
        images: the folder of the images, which are opened for their sizes.
        class_names: in the order of the numbers in the files.
        names: of the images wanted, without ending, in this order; all of the folder by default.
    Raises:
        TableError: an image is missing or there are two of its name, a class is not among the names, or a line is of
            another form.
    """
    folder = Path(images)
    there = images_by_stem(folder)
    texts = files_by_stem(Path(labels), (".txt",), "text files")
    labelled = []
    for name in names or there:
        if len(there.get(name, [])) != 1:
            raise TableError(f"{folder} must have one image {name}, it has {len(there.get(name, []))}")
        path = there[name][0]
        with open_image(path) as image:
            shape = image.shape
        file = texts.get(name, [])
        if len(file) > 1:
            raise TableError(f"{file[0]} and {file[1]} are both about {name}; convert one folder at a time")
        boxes = _read(file[0], shape, class_names) if file else []
        source = file[0].name if file else path.name
        labelled.append(LabelledImage(path.relative_to(folder).as_posix(), shape, boxes, source))
    lost = [
        f"{files[0].name}: {folder} has no image of this name"
        for stem, files in texts.items()
        if names is None and stem not in there and stem != _NAMES
    ]
    found = together(labelled, class_names)
    return replace(found, left_out=(*lost, *found.left_out))


def _class_number(word: str) -> int:
    """Of 3 or, as arrays are written, 3.0."""
    if not float(word).is_integer():
        raise ValueError(word)
    return int(float(word))


def _read(path: Path, shape: tuple[int, int], class_names: Sequence[str]) -> list[LabelledBox]:
    boxes = []
    for number, line in enumerate(read_text(path, "text file of labels").splitlines(), start=1):
        # A comma at a row's end, or between all of its numbers.
        words = (
            line.replace(",", " ").split()
            if line.count(",") >= _NUMBERS - 1
            else line.rstrip(",; \t").split()
        )
        if not words:
            continue
        try:
            label, (x, y, width, height) = _class_number(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            raise TableError(
                f"{path}, line {number}: expected a class number and four shares (x and y of the centre, width, "
                f"height), got {line.strip()[:60]!r}; outlines, rotated boxes and scores are not read"
            ) from None
        if not all(-_ROUNDING <= value <= 1 + _ROUNDING for value in (x, y, width, height)):
            raise TableError(
                f"{path}, line {number}: expected shares of the image's size, between 0 and 1, got "
                f"{line.strip()[:60]!r}"
            )
        if not 0 <= label < len(class_names):
            raise TableError(
                f"{path}, line {number}: the class number is {label}, there are {len(class_names)} names, from 0 on"
            )
        middle_y, middle_x = y * shape[0], x * shape[1]
        half_y, half_x = height * shape[0] / 2, width * shape[1] / 2
        edges = (middle_y - half_y, middle_x - half_x, middle_y + half_y, middle_x + half_x)
        boxes.append(LabelledBox(class_names[label], edges))
    return boxes
