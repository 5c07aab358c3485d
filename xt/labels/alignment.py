"""A mask laid onto its image by where both lie on the map."""

import numpy as np

from xt.errors import ShapeError
from xt.images import LargeImage
from xt.images.location import SAME_PLACE, AffineLocation, Transform, apart, apply, compose, inverse
from xt.images.projection import is_on_earth, transformed
from xt.images.resampled import map_units

# Coordinates are rounded when they are written: less than this part of a pixel is no difference.
_CLOSE = 0.1


def aligned(mask: LargeImage, image: LargeImage) -> LargeImage:
    """The part of the mask that lies on the image, pixel by pixel, lazily.

    Where both say where they lie on the map, that counts: a mask may reach beyond the image, run from south to north,
    and have pixels whose sides are a whole multiple of the image's, or a whole part of them. Where one of them does not
    say, both must be of one size.

    Raises:
        ShapeError: they are of different sizes, or lie at different places, or do not fit pixel by pixel.
    """
    if image.transform is None or mask.transform is None:
        if mask.shape != image.shape:
            raise ShapeError(
                f"{mask.name} is {mask.shape[0]} x {mask.shape[1]} pixels; the mask of {image.name} must be "
                f"{image.shape[0]} x {image.shape[1]}, as they do not both say where they lie on a map"
            )
        if apart(image.location, mask.location, image.shape) > SAME_PLACE:
            raise ShapeError(
                f"{mask.name} lies elsewhere on the map than {image.name}, which control points locate: it must have "
                "the image's own pixels and control points, or none (or rectify both: gdalwarp)"
            )
        return mask
    to_mask = _pixel_map(image, mask)
    for axis, step in (("x", to_mask[0]), ("y", to_mask[4])):
        if step < 0:
            return aligned(mask.flip(axis), image)
    _check_parallel(to_mask, mask, image)
    if not _is_whole(to_mask[0] - 1, image.shape[1]) or not _is_whole(to_mask[4] - 1, image.shape[0]):
        mask = _at_resolution_of(image, mask, to_mask)
        to_mask = _pixel_map(image, mask)
    left, top = to_mask[2], to_mask[5]
    height, width = image.shape
    if abs(left - round(left)) > _CLOSE or abs(top - round(top)) > _CLOSE:
        _refuse(mask, image, f"their pixels are {_fraction(top)} and {_fraction(left)} (y, x) off each other")
    top, left = round(top), round(left)
    if top < 0 or left < 0 or top + height > mask.shape[0] or left + width > mask.shape[1]:
        _refuse(mask, image, "the mask does not cover the image")
    return mask if mask.shape == image.shape else mask.crop(top, left, height, width)


def _pixel_map(image: LargeImage, mask: LargeImage) -> Transform:
    """(x, y) in pixels of the image to (x, y) in pixels of the mask."""
    assert image.transform is not None
    assert mask.transform is not None
    found = compose(inverse(mask.transform), image.transform)
    if not _one_system(image, mask):
        raise ShapeError(
            f"{mask.name} is in the coordinate system {_short(mask.crs)}, {image.name} in {_short(image.crs)}: warp "
            "the mask to the image's grid (gdalwarp -t_srs ... -r near)"
        )
    return found


def _one_system(image: LargeImage, mask: LargeImage) -> bool:
    """Whether coordinates mean the same place; so they do if one of the two does not name its system."""
    if image.crs is None or mask.crs is None or image.crs == mask.crs:
        return True
    from rasterio.crs import CRS

    one, other = (CRS.from_user_input(system) for system in (image.crs, mask.crs))
    if one == other or not (is_on_earth(one) and is_on_earth(other)):
        return True
    # One system may be written in several ways; then its coordinates stay what they are.
    assert image.transform is not None
    y, x = _corners(image)
    map_x, map_y = apply(image.transform, x, y)
    there_x, there_y = transformed(one, other, map_x, map_y)
    column, row = apply(inverse(image.transform), there_x, there_y)
    return bool(np.all(np.abs(column - x) < _CLOSE) and np.all(np.abs(row - y) < _CLOSE))


def _check_parallel(to_mask: Transform, mask: LargeImage, image: LargeImage) -> None:
    height, width = image.shape
    if abs(to_mask[1]) * height > _CLOSE or abs(to_mask[3]) * width > _CLOSE:
        _refuse(mask, image, "they are turned against each other")


def _at_resolution_of(image: LargeImage, mask: LargeImage, to_mask: Transform) -> LargeImage:
    for step, side in ((to_mask[0], image.shape[1]), (to_mask[4], image.shape[0])):
        ratio = step if step >= 1 else 1 / step
        if not _is_whole(ratio - round(ratio), side):
            _refuse(
                mask,
                image,
                f"a pixel of the image is {step:.6g} pixels of the mask, which is no whole multiple",
            )
    assert image.transform is not None
    return mask.at_resolution(map_units_per_pixel=map_units(image.transform), resampling="nearest")


def _is_whole(difference: float, pixels: int) -> bool:
    """Whether pixels that differ by so much in their sides lie on each other all along the image."""
    return abs(difference) * pixels <= _CLOSE


def _refuse(mask: LargeImage, image: LargeImage, why: str) -> None:
    raise ShapeError(
        f"the mask {mask.name} lies at {_extent(mask)}, its image {image.name} at {_extent(image)}: {why}; give "
        "the mask of this image, warp it to the image's grid (gdalwarp -tr ... -te ... -r near), or mend the "
        "coordinates of whichever is wrong"
    )


def _extent(image: LargeImage) -> str:
    assert image.transform is not None
    y, x = _corners(image)
    map_x, map_y = AffineLocation(image.transform).to_map(y, x)
    system = "" if image.crs is None else f" ({_short(image.crs)})"
    return f"x {map_x.min():.10g} to {map_x.max():.10g}, y {map_y.min():.10g} to {map_y.max():.10g}{system}"


def _corners(image: LargeImage) -> tuple[np.ndarray, np.ndarray]:
    height, width = image.shape
    return np.array([0.0, 0, height, height]), np.array([0.0, width, 0, width])


def _fraction(offset: float) -> str:
    return f"{abs(offset - round(offset)):.3g}"


def _short(system: str | None) -> str:
    text = str(system)
    return text if len(text) <= 60 else f"{text[:57]}..."
