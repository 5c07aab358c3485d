"""The arithmetic of docs/scale.md, with a GPU's unit costs where there are any."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import scale  # noqa: E402
from tables import Measured  # noqa: E402

CORE = [
    ("read and decode", "12 kB of JPEG", 1000.0),
    ("write the mask, with overviews", "one band of 8 bits", 2000.0),
    ("mix and back", "transformer_xl, 256 wide", 500.0),
]
GPU = [("encode", scale.SWIN, 500.0), ("encode and back", scale.SWIN, 1500.0), ("mix and back", "x", 2.0)]


def stages(rows: list[tuple[str, str, float]]) -> list[dict[str, object]]:
    return [{"stage": stage, "note": note, "microseconds": time} for stage, note, time in rows]


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    monkeypatch.setattr(scale, "ROOT", tmp_path)
    return Measured({"date": "2999-01-01", "rows": stages(CORE)})


def test_without_a_gpu_published_figures_are_reckoned_with_and_named(measured: Measured) -> None:
    costs = scale.costs_of(measured)
    assert (costs.forward, costs.training, costs.gpu.split(";")[0]) == (2800, 700, "published by timm")
    assert costs.mix == pytest.approx(500e-6 / 100)
    assert "(published by timm; a step taken as four forward passes)" in scale.one_gpu(costs)
    assert "2,800 regions a second need 2.8 cores to decode JPEG, 34 MB/s of files" in scale.one_gpu(costs)


def test_encoding_is_compared_with_reading() -> None:
    rows = stages([*CORE, ("encode", "one", 2e4), ("encode", "other", 5e5)])
    words = scale.on_a_core(Measured({"date": "2999-01-01", "rows": rows}))
    assert "20 times (one) to 500 times (other) as long as reading" in words


def test_a_gpus_own_figures_take_their_place(measured: Measured) -> None:
    content = {"date": "2999-01-01", "gpu": "A100", "commit": "0123abc", "rows": [{"stages": stages(GPU)}]}
    path = scale.ROOT / "benchmarks" / "results" / "gpu-stages-2999-01-01.json"
    path.write_text(json.dumps(content))
    costs = scale.costs_of(measured)
    assert costs.forward == pytest.approx(2000)
    assert costs.training == pytest.approx(500)  # forward once, then forward and back
    assert costs.mix == pytest.approx(2e-6)
    assert "(2999-01-01, A100, 0123abc)" in scale.one_gpu(costs)


def test_every_section_is_written_with_either(measured: Measured) -> None:
    for write in scale.SECTIONS.values():
        assert "nan" not in write(scale.costs_of(measured))
