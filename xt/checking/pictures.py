"""Small pictures of images with their labels drawn on them."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xt.checking.image_facts import Job, Looking, open_file
from xt.images import LargeImage
from xt.images.thumbnail import thumbnail
from xt.labels.targets import Target

LONGEST = 320
_NOTHING = 0.85
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


def _enlarged(seen: NDArray[np.float32]) -> Image.Image:
    """Pixels of a small image as squares, so that labels on it can be told apart."""
    picture = Image.fromarray(np.uint8(255 * np.clip(seen, 0, 1)))
    times = max(1, LONGEST // max(picture.size))
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def _with_labels(picture: Image.Image, target: Target | None, image: LargeImage, how: Looking) -> Image.Image:
    if target is None or how.task is None:
        return picture
    try:
        return how.task.draw_labels(picture, target, image, how.class_names)
    except Exception:
        return picture
