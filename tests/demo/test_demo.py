"""The demo as a user runs it, in small; and the process that predicts the giant image."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import xt
from xt.cli.main import main
from xt.demo.digits import ASSETS
from xt.demo.giant import find_in_fresh_process
from xt.demo.giant_scene import find_on_giant
from xt.demo.key_scenes import KeyLayout
from xt.demo.key_task import GIANT, found_points, key_model, key_scene
from xt.demo.run import run_demo
from xt.demo.settings import FULL, QUICK
from xt.errors import XTError


def test_giant_is_searched_in_a_fresh_process_as_in_this_one(tmp_path: Path) -> None:
    model = key_model("mamba", seed=3).eval()
    with torch.no_grad():
        # Untrained it would find nothing.
        model.head.predict.bias += 4
    model.save(tmp_path / "model.safetensors")
    told: list[tuple[str, float, float]] = []
    layout = KeyLayout(300, 420, kinds=3, of_each=2)
    giant = find_on_giant(
        tmp_path / "model.safetensors",
        0.0,
        layout,
        5,
        tmp_path / "giant.tif",
        lambda what, done, total, _: told.append((what, done, total)),
    )
    scene = key_scene(layout, "heldout", 5, GIANT)
    with xt.open_image(tmp_path / "giant.tif") as image:
        assert np.array_equal(image.read(0, 0, 300, 420)[..., 0], scene.pixels())
    here = found_points(model, scene)
    assert len(here) > 0
    np.testing.assert_allclose(giant.measured.points.y, here.y, atol=1e-3)
    np.testing.assert_allclose(giant.measured.points.scores, here.scores, atol=1e-4)
    assert giant.measured.regions == 12
    assert 2**27 < giant.measured.peak_bytes < 3 * 2**30
    assert giant.measured.cpu_seconds > 0
    summary = giant.summary()
    assert (summary["height"], summary["width"], summary["digits"], summary["true"]) == (300, 420, 6, 2)
    assert summary["found"] == len(here)
    assert summary["chance"] == 0.5
    assert giant.zooms[0].what == "the key"
    searched = [done for what, done, _ in told if what == "search the giant image"]
    assert searched == sorted(searched)
    # Half of the work is finding the tokens.
    assert 50 in searched
    assert told[-1] == ("search the giant image", 100, 100)


def test_a_failed_process_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(XTError, match=r"finding points on .*image\.tif ended with status 1 .*nowhere\.safe"):
        find_in_fresh_process(tmp_path / "nowhere.safetensors", tmp_path / "image.tif")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_demo_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    for name in ("xt", "downsample", "crop"):
        assert 0 <= results[name]["accuracy"] <= 1
        assert results[name]["peak_bytes"] > 2**27
        assert results[name]["seconds"] > 0
    assert (results["giant"]["height"], results["giant"]["width"]) == (4000, 3000)
    assert results["giant"]["peak_bytes"] < 3e9
    assert 0 <= results["giant"]["f1"] <= 1
    assert len(results["further_giants"]) == 1
    assert [act["name"] for act in results["acts"]] == ["pixels", "context", "giant"]
    assert all(act["wall_s"] > 0 and act["cpu_s"] > 0 for act in results["acts"])
    assert results["key"]["contexts"].keys() == {"none", "mamba"}
    assert all(
        0 <= found["f1"] <= 1 and found["seconds"] > 0 for found in results["key"]["contexts"].values()
    )
    assert xt.load_model(tmp_path / "key_mamba.safetensors").config.context == "mamba"
    assert (tmp_path / "report.html").stat().st_size > 50_000
    shown = capsys.readouterr()
    assert "accuracy" in shown.out
    assert "4,000 x 3,000" in shown.out
    assert "context mamba" in shown.out
    assert "xT: train" in shown.err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_full_adds_in_small(tmp_path: Path) -> None:
    added = {name: getattr(FULL, name) for name in ("contexts", "encoder_lr_factor", "giants")}
    shown: list[str] = []
    results = run_demo(tmp_path, replace(QUICK, **added), lambda *_: None, shown.append)
    assert results["key"]["contexts"].keys() == set(FULL.contexts)
    assert len(results["further_giants"]) == FULL.giants - 1
    assert sum("4,000 x 3,000" in text for text in shown) == FULL.giants
    # The region encoder has learned.
    trained = xt.load_model(
        tmp_path / "runs" / "xt" / "model.safetensors"
    ).region_encoder.backbone.state_dict()
    shipped = load_file(ASSETS / "encoder.safetensors")
    assert any(not torch.equal(trained[name], shipped[name]) for name in shipped)


def test_quick_and_full_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--quick", "--full"]) == 2
    assert "--full: not allowed with argument --quick" in capsys.readouterr().err
