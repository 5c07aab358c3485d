"""Looking at an image for so long: by a clock that tells what it is told to, so that no test depends on speed."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import xt
from tests.small_model import small_model
from xt.cli.main import main
from xt.config.predict import PredictConfig
from xt.errors import ConfigError, DataWarning, OptionError
from xt.model import region_pass
from xt.model.cases import Case
from xt.model.region_pass import RegionPass
from xt.model.xt import XT
from xt.prediction import Predictor
from xt.prediction.anytime import Anytime


def image(size: int = 1024, seed: int = 0, name: str = "image"):
    """More and more structure to the right."""
    noise = np.random.default_rng(seed).integers(-60, 60, (size, size, 3))
    strength = np.linspace(0, 1, size)[None, :, None]
    return xt.open_image((120 + noise * strength).astype(np.uint8))


def tokens_of(grid) -> torch.Tensor:
    """Of each region others, and the same however often it is asked: no pixel is read."""
    places = torch.from_numpy(
        np.array([(one.y, one.x, one.height) for one in grid], dtype=float).reshape(-1, 3)
    )
    waves = torch.linspace(0.1, 3, 3 * 4 * 32, dtype=torch.float64).reshape(3, 4, 32)
    return torch.sin(torch.einsum("rp,pnd->rnd", places, waves))


class Time:
    """Goes on by what is computed: a region takes one second, a token of an answer `answering`.

    Args:
        real: regions are encoded, which takes the time of a test.
    """

    def __init__(self, monkeypatch, answering: float = 0.0, region: float = 1.0, real: bool = False) -> None:
        self.now = 50.0
        self.rounds: list[int] = []
        self.answers = 0
        encoded, mixed = RegionPass._encoded, XT.mixed

        def encode(own, grids):
            number = sum(map(len, grids))
            self.now += number * region
            self.rounds.append(number)
            return (
                encoded(own, grids)
                if real
                else torch.cat([tokens_of(grid).to(own.model.region_encoder.dtype) for grid in grids])
            )

        def mix(own, found):
            self.now += len(found.values) * found.values.shape[1] * answering
            self.answers += 1
            return mixed(own, found)

        monkeypatch.setattr(RegionPass, "_encoded", encode)
        monkeypatch.setattr(XT, "mixed", mix)

    def __call__(self) -> float:
        return self.now


def by_model(**settings):
    return small_model(**({"regions": "by_model", "context": "none"} | settings)).eval().double()


def by_content(**settings):
    return small_model(**({"regions": "by_content", "context": "none"} | settings)).eval().double()


# Of 17 seconds one is left for more than the coarsest level.
@pytest.mark.filterwarnings("ignore:.*leaves none to be opened")
@pytest.mark.parametrize(
    ("make", "seconds"), [(by_content, 17.0), (by_content, 150.0), (by_model, 60.0), (by_model, 150.0)]
)
def test_time_is_used_and_what_it_reached_is_what_this_budget_gives(monkeypatch, make, seconds):
    model, seen, time = make(), image(), Time(monkeypatch)
    found = Predictor(model, "cpu", seconds=seconds, clock=time).predict(seen)
    took = found.reached.seconds
    assert took == sum(time.rounds)
    # A round of openings is at most as long as it was expected: here exactly.
    assert 0.8 * seconds - 16 <= took <= seconds
    assert len(found.grid) <= found.reached.number
    assert time.rounds[0] == 16, "the coarsest level first"
    again = Predictor(model, "cpu", budget=found.reached.number).predict(seen)
    assert np.array_equal(found.grid.places, again.grid.places)
    np.testing.assert_allclose(found.logits, again.logits, rtol=1e-9)
    np.testing.assert_allclose(found.weights, again.weights, rtol=1e-9)


@pytest.mark.parametrize("make", [by_content, by_model])
def test_thumbnails_are_looked_at_once_and_take_no_longer_for_more_regions(make, monkeypatch):
    """Of a file without coarser levels all pixels are read for them."""
    model, seen, time = make(thumbnail=True), image(), Time(monkeypatch)
    shrink, shrunk = region_pass.thumbnails_of, []

    def slow(*arguments):
        time.now += 20.0
        shrunk.append(1)
        return shrink(*arguments)

    monkeypatch.setattr(region_pass, "thumbnails_of", slow)
    found = Predictor(model, "cpu", seconds=150.0, clock=time).predict(seen)
    assert len(shrunk) == 1
    assert found.reached.seconds == 20 + sum(time.rounds)
    assert 120 <= found.reached.seconds <= 150
    again = Predictor(model, "cpu", budget=found.reached.number).predict(seen)
    np.testing.assert_allclose(found.logits, again.logits, rtol=1e-9)


def test_more_time_sees_more_and_no_region_is_encoded_twice(monkeypatch):
    reached = []
    for seconds in (25.0, 80.0, 160.0, 1e6):
        time = Time(monkeypatch)
        found = Predictor(by_content(), "cpu", seconds=seconds, clock=time).predict(image())
        reached.append(found.reached.number)
        monkeypatch.undo()
    assert reached == sorted(set(reached))
    assert reached[-1] == 256
    assert found.grid.scales.max() == 1 or len(found.grid) <= 256
    # The coarse ones of which something is opened, besides all that is there in the end.
    assert sum(time.rounds) <= 256 + 64 + 16


def test_the_answer_s_time_is_kept_back(monkeypatch):
    model, seen = by_content(), image()
    time = Time(monkeypatch, answering=0.05)
    predictor = Predictor(model, "cpu", seconds=100.0, clock=time)
    first = predictor.predict(seen)
    assert first.reached.seconds <= 100 * 1.02
    before = time.answers
    second = predictor.predict(seen)
    # It is tried on the first image; of the next one is known what it takes.
    assert (before > 1, time.answers - before) == (True, 1)
    assert 80 < second.reached.seconds <= 100
    assert second.reached.number >= first.reached.number
    without = Predictor(model, "cpu", seconds=100.0, clock=Time(monkeypatch)).predict(seen)
    assert without.reached.number > second.reached.number


@pytest.mark.parametrize("make", [by_content, by_model])
def test_the_coarsest_level_is_looked_at_however_long_it_takes(monkeypatch, make):
    with pytest.warns(DataWarning, match=r"coarsest regions and the answer took 16 s, and 3 were given"):
        found = Predictor(make(), "cpu", seconds=3.0, clock=Time(monkeypatch)).predict(image())
    assert set(found.grid.scales) == {4}
    assert len(found.grid) == 16


def test_a_model_of_full_resolution_is_asked_by_content_and_that_is_said(monkeypatch):
    with pytest.warns(DataWarning, match="learned from full resolution alone"):
        predictor = Predictor(small_model().eval(), "cpu", seconds=150.0, clock=Time(monkeypatch))
    found = predictor.predict(image())
    assert 1 in found.grid.scales
    assert len(found.grid) < 256


@pytest.mark.parametrize("plain", [True, False])
def test_a_small_or_a_plain_image_ends_by_itself(monkeypatch, plain):
    small = xt.open_image(np.full((300, 200, 3), 9, np.uint8)) if plain else image(64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Predictor(by_content(), "cpu", seconds=1e5, clock=Time(monkeypatch)).predict(small)
    assert len(found.grid) == (2 if plain else 1)


def test_a_case_has_one_time_for_all_its_images(monkeypatch):
    model = by_content(case_images=2)
    case = Case([image(512, 1), image(1024, 2)], "both")
    found = Predictor(model, "cpu", seconds=100.0, clock=Time(monkeypatch)).predict(case)
    assert 70 <= found.reached.seconds <= 100
    again = Predictor(model, "cpu", budget=found.reached.number).predict(case)
    for one, other in zip(found.images, again.images, strict=True):
        assert np.array_equal(one.grid.places, other.grid.places)
    np.testing.assert_allclose(found.logits, again.logits, rtol=1e-9)


def test_thumbnails_and_foregrounds_go_along(monkeypatch):
    model = by_model(thumbnail=True, foreground="tissue", context="full", context_options={"depth": 1})
    seen = image()
    found = Predictor(model, "cpu", seconds=60.0, clock=Time(monkeypatch)).predict(seen)
    again = Predictor(model, "cpu", budget=found.reached.number).predict(seen)
    np.testing.assert_allclose(found.logits, again.logits, rtol=1e-9)
    assert found.images[0].thumbnail == pytest.approx(again.images[0].thumbnail)


def test_it_is_asked_for_on_the_command_line_and_tells_how_far_it_got(tmp_path, capsys):
    for seed in range(2):
        Image.fromarray(image(256, seed).read(0, 0, 256, 256)).save(tmp_path / f"{seed}.png")
    small_model(regions="by_content", context="none").save(tmp_path / "model.safetensors")
    command = [
        "predict",
        str(tmp_path / "model.safetensors"),
        str(tmp_path / "0.png"),
        str(tmp_path / "1.png"),
    ]
    command += [
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--no-overlay",
        "--seconds-per-image",
        "1000",
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "100.0% of each image's regions, the finest at scale 1, in " in said
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["budget"].tolist() == [16, 16]
    assert (table["seconds"] > 0).all()
    assert main(command) == 0
    assert "2 done before" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert {entry["settings"]["seconds_per_image"] for entry in record.values()} == {1000.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds_per_image": 0}, "seconds_per_image must be a number above 0, got 0"),
        ({"seconds_per_image": "ten"}, "must be a number above 0, got 'ten'"),
        ({"seconds_per_image": -1.5}, "must be a number above 0"),
        ({"seconds_per_image": float("inf")}, "must be a number above 0"),
        ({"seconds_per_image": float("nan")}, "must be a number above 0"),
        ({"seconds_per_image": 2, "budget": 0.1}, "and budget how much of it: leave one of the two out"),
        ({"seconds_per_image": 2, "views": 4}, "and views how much of it"),
    ],
)
def test_odd_times_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        PredictConfig(**options)


def test_a_time_means_nothing_for_photographs_and_beside_a_budget():
    with pytest.raises(ConfigError, match="resized to one size"):
        Predictor(small_model(image_size=128), "cpu", seconds=2.0)
    with pytest.raises(ConfigError, match="leave the budget out"):
        Predictor(by_content(), "cpu", seconds=2.0, budget=0.3)
    with pytest.raises(ConfigError, match="leave the views out"):
        Predictor(by_content(), "cpu", seconds=2.0, views=4)
    with pytest.raises(ConfigError, match="a number above 0, got nan"):
        Predictor(by_content(), "cpu", seconds=float("nan"))


def test_where_every_region_takes_no_time_the_model_looks_at_everything(monkeypatch):
    found = Predictor(by_content(), "cpu", seconds=1.0, clock=Time(monkeypatch, region=0.0)).predict(
        image(512)
    )
    assert found.reached.number == 64
    assert torch.isfinite(torch.from_numpy(found.logits)).all()


def test_time_is_told_when_the_device_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for device, expected in (("cpu", []), ("cuda:1", [torch.device("cuda:1")])):
        model = SimpleNamespace(device=torch.device(device))
        assert Anytime.now(SimpleNamespace(model=model, clock=lambda: 5.0)) == 5.0  # type: ignore[arg-type]
        assert waited == expected


def test_what_a_process_does_once_is_no_time_of_the_first_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time that the region encoder is asked takes half a minute."""
    model, time = by_content(), Time(monkeypatch)
    first = True

    def slow_at_first(*_: object) -> None:
        nonlocal first
        time.now, first = time.now + (30.0 if first else 0.0), False

    model.region_encoder.register_forward_pre_hook(slow_at_first)
    model.region_encoder.train()
    before = {name: module.training for name, module in model.named_modules()}
    predictor = Predictor(model, "cpu", seconds=40, clock=time)
    took = [predictor.predict(image()).reached for _ in range(2)]
    assert not first
    assert took[0] == took[1]
    assert took[0].number > predictor.anytime.choice.levels
    assert {name: module.training for name, module in model.named_modules()} == before
