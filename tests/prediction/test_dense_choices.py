"""Masks, points and boxes of chosen regions: files, bands, killed runs, budgets, and what they cost."""

import numpy as np
import pytest

import xt
from tests.prediction.dense_models import dense_model
from tests.prediction.interruption import BATCHES_OF_5, pixels_of, stopped
from xt.errors import DataWarning, OutputError
from xt.prediction.dense_predictor import DensePredictor
from xt.results.kept_pixels import NOTHING, probabilities_on_pixels
from xt.tasks.place_results import DenseOptions

CHOICES = {
    "by_content": {"regions_options": {"budget": 0.5}},
    "by_model": {"regions_options": {"budget": 0.7}},
}


def pixels(height: int = 300, width: int = 410) -> np.ndarray:
    """Plain but for two corners."""
    array = np.full((height, width, 3), 120, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (90, 100, 3))
    array[:90, :100], array[-90:, -100:] = noise, noise
    return array


def choosing(regions: str = "by_content", head: str = "segmentation", **settings: object) -> "xt.XT":
    return dense_model(head, **({"regions": regions, **CHOICES[regions]} | settings))


@pytest.mark.parametrize("regions", sorted(CHOICES))
def test_the_file_says_what_was_decoded_of_each_region_enlarged(regions, tmp_path):
    model = choosing(regions)
    options = DenseOptions(probabilities=True)
    result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(pixels(), tmp_path / "scene", options)
    assert set(result.regions.scales) == {1, 2, 4}
    mask, shares = pixels_of(result.files["mask"])[0], pixels_of(result.files["probabilities"])
    dense = model.dense_pass(xt.open_image(pixels()))
    context = dense.context()
    seen = np.zeros((300, 410), bool)
    for part in model.decode(xt.open_image(pixels()), context=context, grid=dense.grids[0]):
        for region, found in zip(part.regions, part.predictions.numpy(), strict=True):
            scale = region.height // 64
            place = np.s_[region.y : region.y + region.height, region.x : region.x + region.width]
            rows, columns = mask[place].shape
            inside = [np.arange(64) * scale < side for side in (rows, columns)]
            enlarged = found[:, :rows, :columns]
            if scale > 1:
                known = np.logical_and.outer(*inside)
                enlarged = probabilities_on_pixels(found, known, scale, slice(0, rows), slice(0, columns))
                # No pixel of what is read lies at the middle of one of the image.
                assert (enlarged != found.repeat(scale, 1).repeat(scale, 2)[:, :rows, :columns]).mean() > 0.9
            np.testing.assert_array_equal(mask[place], enlarged.argmax(axis=0))
            assert np.abs(shares[:, *place] / 254 - enlarged).max() < 0.01
            assert not seen[place].any()
            seen[place] = True
    assert seen.all()


@pytest.mark.parametrize("regions", sorted(CHOICES))
def test_killed_and_gone_on_with_the_files_are_the_same(regions, tmp_path, monkeypatch):
    model = choosing(regions)
    whole = DensePredictor(model, "cpu", BATCHES_OF_5).predict(pixels(), tmp_path / "whole")
    stopped(model, pixels(), tmp_path / "killed", 2, monkeypatch)
    kept = np.load(tmp_path / "killed.partial" / "places.npy")
    again = DensePredictor(model, "cpu", BATCHES_OF_5)
    # What was looked at is not asked again.
    monkeypatch.setattr(model, "dense_pass", _only_decodes(model))
    result = again.predict(pixels(), tmp_path / "killed")
    assert {tuple(place) for place in result.regions.places} <= {tuple(place) for place in kept}
    assert result.files["mask"].read_bytes() == whole.files["mask"].read_bytes()


def _only_decodes(model):
    make = model.dense_pass

    def of_kept(image, grid=None, progress=None):
        assert grid is not None
        return make(image, grid, progress)

    return of_kept


def test_another_budget_is_not_gone_on_with(tmp_path, monkeypatch):
    model = choosing()
    stopped(model, pixels(), tmp_path / "scene", 1, monkeypatch)
    with pytest.raises(OutputError, match="another choice of regions"):
        DensePredictor(model, "cpu", BATCHES_OF_5, budget=0.4).predict(pixels(), tmp_path / "scene")


