"""Masks, points and boxes of images that are looked at for so long, by a clock that tells what it is told to."""

import csv
import warnings
from functools import cache

import numpy as np
import pytest

from tests.prediction import test_anytime
from tests.prediction.dense_models import dense_model
from tests.prediction.interruption import BATCHES_OF_5, pixels_of
from tests.prediction.test_anytime import Time
from xt.errors import ConfigError, DataWarning, OutputError
from xt.model.dense import DensePass
from xt.prediction.dense_predictor import DensePredictor

image = cache(test_anytime.image)


class DenseTime(Time):
    """Goes on by a second for each region that is encoded, and `decoding` for each that is decoded; by `first` more
    for the first that a process decodes."""

    def __init__(
        self,
        monkeypatch,
        decoding: float = 0.5,
        region: float = 1.0,
        answering: float = 0.0,
        first: float = 0.0,
    ) -> None:
        super().__init__(monkeypatch, answering=answering, region=region, real=True)
        self.decoded: list[int] = []
        decode = DensePass.decode

        def slow(own, *arguments, **options):
            for part in decode(own, *arguments, **options):
                self.now += decoding * len(part.regions) + (0.0 if self.decoded else first)
                self.decoded.append(len(part.regions))
                yield part

        monkeypatch.setattr(DensePass, "decode", slow)


def choosing(regions: str = "by_content", head: str = "segmentation", **settings):
    return dense_model(head, **({"regions": regions, "regions_options": {"budget": 0.5}} | settings))


def same_of_budget(model, seen, result, folder) -> None:
    """The budget that is told gives the same regions, and what is said in them."""
    again = DensePredictor(model, "cpu", BATCHES_OF_5, budget=result.reached.number).predict(
        seen, folder / "again"
    )
    assert np.array_equal(again.regions.places, result.regions.places)
    for what, file in again.files.items():
        if file.suffix == ".tif":
            # Tokens of other region batches round otherwise.
            assert (pixels_of(file) != pixels_of(result.files[what])).mean() < 1e-4


@pytest.mark.parametrize("regions", ["by_content", "by_model"])
def test_looking_and_decoding_are_done_in_time_and_the_budget_gives_the_same(regions, monkeypatch, tmp_path):
    model, seen, time = choosing(regions), image(512), DenseTime(monkeypatch)
    predictor = DensePredictor(model, "cpu", BATCHES_OF_5, seconds=60.0, clock=time)
    result = predictor.predict(seen, tmp_path / "scene")
    # The coarsest four were decoded to know how long that takes.
    assert time.decoded[0] == 4
    assert result.reached.seconds == sum(time.rounds) + 0.5 * sum(time.decoded) <= 60
    assert sum(time.decoded[1:]) == len(result.regions)
    assert 20 < result.reached.number < 64
    assert result.reached.seconds > 40
    same_of_budget(model, seen, result, tmp_path)


def test_decoding_s_time_is_known_from_the_image_before_and_kept_back(monkeypatch, tmp_path):
    time = DenseTime(monkeypatch, decoding=4.0)
    predictor = DensePredictor(choosing(), "cpu", BATCHES_OF_5, seconds=100.0, clock=time)
    first = predictor.predict(image(512), tmp_path / "first")
    regions = sum(time.decoded)
    second = predictor.predict(image(512), tmp_path / "second")
    # Nothing is decoded to try, and its time goes to more regions.
    assert sum(time.decoded) - regions == len(second.regions)
    assert 4 < first.reached.number < second.reached.number
    assert max(first.reached.seconds, second.reached.seconds) <= 100
    fast = DensePredictor(
        choosing(), "cpu", BATCHES_OF_5, seconds=100.0, clock=DenseTime(monkeypatch, decoding=0.1)
    ).predict(image(512), tmp_path / "fast")
    assert fast.reached.number > 2 * second.reached.number


