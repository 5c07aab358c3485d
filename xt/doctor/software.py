"""Versions of what `xt` needs, its optional parts, and the file formats of GDAL and OpenSlide."""

import platform
import re
from collections.abc import Callable
from importlib import import_module, metadata
from importlib.util import find_spec

from xt import __version__
from xt.doctor.report import Finding

_PACKAGE = "xt-vision"
# Where its metadata cannot be read, as in a folder of sources that was never installed.
_NEEDED = (
    "torch",
    "timm",
    "lightning",
    "rasterio",
    "openslide-python",
    "tifffile",
    "zarr",
    "pyogrio",
    "numpy",
)
_OPTIONAL = {
    "ray": "xt predict --cluster on many machines needs it: pip install 'xt-vision[cluster]'",
    "torchsurv": "the heads and metrics of survival need it: pip install 'xt-vision[cohort]'",
    "nicegui": "xt view needs it: pip install 'xt-vision[viewer]'",
    "mamba_ssm": "the contexts mamba and mamba2 run in plain PyTorch without its kernels, slower on a GPU: pip install "
    "mamba-ssm where CUDA is",
    "triton": "attention in blocks is compiled by it on a GPU; it comes with PyTorch for CUDA",
}
# Formats that people bring, by GDAL's names.
_RASTERS = (
    "GTiff", "COG", "JPEG", "PNG", "WEBP", "JP2OpenJPEG", "VRT", "HDF5", "netCDF", "GRIB", "NITF", "HFA", "ENVI", "ECW",
    "MrSID", "JPEGXL", "SENTINEL2", "SAFE",
)  # fmt: skip
_VECTORS = ("GeoJSON", "GPKG", "ESRI Shapefile", "KML", "LIBKML", "FlatGeobuf", "GML", "DXF")


def versions() -> list[Finding]:
    """Of Python, of `xt` and of every package that it needs."""
    found = [
        Finding("xt", __version__),
        Finding("python", platform.python_version(), platform.python_version()),
    ]
    return found + [_version(requirement) for requirement in _requirements()]


def _requirements() -> list[str]:
    try:
        wanted = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return list(_NEEDED)
    return [requirement for requirement in wanted if "extra ==" not in requirement]


def _version(requirement: str) -> Finding:
    name = re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, None, lacks=f"pip install '{requirement}'", needed=True)
    try:
        from packaging.requirements import Requirement

        fits = Requirement(requirement).specifier.contains(version, prereleases=True)
    except ImportError:
        fits = True
    return Finding(name, version, lacks="" if fits else f"too old: pip install '{requirement}'", needed=True)


def optional_parts() -> list[Finding]:
    """What some commands use where it is installed."""
    found = []
    for name, use in _OPTIONAL.items():
        there = find_spec(name) is not None
        found.append(Finding(name, _installed(name) if there else None, lacks="" if there else use))
    return found


def _installed(name: str) -> str:
    try:
        return metadata.version(name.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return "installed"


def formats() -> list[Finding]:
    """What GDAL and OpenSlide read, of what people bring."""
    looks: dict[str, Callable[[], Finding]] = {
        "GDAL, rasters": _rasters,
        "GDAL, vectors": _vectors,
        "OpenSlide": _slides,
    }
    found = []
    for name, look in looks.items():
        try:
            found.append(look())
        except Exception as error:  # ImportError, or whatever a broken library leads to
            lacks = f"cannot be loaded: {type(error).__name__}: {error}"
            found.append(Finding(name, None, lacks=lacks, needed=True))
    return found


def _rasters() -> Finding:
    rasterio = import_module("rasterio")
    with rasterio.Env() as environment:
        there = set(environment.drivers())
    return _drivers("GDAL, rasters", f"GDAL {rasterio.__gdal_version__}", there, _RASTERS)


def _vectors() -> Finding:
    pyogrio = import_module("pyogrio")
    version = ".".join(map(str, pyogrio.__gdal_version__))
    return _drivers("GDAL, vectors", f"GDAL {version}", set(pyogrio.list_drivers()), _VECTORS)


def _drivers(name: str, version: str, there: set[str], wanted: tuple[str, ...]) -> Finding:
    known = [driver for driver in wanted if driver in there]
    without = [driver for driver in wanted if driver not in there]
    text = f"{version}, {len(there)} drivers, among them {', '.join(known)}"
    lacks = ""
    if without:
        lacks = f"not in this GDAL: {', '.join(without)}; convert such files with a program that has them"
    return Finding(name, {"version": version, "drivers": sorted(there), "without": without}, text, lacks)


def _slides() -> Finding:
    openslide = import_module("openslide")
    from xt.images.suffixes import SLIDES

    endings = sorted(ending.lstrip(".") for ending in SLIDES)
    version = openslide.__library_version__
    text = f"OpenSlide {version}: {', '.join(endings)}"
    lacks = (
        ""
        if int(version.split(".")[0]) >= 4
        else "reads no DICOM slides: pip install --upgrade openslide-bin"
    )
    return Finding("OpenSlide", {"version": version, "endings": endings}, text, lacks)
