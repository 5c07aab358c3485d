"""From other forms of box labels to COCO's: what the readers of those forms share."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xt.errors import TableError
from xt.images.folders import images_below
from xt.images.names import stem
from xt.images.suffixes import is_image_name
from xt.labels.box_table import BoxTable
from xt.labels.formats.coco_entries import CocoImage
from xt.labels.formats.coco_writing import write_instances
from xt.labels.formats.columns import class_name
from xt.labels.formats.text_files import read_text, read_yaml_texts
from xt.labels.image_table import class_indices, names_of_labels

# Beyond its image by more than this, in pixels, is no rounding.
_ROUNDING = 0.5
# Of two endings, as in "a.ome.tif".
_OME = ".ome"


class LabelledBox(NamedTuple):
    """A box as a file has it: half-open edges in pixels, y0, x0, y1, x1."""

    name: str
    edges: tuple[float, float, float, float]
    crowd: bool = False


class LabelledImage(NamedTuple):
    """An image with the boxes of a file.

    Attributes:
        file_name: relative to the folder of images.
        shape: (height, width).
        source: the file of the boxes, for messages.
    """

    file_name: str
    shape: tuple[int, int]
    boxes: Sequence[LabelledBox]
    source: str


@dataclass(frozen=True)
class Conversion:
    """What came of files of boxes.

    Attributes:
        left_out: a sentence for each box that is none, and for each file without an image.
        cut: how many boxes reached beyond their image and were cut at its border.
    """

    images: tuple[CocoImage, ...]
    boxes: tuple[BoxTable, ...]
    class_names: tuple[str, ...]
    left_out: tuple[str, ...]
    cut: int

    def write(self, path: str | Path) -> None:
        """Write all as a file of COCO instances; images, boxes and categories are numbered from 1."""
        write_instances(path, self.images, self.boxes, self.class_names)


def together(images: Sequence[LabelledImage], class_names: Sequence[str] | None = None) -> Conversion:
    """Images with their boxes checked: those without area, or outside of their image, are left out and reported.

    Args:
        class_names: in the order of the numbers; without them those that occur, sorted.
    Raises:
        TableError: there are no images, or a box is of another class.
    """
    if not images:
        raise TableError("there are no images to convert: check the folders and the list")
    names = names_of_labels((box.name for image in images for box in image.boxes), class_names)
    left_out: list[str] = []
    tables = []
    cut = 0
    for image in images:
        kept = []
        for box in image.boxes:
            if (wrong := _what_is_wrong(box, image.shape)) is None:
                kept.append(box)
            else:
                y0, x0, y1, x1 = box.edges
                left_out.append(f"{image.source}: {box.name} y={y0:g} to {y1:g}, x={x0:g} to {x1:g} {wrong}")
        edges = np.array([box.edges for box in kept], np.float64).reshape(-1, 4)
        labels = class_indices([box.name for box in kept], names, image.source)
        table = BoxTable.of(edges, labels, crowd=[box.crowd for box in kept])
        clipped = table.clipped(*image.shape)
        cut += int((np.abs(clipped.edges - table.edges) > _ROUNDING).any(axis=1).sum())
        tables.append(BoxTable.of(clipped.edges, clipped.labels, crowd=clipped.crowd))
    listed = [CocoImage(number, image.file_name, image.shape) for number, image in enumerate(images, start=1)]
    return Conversion(tuple(listed), tuple(tables), names, tuple(left_out), cut)


def listed_names(path: str | Path) -> tuple[str, ...]:
    """The images of a list, a line each: names, file names or paths; folders and endings are left off.

    What Pascal VOC's lists of one class have behind the name (1, 0 or -1) is left off as well.

    Raises:
        TableError: there is no such file, nothing is in it, or a name is in it twice.
    """
    text = read_text(path, "text file with a name of an image a line")
    lines = [line.strip().rstrip(",;").rstrip() for line in text.splitlines() if line.strip()]
    words = [line.rsplit(maxsplit=1) for line in lines]
    names = [
        word[0] if len(word) == 2 and word[1] in ("1", "0", "-1") else line
        for word, line in zip(words, lines, strict=True)
    ]
    stems = [stem_of(name) for name in names]
    if not stems:
        raise TableError(f"{path} is empty; expected a name of an image a line")
    twice = [stem for stem in dict.fromkeys(stems) if stems.count(stem) > 1]
    if twice:
        raise TableError(f"{path} lists {twice[0]} twice")
    return tuple(stems)


def stem_of(name: str) -> str:
    """A file's name without folders and ending; only endings of images and labels count as such."""
    file = Path(name.replace("\\", "/"))
    ends = is_image_name(file) or file.suffix.lower() in (".xml", ".txt")
    return (file.stem if ends else file.name).removesuffix(_OME)


