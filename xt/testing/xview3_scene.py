"""Scenes in xView3's layout, made up: radar images with speckle, labels, shorelines, at any size in little memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xt.images.gdal import import_rasterio
from xt.output import atomic_folder, check_writable_folder
from xt.testing.xview3_sea import (
    METRES_PER_PIXEL,
    Coast,
    Fleet,
    make_fleet,
    rows_of_field,
    smooth_field,
)

NODATA = -32768.0
CRS = "EPSG:32631"
_ORIGIN = (400_000.0, 5_900_000.0)  # easting and northing of the top left corner
_ROWS = 256
_COARSE = 50  # pixels in one of bathymetry and wind
# Sentinel-1 GRD: about 4.4 independent looks in a pixel. The challenge's files hold dB in steps of 1/32.
_LOOKS = 4.4
_STEP_DB = 32.0
_FLOOR_DB = -49.96875
_SEA_DB = {"VH_dB.tif": -26.0, "VV_dB.tif": -16.0}
_LAND_DB = {"VH_dB.tif": -15.0, "VV_dB.tif": -9.0}


def make_scenes(root: str | Path, count: int, *, seed: int = 0, **settings: Any) -> Path:
    """`count` scenes below `root`, a labels.csv of all of them, and their shorelines; the path of the labels.

    Args:
        seed: of the first scene; the next ones count on.
        settings: as for `make_scene`.
    """
    root = check_writable_folder(root)
    labels = [
        make_scene(root, f"scene{number:03d}v", seed=seed + number, **settings) for number in range(count)
    ]
    path = root / "labels.csv"
    pd.concat(labels).to_csv(path, index=False)
    return path


def make_scene(
    root: str | Path,
    scene_id: str,
    *,
    height: int = 24_400,
    width: int = 29_400,
    vessels: int = 300,
    structures: int = 60,
    seed: int = 0,
    compress: str = "ZSTD",
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """One scene: `root`/scene_id with seven GeoTIFFs, and `root`/shoreline/scene_id_shoreline.npy.

    VH and VV are float32 in dB on a 10 m UTM grid: a sea with wind and speckle, land on the left and islands, nodata
    (-32768) in two wedges beside the swath, ships and platforms. Bathymetry and wind lie on a grid of 500 m of their
    own. Everything follows from the seed. Written in strips of 256 rows: 350 MB of memory
    at a width of 29,400.

    Args:
        height, width: in pixels, at least 64.
        vessels, structures: how many objects are tried for; fewer where there is no room.
        compress: GDAL's name of a compression.
        progress: called with (rows done, rows in all).
    Returns:
        the labels, with the challenge's columns.
    """
    root = check_writable_folder(root)
    coast = Coast(height, width, seed)
    fleet = make_fleet(coast, vessels, structures)
    with atomic_folder(root / scene_id) as folder:
        _write_radar(folder, coast, fleet, compress, progress)
        _write_auxiliary(folder, coast)
    contours = np.empty(len(coast.shoreline), object)
    contours[:] = coast.shoreline
    np.save(
        check_writable_folder(root / "shoreline") / f"{scene_id}_shoreline.npy", contours, allow_pickle=True
    )
    return _labels(scene_id, coast, fleet)


def _write_radar(
    folder: Path, coast: Coast, fleet: Fleet, compress: str, progress: Callable[[int, int], None] | None
) -> None:
    rasterio = import_rasterio()
    speckle = _speckle_table()
    patches = [fleet.patch(index) for index in range(len(fleet))]
    rng = np.random.default_rng([coast.seed, 4])
    wind, relief = (
        smooth_field((coast.height, coast.width), rng),
        smooth_field((coast.height, coast.width), rng, 32),
    )
    profile = _profile(coast.height, coast.width, METRES_PER_PIXEL, _ORIGIN, compress)
    bands = {"VH_dB.tif": fleet.vh, "VV_dB.tif": fleet.vv}
    files = {name: rasterio.open(folder / name, "w", **profile) for name in bands}
    try:
        for top in range(0, coast.height, _ROWS):
            count = min(_ROWS, coast.height - top)
            rows = np.arange(top, top + count)
            left, right = coast.swath(rows)
            columns = np.arange(coast.width)
            land = _land_rows(coast, rows)
            gusts = rows_of_field(wind, top, count, coast.width)
            for number, (name, brightest) in enumerate(bands.items()):
                strip = _background(name, gusts, land, relief, top)
                for index, (y, x, shape) in enumerate(patches):
                    _shine(strip, top, y, x, shape, float(brightest[index]))
                noise = np.random.Generator(np.random.SFC64([coast.seed, 5, number, top]))
                strip += speckle[noise.integers(0, len(speckle), strip.shape, np.uint16)]
                strip *= _STEP_DB
                np.rint(strip, out=strip)
                strip /= _STEP_DB
                np.maximum(strip, _FLOOR_DB, out=strip)
                strip[(columns < left[:, None]) | (columns >= right[:, None])] = NODATA
                files[name].write(strip, 1, window=((top, top + count), (0, coast.width)))
            if progress is not None:
                progress(top + count, coast.height)
    finally:
        for file in files.values():
            file.close()


def _land_rows(coast: Coast, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    land = np.arange(coast.width) < coast.border[rows][:, None]
    for y, x, radius in coast.islands:
        reach = int(radius.max()) + 2
        top, bottom = max(int(y) - reach, int(rows[0])), min(int(y) + reach + 1, int(rows[-1]) + 1)
        left, right = max(int(x) - reach, 0), min(int(x) + reach + 1, coast.width)
        if top < bottom and left < right:
            inside = coast.is_land(np.arange(top, bottom)[:, None] + 0.5, np.arange(left, right)[None] + 0.5)
            land[top - rows[0] : bottom - rows[0], left:right] |= inside
    return land


def _background(
    name: str, gusts: NDArray[np.float32], land: NDArray[np.bool_], relief: NDArray[np.float32], top: int
) -> NDArray[np.float32]:
    """Backscatter in dB without speckle and objects."""
    strip = gusts * np.float32(1.2)
    # The sea is brighter where the radar looks down more steeply.
    strip += np.linspace(_SEA_DB[name] + 2, _SEA_DB[name] - 2, strip.shape[1], dtype=np.float32)
    end = int(np.flatnonzero(land.any(axis=0)).max(initial=-1)) + 1
    hills = rows_of_field(relief, top, len(strip), end, 32) * np.float32(2) + np.float32(_LAND_DB[name])
    strip[:, :end] = np.where(land[:, :end], hills, strip[:, :end])
    return strip


def _shine(
    strip: NDArray[np.float32], top: int, y: int, x: int, shape: NDArray[np.float32], brightest: float
) -> None:
    """Add an object's power to the rows of the strip that it reaches into; y, x: top left of `shape` in the scene."""
    first, last = max(y, top), min(y + len(shape), top + len(strip))
    left, right = max(x, 0), min(x + shape.shape[1], strip.shape[1])
    if first >= last or left >= right:
        return
    part = strip[first - top : last - top, left:right]
    power = np.float32(10 ** (brightest / 10)) * shape[first - y : last - y, left - x : right - x]
    part[:] = 10 * np.log10(10 ** (part / 10) + power)


