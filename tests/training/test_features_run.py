"""Runs from features of others: as from pixels with a network that stays as it is, without any pixels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from tests.data.features_of_others import some_features, write_trident
from tests.training.toy import MODEL, toy_config, toy_model, toy_table
from xt.context_encoders import CONTEXT_ENCODERS
from xt.data.encoding import encoded_batches
from xt.errors import ConfigError, DataWarning, ImageError, TableError
from xt.images import open_image
from xt.training.checkpoints import load_trained, read_checkpoint
from xt.training.run import train

STILL = {"augmentation": {"flips": False, "quarter_turns": False}}
# What a model reads, so that nothing is measured.
KNOWN = {"pixel_mean": [0.5] * 3, "pixel_std": [0.2] * 3}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_table(tmp_path_factory.mktemp("toy"), train=12, val=6, test=6)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that both runs begin with."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    toy_model(**KNOWN).save(path)
    return path


@pytest.fixture(scope="module")
def features(table: Path, weights: Path) -> Path:
    """What its network finds in each region, in TRIDENT's layout; a region is a patch."""
    from xt.model.files import load_model

    model = load_model(weights).eval()
    folder = table.parent / "features"
    for path in sorted(table.parent.glob("*.tif")):
        with open_image(path) as image:
            grid = model.grid(image)
            found = np.concatenate(list(encoded_batches(model, image, grid)))[:, 0]
            write_trident(
                folder / f"{path.stem}.h5", found, grid.origins[:, ::-1], size=64, shape=image.shape
            )
    return folder


