"""xView3-SAR on disk: scenes of several files, labels, shorelines, and the challenge's prediction files.

    scenes/<scene id>/VH_dB.tif, VV_dB.tif, bathymetry.tif, owiWindSpeed.tif ...
    labels.csv                           a row an object, of all scenes
    shoreline/<scene id>_shoreline.npy   contours of rows and columns

How folders are nested does not matter: scenes and shorelines are looked for below the folder given. Rows and columns
of the challenge's tables number pixels; a `PointTable` has their centres at +0.5: the 0.5 is added and taken away here.
"""

import os
import pickle
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xt.errors import ConfigError, ImageError, TableError
from xt.images import LargeImage, open_image
from xt.labels.formats.columns import Table, as_frame, numbers, require, texts, yes_or_no
from xt.labels.point_table import PointTable
from xt.output import write_atomically

NODATA = -32768.0
CHANNELS = {
    "vh": "VH_dB.tif",
    "vv": "VV_dB.tif",
    "bathymetry": "bathymetry.tif",
    "wind_speed": "owiWindSpeed.tif",
    "wind_direction": "owiWindDirection.tif",
    "wind_quality": "owiWindQuality.tif",
    "mask": "owiMask.tif",
}
ATTRIBUTES = ("is_vessel", "is_fishing", "length")
CONFIDENCES = ("HIGH", "MEDIUM", "LOW")
_SHORELINE = "_shoreline.npy"
_PREDICTED = (
    "scene_id", "detect_scene_row", "detect_scene_column", "is_vessel", "is_fishing", "vessel_length_m",
)  # fmt: skip


def find_scenes(root: str | os.PathLike[str]) -> dict[str, Path]:
    """Every folder below `root` (or `root` itself) with a VH or VV image, by its name, the scene's id, in sorted order.

    Raises:
        ImageError: there is none, or two of one id.
    """
    root = Path(root)
    found: dict[str, Path] = {}
    for folder in sorted({path.parent for name in ("VH_dB.tif", "VV_dB.tif") for path in root.rglob(name)}):
        scene = folder.resolve().name
        if scene in found:
            raise ImageError(f"there are two folders of scene {scene}: {found[scene]} and {folder}; keep one")
        found[scene] = folder
    if not found:
        raise ImageError(f"{root} holds no scene: no folder with a VH_dB.tif or VV_dB.tif in it")
    return dict(sorted(found.items()))


def scene_files(folder: str | os.PathLike[str], channels: Sequence[str] = ("vh", "vv")) -> list[Path]:
    """The files of a scene's channels.

    Args:
        channels: of vh, vv, bathymetry, wind_speed, wind_direction, wind_quality, mask.
    Raises:
        ConfigError: there is no such channel, or none is wanted.
        ImageError: a file is missing.
    """
    unknown = [name for name in channels if name not in CHANNELS]
    if unknown or not channels:
        raise ConfigError(f"a scene's channels are {', '.join(CHANNELS)}; got {', '.join(unknown) or 'none'}")
    files = [Path(folder) / CHANNELS[name] for name in channels]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ImageError(
            f"the scene {folder} lacks {', '.join(missing)}; leave out that channel or add the file"
        )
    return files


def open_scene(folder: str | os.PathLike[str], channels: Sequence[str] = ("vh", "vv")) -> LargeImage:
    """The channels of a scene as one image on the grid of the first, read by window; -32768 is nodata.

    Bathymetry and wind, of 500 m, are interpolated while they are read.

    Args:
        channels: as for `scene_files`, in the order of the image's channels; the first decides the grid.
    """
    return open_image(scene_image(folder, channels), nodata=NODATA)


def scene_image(folder: str | os.PathLike[str], channels: Sequence[str] = ("vh", "vv")) -> str:
    """A scene as one text, for `xt.open_image`, the command line and tables of images: its files, joined by "|".

    Args and errors: as of `scene_files`.
    """
    return "|".join(str(path) for path in scene_files(folder, channels))


def read_labels(table: Table, *, confidences: Collection[str] = CONFIDENCES) -> dict[str, PointTable]:
    """The objects of each scene that has any, for a point head of one class.

    Args:
        table: the challenge's labels.
        confidences: of HIGH, MEDIUM and LOW, those wanted.
    Returns:
        scene id -> points of class 0 and score 1 with the attributes is_vessel, is_fishing (1, 0; NaN where unknown)
        and length (metres; NaN where unknown).
    Raises:
        TableError: a column is missing or holds something else.
        ConfigError: there is no such confidence.
    """
    unknown = [name for name in confidences if name not in CONFIDENCES]
    if unknown:
        raise ConfigError(f"confidences are {', '.join(CONFIDENCES)}; got {', '.join(unknown)}")
    frame, source = as_frame(table, "the table of labels")
    require(frame, [*_PREDICTED, "confidence"], source)
    confidence = np.array([text.upper() for text in texts(frame, "confidence")], object)
    return _by_scene(frame[np.isin(confidence, list(confidences))], source)


def read_predictions(table: Table) -> dict[str, PointTable]:
    """The points of a prediction file, as `read_labels` gives them.

    Raises:
        TableError: a column is missing or holds something else.
    """
    frame, source = as_frame(table, "the table of predictions")
    require(frame, _PREDICTED, source)
    return _by_scene(frame, source)


