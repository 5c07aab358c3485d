"""Pictures of nuclei: the image in blue, as such stains are seen, and their outlines in amber."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xt.images import LargeImage
from xt.output import write_atomically

# Drawn twice as large and averaged, so that lines are smooth.
_FINE = 2
_AMBER, _WHITE, _BACKGROUND = (255, 176, 46), (255, 255, 255), (16, 18, 24)
_LINE, _GAP = 2.0, 16
# From black over the blue of the dye to nearly white.
_STOPS = np.array([(4, 6, 14), (28, 52, 128), (88, 132, 214), (206, 226, 255)], np.float32)
_BLUES = np.stack([np.interp(np.linspace(0, 3, 256), range(4), stops) for stops in _STOPS.T], axis=1).astype(
    np.uint8
)


@dataclass(frozen=True)
class Outlines:
    """Nuclei as their file has them.

    Attributes:
        rings: for each nucleus its outer ring and holes, (n, 2) corners each as (x, y) in pixels of the image.
        areas: in pixels.
    """

    rings: list[list[np.ndarray]]
    areas: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "Outlines":
        """From GeoJSON of polygons."""
        features = json.loads(path.read_text())["features"]
        rings = [
            [np.array(ring, float) for ring in feature["geometry"]["coordinates"]] for feature in features
        ]
        areas = [feature["properties"]["measurements"]["area_px"] for feature in features]
        return cls(rings, np.array(areas, float))

    def typical_diameter(self) -> float:
        """Of a circle as large as the median nucleus, in pixels; 0 without any."""
        return float(2 * np.sqrt(np.median(self.areas) / np.pi)) if len(self.areas) else 0.0


def outlined(
    image: LargeImage,
    window: tuple[int, int, int, int],
    nuclei: Outlines,
    longest: int,
    microns: float,
    *,
    bar: int,
    frame: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """A window of an image of one channel with the nuclei in it, (h, w, 3) uint8.

    Args:
        window: top, left, height, width.
        longest: side of the picture, in its pixels.
        microns: a pixel of the image.
        bar: length of the scale bar, in micrometres.
        frame: top, left and side of a square to be marked.
    """
    top, left, height, width = window
    scale = _FINE * longest / max(height, width)
    size = round(width * scale), round(height * scale)
    grey = Image.fromarray(image.read(*window)[..., 0]).resize(size, Image.Resampling.BICUBIC)
    canvas = Image.fromarray(_BLUES[np.asarray(grey)])
    draw = ImageDraw.Draw(canvas)
    for rings in nuclei.rings:
        for ring in rings:
            if _touches(ring, window):
                points = (_smooth(ring) - (left, top)) * scale
                draw.line([*map(tuple, points), tuple(points[0])], _AMBER, round(_LINE * _FINE), "curve")
    if frame is not None:
        y, x, side = frame
        corners = np.array((x - left, y - top, x - left + side, y - top + side)) * scale
        draw.rectangle(tuple(corners), outline=_WHITE, width=2 * _FINE)
    _scale_bar(draw, canvas.size, bar, bar / microns * scale)
    small = canvas.resize((size[0] // _FINE, size[1] // _FINE), Image.Resampling.BOX)
    return np.asarray(small)


def side_by_side(left: np.ndarray, right: np.ndarray, destination: Path) -> None:
    """Write both as one PNG.

    Raises:
        OutputError: it cannot be written.
    """
    height = max(len(left), len(right)) + 2 * _GAP
    sheet = Image.new("RGB", (left.shape[1] + right.shape[1] + 3 * _GAP, height), _BACKGROUND)
    sheet.paste(Image.fromarray(left), (_GAP, _GAP))
    sheet.paste(Image.fromarray(right), (left.shape[1] + 2 * _GAP, _GAP))
    write_atomically(destination, as_png(np.asarray(sheet)))


def as_png(pixels: np.ndarray) -> bytes:
    """(h, w, 3) in few colours, a third as large as in all: black, blues, white and amber need no more."""
    png = io.BytesIO()
    Image.fromarray(pixels).quantize(128, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
    return png.getvalue()


def _touches(ring: np.ndarray, window: tuple[int, int, int, int]) -> bool:
    top, left, height, width = window
    (x0, y0), (x1, y1) = ring.min(0), ring.max(0)
    return bool(x1 > left and x0 < left + width and y1 > top and y0 < top + height)


def _smooth(ring: np.ndarray) -> np.ndarray:
    """The middles of all pixel sides on the ring's way: steps become slopes, half a pixel away at most."""
    corners = ring[:-1]
    way = np.roll(corners, -1, axis=0) - corners
    lengths = np.abs(way).sum(1).astype(int)
    which = np.repeat(np.arange(len(corners)), lengths)
    nth = np.arange(len(which)) - np.repeat(lengths.cumsum() - lengths, lengths)
    return np.asarray(corners[which] + (way / lengths[:, None])[which] * (nth + 0.5)[:, None])


def _scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], microns: int, length: float) -> None:
    """At the bottom right."""
    margin, thick = 24 * _FINE, 4 * _FINE
    right, bottom = size[0] - margin, size[1] - margin
    draw.rectangle((right - length, bottom - thick, right, bottom), fill=_WHITE)
    font = ImageFont.load_default(20 * _FINE)
    draw.text(
        (right - length / 2, bottom - 2 * thick),
        f"{microns} microns",
        _WHITE,
        font,
        anchor="mb",
        stroke_width=2 * _FINE,
        stroke_fill=_BACKGROUND,
    )
