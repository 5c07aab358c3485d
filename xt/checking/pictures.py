"""Small pictures of images with their labels drawn on them."""

import io
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from xt.checking.image_facts import Job, Looking, open_file
from xt.images import LargeImage
from xt.images.foreground import low_resolution
from xt.labels.box_table import BoxTable
from xt.labels.point_table import PointTable
from xt.labels.targets import Target
from xt.results.colours import Colour, class_colours, point_colours
from xt.results.thumbnail import thumbnail

LONGEST = 320
_OPACITY = 0.5
_NOTHING = 0.85
# More would hide the image.
_MOST_DRAWN = 2000
_QUALITY = 80


def picture_of(job: Job, how: Looking) -> bytes | None:
    """A JPEG of the image with its mask, points or boxes on it; None of an image that cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with open_file(job, how.reading) as image:
                seen = thumbnail(image, LONGEST)
                seen = np.where(np.isfinite(seen).all(axis=-1, keepdims=True), seen, _NOTHING)
                drawn = _with_labels(_enlarged(seen), job.target, image, how)
        except Exception:
            # Why, the check says.
            return None
    jpeg = io.BytesIO()
    drawn.save(jpeg, "JPEG", quality=_QUALITY)
    return jpeg.getvalue()


def no_picture(job: Job) -> None:
    """Of an image whose reading ends the process."""


def colours_of(kind: str, num_classes: int) -> list[Colour]:
    """In which the classes are drawn."""
    return class_colours(num_classes) if kind == "mask" else point_colours(num_classes)


def _enlarged(seen: NDArray[np.float32]) -> Image.Image:
    """Pixels of a small image as squares, so that labels on it can be told apart."""
    picture = Image.fromarray(np.uint8(255 * np.clip(seen, 0, 1)))
    times = max(1, LONGEST // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def _with_labels(picture: Image.Image, target: Target | None, image: LargeImage, how: Looking) -> Image.Image:
    if target is None:
        return picture
    try:
        labels = target.on(image)
        if isinstance(labels, LargeImage):
            with labels as mask:
                return _with_mask(picture, mask, how.class_names)
        if isinstance(labels, PointTable):
            return _with_points(picture, labels, image.shape, how.class_names)
        return _with_boxes(picture, labels, image.shape, how.class_names)
    except Exception:
        return picture


def _with_mask(picture: Image.Image, mask: LargeImage, class_names: Sequence[str]) -> Image.Image:
    """Class 0 is left clear, so that the image is seen."""
    classes = low_resolution(mask, LONGEST, lambda pixels: pixels[..., 0], pick=True)
    known = low_resolution(
        mask,
        LONGEST,
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


def _with_points(
    picture: Image.Image, points: PointTable, shape: tuple[int, int], class_names: Sequence[str]
) -> Image.Image:
    draw, colours = ImageDraw.Draw(picture), point_colours(len(class_names))
    for y, x, label in list(zip(points.y, points.x, points.labels, strict=True))[:_MOST_DRAWN]:
        middle_y, middle_x = y * picture.height / shape[0], x * picture.width / shape[1]
        circle = (middle_x - 4, middle_y - 4, middle_x + 4, middle_y + 4)
        draw.ellipse(circle, outline=colours[label], width=2)
    return picture


def _with_boxes(
    picture: Image.Image, boxes: BoxTable, shape: tuple[int, int], class_names: Sequence[str]
) -> Image.Image:
    draw, colours = ImageDraw.Draw(picture), point_colours(len(class_names))
    scale = np.array([picture.height / shape[0], picture.width / shape[1]] * 2)
    for edges, label in list(zip(boxes.edges * scale, boxes.labels, strict=True))[:_MOST_DRAWN]:
        y0, x0, y1, x1 = edges.tolist()
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colours[label], width=2)
    return picture
