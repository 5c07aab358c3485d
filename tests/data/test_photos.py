"""Photographs: the same pixels whoever reads them, the same changes whichever process draws them."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import xt
from tests.inaturalist_files import write_inaturalist
from xt.data.dataset import EpochSampler
from xt.data.inaturalist import read_inaturalist
from xt.data.photo_dataset import (
    PhotoBatch,
    PhotoDataset,
    photo_loader,
    photo_statistics,
    random_change,
    seeded,
)
from xt.data.photos import Photos
from xt.errors import ConfigError, ImageError, ShapeError
from xt.images.photo import read_photo, squares
from xt.labels.image_table import ImageTable

STRONG = Photos(auto_augment="rand-m9-mstd0.5-inc1", scale=(0.3, 1.0))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    return read_inaturalist(write_inaturalist(tmp_path_factory.mktemp("inat")))


def _epoch(table: ImageTable, *, workers: int, seed: int = 0, epoch: int = 0) -> dict[int, torch.Tensor]:
    sampler = EpochSampler(len(table), seed=seed)
    sampler.set_epoch(epoch)
    dataset = PhotoDataset(table, 64, STRONG, seed)
    loader = photo_loader(dataset, 4, workers=workers, sampler=sampler)
    return {place: image for batch in loader for place, image in zip(batch.places, batch.images, strict=True)}


def test_changes_are_those_of_seed_epoch_and_image_however_many_workers_there_are(
    table: ImageTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also on a machine of one core: the test is about the order in which several processes draw.
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    alone, several = _epoch(table, workers=0), _epoch(table, workers=3)
    assert sorted(alone) == sorted(several) == list(range(len(table)))
    assert all(torch.equal(alone[place], several[place]) for place in alone)
    for other in (_epoch(table, workers=0, epoch=1), _epoch(table, workers=0, seed=1)):
        assert sum(torch.equal(alone[place], other[place]) for place in alone) < 3


def test_reading_leaves_the_generators_as_they_were(table: ImageTable) -> None:
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    _ = PhotoDataset(table, 64, STRONG)[3, 5]
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_the_change_is_timm_s(table: ImageTable) -> None:
    found = PhotoDataset(table, 48, STRONG, seed=5)[2, 7].image
    with seeded(5, 2, 7):
        expected = random_change(STRONG, 48)(read_photo(table.paths[7]))
    assert torch.equal(found, torch.as_tensor(expected))
    assert found.dtype == torch.uint8
    assert found.shape == (3, 48, 48)


def test_without_changes_the_whole_image_is_resized(table: ImageTable) -> None:
    item = PhotoDataset(table, 32)[3]
    with Image.open(table.paths[3]) as image:
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(item.image.permute(1, 2, 0).numpy(), expected)
    assert int(item.target) == table.targets[3]


def test_a_model_sees_of_a_file_what_evaluation_sees(table: ImageTable) -> None:
    """GDAL and PIL decode JPEG to within some steps of 255; what they decoded is resized by one function."""
    with xt.open_image(table.paths[0]) as image:
        whole = squares([image], 48)[0]
    assert (whole.int() - PhotoDataset(table, 48)[0].image.int()).abs().max() <= 3
    grey = xt.open_image(np.arange(64, dtype=np.uint8).reshape(8, 8, 1))
    assert squares([grey], 8).unique(dim=1).shape == (1, 1, 8, 8)
    with pytest.raises(ShapeError, match="2 channels of float32"):
        squares([xt.open_image(np.zeros((8, 8, 2), np.float32))], 8)


def test_kinds_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.arange(100, dtype=np.uint8).reshape(10, 10)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert read_photo(tmp_path / "grey.png").mode == "RGB"
    Image.fromarray(grey).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert read_photo(tmp_path / "cmyk.jpg").mode == "RGB"
    Image.fromarray(grey.astype(np.uint16) * 200).save(tmp_path / "deep.png")
    with pytest.raises(ImageError, match=r"deep\.png has pixels of more than 8 bits"):
        read_photo(tmp_path / "deep.png")
    with pytest.raises(ImageError, match=r"none\.jpg cannot be read: .*No such file"):
        read_photo(tmp_path / "none.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageError, match=r"text\.jpg is not an image that can be read whole"):
        read_photo(tmp_path / "text.jpg")
    monkeypatch.setattr("xt.images.photo.LARGEST_PIXELS", 99)
    with pytest.raises(ImageError, match="10 x 10 pixels, too large to be read whole"):
        read_photo(tmp_path / "grey.png")
    with pytest.raises(ImageError, match="too large to be read whole"):
        squares([xt.open_image(np.zeros((10, 10, 3), np.uint8))], 8)


def test_a_damaged_file_is_named_in_one_sentence(table: ImageTable, tmp_path: Path) -> None:
    whole = Path(table.paths[0]).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    broken = ImageTable("t", (tmp_path / "cut.jpg",), np.array([0]), ("a",))
    with pytest.raises(ImageError, match=r"cut\.jpg cannot be read") as caught:
        list(photo_loader(PhotoDataset(broken, 32), 1, workers=1))
    assert "Traceback" not in str(caught.value)


def test_decoding_is_done_by_other_processes(table: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.getpid()
    read = read_photo

    def elsewhere(path: Any) -> Image.Image:
        assert os.getpid() != here
        return read(path)

    monkeypatch.setattr("xt.data.photo_dataset.read_photo", elsewhere)
    monkeypatch.setattr("xt.data.dataset.open_image", None)
    batches = list(photo_loader(PhotoDataset(table, 32), 5, workers=1))
    assert [len(batch.places) for batch in batches] == [5, 5, 5, 5, 4]
    assert {batch.images.dtype for batch in batches} == {torch.uint8}
    batch: PhotoBatch = batches[0]
    assert torch.equal(batch.views[2][0], batch.images[2])


def test_statistics(table: ImageTable) -> None:
    dataset = PhotoDataset(table, 16)
    pixels = torch.stack([dataset[index].image for index in range(len(table))]).double() / 255
    mean, std = photo_statistics(dataset, 100, seed=0)
    assert mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), rel=1e-9)
    assert std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": -1}, "data.photos.workers must be >= 0, got -1"),
        ({"hflip": 1.5}, r"data.photos.hflip must be in \[0, 1\], got 1.5"),
        ({"mixup": -0.1}, "data.photos.mixup must be >= 0"),
        ({"scale": (0.5, 0.2)}, "data.photos.scale must be two rising shares"),
        ({"ratio": (0.0, 1.0)}, "data.photos.ratio must be two rising numbers above 0"),
        ({"color_jitter": 0.4, "auto_augment": "rand-m9"}, "give one of them"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Photos(**settings)


def test_an_augmentation_that_timm_does_not_know() -> None:
    for wrong in ("magic", "rand-q9"):
        with pytest.raises(ConfigError, match=f"timm does not know data.photos.auto_augment '{wrong}'"):
            random_change(Photos(auto_augment=wrong), 32)