def test_what_the_first_decoding_of_a_process_takes_is_not_expected_of_the_rest(monkeypatch, tmp_path):
    time = DenseTime(monkeypatch, decoding=0.1, region=0.1, first=10.0)
    result = DensePredictor(choosing(), "cpu", BATCHES_OF_5, seconds=50.0, clock=time).predict(
        image(1024), tmp_path / "scene"
    )
    assert time.decoded[:3] == [5, 5, 5], "two batches to know it, then the first to keep"
    assert 40 < result.reached.seconds <= 50


def test_without_context_no_region_is_encoded_to_be_chosen(monkeypatch, tmp_path):
    model, time = choosing(context="none", context_options={}), DenseTime(monkeypatch)
    result = DensePredictor(model, "cpu", BATCHES_OF_5, seconds=25.0, clock=time).predict(
        image(512), tmp_path / "a"
    )
    assert time.rounds == []
    assert result.reached.seconds == 0.5 * sum(time.decoded) <= 25
    assert len(result.regions) > 35
    same_of_budget(model, image(512), result, tmp_path)


@pytest.mark.parametrize("head", ["points", "detection"])
def test_points_and_boxes_tell_how_far_it_got(head, monkeypatch, tmp_path):
    model = choosing(head=head)
    result = DensePredictor(model, "cpu", seconds=70.0, clock=DenseTime(monkeypatch)).predict(
        image(512), tmp_path / "scene"
    )
    assert 16 <= result.reached.number < 64
    assert set(result.regions.scales) > {1}
    again = DensePredictor(model, "cpu", budget=result.reached.number).predict(image(512), tmp_path / "again")
    assert again.counts == result.counts


def test_too_little_time_gives_the_coarsest_level_and_a_warning(monkeypatch, tmp_path):
    predictor = DensePredictor(choosing(), "cpu", BATCHES_OF_5, seconds=5.0, clock=DenseTime(monkeypatch))
    # Four to encode, to try and to decode.
    said = r"coarsest regions and the answer take about 8 s, and 5 were given: nothing was looked at more closely"
    with pytest.warns(DataWarning, match=said):
        result = predictor.predict(image(512), tmp_path / "scene")
    assert result.regions.scales.tolist() == [4] * 4
    assert (pixels_of(result.files["mask"]) < 3).all()


