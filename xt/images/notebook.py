"""How images, grids and answers show themselves in a notebook: small static HTML, in which names are text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xt.images.thumbnail import thumbnail

if TYPE_CHECKING:
    from xt.images.image import LargeImage

# Pixels of a picture's longer side.
LONGEST = 320
# A notebook shows an image at once: none is read through for that.
_MOST_PIXELS = 16_000_000
_CARD = "display: flex; gap: 16px; align-items: flex-start; font: 13px system-ui, sans-serif; flex-wrap: wrap"
_NAME = "color: #6b7478; text-align: left; padding: 2px 12px 2px 0; vertical-align: top; font-weight: normal"
_SAID = "text-align: left; padding: 2px 0; overflow-wrap: anywhere"


def card(title: str, rows: Iterable[tuple[str, str]], picture: str = "") -> str:
    """A title, names with what is said of them, and a picture beside, all of which but the picture is text."""
    said = "".join(
        f'<tr><th style="{_NAME}">{escape(name)}</th><td style="{_SAID}">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<div style="{_CARD}">{picture}<div><b>{escape(title)}</b><table>{said}</table></div></div>'


def picture(colours: NDArray[np.uint8], *, pixelated: bool = False) -> str:
    """An <img> with its pixels inside.

    Args:
        colours: (height, width) grey, or with 3 or 4 channels.
        pixelated: show each pixel as a square, `LONGEST` pixels a side together.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    height, width = colours.shape[:2]
    scale = LONGEST / max(height, width) if pixelated else 1
    style = f"width: {width * scale:.0f}px; height: {height * scale:.0f}px; border-radius: 4px; background: #ecebe7"
    squares = "; image-rendering: pixelated" if pixelated else ""
    return f'<img alt="" style="{style}{squares}" src="data:image/png;base64,{data}">'


def file_picture(path: Path, longest: int = 2 * LONGEST) -> str:
    """A picture's file, made smaller; nothing where there is none."""
    from PIL import Image

    if not path.is_file():
        return ""
    with Image.open(path) as file:
        small = file.convert("RGB")
        small.thumbnail((longest, longest))
        return picture(np.asarray(small))


def image_html(image: LargeImage) -> str:
    """What an image is, with a small picture where its file has a level that one is quickly made from."""
    height, width = image.shape
    rows = [
        ("size", f"{height:,} x {width:,} pixels (height x width)"),
        ("channels", f"{image.channels} of {image.dtype}"),
        ("levels", ", ".join(f"1 : {factor:g}" for factor in image.levels)),
    ]
    if image.channel_names is not None:
        rows.append(("channel names", ", ".join(image.channel_names[:12])))
    if image.microns_per_pixel is not None:
        rows.append(("microns per pixel", " x ".join(f"{size:.4g}" for size in image.microns_per_pixel)))
    if image.crs is not None:
        rows.append(("crs", image.crs if len(image.crs) <= 80 else f"{image.crs[:77]}..."))
    if not image.closed and _pixels_to_read(image) <= _MOST_PIXELS:
        small = thumbnail(image, LONGEST)
        there = np.isfinite(small).all(axis=-1)
        shades = np.rint(255 * np.nan_to_num(small)).astype(np.uint8)
        return card(image.name, rows, picture(np.dstack([shades, np.where(there, 255, 0).astype(np.uint8)])))
    return card(
        image.name, [*rows, ("picture", "needs lower levels: xt tile writes them, xt.view shows it all")]
    )


def _pixels_to_read(image: Any) -> int:
    """Of the lowest level that is large enough for a picture."""
    large_enough = [shape for shape in image.level_shapes if max(shape) >= LONGEST]
    return min((math.prod(shape) for shape in large_enough), default=0)
