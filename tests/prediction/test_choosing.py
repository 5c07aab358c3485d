"""A budget where a user meets it, and what it costs against everything."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import xt
from tests.prediction.dense_models import dense_model
from tests.small_model import small_model
from xt.cli.main import main
from xt.cli.words import looked_in_words
from xt.errors import ConfigError, DataWarning, OptionError
from xt.metrics.bootstrap import beyond_rounding
from xt.model.xt import XT
from xt.prediction import Predictor
from xt.prediction.looked import looked_columns
from xt.results.reached import Reached
from xt.results.seen_regions import SeenRegions


def choosing(**settings: object) -> XT:
    return small_model(**({"regions": "by_content", "regions_options": {"budget": 0.6}} | settings)).eval()


def pixels(seed: int = 0) -> np.ndarray:
    """Plain but for a corner."""
    array = np.full((512, 512, 3), 120, np.uint8)
    array[:90, :100] = np.random.default_rng(seed).integers(0, 256, (90, 100, 3))
    return array


@pytest.fixture
def folder(tmp_path) -> Path:
    for seed in range(3):
        Image.fromarray(pixels(seed)).save(tmp_path / f"{seed}.png")
    choosing().save(tmp_path / "choosing.safetensors")
    small_model().save(tmp_path / "all.safetensors")
    rows = "".join(f"{seed}.png,{label}\n" for seed, label in enumerate(("cat", "dog", "eel")))
    (tmp_path / "table.csv").write_text("image,label\n" + rows)
    return tmp_path


def test_a_budget_takes_the_place_of_the_model_s_own():
    model = choosing()
    image = xt.open_image(pixels())
    own, less = Predictor(model, "cpu"), Predictor(model, "cpu", budget=9)
    assert set(own.predict(image).grid.scales) == {1, 2, 4}
    assert set(less.predict(image).grid.scales) == {2, 4}
    # The model is as it was.
    assert model.reading.choice.budget == 0.6


def test_a_model_of_full_resolution_chooses_by_content_and_it_is_said():
    model = small_model().eval()
    image = xt.open_image(pixels())
    with pytest.warns(DataWarning, match="learned from full resolution alone.*--against-all"):
        predictor = Predictor(model, "cpu", budget=0.4)
    prediction = predictor.predict(image)
    assert 1 in prediction.grid.scales
    assert len(prediction.grid) <= 0.4 * 64
    assert prediction.relevance.values.shape == (16, 16)
    assert np.isfinite(prediction.relevance.values).all()


@pytest.mark.parametrize("views", [1, 4])
def test_a_model_that_chooses_itself_is_predicted_with(views):
    model = choosing(regions="by_model", regions_options={"budget": 0.5})
    prediction = Predictor(model, "cpu", views=views, budget=30, keep_tokens=True).predict(
        xt.open_image(pixels())
    )
    assert len(prediction.grid) <= 30
    assert prediction.weights.sum() == pytest.approx(1, rel=1e-5)
    assert len(prediction.images[0].tokens) == len(prediction.grid) * 4


def test_other_budgets_are_other_results(folder):
    def predicted(*options):
        command = [
            "predict",
            str(folder / "choosing.safetensors"),
            str(folder / "0.png"),
            "--out",
            str(folder / "out"),
        ]
        assert main([*command, "--device", "cpu", "--no-overlay", *options]) == 0
        return (folder / "out" / "0.relevance.tif").stat().st_mtime_ns

    first = predicted("--budget", "0.5")
    assert predicted("--budget", "0.5") == first
    assert predicted("--budget", "0.3") > first


def test_against_all_tells_share_time_and_how_often_answers_differ(folder, capsys):
    command = ["evaluate", str(folder / "choosing.safetensors"), str(folder / "table.csv"), "--against-all"]
    assert main([*command, "--device", "cpu", "--resamples", "20", "--out", str(folder / "measured")]) == 0
    said = capsys.readouterr().out
    assert "of the regions in" in said
    assert "of the answers differ (95 % interval" in said
    looked = json.loads((folder / "measured" / "metrics.json").read_text())["against"]["looked"]
    assert 0 < looked["share"] <= 0.6
    assert 0 <= looked["differ_interval"][0] <= looked["differ"] <= looked["differ_interval"][1] <= 1
    assert min(looked["seconds"], looked["seconds_all"]) > 0
    # All of a process's threads, reading included.
    assert min(looked["processor_seconds"], looked["processor_seconds_all"]) > 0
    processors = (
        f"; of processors {looked['processor_seconds']:.3g} s and {looked['processor_seconds_all']:.3g} s"
    )
    assert processors in said


def test_against_all_of_a_model_that_looks_at_everything_differs_in_nothing(folder):
    result = xt.evaluate(
        folder / "all.safetensors", folder / "table.csv", device="cpu", against_all=True, resamples=10
    )
    looked = result.metrics["against"]["looked"]
    assert (looked["share"], looked["differ"]) == (1.0, 0.0)
    assert looked["differ_interval"][1] > 0.3, "three images prove little"
    assert {one["value"] for one in result.metrics["against"]["differences"].values()} == {0.0}


@pytest.mark.parametrize(
    ("differ", "interval", "says"),
    [
        (0.0, [0.0, 0.0], "0% of the pixels differ (95 % interval 0% to 0%)"),
        (4.3e-5, [1.2e-6, 0.00021], "0.0043% of the pixels differ (95 % interval 0.00012% to 0.021%)"),
        (0.25, [0.0996, 1.0], "25.0% of the pixels differ (95 % interval 10.0% to 100.0%)"),
        (0.0996e-2, None, "0.1% of the pixels differ"),
    ],
)
def test_small_shares_have_digits(differ, interval, says):
    looked = {
        "share": 0.3, "seconds": 1.0, "seconds_all": 3.0, "processor_seconds": 0.9, "processor_seconds_all": 2.9,
        "of": "pixels", "differ": differ, "differ_interval": interval,
    }  # fmt: skip
    assert looked_in_words({"against": {"looked": looked}})[1] == says


@pytest.mark.parametrize(
    ("value", "before", "expected"),
    [
        (0.66666657, 0.66666663, 0.0),
        (0.5, 0.500043, -4.3e-5),
        (1e-9, 2e-9, -1e-9),
        (0.0, 1.0, -1.0),
        (0, 0, 0),
    ],
)
def test_rounding_is_no_difference(value, before, expected):
    assert beyond_rounding(value, before) == pytest.approx(expected)


def test_a_budget_is_evaluated_and_groups_are_drawn_whole(folder):
    table = pd.read_csv(folder / "table.csv").assign(patient=["p", "p", "q"])
    table.to_csv(folder / "grouped.csv", index=False)
    result = xt.evaluate(
        folder / "choosing.safetensors", folder / "grouped.csv", device="cpu", against_all=True, resamples=10,
        budget=0.4,
    )  # fmt: skip
    assert result.metrics["against"]["looked"]["share"] <= 0.4


@pytest.mark.parametrize("budget", [0, -1, 1.5, float("nan"), 1e9, "10%", True])
def test_odd_budgets_are_refused(budget):
    with pytest.raises(ConfigError, match="a budget is a share of the regions"):
        Predictor(choosing(), "cpu", budget=budget)


@pytest.mark.parametrize("budget", ["nan", "1e9", "10%", "true", "-1"])
def test_odd_budgets_of_the_command_line_are_refused_in_one_sentence(folder, capsys, budget):
    model, image = str(folder / "choosing.safetensors"), str(folder / "0.png")
    for command in (
        ["predict", model, image, "--out", str(folder / "out")],
        ["info", image, "--model", model],
    ):
        assert main([*command, "--budget", budget]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
        assert said[0].startswith(
            "xt: a budget is a share of the regions, above 0 and at most 1, or a whole number"
        )
    assert not (folder / "out" / "predictions.csv").exists()


def test_a_budget_means_nothing_for_photographs():
    with pytest.raises(ConfigError, match="resized to one size"):
        Predictor(small_model(image_size=128), "cpu", budget=0.2)


def test_against_two_things_is_refused():
    with pytest.raises(OptionError, match="against_all compares a model with itself"):
        xt.config.predict.EvaluateConfig(against_all=True, against="other")


def test_what_was_looked_at_is_in_the_table_and_in_a_file(folder):
    found = xt.predict(folder / "choosing.safetensors", folder / "0.png", folder / "out", device="cpu")
    (row,), (result,) = pd.read_csv(found.table).to_dict("records"), found.images
    features = json.loads(result.files["regions_looked_at"].read_text())["features"]
    assert row["regions"] == len(features)
    assert row["share_of_regions"] == pytest.approx(len(features) / 64)
    assert row["finest_scale"] == 1
    assert {feature["properties"]["measurements"]["scale"] for feature in features} == {1, 2, 4}
    assert found.note == "looked at 15.6% of the regions, the finest at scale 1"
    everything = xt.predict(
        folder / "all.safetensors", folder / "0.png", folder / "other", device="cpu", overlay=False
    )
    assert not {"regions", "share_of_regions", "finest_scale", "budget"} & set(everything.images[0].values)
    assert "regions_looked_at" not in everything.images[0].files


def test_where_everything_was_looked_at_the_table_says_so_and_there_is_no_file(folder):
    Image.fromarray(pixels()[:60, :50]).save(folder / "tiny.png")
    found = xt.predict(
        folder / "choosing.safetensors", folder / "tiny.png", folder / "out", device="cpu", overlay=False
    )
    (image,) = found.images
    row = [str(image.values[name]) for name in ("regions", "share_of_regions", "finest_scale", "budget")]
    assert row == ["1", "1", "1", "0.6"]
    assert "regions_looked_at" not in image.files
    assert not list((folder / "out").glob("*.regions.geojson"))


@pytest.mark.filterwarnings("ignore:.*it is seen coarsely alone")
@pytest.mark.parametrize("kind", ["whole", "dense"])
def test_a_table_of_several_budgets_tells_which_row_has_which(tmp_path, kind):
    by_model = {"regions": "by_model", "levels": 2, "regions_options": {"budget": 0.5}}
    model = choosing(**by_model) if kind == "whole" else dense_model("segmentation", **by_model)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels()[:128, :192]).save(tmp_path / name)

    def predicted(*names: str, **options: float) -> dict[str, str]:
        files = [tmp_path / name for name in names]
        out = xt.predict(model, files, tmp_path / "out", device="cpu", overlay=False, **options)
        table = pd.read_csv(out.table, dtype=str)
        return {
            Path(image).name: budget for image, budget in zip(table["image"], table["budget"], strict=True)
        }

    assert predicted("a.png", "b.png") == {"a.png": "0.5", "b.png": "0.5"}
    assert predicted("b.png", budget=5) == {"a.png": "0.5", "b.png": "5"}


def test_by_a_tolerance_alone_there_is_no_budget():
    regions = SeenRegions(edges=np.zeros((2, 4)), scales=np.array([1, 2]), relevance=np.ones(2), possible=8)
    assert looked_columns([regions], [None])["budget"] == ""
    assert looked_columns([regions], [0.2, 0.2])["budget"] == "0.2"
    assert looked_columns([regions], [0.2, 500.0])["budget"] == "0.2;500"
    assert looked_columns([regions], [1.0], Reached(500, 1.5))["budget"] == 500
    # As a budget 1 is all of them.
    assert looked_columns([regions], [1.0], Reached(1, 1.5))["budget"] == "0.125"
    assert looked_columns([], [0.2]) == {}


def test_of_a_case_each_image_has_its_own_file_and_the_table_counts_all(folder):
    model = choosing(case_images=2)
    (folder / "cases.csv").write_text("image,case\n0.png,a\n1.png,a\n")
    found = xt.predict(
        model, folder / "cases.csv", folder / "out", device="cpu", case_column="case", overlay=False
    )
    (case,) = found.images
    counts = [
        len(json.loads(case.files[f"regions_looked_at_{number}"].read_text())["features"])
        for number in (1, 2)
    ]
    assert case.values["regions"] == sum(counts)
    assert float(case.values["share_of_regions"]) == pytest.approx(sum(counts) / 128)


@pytest.mark.parametrize("regions", ["by_content", "by_model"])
def test_what_was_decoded_of_places_is_in_the_table_and_in_a_file(folder, tmp_path, regions):
    model = dense_model("segmentation", regions=regions, regions_options={"budget": 0.5})
    found = xt.predict(model, folder / "0.png", tmp_path / "out", device="cpu", overlay=False)
    (image,) = found.images
    features = json.loads(image.files["regions_looked_at"].read_text())["features"]
    assert image.values["regions"] == len(features)
    assert "relevance" not in features[0]["properties"]["measurements"]
    corners = [feature["geometry"]["coordinates"][0] for feature in features]
    areas = [(box[2][0] - box[0][0]) * (box[2][1] - box[0][1]) for box in corners]
    assert sum(areas) == 512 * 512, "each place is decoded once"
    assert found.note.startswith("looked at ")