def write_predictions(
    path: str | os.PathLike[str],
    points: Mapping[str, PointTable],
    *,
    threshold: float = 0.5,
    vessel_threshold: float = 0.5,
    fishing_threshold: float = 0.5,
) -> None:
    """The challenge's prediction file, atomically: scenes in the order given, each row a point's pixel and answers.

    Args:
        points: scene id -> points with probabilities is_vessel and is_fishing and the length in metres as attributes;
            what is missing or NaN is left empty.
        threshold: points of a lower score are left out.
        vessel_threshold: least probability of a vessel.
        fishing_threshold: least probability of a fishing vessel; what is no vessel does not fish.
    """
    parts = []
    for scene, table in points.items():
        kept = table.select(table.scores >= threshold)
        nothing = np.full(len(kept), np.nan)
        vessel, fishing, length = (kept.attributes.get(name, nothing) for name in ATTRIBUTES)
        is_vessel, is_fishing = _answers(vessel, vessel_threshold), _answers(fishing, fishing_threshold)
        is_fishing[is_vessel == False] = False  # noqa: E712  (None is neither)
        columns = (
            np.full(len(kept), scene, object),
            np.floor(kept.y).astype(np.int64),
            np.floor(kept.x).astype(np.int64),
            is_vessel,
            is_fishing,
            np.round(length, 1),
        )
        parts.append(pd.DataFrame(dict(zip(_PREDICTED, columns, strict=True))))
    frame = pd.concat(parts) if parts else pd.DataFrame(columns=_PREDICTED)
    write_atomically(path, frame.to_csv(index=False, lineterminator="\n"))


def read_shorelines(
    folder: str | os.PathLike[str], scenes: Collection[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """scene id -> (N, 2) rows and columns of the shore, from the files SCENE_shoreline.npy below a folder.

    The files are pickled arrays. They are read by an unpickler that makes arrays and nothing else, as a pickle from
    elsewhere could run any program.

    Args:
        scenes: which; all that there are by default.
    Raises:
        TableError: one of `scenes` has no file, or a file holds anything but contours of points.
    """
    files = {
        path.name.removesuffix(_SHORELINE): path for path in sorted(Path(folder).rglob(f"*{_SHORELINE}"))
    }
    wanted = list(files) if scenes is None else list(scenes)
    missing = [scene for scene in wanted if scene not in files]
    if missing:
        raise TableError(
            f"{folder} holds no {missing[0]}{_SHORELINE}: the scene {missing[0]} has no shoreline there"
        )
    return {scene: _read_contours(files[scene]) for scene in wanted}


def _by_scene(frame: pd.DataFrame, source: str) -> dict[str, PointTable]:
    scenes = texts(frame, "scene_id")
    everything = PointTable(
        y=numbers(frame, "detect_scene_row", source, gaps=False) + 0.5,
        x=numbers(frame, "detect_scene_column", source, gaps=False) + 0.5,
        attributes={
            "is_vessel": yes_or_no(frame, "is_vessel", source),
            "is_fishing": yes_or_no(frame, "is_fishing", source),
            "length": numbers(frame, "vessel_length_m", source),
        },
    )
    return {scene: everything.select(scenes == scene) for scene in dict.fromkeys(scenes)}


def _answers(probability: NDArray[np.float64], threshold: float) -> NDArray[np.object_]:
    known = ~np.isnan(probability)
    return np.array(
        [
            bool(value >= threshold) if there else None
            for value, there in zip(probability, known, strict=True)
        ],
        object,
    )


def _read_contours(path: Path) -> NDArray[np.float64]:
    try:
        with path.open("rb") as file:
            content = _load(file)
        # Contours of one length may have been saved as one array (contours, points, 2).
        contours = [np.asarray(contour, np.float64) for contour in content]
        if contours and contours[0].ndim == 1:
            contours = [np.asarray(content, np.float64)]
        return np.concatenate([np.empty((0, 2)), *(contour.reshape(-1, 2) for contour in contours)])
    except (OSError, ValueError, TypeError, EOFError, pickle.UnpicklingError, AttributeError) as error:
        raise TableError(f"{path} is not a file of shoreline contours: {error}") from error


def _load(file: BinaryIO) -> Any:
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"it is of version {version}")
    _, _, dtype = read_header(file)
    if dtype.hasobject:
        return _ArraysOnly(file).load()
    file.seek(0)
    return np.load(file, allow_pickle=False)


class _ArraysOnly(pickle.Unpickler):
    """Makes NumPy arrays, whichever version of NumPy wrote them, and refuses everything else."""

    _ALLOWED = frozenset(
        [
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("multiarray", "_reconstruct"),
            ("numeric", "_frombuffer"),
            ("_codecs", "encode"),
        ]
    )

    def find_class(self, module: str, name: str) -> Any:
        for prefix in ("numpy.core.", "numpy._core."):
            module = module.removeprefix(prefix)
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, and only arrays are expected")
        full = {"numpy": "numpy", "_codecs": "_codecs"}.get(module, f"numpy._core.{module}")
        return super().find_class(full, name)
