"""Images that lie elsewhere: what is a remote path, how GDAL calls it, and how it is told to read by window."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Opened = TypeVar("Opened")

# What people write -> GDAL's virtual file system.
_SYSTEMS = {
    "http": "/vsicurl/http://",
    "https": "/vsicurl/https://",
    "ftp": "/vsicurl/ftp://",
    "s3": "/vsis3/",
    "gs": "/vsigs/",
    "az": "/vsiaz/",
    "abfs": "/vsiadls/",
    "oss": "/vsioss/",
}
# Two letters at least, as Windows' drives have one. Of "//" a `pathlib.Path` makes "/", as tables hold it.
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/(?P<slash>/?)(.*)", re.DOTALL)
_URL_INSIDE = re.compile(r"(/vsicurl[^:]*[/=](?:https?|ftp)):/(?!/)")
# Names of parts of a file, as GDAL's drivers have them; the file may begin with "/", as what follows in a URL.
SUBDATASET = re.compile(
    "(?:HDF4|HDF4_SDS|HDF4_EOS|HDF5|NETCDF|ZARR|BAG|S102|S104|S111|FITS|GPKG|RASTERLITE|MBTILES|PDF|PDF_IMAGE|KEA|TILEDB|"
    "GTIFF_DIR|GTIFF_RAW|NITF_IM|NITF_TOC_ENTRY|ECRG_TOC_ENTRY|L1BGCPS|L1BGCPS_INTERPOL|L1B_ANGLES|DERIVED_SUBDATASET|"
    "SENTINEL1_CALIB|SENTINEL2_L1B|SENTINEL2_L1B_WITH_GEOLOC|SENTINEL2_L1C|SENTINEL2_L1C_TILE|SENTINEL2_L2A|"
    "RADARSAT_2_CALIB|RCM_CALIB|HEIF|AVIF|JPEG2000):",
    re.IGNORECASE,
)
# Where reading takes requests, and what is in memory, also within the name of a part.
_NOT_HERE = re.compile(
    r"(?<!\w)vsi(?!zip/|tar/|gzip/|7z/|rar/)\w+/|(?<![\w.])(?:" + "|".join(_SYSTEMS) + "):/"
)
_NETWORK = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)(_streaming)?[/?]")
# In the words of GDAL 3.10, of curl and of the services.
_ANSWER = re.compile(r"HTTP response code:? ?(\d{3})|HTTP (\d{3})|\b([45]\d\d)\b")
_NO_RANGES = "Range downloading not supported"
_MISSING = re.compile(r"does not exist|NoSuchKey|NoSuchBucket|not found", re.IGNORECASE)
_FORBIDDEN = re.compile(
    r"AccessDenied|access denied|InvalidAccessKey|SignatureDoesNotMatch|credential|AWS_SECRET_ACCESS_KEY"
    r"|GS_SECRET_ACCESS_KEY|GOOGLE_APPLICATION|AZURE_STORAGE|InvalidCredentials|ExpiredToken",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"CURL error|could not resolve|could not connect|failed to connect|timed out", re.IGNORECASE
)
_NOT_AN_IMAGE = "not recognized as being in a supported file format"

# Of a remote image only. A folder in a bucket may hold millions of files: GDAL would list them to find those that
# belong to an image, or ask for each of forty by name. A COG holds all in one.
OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # The header of a COG with its table of tiles comes with the first request.
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "CPL_VSIL_CURL_CACHE_SIZE": str(64 * 2**20),
    # A busy server (429, 502, 503, 504) is asked again after 0.5, 1, 2 ... seconds.
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    # One that sends nothing for so long has stopped.
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}


def is_remote(path: str) -> bool:
    """Whether GDAL finds this by itself, elsewhere or in an archive: a URL or "/vsi...", which is no path on disk."""
    if SUBDATASET.match(path):
        return is_elsewhere(path)
    return path.startswith("/vsi") or _URL.match(path) is not None


def is_elsewhere(path: str) -> bool:
    """Whether it is on no disk here, nor in an archive on one."""
    return _NOT_HERE.search(path) is not None


def is_over_network(path: str) -> bool:
    """Whether reading it takes requests to a server."""
    return _NETWORK.search(gdal_path(path)) is not None


def gdal_path(path: str) -> str:
    """What GDAL calls it: "/vsis3/bucket/scene.tif" for "s3://bucket/scene.tif"; other paths unchanged."""
    path = url_of(path)
    url = None if SUBDATASET.match(path) else _URL.match(path)
    system = None if url is None else _SYSTEMS.get(url[1].lower())
    return path if url is None or system is None else system + url[3]


def url_of(path: str) -> str:
    """A remote path as people write it, its two slashes restored if a `pathlib.Path` took one."""
    if path.startswith("/vsi"):
        return _URL_INSIDE.sub(r"\1://", path)
    url = None if SUBDATASET.match(path) else _URL.match(path)
    return path if url is None or url["slash"] else f"{url[1]}://{url[3]}"


def name_of(path: str) -> str:
    """What a remote image is called: without a query, which may hold a signature, and without the folders."""
    return url_of(path).split("?")[0].rstrip("/").rsplit("/", 1)[-1]


def opened_remotely(open_dataset: Callable[[], Opened]) -> Opened:
    """Open a dataset with `OPTIONS`; those that the user's environment holds stay as they are.

    In a thread of its own, since GDAL's options are the process's in the main thread and a thread's in any other: a
    local image that is opened at this moment is to find the files that lie beside it.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="xt-open", initializer=_set_options) as thread:
        return thread.submit(open_dataset).result()


def why_not(path: str, said: str) -> str:
    """A sentence about a remote image that could not be opened or read.

    Args:
        said: by GDAL.
    """
    found = _ANSWER.search(said)
    said = said.split("; ")[0]
    status = int(next(filter(None, found.groups()))) if found else None
    if _NO_RANGES in said:
        return (
            f"{path}: its server sends whole files only (no HTTP range requests), so that no window can be read: "
            "download it first, or put it on a server or in a bucket that knows ranges"
        )
    if _NOT_AN_IMAGE in said:
        return f"{path} is there, but it is not an image that GDAL can open, or it is damaged or cut off"
    if status in (401, 403) or _FORBIDDEN.search(said):
        return f"access to {path} is refused ({said}): {_credentials(path)}"
    if status in (404, 410) or _MISSING.search(said):
        return f"there is no file {path} ({said}): check the address"
    if _UNREACHABLE.search(said):
        return f"the server of {path} cannot be reached ({said}): check the address and the network"
    return f"{path} could not be read from its server, or it is damaged ({said}): try again later"


def _credentials(path: str) -> str:
    system = gdal_path(path)
    if "/vsis3" in system:
        return (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, or AWS_NO_SIGN_REQUEST=YES for a public "
            "bucket; AWS_REGION may be needed, too"
        )
    if "/vsigs" in system:
        return "set GOOGLE_APPLICATION_CREDENTIALS to a key's file, or GS_NO_SIGN_REQUEST=YES for a public bucket"
    if "/vsiaz" in system or "/vsiadls" in system:
        return "set AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_ACCESS_KEY or AZURE_STORAGE_SAS_TOKEN"
    return "give a signed address, or a header with GDAL_HTTP_HEADERS='Authorization: Bearer ...'"


def _set_options() -> None:
    from rasterio.env import set_gdal_config

    for name, value in OPTIONS.items():
        if name not in os.environ:
            set_gdal_config(name, value)
