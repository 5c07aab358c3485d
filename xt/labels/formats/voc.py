"""Pascal VOC's boxes: an XML file an image.

Its pixels are numbered from 1 and a box includes both ends, as the challenge's development kit says: xmin 1 and xmax
640 are all columns of an image of 640, which here are 0 to 640. A box whose ends are equal has no area, as programs
write it where somebody clicked without dragging. What is marked `difficult` becomes a crowd: as in the challenge's own
evaluation, neither missed nor wrong. Source: the VOC2012 development kit, section 5 (annotations).
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
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
from xt.labels.formats.coco_entries import box_around, number
from xt.labels.formats.columns import class_name, in_words


def read_voc(
    annotations: str | Path,
    images: str | Path,
    *,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> Conversion:
    """The boxes of a folder of XML files.

    Args:
        images: the folder of the images that the files name.
        names: of the images wanted, without ending, in this order; all by default.
        class_names: in the order of their numbers; without them all names in the folder, sorted, so that several lists
            of one folder give the same numbers.
    Raises:
        TableError: a file or its image is missing, or a file is of another form.
    """
    folder = Path(images)
    found = files_by_stem(Path(annotations), (".xml",), "XML files")
    for stem, paths in found.items():
        if len(paths) > 1:
            raise TableError(f"{paths[0]} and {paths[1]} are both about {stem}; convert one folder at a time")
    missing = [name for name in names or () if name not in found]
    if missing:
        raise TableError(
            f"{annotations} has no {missing[0]}.xml, which the list names ({len(missing)} of {len(names or ())} are "
            "missing)"
        )
    # All of them, for the classes.
    read = {stem: _read(paths[0]) for stem, paths in found.items()}
    if class_names is None:
        class_names = sorted({box.name for _, _, boxes in read.values() for box in boxes})
    there = images_by_stem(folder)
    labelled = []
    for stem in names or read:
        file_name, shape, boxes = read[stem]
        path = _image_of(found[stem][0], file_name, there.get(stem, []), folder)
        relative = path.relative_to(folder).as_posix()
        labelled.append(LabelledImage(relative, shape or _shape(path), boxes, found[stem][0].name))
    return together(labelled, class_names)


def _read(path: Path) -> tuple[str, tuple[int, int] | None, list[LabelledBox]]:
    """The image's name, its size if the file says, and the boxes."""
    try:
        root = ElementTree.parse(path).getroot()
        size = root.find("size")
        height, width = (0, 0) if size is None else (_side(size, name) for name in ("height", "width"))
        boxes = [_box(entry) for entry in root.findall("object")]
        file_name = (root.findtext("filename") or "").strip().replace("\\", "/")
    except (OSError, ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise TableError(f"{path} is not an annotation of Pascal VOC ({error})") from None
    return file_name, (height, width) if min(height, width) > 0 else None, boxes


def _box(entry: ElementTree.Element) -> LabelledBox:
    box = entry.find("bndbox")
    if box is None:
        raise ValueError("an object has no bndbox")
    x0, y0, x1, y1 = (float(_text(box, name)) for name in ("xmin", "ymin", "xmax", "ymax"))
    # One that has no area in the file has none here.
    edges = (y0 - 1, x0 - 1, y1 if y1 > y0 else y1 - 1, x1 if x1 > x0 else x1 - 1)
    turned = [
        each.findtext("value") for each in entry.iter("attribute") if each.findtext("name") == "rotation"
    ]
    if turned and (degrees := number((turned[0] or "0").strip())):
        # CVAT's, about the middle of the box.
        x, y, width, height = box_around(
            (edges[1], edges[0], edges[3] - edges[1], edges[2] - edges[0]), degrees
        )
        edges = (y, x, y + height, x + width)
    difficult = in_words(entry.findtext("difficult"))
    if difficult is None:
        raise ValueError(f"an object is difficult: {entry.findtext('difficult')!r}, which is neither 1 nor 0")
    return LabelledBox(class_name(_text(entry, "name")), edges, difficult)


def _side(size: ElementTree.Element, name: str) -> int:
    """Of the image in pixels; 0 where the file does not say, as other programs have -1."""
    text = (size.findtext(name) or "").strip() or "0"
    if not float(text).is_integer():
        raise ValueError(f"the {name} is {text}")
    return int(float(text))


def _text(entry: ElementTree.Element, name: str) -> str:
    text = (entry.findtext(name) or "").strip()
    if not text:
        raise ValueError(f"a {entry.tag} has no {name}")
    return text


def _image_of(source: Path, file_name: str, same_stem: list[Path], folder: Path) -> Path:
    if file_name and (folder / file_name).is_file():
        return folder / file_name
    if len(same_stem) == 1:
        return same_stem[0]
    which = f"{len(same_stem)} images of that name" if same_stem else "none of that name"
    raise TableError(f"{source} is about {file_name or source.stem}, but {folder} has {which}")


def _shape(path: Path) -> tuple[int, int]:
    with open_image(path) as image:
        return image.shape
