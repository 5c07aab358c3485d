"""Training from a store of features: it learns, and what comes out is a whole model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.toy import toy_config, toy_model
from xt.config.run import RunConfig
from xt.data import dataset
from xt.data.encoding import encode_image, open_for_encoding
from xt.data.feature_store import FeatureStore, identity_of
from xt.errors import CheckpointError, ConfigError, TableError
from xt.images import open_image
from xt.model.files import load_model
from xt.model.xt import XT
from xt.training.preparation import prepare_model
from xt.training.run import RunResult, train

PLAIN = {"augmentation": {"flips": False, "quarter_turns": False}}
FLIPPED = {"augmentation": {"flips": True, "quarter_turns": False}}


@pytest.fixture(scope="module")
def encoder() -> XT:
    torch.manual_seed(1)
    return toy_model(tokens_per_region=4, pixel_mean=[0.35] * 3, pixel_std=[0.1] * 3).eval()


@pytest.fixture(scope="module")
def store(encoder: XT, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "tokens.zarr"
    with open_for_encoding(path, encoder, dtype="float32", views=4) as opened:
        for image in sorted(table.parent.glob("*.tif")):
            encode_image(opened, encoder, image)
    return path


def config_for(store: Path, table: Path, out: Path, **sections: dict[str, Any]) -> RunConfig:
    data = {"tokens": str(store), **FLIPPED, **sections.pop("data", {})}
    model = {"tokens_per_region": 4, **sections.pop("model", {})}
    return toy_config(table, out, data=data, model=model, **sections)


@pytest.fixture(scope="module")
def trained(store: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        # Nobody may look at a pixel.
        patch.setattr(dataset, "open_image", None)
        return train(config_for(store, table, out, train={"epochs": 15}, optim={"lr": 1e-2}))


@pytest.mark.slow
def test_it_learns(trained: RunResult) -> None:
    assert trained.curves[-1]["train/loss"] < 0.6 * trained.curves[0]["train/loss"]
    assert trained.metrics["test"]["images"] == 9


def test_what_comes_out_predicts_from_pixels_the_same(trained: RunResult, store: Path, table: Path) -> None:
    model = load_model(trained.folder / "model.safetensors").eval()
    paths = sorted(table.parent.glob("test_*.tif"))
    stored = [FeatureStore(store).image(path) for path in paths]
    opened = [open_image(path) for path in paths]
    with torch.no_grad():
        torch.testing.assert_close(model(opened), model(stored), rtol=1e-4, atol=1e-4)
        assert model(opened).argmax(1).unique().numel() > 1


def test_a_whole_model_comes_out(trained: RunResult, encoder: XT, store: Path) -> None:
    model = load_model(trained.folder / "model.safetensors")
    assert identity_of(model) == identity_of(encoder) == FeatureStore(store).identity
    assert model.config.pixel_mean == pytest.approx([0.35] * 3)
    start, _ = prepare_model(trained.config, None)  # type: ignore[arg-type]
    for name in ("norm", "projection"):
        before, after = getattr(start.region_encoder, name), getattr(model.region_encoder, name)
        assert not torch.equal(before.weight, after.weight), name
    # And on, end to end.
    model([open_image(torch.zeros(3, 80, 90))]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.region_encoder.network.parameters())


def test_epochs_from_the_store_are_epochs_from_pixels(
    store: Path, table: Path, encoder: XT, tmp_path: Path
) -> None:
    """The same images in the same order, flipped alike: the same losses as with a frozen region encoder."""
    encoder.save(tmp_path / "encoder.safetensors")
    losses = []
    for name, tokens in (("pixels", None), ("tokens", str(store))):
        config = config_for(
            store,
            table,
            tmp_path / name,
            data={"tokens": tokens},
            train={"epochs": 2, "init_encoder": str(tmp_path / "encoder.safetensors")},
            optim={"encoder_lr_factor": 0.0},
        )
        losses.append([row["train/loss"] for row in train(config, evaluate_test=False).curves])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"augmentation": {"brightness": 0.1}},
            r"data\.augmentation\.brightness needs pixels, and data\.tokens",
        ),
        (
            {"augmentation": {"saturation": 0.1, "train_size": 64}},
            r"data\.augmentation\.saturation and data\.augmentation\.train_size need pixels, and data\.tokens",
        ),
        ({"view": "crop"}, r"data\.view must be 'whole', got 'crop'"),
    ],
)
def test_what_needs_pixels_is_refused(
    store: Path, table: Path, tmp_path: Path, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config_for(store, table, tmp_path / "run", data=data)


def test_what_does_not_fit_the_store_is_refused_before_the_first_step(
    store: Path, table: Path, encoder: XT, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(
        ConfigError, match=r"asks for flips and quarter_turns, which need 8 views .* has 4: set"
    ):
        train(config_for(store, table, out, data={"augmentation": {}}))
    with pytest.raises(
        CheckpointError, match=r"its model\.pooling is max, here it is mean; set it to that, or"
    ):
        train(config_for(store, table, out, model={"pooling": "mean"}))
    with pytest.raises(CheckpointError, match=r"another pixel_mean and pixel_std"):
        train(config_for(store, table, out, model={"pixel_mean": [0.5] * 3, "pixel_std": [0.1] * 3}))
    torch.manual_seed(2)
    toy_model(tokens_per_region=4).save(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"of the same kind, but with other weights"):
        train(config_for(store, table, out, train={"init_encoder": str(tmp_path / "other.safetensors")}))
    with open_for_encoding(tmp_path / "few.zarr", encoder):
        pass
    with pytest.raises(
        TableError, match=r"table\.csv: 39 of 39 images are not in .*few\.zarr, or were changed"
    ):
        train(config_for(tmp_path / "few.zarr", table, out, data=PLAIN))