def images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """The images below a folder by name without ending, sorted; "a.ome.tif" is called "a".

    Raises:
        TableError: there are none.
    """
    found: dict[str, list[Path]] = {}
    for image in images_below(folder) if folder.is_dir() else ():
        found.setdefault(stem(image).removesuffix(_OME), []).append(Path(image))
    if not found:
        raise TableError(f"{folder} holds no images (.tif, .png, .jpg, .svs ...)")
    return found


def files_by_stem(folder: Path, suffixes: Collection[str], what: str) -> dict[str, list[Path]]:
    """The files below a folder that end so, by name without ending, sorted.

    Raises:
        TableError: there are none.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            found.setdefault(path.stem.removesuffix(_OME), []).append(path)
    if not found:
        raise TableError(f"{folder} holds no {what} ({', '.join(sorted(suffixes)[:6])})")
    return found


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Class names in the order of their numbers: a text file with a name a line, or a YAML file with `names`.

    Words are names, also those of which YAML makes something else: `names: [no, yes]` are no and yes.

    Raises:
        TableError: there is no such file, or there are no names in it, or a number has none.
    """
    path = Path(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        names = _names_in_yaml(path)
    else:
        lines = read_text(path, "text file of class names").rstrip().splitlines()
        names = [class_name(line.strip().rstrip(",;")) for line in lines]
        if len(names) == 1 and any(mark in names[0] for mark in ",;\t"):
            raise TableError(
                f"{path}: expected a class name a line, got one line of several, {names[0][:60]!r}"
            )
    if "" in names:
        raise TableError(
            f"{path} names no class in place {names.index('')} (counted from 0), and places are the classes' numbers: "
            "take the empty line out, or give it a name"
        )
    if not names or len(set(names)) < len(names):
        raise TableError(f"{path}: expected class names that differ from each other, got {names[:12]}")
    return tuple(names)


def _names_in_yaml(path: Path) -> list[str]:
    content = read_yaml_texts(path, "YAML file with `names`")
    listed = content.get("names") if isinstance(content, dict) else None
    if isinstance(listed, dict):
        # YOLO also has them by number.
        missing = [number for number in range(len(listed)) if str(number) not in listed]
        if missing:
            raise TableError(f"{path}: `names` has {len(listed)} classes and none of the number {missing[0]}")
        listed = [listed[str(number)] for number in range(len(listed))]
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise TableError(f"{path}: expected class names as `names`, a list or numbers with a name each")
    told = str(content.get("nc", len(listed))).strip()
    if told != str(len(listed)):
        raise TableError(f"{path} says that there are {told} classes (nc), and has {len(listed)} names")
    return [class_name(name) for name in listed]


def _what_is_wrong(box: LabelledBox, shape: tuple[int, int]) -> str | None:
    y0, x0, y1, x1 = box.edges
    if not np.isfinite(box.edges).all():
        return "is not a number"
    if y1 <= y0 or x1 <= x0:
        return "has no area"
    if y1 <= 0 or x1 <= 0 or y0 >= shape[0] or x0 >= shape[1]:
        return f"lies outside of the image of {shape[0]} x {shape[1]} pixels"
    return None