def _speckle_table() -> NDArray[np.float32]:
    """65,536 equally likely values of speckle in dB: a uniform 16-bit number becomes one by looking it up."""
    from scipy.special import gammaincinv

    quantiles = (np.arange(65_536) + 0.5) / 65_536
    result: NDArray[np.float32] = (10 * np.log10(gammaincinv(_LOOKS, quantiles) / _LOOKS)).astype(np.float32)
    return result


def _write_auxiliary(folder: Path, coast: Coast) -> None:
    """Bathymetry and wind: 500 m a pixel, on a grid that begins a little outside the radar image and not in step."""
    rasterio = import_rasterio()
    rng = np.random.default_rng([coast.seed, 6])
    height, width = coast.height // _COARSE + 3, coast.width // _COARSE + 3
    step = _COARSE * METRES_PER_PIXEL
    origin = (_ORIGIN[0] - 0.7 * step, _ORIGIN[1] + 0.4 * step)
    # Centres of these pixels in pixels of the radar image.
    y = (np.arange(height) + 0.5 - 0.4) * _COARSE
    x = (np.arange(width) + 0.5 - 0.7) * _COARSE
    at = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    land = coast.is_land(at[:, 0], at[:, 1])
    km = coast.kilometres(at)
    rough = rows_of_field(smooth_field((height, width), rng, 16), 0, height, width, 16).ravel()
    fields = {
        "bathymetry.tif": np.where(land, 15 * km + 40 * np.abs(rough), -8 * km - 10 * np.abs(rough) - 2),
        "owiWindSpeed.tif": np.clip(6.8 + 1.6 * rough, 0, None),
        "owiWindDirection.tif": (195 + 30 * rough) % 360,
        "owiWindQuality.tif": np.where(land, 3, np.clip(np.rint(1.5 + 0.6 * rough), 0, 3)),
        "owiMask.tif": land,
    }
    profile = _profile(height, width, step, origin, "DEFLATE") | {
        "tiled": False,
        "blockxsize": width,
        "blockysize": 1,
    }
    for name, values in fields.items():
        with rasterio.open(folder / name, "w", **profile) as file:
            file.write(np.asarray(values, np.float32).reshape(height, width), 1)


