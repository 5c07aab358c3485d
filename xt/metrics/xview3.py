"""The score of the xView3-SAR challenge: detection, detection near the shore, vessels, fishing, lengths.

The rules are the final ones (low-confidence rule on, far pairs made costly):

1. In each scene predictions and labels are assigned one to one: as many pairs as possible that are not farther
   than 200 m (10 m a pixel) from each other, with the least total distance. A pair is a true positive where it is
   strictly nearer than 200 m; other predictions are false positives, other labels false negatives.
2. Before that, the same assignment against all labels: predictions that go to a label of LOW confidence are
   deleted. Then only labels of HIGH and MEDIUM confidence count.
3. `detection_f1`: F1 of the pairs of all scenes together. `shore_f1`: the same after a new assignment of the
   labels with distance_from_shore_km of at most 2 to the predictions within 2.2 km of a point of the shoreline.
4. `vessel_f1`: F1 of "is a vessel" over the true positives with known is_vessel; `fishing_f1`: F1 of "is fishing"
   over those whose label is a vessel with known is_fishing. What was not detected has no part in either.
5. `length`: 1 - min(mean of |predicted - true| / true, 1) over the true positives of known length, both lengths
   capped at 500 m.
6. `aggregate`: detection_f1 * (1 + length + shore_f1 + vessel_f1 + fishing_f1) / 5.

An F1 without any true positive, false positive or false negative is 0, as is a length without pairs.

Where this differs from the reference code (DIUx-xView/xview3-reference, reference/metric.py), which departs from
that definition:

- A scene with labels and without predictions counts its labels as missed; there the score raises on it, and the
  command line drops it without a word. Near the shore likewise: labels without a prediction near the shore are
  missed, where the reference leaves the scene out.
- A scene without (counted) labels counts its predictions as false positives; there they cost nothing, near the
  shore too.
- A predicted length that is missing counts as wrong by 100 %; there it makes the whole length score NaN. A true
  length that is not above 0 counts as unknown; there it divides by zero.
- A missing prediction of is_vessel or is_fishing is no "yes": missed where the truth is yes, and nothing where it
  is no; there it is a false positive of the latter.
- A prediction that lies exactly on the only shoreline point near it is near the shore; there it is not, as a
  distance of 0 stands for "far" in a sparse matrix.
- True, "True" and 1 are the same; there a column of texts equals nothing.

As in the reference, a perfect prediction of a label between 2.0 and 2.2 km off the shore is a false positive of
`shore_f1`: such labels keep it below 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xt.errors import TableError
from xt.labels.formats.columns import Table, as_frame, numbers, require, texts, yes_or_no
from xt.metrics.matching import match_points

METRES_PER_PIXEL = 10.0
DISTANCE_M = 200.0
SHORE_KM = 2.0
LONGEST_M = 500.0
_COUNTED = ("HIGH", "MEDIUM")

Shorelines = Mapping[str, ArrayLike | Sequence[ArrayLike] | None]


@dataclass(frozen=True)
class _Objects:
    """Columns of predictions or of truth, N objects of all scenes; NaN where not known."""

    scene: NDArray[np.object_]
    pixel: NDArray[np.float64]
    is_vessel: NDArray[np.float64]
    is_fishing: NDArray[np.float64]
    length: NDArray[np.float64]
    confidence: NDArray[np.object_]
    shore_km: NDArray[np.float64]


def score(
    predictions: Table,
    truth: Table,
    shorelines: Shorelines | None = None,
    *,
    scenes: Iterable[str] | None = None,
) -> dict[str, float]:
    """The challenge's score, as this file's first lines define it.

    Args:
        predictions: a DataFrame, columns by name, a list of rows, or a CSV file with the columns scene_id,
            detect_scene_row, detect_scene_column (pixels), is_vessel, is_fishing and vessel_length_m.
        truth: the same columns and confidence and distance_from_shore_km.
        shorelines: for each scene (N, 2) points (row, column) in pixels, or several such arrays, or an empty one where
            there is no shore (`xt.data.xview3.read_shorelines`). Without it `shore_f1` is 0.
        scenes: the scenes to score; by default all that occur in either table.
    Returns:
        detection_f1, shore_f1, vessel_f1, fishing_f1, length and aggregate, each in [0, 1].
    Raises:
        TableError: a column is missing or holds something else, or a scene has no shoreline.
    """
    found = _read(predictions, "the table of predictions", labels=False)
    true = _read(truth, "the table of labels", labels=True)
    names = sorted({*found.scene, *true.scene}) if scenes is None else sorted(set(scenes))
    everywhere, near_shore = _pairs_of_scenes(found, true, names, shorelines)
    of_found, of_true = everywhere.places()
    of_vessel = true.is_vessel[of_true] == 1
    parts = {
        "detection_f1": everywhere.f1(),
        "shore_f1": near_shore.f1(),
        "vessel_f1": _f1_of_answers(found.is_vessel[of_found], true.is_vessel[of_true]),
        "fishing_f1": _f1_of_answers(
            found.is_fishing[of_found][of_vessel], true.is_fishing[of_true][of_vessel]
        ),
        "length": _length_score(found.length[of_found], true.length[of_true]),
    }
    rest = parts["length"] + parts["shore_f1"] + parts["vessel_f1"] + parts["fishing_f1"]
    return {**parts, "aggregate": parts["detection_f1"] * (1 + rest) / 5}


class _Pairs:
    """True positives of several scenes, and how many of the others there were."""

    def __init__(self) -> None:
        self.found: list[NDArray[np.int64]] = []
        self.true: list[NDArray[np.int64]] = []
        self.false_positives = 0
        self.false_negatives = 0

    def add(
        self, found: _Objects, true: _Objects, here: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> None:
        of_found, of_true = _assign(found, true, here, labels)
        self.found.append(of_found)
        self.true.append(of_true)
        self.false_positives += len(here) - len(of_found)
        self.false_negatives += len(labels) - len(of_true)

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        nothing = np.empty(0, np.int64)
        return np.concatenate([nothing, *self.found]), np.concatenate([nothing, *self.true])

    def f1(self) -> float:
        return _f1(sum(map(len, self.found)), self.false_positives, self.false_negatives)


def _pairs_of_scenes(
    found: _Objects, true: _Objects, names: Iterable[str], shorelines: Shorelines | None
) -> tuple[_Pairs, _Pairs]:
    """Rules 1 and 2 in each of these scenes, and the same near the shore."""
    everywhere, near_shore = _Pairs(), _Pairs()
    rows_found, rows_true = _rows_by_scene(found.scene), _rows_by_scene(true.scene)
    none = np.empty(0, np.int64)
    for name in names:
        labels = rows_true.get(name, none)
        here = _without_low(found, true, rows_found.get(name, none), labels)
        labels = labels[np.isin(true.confidence[labels], _COUNTED)]
        everywhere.add(found, true, here, labels)
        if shorelines is not None:
            close = here[_is_near_shore(found.pixel[here], shorelines, name)]
            near_shore.add(found, true, close, labels[true.shore_km[labels] <= SHORE_KM])
    return everywhere, near_shore


def _rows_by_scene(scene: NDArray[np.object_]) -> dict[str, NDArray[np.int64]]:
    names, number = np.unique(scene.astype(str), return_inverse=True)
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(1, len(names)))
    return dict(zip(names.tolist(), np.split(order, bounds), strict=False))


def _assign(
    found: _Objects, true: _Objects, here: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The true positives: places in all predictions, places in all labels."""
    reach = DISTANCE_M / METRES_PER_PIXEL
    of_found, of_true, distance = match_points(found.pixel[here], true.pixel[labels], reach)
    # A pair of exactly 200 m takes part in the assignment, and is no true positive.
    near = distance * METRES_PER_PIXEL < DISTANCE_M
    return here[of_found[near]], labels[of_true[near]]


