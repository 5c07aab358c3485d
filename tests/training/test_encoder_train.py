"""A run trains a part of the region encoder: which, when, what it writes, and how that is found again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from tests.distributed.processes import run_processes
from tests.training.toy import MODEL, toy_config, toy_table
from xt import load_model, open_image
from xt.cli.info_model import description
from xt.cli.main import main
from xt.config.parser import config_from_dict, config_to_yaml
from xt.errors import CheckpointError, ConfigError
from xt.model.build import create_model
from xt.training.checkpoints import load_trained
from xt.training.run import RunResult, train

VIT = {"depth": 3, "embed_dim": 32, "num_heads": 2}
ENCODER = {
    "encoder": "vit_tiny_patch16_224",
    "encoder_options": VIT,
    "region_size": 64,
    "tokens_per_region": 1,
}
PREFIX = "region_encoder.backbone."


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without images to validate on, so that what is left is of the last epoch."""
    return toy_table(tmp_path_factory.mktemp("toy"), train=8, val=0, test=3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of a pretraining."""
    torch.manual_seed(11)
    network = create_model(ENCODER["encoder"], **{k: v for k, v in ENCODER.items() if k != "encoder"}, dim=8)
    path = tmp_path_factory.mktemp("base") / "pretraining.safetensors"
    safetensors.torch.save_file(network.region_encoder.network.state_dict(), path)
    return path


def run(
    table: Path,
    out: Path,
    weights: Path | None,
    encoder_train: object,
    dtype: str = "float32",
    **train_settings: object,
) -> RunResult:
    config = toy_config(
        table,
        out,
        model={**ENCODER, "encoder_dtype": dtype},
        train={"init_encoder": None if weights is None else str(weights), **train_settings},
        optim={"encoder_train": encoder_train},
    )
    return train(config, evaluate_test=False)


def answers(model: object, table: Path) -> torch.Tensor:
    image = open_image(table.parent / "test_0.tif")
    with torch.no_grad():
        return model.eval()(image)  # type: ignore[operator]


def held(path: Path) -> tuple[set[str], dict[str, str]]:
    with safetensors.safe_open(path, framework="pt") as file:
        return set(file.keys()), file.metadata()


@pytest.mark.parametrize(
    "what",
    [
        "none",
        "last:1",
        "lora:2",
        *(pytest.param(what, marks=pytest.mark.slow) for what in ("dora:2", "norm_and_bias")),
    ],
)
def test_only_what_is_trained_is_written_and_the_rest_found_again(
    table: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    result = run(table, tmp_path / "run", weights, what)
    capsys.readouterr()
    assert main(["info", str(tmp_path / "run")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    base = safetensors.torch.load_file(weights)
    network = result.model.region_encoder.network.state_dict()
    same = {name for name, value in base.items() if torch.equal(value, network[_found(name, network)])}
    assert same, "what is frozen is as it was, bit for bit"
    assert (same == set(base)) == (what in ("none", "lora:2", "dora:2"))
    names, metadata = held(tmp_path / "run" / "model.safetensors")
    assert not {PREFIX + _found(name, network) for name in same} & names
    assert json.loads(metadata["base"])["tensors"] == len(same)
    assert f"left out {len(same)} weights of its base" in shown
    assert ("adapter" in shown) == ("ora" in what)
    assert json.loads(metadata["config"])["adapter"] == (what if "ora" in what else None)
    expected = answers(result.model, table)
    again = load_model(tmp_path / "run" / "model.safetensors")
    assert torch.equal(answers(again, table), expected)
    assert torch.equal(
        answers(load_trained(tmp_path / "run" / "checkpoints" / "last.ckpt")[0], table), expected
    )
    again.save(tmp_path / "again.safetensors")
    assert held(tmp_path / "again.safetensors")[0] == names
    again.save(tmp_path / "whole.safetensors", whole=True)
    assert "base" not in held(tmp_path / "whole.safetensors")[1]


def _found(name: str, network: dict[str, torch.Tensor]) -> str:
    layer, _, kind = name.rpartition(".")
    return name if name in network else f"{layer}.base_layer.{kind}"


def test_elsewhere_the_base_lies_beside_the_file_or_it_is_said_what_is_missing(
    table: Path, weights: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "here" / weights.name
    moved.parent.mkdir()
    shutil.copy(weights, moved)
    result = run(table, tmp_path / "run", moved, "lora:2")
    expected = answers(result.model, table)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "run" / "model.safetensors", elsewhere)
    moved.unlink()
    with pytest.raises(
        CheckpointError, match=r"holds what was trained beside the weights of vit_tiny.*put it there"
    ):
        load_model(elsewhere / "model.safetensors")
    shutil.copy(weights, elsewhere)
    assert torch.equal(answers(load_model(elsewhere / "model.safetensors"), table), expected)
    other = {name: value + 1 for name, value in safetensors.torch.load_file(weights).items()}
    safetensors.torch.save_file(other, elsewhere / weights.name)
    with pytest.raises(
        CheckpointError, match=r"was trained beside other weights than those of .* wants those of sha256"
    ):
        load_model(elsewhere / "model.safetensors")


@pytest.mark.parametrize("damage", ["[]", "{}", '{"pretrained": 3}', "nonsense"])
def test_a_damaged_description_of_the_base_is_refused(
    table: Path, weights: Path, tmp_path: Path, damage: str
) -> None:
    model = create_model(ENCODER["encoder"], **{k: v for k, v in ENCODER.items() if k != "encoder"}, dim=8)
    model.save(tmp_path / "model.safetensors")
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    metadata = held(tmp_path / "model.safetensors")[1] | {"base": damage}
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors", metadata)
    with pytest.raises(CheckpointError, match="is not known here"):
        load_model(tmp_path / "model.safetensors")


def test_everything_is_written_where_that_is_wanted_or_nobody_could_find_the_base(
    table: Path, weights: Path, tmp_path: Path
) -> None:
    run(table, tmp_path / "whole", weights, "lora:2", whole=True, epochs=1)
    run(table, tmp_path / "random", None, "lora:2", epochs=1)
    for name in ("whole", "random"):
        names, metadata = held(tmp_path / name / "model.safetensors")
        assert "base" not in metadata
        assert any(name.endswith("base_layer.weight") for name in names)
        load_model(tmp_path / name / "model.safetensors")


def test_frozen_at_first_and_then_the_last_layers(table: Path, weights: Path, tmp_path: Path) -> None:
    stages = {0: "none", 1: "last:1"}
    first = run(table, tmp_path / "one", weights, stages, epochs=1)
    base = safetensors.torch.load_file(weights)
    for name, value in first.model.region_encoder.network.state_dict().items():
        assert torch.equal(value, base[name]), name
    whole = run(table, tmp_path / "three", weights, stages, epochs=3)
    changed = {
        n for n, v in whole.model.region_encoder.network.state_dict().items() if not torch.equal(v, base[n])
    }
    assert changed
    # The norm behind the last block is one of the last layers.
    assert all(name.startswith(("model.blocks.2.", "model.norm.")) for name in changed)


@pytest.mark.parametrize(
    "what",
    [
        *(pytest.param(what, marks=pytest.mark.slow) for what in ("lora:2", "last:1")),
        {0: "none", 1: "lora:2"},
    ],
)
def test_a_killed_run_goes_on_to_the_same_weights(
    table: Path, weights: Path, tmp_path: Path, what: object
) -> None:
    whole = run(table, tmp_path / "whole", weights, what, epochs=3)
    stages = {"max_seconds": None}
    # The same curve of learning rates: killed behind the second epoch of three.
    with pytest.raises(KeyboardInterrupt):
        _killed(table, tmp_path / "killed", weights, what)
    resumed = run(table, tmp_path / "killed", weights, what, epochs=3, resume="auto", **stages)
    for (name, ours), theirs in zip(
        resumed.model.state_dict().items(), whole.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def _killed(table: Path, out: Path, weights: Path, what: object) -> None:
    from lightning.pytorch import Callback

    class Kill(Callback):
        def on_train_epoch_start(self, trainer: object, pl_module: object) -> None:
            if trainer.current_epoch == 2:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

    config = toy_config(
        table,
        out,
        model=ENCODER,
        train={"init_encoder": str(weights), "epochs": 3},
        optim={"encoder_train": what},
    )
    train(config, callbacks=[Kill()], evaluate_test=False)


@pytest.mark.parametrize(
    "dtype", ["int8", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("bfloat16", "float8"))]
)
def test_weights_of_few_digits_are_loaded_as_they_were_trained(
    table: Path, weights: Path, tmp_path: Path, dtype: str
) -> None:
    result = run(table, tmp_path / "run", weights, "lora:2", dtype, epochs=1)
    expected, file = answers(result.model, table), tmp_path / "run" / "model.safetensors"
    assert not any(name.startswith(PREFIX) and ".lora_" not in name for name in held(file)[0])
    again = load_model(file)
    assert again.region_encoder.encoder_dtype == dtype
    assert torch.equal(answers(again, table), expected)
    again.save(tmp_path / "whole.safetensors", whole=True)
    for path in (tmp_path / "whole.safetensors", tmp_path / "run" / "checkpoints" / "last.ckpt"):
        other = load_trained(path)[0] if path.suffix == ".ckpt" else load_model(path)
        assert torch.equal(answers(other, table), expected)
    assert dict(description(file))["weights in"] == f"{dtype}, those of the region encoder"
    resumed = run(table, tmp_path / "run", weights, "lora:2", dtype, epochs=2, resume="auto").model
    laid = load_model(file).region_encoder
    for name, value in resumed.region_encoder.network.state_dict().items():
        assert torch.equal(value, laid.network.state_dict()[name]), name
        assert ".lora_" in name or torch.equal(value, again.region_encoder.network.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int8", "float8"])
def test_two_processes_share_weights_of_few_digits(
    table: Path, weights: Path, tmp_path: Path, dtype: str
) -> None:
    one = run(table, tmp_path / "one", weights, "lora:2", dtype, epochs=1, batch_size=2)
    config = tmp_path / "config.yaml"
    settings = {"devices": 2, "strategy": "ddp", "batch_size": 1, "out": str(tmp_path / "two")}
    changed = replace(one.config.train, **settings)
    config.write_text(config_to_yaml(replace(one.config, train=changed)))
    run_processes(2, "-m", "tests.training.resuming_worker", str(config))
    alone, shared = (load_model(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(answers(shared, table), answers(alone, table), rtol=1e-4, atol=1e-4)


def test_activations_computed_again_change_nothing(table: Path, weights: Path, tmp_path: Path) -> None:
    plain = run(table, tmp_path / "plain", weights, "all", epochs=1)
    again = run(table, tmp_path / "again", weights, "all", epochs=1, checkpoint_activations=True)
    for (name, ours), theirs in zip(
        again.model.state_dict().items(), plain.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)


def _config(**sections: dict[str, object]) -> object:
    return config_from_dict({"model": MODEL, "data": {"table": "t.csv"}, **sections})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optim": {"encoder_train": "heads"}}, "optim.encoder_train must be one of all, none"),
        ({"optim": {"encoder_train": {3: "none"}}}, "must say what is trained from epoch 0 on"),
        ({"optim": {"encoder_train": "lora:2", "encoder_lr_factor": 0}}, "leave one of them out"),
        ({"model": {**MODEL, "encoder_dtype": "bfloat16"}}, "too coarse for weights that are trained"),
        ({"model": {**MODEL, "encoder_dtype": "int8"}}, "encoder_dtype is int8, which is too coarse for weights that"),
        ({"model": {**MODEL, "encoder_dtype": "int3"}}, "one of float32, bfloat16, int8, float8, got 'int3'"),
        ({"model": {**MODEL, "adapter": "last:1"}}, "adapter must be lora:RANK or dora:RANK"),
        ({"model": {**MODEL, "adapter": "lora:2"}}, "model.adapter is lora:2, and optim.encoder_train 'all'"),
        (
            {"data": {"table": "t.csv", "tokens": "s"}, "optim": {"encoder_train": "lora:2"}},
            "leave optim.encoder_train",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(sections: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _config(**sections)


def test_a_learning_rate_of_zero_goes_on_freezing() -> None:
    assert _config(optim={"encoder_lr_factor": 0}).optim.schedule.is_frozen  # type: ignore[attr-defined]
