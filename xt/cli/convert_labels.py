"""`xt convert-labels LABELS OUT.json --images DIR`: Pascal VOC's and YOLO's boxes as COCO's JSON."""

import argparse
from pathlib import Path

from xt.errors import ConfigError

EXAMPLES = (
    "xt convert-labels annotations boxes.json --images photos",
    "xt convert-labels yolo boxes.json --images photos --form yolo --classes names.txt",
)
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("labels", type=Path, help="folder of Pascal VOC's XML files or of YOLO's text files")
    parser.add_argument("output", type=Path, metavar="OUT", help="the JSON file of COCO instances to write")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the images")
    parser.add_argument(
        "--form", choices=("voc", "yolo"), help="of the labels; by default what the folder has files of"
    )
    parser.add_argument(
        "--list", type=Path, metavar="FILE",
        help="text file with a name of an image a line, as of one split; all by default",
    )  # fmt: skip
    parser.add_argument(
        "--classes", type=Path, metavar="FILE",
        help="class names in the order of their numbers, one a line or as `names` of a YAML file; YOLO's need them, "
        "VOC's are sorted by default",
    )  # fmt: skip
    parser.epilog = (
        "VOC's pixels count from 1 with both ends included; what is `difficult` becomes a crowd. Boxes without area or "
        "outside of their image are reported and left out. Rotated boxes are not read. Exit status: 0 written, 2 "
        "refused."
    )


def run(arguments: argparse.Namespace) -> int:
    from xt.labels.formats.box_conversion import listed_names, read_class_names
    from xt.labels.formats.voc import read_voc
    from xt.labels.formats.yolo import read_yolo

    names = None if arguments.list is None else listed_names(arguments.list)
    classes = None if arguments.classes is None else read_class_names(arguments.classes)
    if (arguments.form or _form(arguments.labels)) == "voc":
        found = read_voc(arguments.labels, arguments.images, names=names, class_names=classes)
    elif classes is None:
        raise ConfigError(
            "YOLO's files number the classes: give their names with --classes (data.yaml, or a name a line)"
        )
    else:
        found = read_yolo(arguments.labels, arguments.images, class_names=classes, names=names)
    found.write(arguments.output)
    for sentence in found.left_out[:_SHOWN]:
        print(f"left out: {sentence}")
    if len(found.left_out) > _SHOWN:
        print(f"... and {len(found.left_out) - _SHOWN} more")
    boxes = sum(len(table) for table in found.boxes)
    cut = f", {found.cut} cut at their image's border" if found.cut else ""
    print(
        f"wrote {arguments.output}: {len(found.images)} images, {boxes} boxes of {len(found.class_names)} classes "
        f"({', '.join(found.class_names[:12])}{', ...' if len(found.class_names) > 12 else ''}), "
        f"{len(found.left_out)} left out{cut}"
    )
    return 0


def _form(folder: Path) -> str:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder of Pascal VOC's XML files or of YOLO's text files")
    has = {form: any(folder.rglob(f"*{suffix}")) for form, suffix in (("voc", ".xml"), ("yolo", ".txt"))}
    if has["voc"] == has["yolo"]:
        which = "both XML and text files" if has["voc"] else "neither XML nor text files"
        raise ConfigError(f"{folder} has {which}: say with --form whether its labels are 'voc' or 'yolo'")
    return "voc" if has["voc"] else "yolo"