def _without_low(
    found: _Objects, true: _Objects, here: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    of_found, of_true = _assign(found, true, here, labels)
    return np.setdiff1d(here, of_found[true.confidence[of_true] == "LOW"])


def _is_near_shore(pixel: NDArray[np.float64], shorelines: Shorelines, scene: str) -> NDArray[np.bool_]:
    from scipy.spatial import KDTree

    if scene not in shorelines:
        raise TableError(
            f"there is no shoreline of scene {scene!r}; a scene without any shore needs an empty one, (0, 2) points"
        )
    shore = shoreline_points(shorelines[scene], scene)
    if not len(shore) or not len(pixel):
        return np.zeros(len(pixel), bool)
    reach = (SHORE_KM * 1000 + DISTANCE_M) / METRES_PER_PIXEL
    distance, _ = KDTree(shore).query(pixel)
    near: NDArray[np.bool_] = np.asarray(distance) <= reach
    return near


def shoreline_points(shoreline: ArrayLike | Sequence[ArrayLike] | None, scene: str) -> NDArray[np.float64]:
    """All points of one scene's shoreline as (N, 2) rows and columns, from one array or several contours.

    Raises:
        TableError: they are not points.
    """
    if isinstance(shoreline, np.ndarray) and shoreline.ndim == 2:
        shoreline = [shoreline]
    contours = [] if shoreline is None else list(shoreline)  # type: ignore[arg-type]
    if contours and np.ndim(contours[0]) == 1:
        contours = [np.asarray(contours)]
    arrays = [np.asarray(contour, np.float64) for contour in contours]
    wrong = [array.shape for array in arrays if array.ndim != 2 or array.shape[1] != 2]
    if wrong:
        raise TableError(
            f"the shoreline of scene {scene!r} must be points of shape (N, 2), got an array of shape {wrong[0]}"
        )
    return np.concatenate([np.empty((0, 2)), *arrays])


def _f1_of_answers(found: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    yes = found == 1
    return _f1(
        int((yes & (true == 1)).sum()), int((yes & (true == 0)).sum()), int((~yes & (true == 1)).sum())
    )


def _length_score(found: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    known = true > 0
    found, true = found[known], np.minimum(true[known], LONGEST_M)
    if not len(true):
        return 0.0
    # Without a prediction: as if 0 m were predicted.
    found = np.minimum(np.where(np.isnan(found), 0.0, found), LONGEST_M)
    return 1.0 - min(float(np.mean(np.abs(found - true) / true)), 1.0)


def _f1(true_positives: int, false_positives: int, false_negatives: int) -> float:
    total = 2 * true_positives + false_positives + false_negatives
    return 2 * true_positives / total if total else 0.0


def _read(table: Table, name: str, *, labels: bool) -> _Objects:
    frame, source = as_frame(table, name)
    needed = [
        "scene_id",
        "detect_scene_row",
        "detect_scene_column",
        "is_vessel",
        "is_fishing",
        "vessel_length_m",
    ]
    require(frame, needed + ["confidence", "distance_from_shore_km"] * labels, source)
    row = numbers(frame, "detect_scene_row", source, gaps=False)
    column = numbers(frame, "detect_scene_column", source, gaps=False)
    return _Objects(
        scene=texts(frame, "scene_id"),
        pixel=np.stack([row, column], axis=1),
        is_vessel=yes_or_no(frame, "is_vessel", source),
        is_fishing=yes_or_no(frame, "is_fishing", source),
        length=numbers(frame, "vessel_length_m", source),
        confidence=np.array([text.upper() for text in texts(frame, "confidence")], object),
        shore_km=numbers(frame, "distance_from_shore_km", source),
    )
