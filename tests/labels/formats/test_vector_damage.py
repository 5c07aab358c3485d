"""Changed files of labels are labels or one of our errors that names the file; seeds are printed with what fails."""

import copy
import json
import random
import warnings

import numpy as np
import pytest

from tests.labels.formats.test_point_files import PLAIN, UTM, MapImage
from tests.labels.test_polygon_targets import box
from xt.errors import XTError
from xt.labels.formats.point_files import read_points
from xt.labels.formats.polygon_files import PolygonFiles
from xt.labels.polygon_targets import PolygonBoxes, PolygonTarget

OBJECT = box(10, 20, 50, 60, "a", [(20, 30, 30, 40)], measurements=[{"name": "Area", "value": 3}])
CHILD = {**box(1, 2, 3, 4), "id": "PathCellObject", "nucleusGeometry": None}
GROUND = {
    "type": "FeatureCollection",
    "crs": {"type": "name", "properties": {"name": "EPSG:32616"}},
    "features": [
        OBJECT,
        {
            **box(1, 2, 3, 4, "b"),
            "properties": {"classification": {"names": ["Tumor", "Positive"]}, "children": [CHILD]},
        },
        {
            "type": "Feature",
            "geometry": {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]},
            "properties": None,
        },
        {
            "type": "Feature",
            "id": 5,
            "geometry": None,
            "properties": {"class": 1, "objectType": "annotation"},
        },
    ],
}
VALUES = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    10**400,
    "",
    "x",
    "Polygon",
    [],
    {},
    [[]],
    [1, 2],
    {"type": 1},
]


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def mutated(content, chance):
    content = copy.deepcopy(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        path = chance.choice([path for path in places(content) if path] or [()])
        if not path:
            return chance.choice(VALUES)
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        how = chance.random()
        if how < 0.6:
            holder[path[-1]] = copy.deepcopy(chance.choice(VALUES))
        elif how < 0.8 or isinstance(holder, dict):
            del holder[path[-1]]
        else:
            holder.append(copy.deepcopy(holder[path[-1]]))
    return content


def wrong_answers(count, tmp_path):
    """Of changed files, what is neither read nor one sentence."""
    wrong = []
    image = MapImage(UTM)
    path = tmp_path / "changed.geojson"
    for seed in range(count):
        chance = random.Random(seed)
        start = GROUND if seed % 2 else {**GROUND, "features": GROUND["features"][:1]}
        text = json.dumps(mutated(start, chance))
        if seed % 5 == 0:
            letters = list(text)
            for _ in range(3):
                letters[chance.randrange(len(letters))] = chr(chance.randrange(32, 127))
            text = "".join(letters)
        path.write_text(text)
        readers = (
            lambda image: read_points(path, attributes={"Area": "number"}).on(image, ("a", "b")),
            lambda image: PolygonTarget(path, PolygonFiles(), ("a", "b")).on(image).read(0, 0, 40, 40),
            lambda image: PolygonBoxes(path, PolygonFiles(), ("a", "b"), 1).on(image),
        )
        for read in readers:
            for each in (PLAIN, image):
                try:
                    with warnings.catch_warnings(), np.errstate(all="ignore"):
                        warnings.simplefilter("ignore")
                        read(each)
                except Exception as error:
                    if not isinstance(error, XTError) or path.name not in str(error):
                        wrong.append(f"seed {seed}: {type(error).__name__}: {error}\n{text}")
    return wrong


def test_changed_files(tmp_path):
    assert wrong_answers(150, tmp_path)[:1] == []


@pytest.mark.slow
def test_many_changed_files(tmp_path):
    assert wrong_answers(3000, tmp_path)[:1] == []
