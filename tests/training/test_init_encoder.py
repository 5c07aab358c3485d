"""A run that starts from a file of others: what is said, what the model holds, and what it says of itself."""

import hashlib
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from tests.training.toy import toy_config, toy_table
from xt import load_model
from xt.cli.main import main
from xt.errors import ConfigError, DataWarning
from xt.training.run import train

VIT = {"depth": 3, "embed_dim": 32, "num_heads": 2}
MODEL = {"encoder": "vit_tiny_patch16_224", "encoder_options": VIT, "region_size": 64, "tokens_per_region": 1}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_table(tmp_path_factory.mktemp("toy"), train=8, val=0, test=3)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """As MAE's pretraining writes it, and the weights of its encoder."""
    torch.manual_seed(11)
    weights = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0, **VIT).state_dict()
    decoder = {"decoder_embed.weight": torch.ones(16, 32), "mask_token": torch.zeros(1, 1, 16)}
    path = tmp_path_factory.mktemp("mae") / "mae_tiny.pth"
    torch.save({"model": weights | decoder, "optimizer": {"state": {}}, "args": Namespace(lr=0.1)}, path)
    return path, weights


def run(table: Path, out: Path, weights: object, encoder_train: str, **model: Any) -> Any:
    config = toy_config(
        table,
        out,
        model=MODEL | model,
        train={"init_encoder": str(weights), "epochs": 1},
        optim={"encoder_train": encoder_train},
    )
    with pytest.warns(
        DataWarning, match=r"fills the region encoder .* \(of model\); left out is decoder_embed"
    ):
        return train(config, evaluate_test=False)


@pytest.mark.parametrize("encoder_train", ["none", "lora:2"])
def test_the_file_is_where_the_model_says_it_is_from(
    table: Path,
    published: tuple[Path, dict[str, Tensor]],
    encoder_train: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, weights = published
    result = run(table, tmp_path / "run", path, encoder_train)
    found = result.model.region_encoder.network.state_dict()
    for name, value in weights.items():
        layer, _, kind = name.rpartition(".")
        own = [key for key in found if key.endswith((name, f"{layer}.base_layer.{kind}"))]
        assert any(torch.equal(found[key], value) for key in own), name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    saved = load_model(tmp_path / "run" / "model.safetensors")
    assert saved.config.encoder_origin == {"file": "mae_tiny.pth", "sha256": digest}
    assert main(["info", str(tmp_path / "run")]) == 0
    assert f"mae_tiny.pth, sha256 {digest}" in " ".join(capsys.readouterr().out.split())
    # What is said of where it is from is kept where the model is saved again.
    saved.save(tmp_path / "again.safetensors", whole=True)
    assert load_model(tmp_path / "again.safetensors").config.encoder_origin == saved.config.encoder_origin


def test_a_folder_and_a_name_of_the_hub(
    table: Path, published: tuple[Path, dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = published
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--someone--mae" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "pytorch_model.bin").write_bytes(path.read_bytes())
    (tmp_path / "hub" / "models--someone--mae" / "refs").mkdir()
    (tmp_path / "hub" / "models--someone--mae" / "refs" / "main").write_text("a" * 40)
    named = run(table, tmp_path / "named", "hf-hub:someone/mae", "none")
    origin = named.model.config.encoder_origin
    assert (origin["repository"], origin["revision"]) == ("someone/mae", "a" * 40)
    # It leaves the weights out, as they can be found again under their name.
    assert load_model(tmp_path / "named" / "model.safetensors").config.encoder_origin == origin
    folder = run(table, tmp_path / "folder", path.parent, "none")
    assert folder.model.config.encoder_origin["file"] == "mae_tiny.pth"


def test_there_is_no_such_place(table: Path, tmp_path: Path) -> None:
    for place, message in (
        (
            "none.pth",
            r"train\.init_encoder 'none\.pth': expected a file or folder of weights, or hf-hub:OWNER/NAME",
        ),
        (str(tmp_path), "expected one file of weights"),
    ):
        config = toy_config(table, tmp_path / "run", model=MODEL, train={"init_encoder": place, "epochs": 1})
        with pytest.raises(ConfigError, match=message):
            train(config, evaluate_test=False)


def test_statistics_of_a_bare_file_are_measured(
    table: Path, published: tuple[Path, Any], tmp_path: Path
) -> None:
    """Unless they are given."""
    path, _ = published
    measured = run(table, tmp_path / "measured", path, "none").model.region_encoder.scaling.mean
    assert measured.tolist() != pytest.approx([0.5] * 3, abs=1e-3)
    given = run(table, tmp_path / "given", path, "none", pixel_mean=[0.5] * 3, pixel_std=[0.25] * 3)
    assert given.model.region_encoder.scaling.std.tolist() == [0.25] * 3