def test_the_features_run_is_the_pixels_run_with_a_network_that_stays(
    table: Path, features: Path, weights: Path, tmp_path: Path
) -> None:
    """The known answer: which colour is the square."""
    common: Mapping[str, Any] = {
        "model": {**MODEL, **KNOWN},
        "optim": {"lr": 3e-3, "encoder_train": "none"},
    }
    runs = {}
    for name, data in (("pixels", {}), ("features", {"features": str(features)})):
        config = toy_config(
            table,
            tmp_path / name,
            **common,
            data={**STILL, **data},
            train={"epochs": 4, "init_encoder": str(weights), "out": str(tmp_path / name)},
        )
        runs[name] = train(config)
    pixels, stored = (runs[name].curves for name in ("pixels", "features"))
    for ours, theirs in zip(stored, pixels, strict=True):
        for key in ("train/loss", "val/loss"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-4), key
    for name, value in runs["pixels"].model.state_dict().items():
        torch.testing.assert_close(runs["features"].model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert runs["features"].metrics["test"]["loss"] == pytest.approx(
        runs["pixels"].metrics["test"]["loss"], rel=1e-4
    )
    assert stored[-1]["train/loss"] < stored[0]["train/loss"]


def cohort(folder: Path, *, width: int = 8, lacking: tuple[int, ...] = (), **write: Any) -> Path:
    """A table of slides that are nowhere, and a folder of features: the class is in one patch's features."""
    rows = ["slide,label,grade,split"]
    generator = np.random.default_rng(0)
    for number in range(18):
        patches = int(generator.integers(4, 9))
        values = some_features(patches, width, seed=number)
        values[generator.integers(patches), 0] = (6, -6)[number % 2]
        if number not in lacking:
            corners = generator.integers(0, 40, (patches, 2)) * 100
            write_trident(folder / "features" / f"slide.{number}.h5", values, corners, **write)
        split = ("train", "val", "test")[0 if number < 10 else number % 2 + 1]
        rows.append(f"slide.{number}.svs,{'ab'[number % 2]},{number % 2 + 0.5},{split}")
    folder.mkdir(exist_ok=True)
    (folder / "slides.csv").write_text("\n".join(rows) + "\n")
    return folder / "slides.csv"


def of_features(table: Path, out: Path, **sections: Any) -> Any:
    model = {"encoder": "features", "encoder_options": {}, "region_size": None, "tokens_per_region": None}
    sections["model"] = {
        **model,
        "context": "full",
        "context_options": {"depth": 1},
        **sections.get("model", {}),
    }
    sections["data"] = {
        "image_column": "slide",
        "features": str(table.parent / "features"),
        **sections.get("data", {}),
    }
    sections["train"] = {"out": str(out), "epochs": 1, **sections.get("train", {})}
    return toy_config(table, out, **sections)


def test_slides_that_are_nowhere_are_learned_from_their_features(tmp_path: Path) -> None:
    table = cohort(tmp_path / "cohort", lacking=(3, 17))
    with pytest.warns(
        DataWarning, match=r"2 of 18 images have no features in .*: slide\.3\.svs, slide\.17\.svs; they are"
    ):
        result = train(of_features(table, tmp_path / "run", train={"epochs": 12}))
    assert result.metrics["validation"]["images"] + result.metrics["test"]["images"] == 7
    assert result.curves[-1]["train/loss"] < 0.7 * result.curves[0]["train/loss"]
    model, config = load_trained(tmp_path / "run")
    assert config is not None
    assert dict(model.config.encoder_options) == {"width": 8, "made_by": "uni_v1"}
    with pytest.raises(
        ConfigError, match=r"was trained on features of uni_v1 \(8 numbers a patch\), and has no network"
    ):
        model(open_image(np.zeros((40, 40, 3), np.uint8)))


@pytest.mark.parametrize("context", sorted(set(CONTEXT_ENCODERS)))
def test_with_every_context_encoder(tmp_path: Path, context: str) -> None:
    table = cohort(tmp_path / "cohort")
    result = train(of_features(table, tmp_path / "run", model={"context": context, "context_options": {}}))
    assert np.isfinite(result.metrics["test"]["loss"])


@pytest.mark.parametrize(
    ("head", "labels"),
    [("multilabel", {"label_separator": ";"}), ("regression", {"label_columns": ["grade"]})],
)
def test_with_heads_about_whole_images(tmp_path: Path, head: str, labels: dict[str, Any]) -> None:
    table = cohort(tmp_path / "cohort")
    config = of_features(table, tmp_path / "run", model={"head": head}, labels=labels)
    assert np.isfinite(train(config).metrics["test"]["loss"])


def test_what_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    table = cohort(tmp_path / "cohort")
    with pytest.raises(
        ConfigError, match=r"encoder_options\.width is 5, and the features in .* say 8: leave it out"
    ):
        train(of_features(table, tmp_path / "run", model={"encoder_options": {"width": 5}}))
    with pytest.raises(
        ConfigError,
        match=r"features in .* are 8 numbers a patch of uni_v1; convnext_atto finds 32 for each of 1",
    ):
        train(
            toy_config(
                table,
                tmp_path / "a",
                model={**MODEL, **KNOWN},
                data={"image_column": "slide", "features": str(table.parent / "features")},
                train={"out": str(tmp_path / "a")},
            )
        )
    with pytest.raises(
        ConfigError, match=r"model\.encoder is 'features', .* give the folder of features \(data\.features\)"
    ):
        train(of_features(table, tmp_path / "b", data={"features": None}))
    with pytest.raises(
        ConfigError, match=r"data\.augmentation\.brightness needs pixels, and data\.features has none"
    ):
        of_features(table, tmp_path / "c", data={"augmentation": {"brightness": 0.1}})
    with pytest.raises(ConfigError, match=r"data\.tokens and data\.features both stand for the pixels"):
        of_features(table, tmp_path / "d", data={"tokens": "s.zarr"})
    with h5py.File(table.parent / "features" / "slide.4.h5", "a") as file:
        file["features"][1, 2] = np.nan
    with pytest.raises(ImageError, match=r"slide\.4\.h5: the features of patch 1 are not numbers"):
        train(of_features(table, tmp_path / "e"))


def test_the_encoder_need_not_be_named() -> None:
    from xt.config.parser import config_from_dict

    config = config_from_dict({"model": {"context": "none"}, "data": {"table": "t.csv", "features": "f"}})
    assert config.model.encoder == "features"
    with pytest.raises(ConfigError, match=r"model\.encoder is missing"):
        config_from_dict({"model": {"context": "none"}})


def last(run: Path) -> Mapping[str, torch.Tensor]:
    """The weights of the last epoch."""
    return read_checkpoint(run / "checkpoints" / "last.ckpt").weights


def test_a_run_goes_on_from_pixels_where_the_features_left_off(
    table: Path, features: Path, weights: Path, tmp_path: Path
) -> None:
    """From a store and from files of a stated encoder: as with pixels and a network that rests for an epoch."""
    from xt.data.encoding import encode_image, open_for_encoding
    from xt.model.files import load_model

    model = load_model(weights).eval()
    with open_for_encoding(tmp_path / "s.zarr", model, dtype="float32") as store:
        for path in sorted(table.parent.glob("*.tif")):
            encode_image(store, model, path)
    common: Mapping[str, Any] = {"model": {**MODEL, **KNOWN}}
    rest = {"lr": 3e-3, "encoder_train": {0: "none", 1: "all"}}
    given = {
        "pixels": ({}, rest),
        "store": ({"features": str(tmp_path / "s.zarr")}, {"lr": 3e-3, "unfreeze_at": 1}),
        "files": ({"features": str(features)}, {"lr": 3e-3, "unfreeze_at": 1}),
    }
    runs = {
        name: train(
            toy_config(
                table,
                tmp_path / name,
                **common,
                optim=optim,
                data={**STILL, **data},
                train={"epochs": 2, "init_encoder": str(weights), "out": str(tmp_path / name)},
            )
        )
        for name, (data, optim) in given.items()
    }
    expected = runs["pixels"]
    for name in ("store", "files"):
        for ours, theirs in zip(runs[name].curves, expected.curves, strict=True):
            for key in ("train/loss", "val/loss"):
                assert ours[key] == pytest.approx(theirs[key], rel=1e-3), (name, key)
        for key, value in last(tmp_path / "pixels").items():
            torch.testing.assert_close(last(tmp_path / name)[key], value, rtol=1e-2, atol=1e-3)
        assert runs[name].metrics["test"]["loss"] == pytest.approx(expected.metrics["test"]["loss"], rel=1e-3)
    before = load_model(weights).state_dict()
    learned = [
        name for name, value in last(tmp_path / "store").items() if not torch.equal(before[name], value)
    ]
    assert any("backbone" in name for name in learned)


def test_when_nothing_could_go_on_it_is_said(tmp_path: Path) -> None:
    table = cohort(tmp_path / "cohort")
    with pytest.raises(TableError, match="10 of 10 images are not on disk"):
        train(of_features(table, tmp_path / "run", optim={"unfreeze_at": 1}))
    for optim, sentence in (
        (
            {"unfreeze_at": 1, "encoder_train": "none"},
            r"what of it then: all, last:N or norm_and_bias, got 'none'",
        ),
        ({"unfreeze_at": 1, "encoder_train": "lora:4"}, r"got 'lora:4'"),
        ({"unfreeze_at": 0}, r"optim\.unfreeze_at must be"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            of_features(table, tmp_path / "run", optim=optim)
    with pytest.raises(
        ConfigError, match=r"ends the epochs in which features stand for pixels, and there are none"
    ):
        of_features(table, tmp_path / "run", data={"features": None}, optim={"unfreeze_at": 1})


def test_a_recipe_is_taken_for_features(tmp_path: Path) -> None:
    """Its region encoder and changes of colour are of pixels; what is typed, and one's own file, stand as they are."""
    from xt.config.parser import load_config

    given = ["--data.table", "t.csv", "--data.features", "f"]
    for name in ("classification", "survival", "ordinal", "multitask"):
        config = load_config(name, given)
        assert (config.model.encoder, config.model.pretrained) == ("features", False)
        assert (config.data.augmentation.brightness, config.data.augmentation.flips) == (0, True)
        assert config.model.head == name
    typed = load_config("classification", [*given, "--optim.unfreeze_at", "3"])
    assert typed.model.encoder == load_config("classification", given[:2]).model.encoder
    assert (
        load_config("survival", [*given, "--model.encoder", "convnext_atto"]).model.encoder == "convnext_atto"
    )
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: survival\ndata: {table: t.csv, features: f}\n")
    assert load_config(mine).model.encoder == "features"
    mine.write_text(
        "model: {encoder: convnext_atto}\ndata: {table: t.csv, features: f, augmentation: {contrast: 0.1}}\n"
    )
    with pytest.raises(ConfigError, match=r"contrast needs pixels, and data\.features has none"):
        load_config(mine)
    with pytest.raises(ConfigError, match=r"brightness needs pixels, and data\.features has none"):
        load_config("classification", [*given, "--data.augmentation.brightness", "0.1"])


def test_it_is_checked_which_slides_have_features_and_whether_they_are_alike(tmp_path: Path) -> None:
    from xt.checking import check

    table = cohort(tmp_path / "cohort", lacking=(3,))
    settings = [f"--data.features={table.parent / 'features'}"]
    result = check(str(table), overrides=settings)
    assert "images     18" in str(result)
    assert "1 of 18 images has no features in" in str(result)
    assert result.status == 1
    write_trident(table.parent / "features" / "slide.3.h5", some_features(2, 5), np.zeros((2, 2)))
    result = check(str(table), overrides=settings)
    assert "are not of one encoder: numbers a patch 8 and 5" in str(result)
    assert result.status == 2
