"""Small pictures for the report: grey scenes, relevance laid over them, all as PNG inside the page."""

import base64
import io

import numpy as np
from PIL import Image

from xt.demo.scenes import Drawable

# Dark red to pale yellow: stands out on dark scenes, and its brightness alone tells the order.
_HEAT = np.array([(90, 16, 30), (190, 40, 30), (245, 124, 32), (255, 200, 70), (255, 246, 190)], np.float32)


def data_uri(pixels: np.ndarray) -> str:
    """(h, w) or (h, w, 3) uint8 as a PNG that needs no file."""
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def brightened(pixels: np.ndarray) -> np.ndarray:
    """Scenes are dark; a gamma makes their ground and clutter visible on a screen."""
    return (255 * (pixels / 255) ** 0.7).astype(np.uint8)


def stretched(pixels: np.ndarray) -> np.ndarray:
    """A scene averaged down is darker still: its brightest spots become white."""
    return np.clip(pixels * (220 / max(float(np.percentile(pixels, 99.5)), 1)), 0, 255).astype(np.uint8)


def enlarged(values: np.ndarray, height: int, width: int, cell: float) -> np.ndarray:
    """A map of square cells, each `cell` pixels a side, as (height, width); cells beyond the edge are cut off."""
    rows = (np.arange(height) / cell).astype(int)
    columns = (np.arange(width) / cell).astype(int)
    return values[rows][:, columns]


def with_relevance(pixels: np.ndarray, relevance: np.ndarray, cell: float) -> np.ndarray:
    """The scene, dimmed, under each token's relevance in colour.

    Args:
        pixels: (h, w) uint8.
        relevance: (rows, columns), at least 0; the highest gets the brightest colour.
        cell: side of one relevance value in pixels of `pixels`.
    """
    share = np.nan_to_num(enlarged(relevance, pixels.shape[0], pixels.shape[1], cell))
    share = np.sqrt(share / max(float(share.max()), 1e-12))[..., None]
    place = share[..., 0] * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    colour = _HEAT[low] + (place - low)[..., None] * (_HEAT[low + 1] - _HEAT[low])
    grey = brightened(pixels).astype(np.float32)[..., None]
    # Ink stays visible inside the brightest cells: the colour tints the ground and leaves the strokes white.
    tinted = colour * 0.75 * share + grey * (0.55 + 0.45 * share)
    return np.clip(tinted, 0, 255).astype(np.uint8)


def reduced_by_maximum(values: np.ndarray, factor: int) -> np.ndarray:
    """The largest value of each block of factor x factor cells, so that one bright token stays visible from afar."""
    rows, columns = -(-values.shape[0] // factor), -(-values.shape[1] // factor)
    padded = np.zeros((rows * factor, columns * factor), values.dtype)
    padded[: values.shape[0], : values.shape[1]] = np.nan_to_num(values)
    return padded.reshape(rows, factor, columns, factor).max((1, 3))


def reduced_by_mean(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Averaged down to (height, width), as down-sampling does."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def reduced_by_rows(scene: Drawable, longest: int) -> np.ndarray:
    """A scene averaged down by a whole factor to at most `longest` pixels a side, drawn a band of rows at a time."""
    factor = -(-max(scene.height, scene.width) // longest)
    rows, columns = scene.height // factor, scene.width // factor
    small = np.empty((rows, columns), np.uint8)
    # Several rows of the small picture at once, as drawing looks through everything that lies in a band.
    for first in range(0, rows, 16):
        count = min(16, rows - first)
        band = scene.read(first * factor, 0, count * factor, columns * factor)
        small[first : first + count] = band.reshape(count, factor, columns, factor).mean((1, 3))
    return small
