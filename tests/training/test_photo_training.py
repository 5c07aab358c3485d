"""Training on photographs: what is refused, mixing and losses as timm has them, the same run with any workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

import xt
from tests.inaturalist_files import write_inaturalist
from tests.training.toy import MODEL, toy_config, toy_model
from xt.config.parser import config_from_dict
from xt.config.run import RunConfig
from xt.data.dataset import Reading
from xt.data.inaturalist import read_inaturalist
from xt.data.photo_dataset import PhotoDataset, seeded
from xt.data.photos import Photos
from xt.errors import ConfigError
from xt.heads.classification import ClassificationHead
from xt.tasks import evaluate
from xt.training.mixing import Mixing
from xt.training.run import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inaturalist(tmp_path_factory.mktemp("inat"))


def _config(folder: Path, out: Path, **photos: Any) -> RunConfig:
    model = {**MODEL, "image_size": 128}
    data = {"table": None, "inaturalist": str(folder), "photos": {"workers": 1, **photos}}
    return toy_config(folder, out, model=model, data=data)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            {},
            {"photos": {"mixup": 0.2}},
            "data.photos is about images that are read whole.*set model.image_size",
        ),
        (
            {"image_size": 64},
            {"augmentation": {"brightness": 0.1}},
            "data.augmentation is about.*data.photos has",
        ),
        ({"image_size": 64}, {"view": "crop"}, "data.view is about images that are read region by region"),
        ({"image_size": 64}, {"tokens": "t.zarr"}, "data.tokens is about"),
        (
            {"image_size": 64, "head": "multilabel"},
            {"photos": {"cutmix": 1.0}},
            "mix classes, but model.head is",
        ),
        (
            {"image_size": 64, "head": "points"},
            {},
            "image_size resizes images, and the head 'points' answers",
        ),
        ({"image_size": 64, "in_channels": 1}, {}, "photographs, which have 3 channels"),
        (
            {"image_size": 64, "foreground": "tissue"},
            {},
            "no foreground, got in_channels 3 and foreground 'tissue'",
        ),
        ({"image_size": 0}, {}, "image_size and case_images must be at least 1, got"),
        (
            {},
            {"inaturalist_classes": ["Aves"]},
            "data.inaturalist_classes is for data of the kind .inaturalist., but data.inaturalist is missing",
        ),
        ({}, {"inaturalist": "a", "folder": "b"}, "were both given"),
    ],
)
def test_what_does_not_fit_is_refused(model: dict[str, Any], data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_dict({"model": {**MODEL, **model}, "data": data})


def test_only_classes_are_in_inaturalist(folder: Path, tmp_path: Path) -> None:
    data = {"table": None, "inaturalist": str(folder)}
    config = config_from_dict({"model": {**MODEL, "head": "regression"}, "data": data})
    with pytest.raises(ConfigError, match=r"one class per image, but model\.head is 'regression'"):
        train(config)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("count", [6, 5])
def test_mixing_is_timm_s(kind: str, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    targets = torch.arange(count) % 4
    before = images.clone()
    mixed, shares = Mixing(Photos(**{kind: 0.8}), 4)(images, targets, (1, 2, 3))
    assert torch.equal(images, before)
    # The last of an odd number stays.
    alphas = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, f"{kind}_alpha": 0.8}
    with seeded(1, 2, 3):
        twin, twin_shares = Mixup(**alphas, label_smoothing=0.0, num_classes=4)(
            images[: count // 2 * 2].float() / 255, targets[: count // 2 * 2]
        )
    torch.testing.assert_close(mixed[: len(twin)], twin)
    torch.testing.assert_close(shares[: len(twin)], twin_shares)
    assert not torch.allclose(mixed[: len(twin)], images[: len(twin)] / 255)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(count))
    if count % 2:
        torch.testing.assert_close(mixed[-1], images[-1] / 255)
        assert shares[-1].tolist() == [1.0, 0.0, 0.0, 0.0]
    again, _ = Mixing(Photos(**{kind: 0.8}), 4)(images, targets, (1, 2, 3))
    other, _ = Mixing(Photos(**{kind: 0.8}), 4)(images, targets, (1, 2, 4))
    assert torch.equal(mixed, again)
    assert not torch.equal(mixed, other)
    with pytest.raises(ConfigError, match="nothing to mix"):
        Mixing(Photos(), 4)


def test_a_share_of_bytes_is_as_good_as_one_of_floats() -> None:
    """A float image in [0, 1] means to a model what the bytes do."""
    model = toy_model(image_size=64).eval()
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(model(images), model(images.float() / 255), atol=1e-5, rtol=1e-5)


def test_losses_are_timm_s() -> None:
    head = ClassificationHead(8, 6, label_smoothing=0.3)
    logits = torch.randn(5, 6, dtype=torch.float64)
    targets = torch.tensor([0, 1, 5, 2, 2])
    torch.testing.assert_close(head.loss(logits, targets), LabelSmoothingCrossEntropy(0.3)(logits, targets))
    shares = torch.rand(5, 6).softmax(dim=1)
    # Mixup of timm would smooth the shares itself.
    smooth = shares * 0.7 + 0.3 / 6
    torch.testing.assert_close(head.loss(logits, shares), SoftTargetCrossEntropy()(logits, smooth.double()))


@pytest.mark.parametrize("photos", [{"auto_augment": "rand-m9-mstd0.5-inc1", "mixup": 0.8, "cutmix": 1.0}])
def test_a_run_is_the_same_with_and_without_workers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: dict[str, Any]
) -> None:
    # Nothing is opened but by PIL: no file handles that stay, no GDAL.
    for module in ("data.dataset", "data.statistics", "training.preparation", "model.inputs"):
        monkeypatch.setattr(f"xt.{module}.open_image", None)
    runs = [train(_config(folder, tmp_path / str(count), **photos, workers=count)) for count in (0, 1)]
    weights = [dict(run.model.state_dict()) for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    first, second = ({**run.metrics, "training_seconds": 0, "peak_bytes": 0} for run in runs)
    assert first == second
    assert runs[0].model.config.image_size == 128
    unchanged = train(_config(folder, tmp_path / "unchanged"))
    assert not torch.equal(
        weights[0]["head.classifier.weight"], unchanged.model.state_dict()["head.classifier.weight"]
    )


def test_regions_of_several_photographs_share_a_region_batch(folder: Path) -> None:
    model = toy_model(image_size=128, num_classes=4, class_names=None).eval()
    photos = PhotoDataset(read_inaturalist(folder), 128)
    images = torch.stack([photos[index].image for index in range(3)])
    seen: list[int] = []
    model.region_encoder.network.register_forward_pre_hook(lambda _, pixels: seen.append(len(pixels[0])))
    together = model(images, region_batch=32)
    assert seen == [12]
    alone = torch.cat([model(image[None], region_batch=1) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_evaluation_equals_the_model_on_opened_files(folder: Path) -> None:
    torch.manual_seed(0)
    model = toy_model(image_size=96, num_classes=4, class_names=None).eval()
    table = read_inaturalist(folder).split("val")
    found = evaluate(model, table, Reading(region_size=64, image_size=96, workers=1), batch_size=3)
    with torch.no_grad():
        logits = torch.cat([model(xt.open_image(path)) for path in table.paths])
    np.testing.assert_allclose(found.probabilities, logits.softmax(-1).numpy(), atol=2e-3)
    summary = found.summary()
    assert {"top1", "top1_interval", "top3", "top3_interval"} <= summary.keys()
    assert summary["top3_interval"][0] < summary["top3"] <= summary["top3_interval"][1]


def test_relevance_lies_on_the_photograph_as_it_was(folder: Path) -> None:
    table = read_inaturalist(folder)
    model = toy_model(image_size=128, num_classes=4, class_names=None)
    with xt.open_image(table.paths[0]) as image:
        prediction = xt.Predictor(model, "cpu").predict(image)
        height, width = image.shape
    relevance = prediction.relevance
    assert relevance.image_shape == (height, width)
    rows, columns = relevance.values.shape
    assert relevance.pixel_shape == pytest.approx((height / rows, width / columns))


def test_photographs_are_not_encoded(tmp_path: Path) -> None:
    from xt.data.encoding import open_for_encoding

    with (
        pytest.raises(ConfigError, match="the model takes photographs"),
        open_for_encoding(tmp_path / "s", toy_model(image_size=64)),
    ):
        pass
