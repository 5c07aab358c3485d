"""What every task must do, as one test class to inherit: from a table to labels, a step, metrics, files and pictures.

class TestMine(TaskContract):
    task = Mine()
    outputs = ("a", "b")

    def cells(self, folder, number, shape):
        return {"label": "ab"[number % 2]}  # of an image's row in the table; files of labels go to the folder
"""

import dataclasses
import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics import Metric

from xt.data.augmentation import Augmentation
from xt.data.dataset import Reading
from xt.data.splits import Splits, divide
from xt.images import open_image
from xt.labels.image_table import ImageTable
from xt.model.build import create_model
from xt.model.config import ModelConfig
from xt.model.xt import XT
from xt.tasks.base import TableRows, Task
from xt.tasks.label_facts import LabelLook

_SIDE = 64
_NETWORK = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24)}


class Logged:
    """Stands for the Lightning module: keeps what is logged."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def log(self, name: str, value: Any, **_: Any) -> None:
        self.values[name] = value

    def log_dict(self, values: Mapping[str, Any], **_: Any) -> None:
        self.values |= dict(values)


class TaskContract:
    """Inherited by the test class of each task.

    Attributes:
        task: that is tested.
        outputs: names of the model's outputs, in order.
        head: of the model; None for the task's own.
        head_options: of it, as small as may be.
        labels: fields of `Task.Labels` that are not as usual.
    """

    task: Task
    outputs: tuple[str, ...]
    head: str | None = None
    head_options: Mapping[str, Any] = {}
    labels: Mapping[str, Any] = {}
    shape = (100, 130)

    def cells(self, folder: Path, number: int, shape: tuple[int, int]) -> dict[str, object]:
        """What is known of an image, by the columns of its row; both classes, labels or numbers occur in any two."""
        raise NotImplementedError

    @pytest.fixture
    def table(self, tmp_path: Path) -> ImageTable:
        """Six images, two of each split."""
        generator = np.random.default_rng(0)
        rows = []
        for number in range(6):
            pixels = generator.integers(0, 255, (*self.shape, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
            cells = self.cells(tmp_path, number, self.shape)
            rows.append({"image": f"{number}.png", **cells, "split": ("train", "val", "test")[number // 2]})
        lines = [list(rows[0]), *(row.values() for row in rows)]
        (tmp_path / "table.csv").write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n")
        labels = self.task.Labels(**self.labels)
        return self.task.read_table(
            TableRows(path=tmp_path / "table.csv"), labels, class_names=self.outputs, model=self.config()
        )

    def config(self) -> ModelConfig:
        return ModelConfig(
            encoder="convnext_atto",
            encoder_options=_NETWORK,
            context="none",
            head=self.head or self.task.name,
            head_options=self.head_options,
            num_classes=len(self.outputs),
            class_names=self.outputs,
            region_size=_SIDE,
            tokens_per_region=1,
            dim=16,
        )

    def model(self) -> XT:
        torch.manual_seed(0)
        settings = {
            entry.name: getattr(self.config(), entry.name) for entry in dataclasses.fields(ModelConfig)
        }
        return create_model(settings.pop("encoder"), **settings)

    @property
    def reading(self) -> Reading:
        return Reading(region_size=_SIDE)

    def test_what_a_configuration_says_of_it_is_frozen_and_has_defaults(self) -> None:
        for section in (self.task.Labels, self.task.Evaluation):
            made = section()
            for entry in dataclasses.fields(section):
                with pytest.raises(dataclasses.FrozenInstanceError):
                    setattr(made, entry.name, getattr(made, entry.name))
        assert self.task.best in ("max", "min")
        assert pickle.loads(pickle.dumps(self.task)).name == self.task.name, "workers are handed it"

    def test_its_labels_are_read(self, table: ImageTable) -> None:
        assert len(table) == len(table.targets) == 6
        assert table.class_names == self.outputs
        assert [len(part) for part in _parts(divide(table))] == [2, 2, 2]

    def test_labels_that_fit_are_let_through(self, table: ImageTable) -> None:
        self.task.check_outputs(table)
        heard: list[str] = []
        self.task.check(
            divide(table),
            self.reading,
            self.task.Evaluation(),
            self.config(),
            report=lambda what, done, total, values: heard.append(what),
        )
        assert bool(heard) == self.task.about_places, (
            "files of labels take long, and it is told how far they are"
        )

    def test_a_step_learns(self, table: ImageTable) -> None:
        model = self.model()
        dataset = self.task.dataset(divide(table).train, self.reading, augmentation=Augmentation(), seed=0)
        batch = dataset.collate([dataset[0, place] for place in range(len(dataset))])
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-2)
        losses = []
        for _ in range(2):
            loss = model.loss(batch.images, batch.targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        batch.close()
        assert losses[1] < losses[0]
        missing = [name for name, value in model.head.named_parameters() if value.grad is None]
        assert not missing, f"no gradient reaches {missing}"

    def test_an_item_is_drawn_by_seed_epoch_and_index_alone(self, table: ImageTable) -> None:
        def drawn(seed: int) -> list[Any]:
            dataset = self.task.dataset(table, self.reading, augmentation=Augmentation(), seed=seed)
            batch = dataset.collate([dataset[3, 1]])
            pixels = [image.read(0, 0, *image.shape) for image in batch.images]
            batch.close()
            return pixels

        for one, other in zip(drawn(5), drawn(5), strict=True):
            np.testing.assert_array_equal(one, other)
        assert any(not np.array_equal(drawn(0)[0], drawn(seed)[0]) for seed in range(1, 6))

    def test_it_is_measured_and_the_files_tell(self, table: ImageTable, tmp_path: Path) -> None:
        model = self.model().train()
        heard: list[tuple[int, int]] = []
        found = self.task.evaluate(
            model,
            table,
            self.reading,
            batch_size=2,
            report=lambda what, done, total, values: heard.append((done, total)),
        )
        assert model.training
        assert heard[-1] == (6, 6)
        summary = found.summary()
        assert summary["images"] == 6
        assert self.task.metric in summary
        found.write(tmp_path / "measured")
        written = json.loads((tmp_path / "measured" / "metrics.json").read_text())
        assert written == json.loads(json.dumps(summary, allow_nan=False))
        assert not any(isinstance(value, float) and math.isnan(value) for value in summary.values())

    def test_what_several_models_found_is_put_together(self, table: ImageTable) -> None:
        model = self.model()
        found = self.task.evaluate(model, table, self.reading)
        told = found.of_each()
        assert len(told) == len(found.table) == len(table)
        assert all(row.keys() == told[0].keys() for row in told)
        order = np.array([3, 4, 5, 0, 1, 2])
        arrays = {name: array[order] for name, array in found.arrays.items()}
        pooled = self.task.of(model.config).pooled(found.table.subset(order), arrays, None)
        assert (pooled is None) == self.task.about_places
        if pooled is not None:
            assert pooled.metrics == pytest.approx(found.metrics, nan_ok=True)
            assert pooled.of_each() == [told[place] for place in order]
            together = found.averaged([found])
            assert together.metrics == pytest.approx(found.metrics, nan_ok=True)
            assert together.summary().keys() == found.summary().keys()

    def test_validation_is_evaluation(self, table: ImageTable) -> None:
        model, settings, logged = self.model().eval(), self.task.Evaluation(), Logged()
        dataset = self.task.dataset(table, self.reading)
        validation = self.task.validation(model, settings)
        with torch.no_grad():
            for place in range(len(table)):
                batch = dataset.collate([dataset[place]])
                validation.step(logged, model, batch)  # type: ignore[arg-type]
                batch.close()
        validation.end(logged)  # type: ignore[arg-type]
        metric: Any = logged.values[f"val/{self.task.metric}"]
        shown = float(metric.compute() if isinstance(metric, Metric) else metric)
        score = self.task.evaluate(model, table, self.reading, settings).score
        assert shown == pytest.approx(score, rel=1e-5, nan_ok=True)
        assert "val/loss" in logged.values

    def test_it_predicts_writes_and_draws(self, tmp_path: Path) -> None:
        from xt.prediction.dense_predictor import DensePredictor
        from xt.prediction.predictor import Predictor

        image = open_image(np.random.default_rng(1).integers(0, 255, (*self.shape, 3), dtype=np.uint8))
        if self.task.results is None:
            found = Predictor(self.model(), "cpu").predict(image)
            assert found.sentence.startswith("predicted: ")
            assert len(found.columns) >= len(self.outputs)
            assert found.label
            return
        result = DensePredictor(self.model(), "cpu").predict(image, tmp_path / "scene")
        assert result.task == self.task.name
        assert list(result.counts) == list(self.outputs)
        assert result.files
        for what, file in result.files.items():
            assert file.exists()
            assert file.name.endswith(self.task.results.endings[what])
        layers = self.task.results.shown(result.files, image, self.outputs)
        assert layers, "what was written can be looked at"
        assert all(set(layer.class_names) <= set(self.outputs) for layer in layers)
        assert len({layer.name for layer in layers}) == len(layers)
        self.task.results.draw(result, image, tmp_path / "scene.png", "scene")
        with Image.open(tmp_path / "scene.png") as picture:
            assert picture.size[0] > 100

    def test_labels_are_told_and_shown(self, table: ImageTable) -> None:
        files = self.task.label_files(table)
        assert len(files) == len(table)
        shown = list(self.task.classes_of_rows(table))
        how = LabelLook(class_names=table.class_names)
        for path, target in zip(table.paths, files, strict=True):
            if target is None:
                continue
            with open_image(path) as image:
                facts = self.task.label_facts(target, image, how)
                assert not facts.errors
                assert set(facts.counts) <= set(self.outputs)
                assert sum(facts.counts.values()) > 0
                (layer,) = self.task.shown_labels(target, image, table.class_names)
                assert layer.class_names == table.class_names
                assert self.task.drawn_as, "a person can draw them, too"
                plain = Image.new("RGB", (130, 100), "white")
                drawn = self.task.draw_labels(plain.copy(), target, image, table.class_names)
                assert np.asarray(drawn).tolist() != np.asarray(plain).tolist()
        if self.task.about_places:
            assert not shown
            assert len(self.task.colours(len(self.outputs))) >= len(self.outputs)
        else:
            assert bool(shown) == self.task.has_classes


def _parts(splits: Splits) -> list[ImageTable]:
    return [part for part in (splits.train, splits.validation, splits.test) if part is not None]