def test_with_all_the_time_everything_is_at_full_resolution(monkeypatch, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = DensePredictor(choosing(), "cpu", seconds=1e6, clock=DenseTime(monkeypatch)).predict(
            image(256), tmp_path / "scene"
        )
    assert result.regions.scales.tolist() == [1] * 16
    assert result.reached.number == 16


@pytest.mark.parametrize("regions", ["by_content", "by_model"])
def test_killed_while_decoding_it_goes_on_with_the_regions_and_the_time_that_it_had(
    regions, monkeypatch, tmp_path
):
    model, seen, time = choosing(regions), image(512), DenseTime(monkeypatch)

    def predictor():
        return DensePredictor(model, "cpu", BATCHES_OF_5, seconds=60.0, clock=time)

    whole = predictor().predict(seen, tmp_path / "whole")
    decode, starts = model.decode, []

    def stops(*arguments, **options):
        starts.append(1)
        for number, part in enumerate(decode(*arguments, **options)):
            # The first is what is tried.
            if len(starts) == 2 and number == 2:
                raise RuntimeError("the lights went out")
            yield part

    with monkeypatch.context() as patch:
        patch.setattr(model, "decode", stops)
        with pytest.raises(RuntimeError, match="the lights went out"):
            predictor().predict(seen, tmp_path / "killed")
    time.now += 1000
    rounds = len(time.rounds)
    result = predictor().predict(seen, tmp_path / "killed")
    assert len(time.rounds) == rounds, "it is not looked at again"
    assert np.array_equal(result.regions.places, whole.regions.places)
    assert result.files["mask"].read_bytes() == whole.files["mask"].read_bytes()
    # The region batch that was on its way when the lights went out is counted once.
    assert result.reached == whole.reached


def test_killed_before_it_has_chosen_nothing_of_it_stays(monkeypatch, tmp_path):
    predictor = DensePredictor(choosing(), "cpu", seconds=60.0, clock=DenseTime(monkeypatch))
    monkeypatch.setattr("xt.prediction.anytime._Look.room", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predictor.predict(image(512), tmp_path / "scene")
    assert list(tmp_path.iterdir()) == []


def test_with_another_time_or_a_budget_it_is_not_gone_on_with(monkeypatch, tmp_path):
    model, time = choosing(), DenseTime(monkeypatch)
    predictor = DensePredictor(model, "cpu", seconds=60.0, clock=time)
    assert predictor.cut(image(512), tmp_path / "scene", 5)
    for other in ({"seconds": 61.0, "clock": time}, {"budget": 0.4}, {}):
        with pytest.raises(OutputError, match=r"another .*number of seconds.*begin anew with --restart"):
            DensePredictor(model, "cpu", **other).predict(image(512), tmp_path / "scene")


def test_bands_decoded_apart_count_together(monkeypatch, tmp_path):
    model, seen, time = choosing(), image(512), DenseTime(monkeypatch)

    def predictor():
        return DensePredictor(model, "cpu", BATCHES_OF_5, seconds=60.0, clock=time)

    whole = predictor().predict(seen, tmp_path / "whole")
    bands = predictor().cut(seen, tmp_path / "apart", 10)
    assert len(bands) > 2
    for band in reversed(bands):
        predictor().predict_band(seen, tmp_path / "apart", band)
        time.now += 500  # Others work meanwhile.
    result = predictor().predict(seen, tmp_path / "apart")
    assert result.reached == whole.reached
    assert result.files["mask"].read_bytes() == whole.files["mask"].read_bytes()


def test_a_foreground_another_resolution_and_a_thumbnail_go_along(monkeypatch, tmp_path):
    seen = test_anytime.image(768)
    seen.microns_per_pixel = (0.5, 0.5)
    model = choosing(microns_per_pixel=1.0, foreground="tissue", thumbnail=True)
    result = DensePredictor(model, "cpu", seconds=40.0, clock=DenseTime(monkeypatch)).predict(
        seen, tmp_path / "slide"
    )
    assert pixels_of(result.files["mask"]).shape == (1, 768, 768)
    assert 0 < result.reached.seconds <= 40
    same_of_budget(model, seen, result, tmp_path)


def test_a_time_and_a_budget_are_not_both_taken():
    with pytest.raises(ConfigError, match="leave the budget out"):
        DensePredictor(choosing(), "cpu", seconds=3.0, budget=0.3)
    with pytest.raises(ConfigError, match="a number above 0, got 0"):
        DensePredictor(choosing(), "cpu", seconds=0.0)


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("--workers", "2", "--band-regions", "4"), marks=pytest.mark.slow)]
)
def test_it_is_asked_for_on_the_command_line(workers, tmp_path, capsys):
    from PIL import Image

    from xt.cli.main import main

    for seed in range(2):
        Image.fromarray(image(256, seed).read(0, 0, 256, 256)).save(tmp_path / f"{seed}.png")
    choosing().save(tmp_path / "model.safetensors")
    command = ["predict", str(tmp_path / "model.safetensors"), str(tmp_path / "*.png"), "--device", "cpu"]
    command += ["--out", str(tmp_path / "out"), "--seconds-per-image", "1000", *workers]
    assert main(command) == 0
    assert "100.0% of each image's regions, the finest at scale 1, in " in capsys.readouterr().out
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["budget"] for row in rows] == ["16", "16"]
    assert all(0 < float(row["seconds"]) < 1000 for row in rows)
    assert main(command) == 0
    assert "2 done before" in capsys.readouterr().out
