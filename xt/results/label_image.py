"""A mask as an OME-Zarr label image (version 0.4, Zarr v2, which most programs read), with all of its levels.

The folder is the label image itself: napari, QuPath and ome-zarr open it alone; put into IMAGE.ome.zarr/labels and
listed there it belongs to an image.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xt import __version__
from xt.images import open_image
from xt.images.image import LargeImage
from xt.output import atomic_folder
from xt.results.colours import class_colours
from xt.results.kept_pixels import NOTHING

_VERSION = "0.4"
_CHUNK = 512


def write_label_image(
    mask: str | os.PathLike[str], destination: str | os.PathLike[str], class_names: Sequence[str]
) -> Path:
    """Write the class numbers of a mask, 255 for nothing, with the names and colours of the classes.

    Args:
        mask: a file that `write_mask` wrote.
    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    import zarr

    with open_image(mask) as image, atomic_folder(destination) as folder:
        group = zarr.create_group(folder, zarr_format=2)
        for level, shape in enumerate(image.level_shapes):
            array = group.create_array(
                str(level),
                shape=shape,
                chunks=(min(_CHUNK, shape[0]), min(_CHUNK, shape[1])),
                dtype="uint8",
                fill_value=NOTHING,
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
            pixels = image.at_level(level)
            for y, x, height, width in _windows(*shape):
                array[y : y + height, x : x + width] = pixels.read(y, x, height, width)[..., 0]
        group.attrs.update(_described(image, Path(destination).name, class_names))
    return Path(destination)


def _windows(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    for y in range(0, height, _CHUNK):
        for x in range(0, width, _CHUNK):
            yield y, x, min(_CHUNK, height - y), min(_CHUNK, width - x)


def _described(image: LargeImage, name: str, class_names: Sequence[str]) -> dict[str, Any]:
    unit: Mapping[str, str] = {} if image.microns_per_pixel is None else {"unit": "micrometer"}
    pixel = image.microns_per_pixel or (1.0, 1.0)
    levels = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [side * factor for side in pixel]},
            ],
        }
        for level, factor in enumerate(image.levels)
    ]
    colours = enumerate(class_colours(len(class_names)))
    return {
        "multiscales": [
            {
                "version": _VERSION,
                "name": name.removesuffix(".ome.zarr"),
                "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
                "datasets": levels,
                "type": "mode",
                "metadata": {"software": f"xt {__version__}"},
            }
        ],
        "image-label": {
            "version": _VERSION,
            "colors": [
                *({"label-value": number, "rgba": [*colour, 255]} for number, colour in colours),
                {"label-value": NOTHING, "rgba": [0, 0, 0, 0]},
            ],
            "properties": [
                *({"label-value": number, "class": text} for number, text in enumerate(class_names)),
                {"label-value": NOTHING, "class": "nothing"},
            ],
        },
    }
