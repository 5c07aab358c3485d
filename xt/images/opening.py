"""From a path, an array or several of them to the `LargeImage` that reads it: which file of this folder is asked."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.errors import ConfigError, DataWarning, ImageError
from xt.images import dicom
from xt.images.array import ArrayImage, is_tensor
from xt.images.bands import ALPHA, Alpha
from xt.images.image import LargeImage, fits
from xt.images.names import is_there, part_name
from xt.images.ome import Plane
from xt.images.ome_zarr import is_zarr
from xt.images.remote import is_remote
from xt.images.sources import source_of
from xt.images.suffixes import SLIDES, refuse_foreign, refuse_thumbnail, suffix_of

if TYPE_CHECKING:
    from xt.images.raster import RasterImage

# Between paths that make one image, in tables and on the command line.
_JOINT = "|"


def open_image(
    source: Any,
    nodata: float | None = None,
    *,
    alpha: Alpha = ALPHA,
    time: int = 0,
    z: int = 0,
    series: int = 0,
) -> LargeImage:
    """Open an image for reading by window; no pixels are read yet.

    Args:
        source: a path, also of what lies elsewhere ("s3://bucket/scene.tif", "gs://", "az://", "https://", "/vsi..."),
            which is read over the network by window; an array or memory map (height, width) or (height, width,
            channels); a torch tensor (channels, height, width); or a LargeImage, which is returned as it is. A list or
            tuple of these, or paths joined by "|", are a stack of them, see `stack`.
        nodata: the value of pixels that hold nothing, in place of the one in the file; of a stack, in those files whose
            pixels can have it.
        alpha: what a band is that the file calls alpha. "validity": no channel; the others hold nothing where it is 0.
            "channel": a channel as they are, as for near infrared that a program has written as a fourth band, and
            nothing is missing by it.
        time, z, series: which time point, focal plane and image of an OME-TIFF, an OME-Zarr or a TIFF of several pages,
            from 0.
    Raises:
        ImageError: the file is missing, not an image, or damaged.
        PixelError: the pixels are not integers or real floats.
        ConfigError: the file has no such time point, plane or image.
        MissingPackageError: the package that reads such files is not installed.
    """
    if isinstance(source, LargeImage):
        return source
    if isinstance(source, (str, os.PathLike)):
        source = os.fspath(source)
        parts = stack_parts(source)
        if len(parts) == 1:
            return _open_file(source, nodata, alpha, Plane(time, z, series))
        source = parts
    if isinstance(source, (list, tuple)):
        from xt.images.stacked import stack

        stacked = stack(
            source,
            open_image=lambda each: _open_layer(each, nodata, alpha=alpha, time=time, z=z, series=series),
        )
        if nodata is not None and not any(fits(nodata, layer.dtype) for layer in stacked.layers):
            stacked.close()
            raise ConfigError(f"nodata={nodata} cannot occur in any image of the {stacked.name}")
        return stacked
    if is_tensor(source) or hasattr(source, "__array__"):
        return ArrayImage(source, nodata)
    raise TypeError(
        f"an image is opened from a path, an array or a torch tensor, not from {type(source).__name__}"
    )


def stack(
    images: Sequence[Any],
    names: Sequence[str] | None = None,
    resampling: str | Sequence[str] = "bilinear",
    reference: int = 0,
    *,
    same_field: bool = False,
) -> LargeImage:
    """Several images on top of each other, lazily: their channels become the channels of one image.

    Images that say where they lie on the map are aligned to the reference's pixels, whatever their coordinate systems,
    resolutions and extents; what one of them does not cover is missing in its channels. Others need the reference's
    size, or one that is a whole multiple of it or goes into it a whole number of times; they then cover the same field.

    Values are those of the files, in the smallest type that holds all of them: 8-bit integers beside float32 become
    float32 from 0 to 255, and are not brought to the unit range as a model does with a file of integers alone. Mean and
    standard deviation, which training measures for each channel, make up for that. In a float stack everything missing
    is NaN; in one of integers `read_valid` tells what is missing.

    Args:
        images: images, paths, arrays; anything `open_image` takes.
        names: one for each image or one for each channel; without them those of the files.
        resampling: "bilinear", "nearest" (class numbers), "cubic", "average" or "mode", for all or one for each image;
            for images aligned by size "bilinear" or "nearest". As GDAL means them, but "bilinear" between sizes is the
            mean where it shrinks.
        reference: whose pixels, levels and coordinates the stack has.
        same_field: take images without coordinates to cover the same field whatever their sizes.
    Raises:
        ShapeError: images without coordinates differ in size.
        ConfigError: names or resampling do not fit, or an image cannot be aligned.
        And what `open_image` raises.
    """
    from xt.images.stacked import stack

    return stack(images, names, resampling, reference, same_field=same_field, open_image=open_image)


def _open_layer(source: Any, nodata: float | None, **options: Any) -> LargeImage:
    image = open_image(source, **options)
    if nodata is None or image is source or not fits(nodata, image.dtype):
        return image
    image.close()
    return open_image(source, nodata, **options)


def stack_parts(path: str) -> list[str]:
    """The paths joined by "|" in one, itself alone if there is such a file."""
    if _JOINT not in path or Path(path).exists():
        return [path]
    return [part.strip() for part in path.split(_JOINT)]


def _open_file(path: str, nodata: float | None, alpha: Alpha, plane: Plane) -> LargeImage:
    """Choose between sources from outside, OpenSlide, tifffile, zarr and GDAL.

    A scanner's own format goes to OpenSlide, and so does DICOM. A tiled TIFF that both can read is a slide if it says
    so: 8-bit RGB, a microscope's resolution in its tags, and neither coordinates nor missing pixels. A TIFF with OME's
    description is an OME-TIFF, whatever its name. All else goes to GDAL, pages that are channels together.
    """
    from xt.images import slide
    from xt.images.raster import RasterImage

    source: Any = source_of(path)
    if source is not None:
        _check_file(path)
        _refuse_planes(path, plane)
        opened: LargeImage = source(path, nodata)
        return opened
    part = part_name(path)
    if part is not None:
        if not is_there(path):
            raise ImageError(f"there is no file {part.file}, of which {path} would be a part")
        path = str(part)
    # What GDAL finds elsewhere ("https://...", "/vsizip/...", "NETCDF:file:variable") is left to GDAL.
    elsewhere = part is not None or is_remote(path) or (":" in path and not Path(path).exists())
    if not elsewhere:
        _check_file(path)
        if is_zarr(Path(path)):
            from xt.images.ome_zarr import OmeZarrImage

            return OmeZarrImage(path, nodata, plane)
        if Path(path).is_dir() or dicom.is_dicom(path):
            _refuse_planes(path, plane)
            return slide.SlideImage(path, nodata)
        refuse_foreign(path)
        kind = slide.detect_format(path, required=suffix_of(path) in SLIDES)
        if kind is not None and kind != slide.GENERIC:
            _refuse_planes(path, plane)
            return slide.SlideImage(path, nodata)
        refuse_thumbnail(path)
    image = RasterImage(path, nodata, alpha)
    if elsewhere:
        _refuse_planes(path, plane)
        if image.has_pages:
            warnings.warn(
                f"{path} has several pages, of which the first is read; were it on this machine, those that are "
                "channels would be read together",
                DataWarning,
                stacklevel=3,
            )
        return _upright(image)
    if image.is_ome:
        from xt.images.ome_tiff import OmeTiffImage

        image.close()
        return OmeTiffImage(path, nodata, plane, alpha)
    if Path(path).name.lower().endswith((".ome.tif", ".ome.tiff")) and not image.has_pages:
        # Of one that was cut off GDAL would show the first channel as if it were all.
        raise ImageError(
            f"{path} is named OME-TIFF but has no description of OME's: it is damaged or cut off, or a plain TIFF to "
            "be renamed"
        )
    if image.has_pages:
        from xt.images.pages import together

        channels = together(image, plane)
        if channels is not None:
            image.close()
            paged = RasterImage(channels, nodata, alpha, path)
            paged.orientation_tag, paged.driver = image.orientation_tag, image.driver
            return _upright(paged)
    else:
        _refuse_planes(path, plane)
    looks_like_slide = (
        kind == slide.GENERIC
        and image.microns_per_pixel is not None
        and (image.channels, image.dtype) == (3, "uint8")
        and image.crs is None
        and image.location is None
        and not image.has_nodata
        and image.orientation_tag == 1
    )
    if looks_like_slide:
        image.close()
        return slide.SlideImage(path, nodata)
    return _upright(image)


def _upright(image: RasterImage) -> LargeImage:
    """As the file's orientation tag says it is to be seen."""
    from xt.images.orientation import Upright

    return image if image.orientation_tag == 1 else Upright(image, image.orientation_tag)


def _refuse_planes(path: str, plane: Plane) -> None:
    if plane != Plane():
        raise ConfigError(
            f"{path} is neither OME-TIFF nor OME-Zarr: it has one image without time points and focal planes, so time, "
            "z and series stay 0"
        )


def _check_file(path: str) -> None:
    file = Path(path)
    if not file.exists():
        raise ImageError(f"there is no file {path}")
    if file.is_file() and file.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes): it was probably cut off while being copied")
