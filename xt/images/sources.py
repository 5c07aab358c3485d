"""Sources of pixels from outside of this package, asked before its own, see `docs/extending.md`."""

from xt.images.image import LargeImage
from xt.registry import Registry, subclass_of

IMAGE_SOURCES: Registry[type[LargeImage]] = Registry(
    "image_sources", {}, subclass_of(LargeImage, "image source")
)


def source_of(path: str) -> type[LargeImage] | None:
    """The first that opens this file; None leaves it to the house."""
    return next((source for source in IMAGE_SOURCES.values() if source.opens(path)), None)