@pytest.mark.parametrize("regions", sorted(CHOICES))
def test_bands_decoded_apart_make_the_same_file(regions, tmp_path):
    model = choosing(regions)
    predictor = DensePredictor(model, "cpu", BATCHES_OF_5)
    whole = predictor.predict(pixels(), tmp_path / "whole")
    bands = predictor.cut(pixels(), tmp_path / "apart", 5)
    assert len(bands) == -(-len(whole.regions) // 5)
    for band in reversed(bands):
        predictor.predict_band(pixels(), tmp_path / "apart", band)
    result = predictor.predict(pixels(), tmp_path / "apart")
    assert result.files["mask"].read_bytes() == whole.files["mask"].read_bytes()


@pytest.mark.parametrize("head", ["segmentation", "points", "detection"])
def test_a_budget_makes_any_model_choose(head, tmp_path):
    model = dense_model(head)
    with pytest.warns(DataWarning, match="learned from full resolution alone"):
        predictor = DensePredictor(model, "cpu", budget=0.4)
    result = predictor.predict(pixels(), tmp_path / "scene")
    assert len(result.regions) <= 0.4 * 35
    assert result.regions.scales.max() == 4
    assert sum(result.counts.values()) > 0
    # The model is as it was.
    assert len(DensePredictor(model, "cpu").predict(pixels(), tmp_path / "all").regions) == 35


def test_what_holds_no_data_stays_nothing_at_any_scale(tmp_path):
    array = pixels()
    array[:, 300:] = 0
    image = xt.open_image(array, nodata=0)
    result = DensePredictor(choosing(), "cpu").predict(image, tmp_path / "scene")
    mask = pixels_of(result.files["mask"])[0]
    assert (mask[:, 304:] == NOTHING).all()
    assert (mask[:, :296] != NOTHING).all()
    assert result.regions.scales.max() > 1


@pytest.mark.filterwarnings("ignore:.*leaves none to be opened")
@pytest.mark.parametrize("head", ["points", "detection"])
def test_nothing_is_found_where_there_is_no_data(head, tmp_path):
    array = np.random.default_rng(0).integers(1, 256, (256, 512, 3), dtype=np.uint8)
    array[:, 256:] = 0
    image = xt.open_image(array, nodata=0)
    model = choosing(head=head, regions_options={"budget": 8}, levels=2)
    result = DensePredictor(model, "cpu").predict(image, tmp_path / "scene", DenseOptions(least_score=0.0))
    assert result.regions.scales.tolist() == [2] * 8
    table = np.genfromtxt(result.files["table"], delimiter=",", names=True, dtype=None, encoding="utf-8")
    x = table["x"] if head == "points" else (table["x0"] + table["x1"]) / 2
    assert len(x) > 10
    assert x.max() <= 258


def test_read_at_another_resolution_with_a_foreground_and_a_thumbnail(tmp_path):
    image = xt.open_image(pixels(600, 820))
    image.microns_per_pixel = (0.5, 0.5)
    model = choosing(
        microns_per_pixel=1.0, foreground="tissue", thumbnail=True, regions_options={"budget": 5}
    )
    result = DensePredictor(model, "cpu").predict(image, tmp_path / "slide")
    mask = pixels_of(result.files["mask"])[0]
    assert mask.shape == (600, 820)
    assert (result.regions.height, result.regions.width) == (300, 410)
    looked_at = np.zeros((300, 410), bool)
    for y, x, height, width in result.regions:
        looked_at[y : y + height, x : x + width] = True
    assert 0 < looked_at.sum() < looked_at.size
    np.testing.assert_array_equal(mask[::2, ::2] != NOTHING, looked_at)


def test_a_window_in_view_is_shown_as_the_file_would_be(tmp_path):
    from xt.tasks.segmentation_results import SegmentationResults

    model = choosing()
    results = SegmentationResults(model, DenseOptions())
    image = xt.open_image(pixels())
    stored, regions = [], []
    for some, predictions in model.decode(image):
        stored.append(results.stored(predictions, some, image))
        regions += some
    (shown,) = results.shown_so_far(stored, regions, model.as_read(image))
    written = DensePredictor(model, "cpu").predict(image, tmp_path / "scene").files["mask"]
    np.testing.assert_array_equal(shown.raster.read(0, 0, 300, 410)[..., 0], pixels_of(written)[0])


@pytest.fixture
def labelled(tmp_path):
    """Two images with a mask and points each, and a table."""
    from PIL import Image

    rows = ["image,mask,points"]
    for number in range(2):
        array = pixels(256, 384) if number else np.roll(pixels(256, 384), 60, axis=1)
        Image.fromarray(array).save(tmp_path / f"{number}.png")
        mask = (np.arange(256)[:, None] + np.arange(384) > 300).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
        (tmp_path / f"{number}.csv").write_text("y,x,class,length\n40,50,ship,9\n200,300,sea,20\n")
        rows.append(f"{number}.png,{number}_mask.png,{number}.csv")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize("regions", sorted(CHOICES))
def test_pixels_that_differ_from_those_of_all_regions_are_those_of_the_files(regions, labelled):
    model = choosing(regions)
    result = xt.evaluate(model, labelled / "table.csv", device="cpu", against_all=True, resamples=20)
    compared = result.metrics["against"]
    looked = compared["looked"]
    masks = []
    for which in (model, dense_model()):
        which.load_state_dict(model.state_dict(), strict=False)
        predictor = DensePredictor(which, "cpu")
        names = [labelled / f"{number}.png" for number in range(2)]
        files = [predictor.predict(name, labelled / "out" / str(id(which)) / name.stem) for name in names]
        masks.append(np.stack([pixels_of(file.files["mask"])[0] for file in files]))
    assert looked["of"] == "pixels"
    assert looked["differ"] == pytest.approx((masks[0] != masks[1]).mean())
    assert looked["differ_interval"][0] <= looked["differ"] <= looked["differ_interval"][1]
    assert 0 < looked["share"] < 1
    times = ("seconds", "seconds_all", "processor_seconds", "processor_seconds_all")
    assert min(looked[name] for name in times) > 0
    true = np.stack(
        [np.array(xt.open_image(labelled / f"{n}_mask.png").read(0, 0, 256, 384)[..., 0]) for n in range(2)]
    )
    assert result.metrics["pixel_accuracy"] == pytest.approx((masks[0] == true).mean(), abs=1e-6)
    accuracy = compared["differences"]["pixel_accuracy"]["value"]
    assert accuracy == pytest.approx((masks[0] == true).mean() - (masks[1] == true).mean(), abs=1e-6)


def test_points_that_only_one_has_are_counted(labelled, capsys):
    from xt.cli.main import main

    choosing(head="points").save(labelled / "model.safetensors")
    command = ["evaluate", str(labelled / "model.safetensors"), str(labelled / "table.csv"), "--against-all"]
    assert main([*command, "--device", "cpu", "--resamples", "20", "--out", str(labelled / "measured")]) == 0
    said = capsys.readouterr().out
    assert "of the regions in" in said
    assert "of the points differ (95 % interval" in said
    assert "all regions" in (labelled / "measured" / "evaluation.html").read_text()
