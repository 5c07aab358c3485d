"""Labels drawn on small pictures of their images."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from xt.images import LargeImage
from xt.images.foreground import low_resolution
from xt.labels.box_table import BoxTable
from xt.labels.point_table import PointTable
from xt.results.colours import class_colours, point_colours

_LONGEST = 320
_OPACITY = 0.5
# More would hide the image.
_MOST_DRAWN = 2000


def with_mask(picture: Image.Image, mask: LargeImage, class_names: Sequence[str]) -> Image.Image:
    """Class 0 is left clear, so that the image is seen."""
    classes = low_resolution(mask, _LONGEST, lambda pixels: pixels[..., 0], pick=True)
    known = low_resolution(
        mask,
        _LONGEST,
        lambda pixels: pixels[..., 0],
        pick=True,
        read=lambda view, *place: view.read_valid(*place)[1],
    )
    shown = known & (classes > 0) & (classes < len(class_names))
    colours = np.array(class_colours(max(len(class_names), 2)), np.uint8)
    layer = np.zeros((*classes.shape, 4), np.uint8)
    layer[shown, :3] = colours[classes[shown].astype(int)]
    layer[shown, 3] = round(255 * _OPACITY)
    over = Image.fromarray(layer, "RGBA").resize(picture.size, Image.Resampling.NEAREST)
    return Image.alpha_composite(picture.convert("RGBA"), over).convert("RGB")


def with_points(
    picture: Image.Image, points: PointTable, shape: tuple[int, int], class_names: Sequence[str]
) -> Image.Image:
    draw, colours = ImageDraw.Draw(picture), point_colours(len(class_names))
    for y, x, label in list(zip(points.y, points.x, points.labels, strict=True))[:_MOST_DRAWN]:
        middle_y, middle_x = y * picture.height / shape[0], x * picture.width / shape[1]
        circle = (middle_x - 4, middle_y - 4, middle_x + 4, middle_y + 4)
        draw.ellipse(circle, outline=colours[label], width=2)
    return picture


def with_boxes(
    picture: Image.Image, boxes: BoxTable, shape: tuple[int, int], class_names: Sequence[str]
) -> Image.Image:
    draw, colours = ImageDraw.Draw(picture), point_colours(len(class_names))
    scale = np.array([picture.height / shape[0], picture.width / shape[1]] * 2)
    for edges, label in list(zip(boxes.edges * scale, boxes.labels, strict=True))[:_MOST_DRAWN]:
        y0, x0, y1, x1 = edges.tolist()
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colours[label], width=2)
    return picture