def _profile(
    height: int, width: int, step: float, origin: tuple[float, float], compress: str
) -> dict[str, Any]:
    from rasterio.transform import Affine

    level = {"ZSTD": {"zstd_level": 1}, "DEFLATE": {"zlevel": 1}}.get(compress.upper(), {})
    return {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "float32", "nodata": NODATA,
        "crs": CRS, "transform": Affine(step, 0, origin[0], 0, -step, origin[1]), "tiled": True,
        "blockxsize": _ROWS, "blockysize": _ROWS, "compress": compress, "BIGTIFF": "IF_SAFER", **level,
    }  # fmt: skip


def _labels(scene_id: str, coast: Coast, fleet: Fleet) -> pd.DataFrame:
    """What the challenge tells of its objects; what only a ship's transponder tells is known of three in four."""
    import_rasterio()
    from rasterio.warp import transform

    rng = np.random.default_rng([coast.seed, 7])
    count = len(fleet)
    row, column = fleet.pixel.T
    east = _ORIGIN[0] + METRES_PER_PIXEL * (column + 0.5)
    north = _ORIGIN[1] - METRES_PER_PIXEL * (row + 0.5)
    longitude, latitude = transform(CRS, "EPSG:4326", east, north)
    told = fleet.is_vessel & (rng.random(count) < 0.75)
    half = np.ceil(fleet.length / METRES_PER_PIXEL / 2).astype(int) + 1
    return pd.DataFrame(
        {
            "detect_lat": latitude,
            "detect_lon": longitude,
            "vessel_length_m": np.where(told, fleet.length.round(1), np.nan),
            "source": np.where(told, "ais", "manual"),
            "detect_scene_row": row,
            "detect_scene_column": column,
            "is_vessel": fleet.is_vessel,
            "is_fishing": [
                bool(value) if known else None for value, known in zip(fleet.is_fishing, told, strict=True)
            ],
            "distance_from_shore_km": fleet.shore_km.round(3),
            "scene_id": scene_id,
            "confidence": fleet.confidence,
            "top": row - half,
            "left": column - half,
            "bottom": row + half,
            "right": column + half,
            "detect_id": [f"{scene_id}_{y:05d}_{x:05d}" for y, x in fleet.pixel],
        }
    )
