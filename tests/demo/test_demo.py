"""The demo as a user runs it, in small; and the process that predicts the giant image."""

import json
from pathlib import Path

import numpy as np
import pytest

import xt
from xt.cli.main import main
from xt.demo.giant import predict_in_fresh_process
from xt.demo.settings import DemoSettings, run_config
from xt.errors import XTError


def small_model() -> xt.XT:
    settings = run_config(DemoSettings(), Path("none.csv"), Path("runs")).model
    return xt.create_model(
        settings.encoder,
        encoder_options=settings.encoder_options,
        in_channels=1,
        region_size=128,
        tokens_per_region=4,
        dim=32,
        num_classes=6,
    )


def test_giant_is_predicted_in_a_fresh_process_as_in_this_one(tmp_path: Path) -> None:
    model = small_model()
    model.save(tmp_path / "model.safetensors")
    from xt.demo.digits import load_digits
    from xt.demo.scenes import make_scene, write_scene

    scene = make_scene(7, 300, 420, load_digits("train"), np.random.default_rng(0))
    write_scene(scene, tmp_path / "image.tif")
    heard: list[tuple[int, int]] = []
    measured = predict_in_fresh_process(
        tmp_path / "model.safetensors", tmp_path / "image.tif", lambda *done: heard.append(done)
    )
    here = xt.Predictor(model).predict(scene.read(0, 0, 300, 420))
    np.testing.assert_allclose(measured.probabilities, here.probabilities, rtol=1e-4)
    assert measured.relevance.sum() == pytest.approx(1, rel=1e-4)
    assert measured.relevance.shape == (6, 8)
    assert measured.cell == 64
    assert measured.regions == 12
    assert heard[-1] == (12, 12)
    assert 2**27 < measured.peak_bytes < 3 * 2**30


def test_a_failed_process_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(XTError, match=r"predicting .*image\.tif ended with status 1 .*nowhere\.safetensors"):
        predict_in_fresh_process(tmp_path / "nowhere.safetensors", tmp_path / "image.tif")


@pytest.mark.slow
def test_demo_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    for name in ("xt", "downsample", "crop"):
        assert 0 <= results[name]["accuracy"] <= 1
        assert results[name]["peak_bytes"] > 2**27
        assert results[name]["seconds"] > 0
    assert (results["giant"]["height"], results["giant"]["width"]) == (4000, 3000)
    assert results["giant"]["peak_bytes"] < 3e9
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
