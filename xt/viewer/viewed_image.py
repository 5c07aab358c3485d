"""One image as it is looked at: its facts, tiles, and what stands at a place."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from xt.errors import ConfigError
from xt.images import LargeImage
from xt.viewer.cache import PictureCache
from xt.viewer.layers import EVERYTHING, Filters, Layer, Window
from xt.viewer.looks import COLOUR_MAPS, Look, band_limits, default_look
from xt.viewer.pictures import NOTHING, Picture, encode
from xt.viewer.pyramid import TILE, Pyramid
from xt.viewer.scale import metres_per_pixel

_THUMBNAIL = 256


class ViewedImage:
    """An open image with its tiles; safe to use from many threads.

    Attributes:
        number: by which the browser asks for it.
        name: to be shown; text, never markup.
        look: how it is shown at first.
        made: in the addresses of its tiles, so that a browser may keep them: no other image will have the same.
    """

    def __init__(
        self,
        number: int,
        name: str,
        image: LargeImage,
        cache: PictureCache,
        load_layers: Callable[[LargeImage], Sequence[Layer]] = lambda image: (),
    ) -> None:
        self.number, self.name, self.image = number, name, image
        self.made = secrets.token_hex(4)
        self._load_layers = load_layers
        self._layers: dict[str, Layer] | None = None
        self._loading = threading.RLock()
        self.pyramid = Pyramid(image)
        self.limits = band_limits(image, self.pyramid)
        self.look = default_look(image, self.limits)
        self._cache = cache

    def facts(self) -> dict[str, Any]:
        """What the page has to know, fit for JSON."""
        image = self.image
        names = image.channel_names or [""] * image.channels
        return {
            "number": self.number,
            "made": self.made,
            "name": self.name,
            "height": image.shape[0],
            "width": image.shape[1],
            "deepest": self.pyramid.deepest,
            "tile": TILE,
            "dtype": str(image.dtype),
            "channels": [
                {"number": number, "name": name or f"band {number + 1}", "low": low, "high": high}
                for number, (name, (low, high)) in enumerate(zip(names, self.limits, strict=True))
            ],
            "microns_per_pixel": image.microns_per_pixel,
            "metres_per_pixel": metres_per_pixel(image),
            "crs": image.crs,
            "look": self.look.as_json,
            "colour_maps": list(COLOUR_MAPS),
            "layers": [layer.legend() for layer in self.layers.values()],
        }

    def tile(self, zoom: int, y: int, x: int, look: Look | None = None) -> Picture:
        """A tile of 256 x 256 pixels.

        Raises:
            ShapeError: there is no such tile.
            ConfigError: the look is not for this image.
            ImageError: the file is damaged there.
        """
        look = look or self.look
        self.pyramid.window(zoom, y, x)
        return self._cache.get(
            (self.number, "image", look, zoom, y, x), lambda: self._drawn(zoom, y, x, look)
        )

    @property
    def layers(self) -> dict[str, Layer]:
        """What lies on top, by name; read when it is first asked for.

        Raises:
            XTError: a file of results or labels cannot be read.
        """
        with self._loading:
            if self._layers is None:
                self._layers = {layer.name: layer for layer in self._load_layers(self.image)}
            return dict(self._layers)

    def layer(self, name: str) -> Layer:
        """One of them.

        Raises:
            ConfigError: there is none of this name.
        """
        layers = self.layers
        if name not in layers:
            raise ConfigError(f"{self.name} has no layer {name!r}; it has {', '.join(layers) or 'none'}")
        return layers[name]

    def put_layer(self, layer: Layer) -> None:
        """Add one, or replace the one of its name, as a prediction goes on or an object is corrected."""
        with self._loading:
            self._layers = {**self.layers, layer.name: layer}

    def drop_layer(self, name: str) -> None:
        with self._loading:
            self._layers = {known: layer for known, layer in self.layers.items() if known != name}

    def layer_tile(self, name: str, zoom: int, y: int, x: int, filters: Filters = EVERYTHING) -> Picture:
        """A tile of a layer, transparent where it shows nothing.

        Raises:
            ConfigError: there is no such layer.
            ShapeError: there is no such tile.
            ImageError: a file of results is damaged there.
        """
        layer = self.layer(name)
        top, left, side, _ = self.pyramid.window(zoom, y, x)

        def draw() -> Picture:
            colours = layer.draw(Window(top, left, side / TILE, TILE), filters)
            return NOTHING if colours is None else encode(colours)

        return self._cache.get((self.number, name, layer.version, filters, zoom, y, x), draw)

    def thumbnail(self) -> Picture:
        """The whole image, at most 256 pixels a side."""

        def draw() -> Picture:
            from PIL import Image

            colours = self.look.colour(*self.pyramid.whole(2 * _THUMBNAIL))
            picture = Image.fromarray(colours)
            picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
            return encode(np.asarray(picture), exact=not self._is_photo(self.look))

        return self._cache.get((self.number, "thumbnail"), draw)

    def value(
        self, y: float, x: float, filters: Mapping[str, Filters] = MappingProxyType({}), reach: float = 0.0
    ) -> dict[str, Any]:
        """What the image holds at a place of level 0, as `LargeImage.read` gives it, where that is on the map, and
        what each layer says.

        Args:
            filters: of layers by name, those that are not asked for everything.
            reach: how near objects must be, in level-0 pixels.
        Raises:
            ConfigError: the place is not in the image.
        """
        row, column = place_in(self.image, y, x)
        pixels, valid = self.image.read_valid(row, column, 1, 1)
        return {
            "y": row,
            "x": column,
            "values": [number_or_none(value) for value in pixels[0, 0]],
            "there": [bool(there) for there in valid[0, 0]],
            "map": self._on_map(y, x),
            "layers": {
                name: layer.at(y, x, filters.get(name, EVERYTHING), reach)
                for name, layer in self.layers.items()
            },
        }

    def _on_map(self, y: float, x: float) -> list[float] | None:
        location = self.image.location
        if location is None:
            return None
        across, down = location.to_map(np.array([y]), np.array([x]))
        place = [float(across[0]), float(down[0])]
        return place if all(map(math.isfinite, place)) else None

    def _is_photo(self, look: Look) -> bool:
        """Whether it loses nothing that people measure by if its tiles are JPEG."""
        return look.is_plain(self.image.dtype) and len(look.bands) == 3

    def _drawn(self, zoom: int, y: int, x: int, look: Look) -> Picture:
        colours = look.colour(*self.pyramid.read(zoom, y, x))
        return encode(colours, exact=not self._is_photo(look))


def place_in(image: LargeImage, y: float, x: float) -> tuple[int, int]:
    """The pixel that a place lies in.

    Raises:
        ConfigError: it is not in the image.
    """
    if not (0 <= y < image.shape[0] and 0 <= x < image.shape[1]):
        raise ConfigError(f"({y:g}, {x:g}) is not in the image of {image.shape[0]} x {image.shape[1]} pixels")
    return int(y), int(x)


def number_or_none(value: Any) -> float | int | None:
    """As JSON has it, which has no NaN."""
    plain = value.item() if isinstance(value, np.generic) else value
    return plain if not isinstance(plain, float) or math.isfinite(plain) else None
