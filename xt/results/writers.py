"""Relevance maps and predictions as files that the tools people use can open."""

import csv
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from xt import __version__
from xt.output import write_atomically
from xt.results.relevance import PIXEL_TAG, RelevanceMap

_BLOCK = 256


def write_relevance(
    relevance: RelevanceMap, destination: str | os.PathLike[str], tags: Mapping[str, str] | None = None
) -> Path:
    """Write a map as tiled, compressed TIFF of one float32 band, NaN being nodata.

    With a transform it is a GeoTIFF that lies on the image in QGIS; with microns per pixel it has resolution
    tags.

    Args:
        tags: put into the file's metadata as they are.
    Raises:
        OutputError: it could not be written; nothing half-written stays.
    """
    # Made in memory (a map has one value a token) and written by ourselves: on a full disk GDAL may fail in
    # silence.
    write_atomically(destination, _as_tiff(relevance, tags or {}))
    return Path(destination)


def _as_tiff(relevance: RelevanceMap, tags: Mapping[str, str]) -> bytes:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    height, width = relevance.values.shape
    layout = {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "BIGTIFF": "IF_SAFER"}
    place = {} if relevance.transform is None else {"transform": Affine(*relevance.transform)}
    if relevance.crs is not None and relevance.control is None:
        place["crs"] = rasterio.CRS.from_string(relevance.crs)
    with warnings.catch_warnings(), MemoryFile() as memory:
        # A map of a slide has no place on Earth, and need not.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="GTiff", height=height, width=width, count=1, dtype="float32", nodata=float("nan"),
            compress="deflate", **layout, **place,
        ) as file:  # fmt: skip
            file.write(relevance.values, 1)
            file.set_band_description(1, "relevance (1 = average token)")
            if relevance.control is not None:
                relevance.control.write_to(file)
            sides = " ".join(f"{side:.12g}" for side in relevance.pixel_shape)
            file.update_tags(TIFFTAG_SOFTWARE=f"xt {__version__}", **{PIXEL_TAG: sides}, **tags)
            if relevance.microns_per_pixel is not None:
                y, x = (f"{10_000 / mpp:.9g}" for mpp in relevance.microns_per_pixel)
                file.update_tags(TIFFTAG_YRESOLUTION=y, TIFFTAG_XRESOLUTION=x, TIFFTAG_RESOLUTIONUNIT="3")
        return bytes(memory.read())


def write_table(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], destination: str | os.PathLike[str]
) -> Path:
    """Write rows as CSV (UTF-8, one header line), wholly or not at all.

    Raises:
        OutputError: it could not be written; an older table stays as it was.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(destination, text.getvalue())
    return Path(destination)
