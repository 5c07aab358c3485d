"""Where pixels come from: one file for each family of containers, all behind `LargeImage`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xt.images.image import LargeImage
from xt.images.mapped import MappedImage
from xt.images.opening import open_image, stack, stack_parts

__all__ = ["LargeImage", "MappedImage", "open_image", "stack", "stack_parts", "tile"]


def tile(
    source: Any, destination: str | os.PathLike[str], progress: Callable[[float], object] | None = None
) -> Path:
    """Write an image as a tiled, compressed pyramid; see `xt.images.conversion.tile`."""
    from xt.images.conversion import tile

    return tile(source, destination, progress)
