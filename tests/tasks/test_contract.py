"""Each task from a table to files and pictures, by the suite that a user's own task inherits."""

import json
from typing import ClassVar

import numpy as np
from PIL import Image

from xt.tasks import TASKS
from xt.testing.tasks import TaskContract


class TestClassification(TaskContract):
    task = TASKS["classification"]
    outputs = ("a", "b")

    def cells(self, folder, number, shape):
        return {"label": "ab"[number % 2]}


class TestMultiLabel(TaskContract):
    task = TASKS["multilabel"]
    outputs = ("red", "round")
    labels: ClassVar = {"label_columns": ("red", "round")}

    def cells(self, folder, number, shape):
        return {"red": number % 2, "round": 1 - number % 2}


class TestMultiLabelInOneColumn(TestMultiLabel):
    labels: ClassVar = {"label_separator": ";"}

    def cells(self, folder, number, shape):
        return {"label": ("red;round", "red")[number % 2]}


class TestRegression(TaskContract):
    task = TASKS["regression"]
    outputs = ("age", "size")
    labels: ClassVar = {"label_columns": ("age", "size")}

    def cells(self, folder, number, shape):
        return {"age": number / 2, "size": 1 - number}


class TestOrdinal(TaskContract):
    task = TASKS["ordinal"]
    outputs = ("low", "high")
    labels: ClassVar = {"class_names": ("low", "high")}

    def cells(self, folder, number, shape):
        return {"label": ("low", "high")[number % 2]}


class TestSurvival(TaskContract):
    task = TASKS["survival"]
    outputs = ("risk",)

    def cells(self, folder, number, shape):
        return {"time": 1.5 * number + number % 2, "event": 1 - number % 2}


class TestSurvivalInIntervals(TestSurvival):
    outputs = ("risk", "survival(2)", "survival(4.5)")
    head = "survival_intervals"
    head_options: ClassVar = {"cuts": [1.0, 3.0, 5.0], "times": [2, 4.5]}
    labels: ClassVar = {"label_columns": ("months", "died")}

    def cells(self, folder, number, shape):
        return {"months": 1 + number, "died": ("yes", "false")[number % 2]}


class TestMultiTask(TaskContract):
    task = TASKS["multitask"]
    outputs = ("grade.low", "grade.high", "age", "os.risk", "marks.er", "marks.pr")
    answers: ClassVar = {
        "grade": {"kind": "ordinal", "class_names": ["low", "high"]},
        "age": "regression",
        "os": {
            "kind": "survival",
            "head": "survival_intervals",
            "options": {"cuts": [2.0, 9.0]},
            "weight": 0.5,
        },
        "marks": {"kind": "multilabel", "label_separator": "+"},
    }
    labels: ClassVar = {"answers": answers}

    @property
    def head_options(self):
        return {"answers": self.task.described(self.answers, self.outputs), "weighting": "uncertainty"}

    def cells(self, folder, number, shape):
        known = {"grade": ("low", "high")[number % 2], "age": 50 + number}
        known |= {
            "time": 1.5 * number + number % 2,
            "event": 1 - number % 2,
            "marks": ("er", "er+pr")[number % 2],
        }
        # Any may be missing.
        return known | {2: {"grade": ""}, 4: {"time": "", "event": ""}, 5: {"age": "", "marks": ""}}.get(
            number, {}
        )


class TestSegmentation(TaskContract):
    task = TASKS["segmentation"]
    outputs = ("ground", "square")
    head_options: ClassVar = {"width": 8}

    def cells(self, folder, number, shape):
        mask = np.zeros(shape, np.uint8)
        mask[20:60, 30:90] = 1
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
        return {"mask": f"{number}_mask.png"}


class TestPoints(TaskContract):
    task = TASKS["points"]
    outputs = ("disc", "square")
    head_options: ClassVar = {"width": 8, "radius": 8.0}

    def cells(self, folder, number, shape):
        (folder / f"{number}.csv").write_text("y,x,label\n20,30,disc\n70,100,square\n")
        return {"points": f"{number}.csv"}


class TestDetection(TaskContract):
    task = TASKS["detection"]
    outputs = ("disc", "square")
    head_options: ClassVar = {"width": 8, "tower_depth": 1}

    def cells(self, folder, number, shape):
        features = [
            {
                "type": "Feature",
                "properties": {"class": name},
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [[[x, y], [x + 25, y], [x + 25, y + 20], [x, y + 20], [x, y]]],
                },
            }
            for name, (y, x) in {"disc": (10, 20), "square": (60, 90)}.items()
        ]
        (folder / f"{number}.geojson").write_text(
            json.dumps({"type": "FeatureCollection", "features": features})
        )
        return {"boxes": f"{number}.geojson"}
