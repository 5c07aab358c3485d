"""A segmentation that chooses its regions, whole, by the command line: trained, killed, gone on with, measured."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import xt
from tests.training.test_resuming import finish, start
from xt.cli.main import main
from xt.model.files import load_model

CONFIG = """
model:
  encoder: convnext_atto
  encoder_options: {{depths: [1, 1, 1, 1], dims: [8, 16, 24, 32]}}
  pretrained: false
  head: segmentation
  head_options: {{width: 16}}
  region_size: 64
  tokens_per_region: 1
  context: full
  context_options: {{depth: 1}}
  dim: 32
  regions: {regions}
  levels: 3
  regions_options: {{budget: 0.4}}
data:
  table: table.csv
  augmentation: {{train_size: 384, windows: 3, label_centred: 0.5}}
labels: {{class_names: [ground, cell], mask_values: [0, 255]}}
optim: {{lr: 1.0e-2, layer_decay: 1.0}}
train: {{out: run, epochs: 4, batch_size: 2, budget_loss: 2.0}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Photographs of bright cells, close together in a quarter of each, with white masks, and a table."""
    rng = np.random.default_rng(0)
    rows = ["image,mask,split"]
    for number, split in enumerate(["train"] * 5 + ["val"] * 2 + ["test"] * 2):
        mask = Image.new("L", (512, 384))
        left, top = rng.integers(0, 256), rng.integers(0, 192)
        for _ in range(30):
            y, x, radius = rng.integers(top, top + 192), rng.integers(left, left + 256), rng.integers(6, 12)
            ImageDraw.Draw(mask).ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        pixels = rng.normal(20, 2, (384, 512, 3)) + 120 * (np.array(mask)[..., None] > 0)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        mask.save(tmp_path / f"{number}_mask.png")
        rows.append(f"{number}.png,{number}_mask.png,{split}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Four epochs are few for one that is to learn where to look: that no budget is good enough is said then.
@pytest.mark.filterwarnings("ignore:train.budget_loss. no budget of regions keeps mean_iou within 2 points")
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("regions", ["by_content", "by_model"])
def test_from_a_table_to_masks_of_a_share_of_the_regions(folder, regions, capsys):
    config = folder / "masks.yaml"
    config.write_text(CONFIG.format(regions=regions))
    assert main(["train", str(config), "--train.out", "whole"]) == 0
    assert "of the regions), mean_iou" in capsys.readouterr().out
    # Killed within the second epoch, and gone on with: the same weights and the same budget.
    killed = start(config, "--train.out=run", "--train.checkpoint_every=3 steps", "--kill-at=12")
    killed.communicate(timeout=280)
    assert killed.returncode < 0
    assert not (folder / "run" / "model.safetensors").exists()
    finish(start(config, "--train.out=run", "--train.checkpoint_every=3 steps", "--resume"))
    whole, resumed = (load_model(folder / name / "model.safetensors") for name in ("whole", "run"))
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    assert resumed.reading.choice.budget == whole.reading.choice.budget

    # The budget is the least of those tried that costs at most two points, or the largest.
    metrics = json.loads((folder / "whole" / "metrics.json").read_text())
    budget = metrics["budget"]
    enough = [
        float(name)
        for name, one in budget["tried"].items()
        if one["value"] is not None and one["value"] >= budget["all"] - 0.02
    ]
    assert budget["chosen"] == whole.reading.choice.budget == (enough[0] if enough else 1.0)
    assert metrics["validation"]["mean_iou"] == pytest.approx(
        budget["tried"][f"{budget['chosen']:g}"]["value"]
    )

    images = ["7.png", "8.png"]
    assert main(["predict", "whole", *images, "--out", "found", "--budget", "0.3", "--outlines"]) == 0
    rows = list(csv.DictReader((folder / "found" / "predictions.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == images
    for row in rows:
        name = row["image"].removesuffix(".png")
        assert float(row["share_of_regions"]) <= 0.3
        regions_file = json.loads((folder / "found" / row["regions_looked_at"]).read_text())
        scales = [one["properties"]["measurements"]["scale"] for one in regions_file["features"]]
        assert max(scales) > 1
        with xt.open_image(folder / "found" / row["mask"]) as file:
            mask = file.read(0, 0, 384, 512)[..., 0]
        true = np.array(Image.open(folder / f"{name}_mask.png")) > 0
        assert int(row["pixels(cell)"]) == (mask == 1).sum()
        assert ((mask == 1) & true).sum() > 0.4 * ((mask == 1) | true).sum()
        assert (folder / "found" / row["outlines"]).exists()

    # What info counts is what is looked at; of a model that asks when it looks, the most, those it opened with them.
    capsys.readouterr()
    counted = rows[0]["regions"] if regions == "by_content" else "14"
    assert main(["info", "7.png", "--model", "whole", "--budget", "0.3"]) == 0
    assert f"tokens     {counted} (1 a region)" in capsys.readouterr().out
    assert main(["plan", "--model", "whole", "--image", "7.png", "--budget", "0.3"]) == 0
    assert f"regions   {counted}\n" in capsys.readouterr().out

    command = ["evaluate", "whole", "table.csv", "--against-all", "--budget", "0.3", "--out", "measured"]
    assert main([*command, "--resamples", "20"]) == 0
    said = capsys.readouterr().out
    assert "of the pixels differ (95 % interval" in said
    measured = json.loads((folder / "measured" / "metrics.json").read_text())
    looked = measured["against"]["looked"]
    assert 0 < looked["differ"] < 0.05
    assert looked["share"] <= 0.3
    # Both of the masks that were written, together.
    cells = [np.array(Image.open(folder / f"{name[0]}_mask.png")) > 0 for name in images]
    masks = [xt.open_image(folder / "found" / row["mask"]).read(0, 0, 384, 512)[..., 0] == 1 for row in rows]
    right = np.mean([(one == other).mean() for one, other in zip(masks, cells, strict=True)])
    assert measured["pixel_accuracy"] == pytest.approx(right, abs=1e-5)
