"""One image decoded by several processes: band by band, in any order, and joined to the very same files."""

import numpy as np
import pytest

import xt
from tests.prediction.dense_models import dense_model, scene
from tests.prediction.interruption import BATCHES_OF_5, StopsAfter, pixels_of
from xt.errors import OutputError
from xt.prediction.bands import Band, bands_in, cut_bands, join_bands
from xt.prediction.dense_predictor import DensePredictor
from xt.results.region_store import RegionStore
from xt.tasks.place_results import DenseOptions

# 35 regions in batches of 5: seven region batches; in bands of at most 12 regions, two region batches each.
PER_BAND = 12
BANDS = [Band(0, 2), Band(2, 4), Band(4, 6), Band(6, 7)]


@pytest.fixture(scope="module")
def image():
    return xt.open_image(scene())


@pytest.fixture(scope="module")
def model():
    return dense_model()


@pytest.fixture(scope="module")
def whole(model, image, tmp_path_factory):
    """As one process writes it."""
    path = tmp_path_factory.mktemp("whole") / "scene"
    return DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, path, DenseOptions(probabilities=True))


def test_bands_cover_what_is_left():
    assert cut_bands(7, 2) == BANDS
    assert cut_bands(7, 2, done=3) == BANDS[1:], "with the borders that they had"
    assert cut_bands(7, 2, done=7) == []
    assert cut_bands(7, 100) == [Band(0, 7)]


@pytest.mark.parametrize("order", ["raster", "hilbert"])
def test_bands_in_any_order_are_the_image(order, image, tmp_path, monkeypatch):
    model = dense_model(order=order)
    options = DenseOptions(probabilities=True)
    expected = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, tmp_path / "whole", options)
    destination = tmp_path / "scene"
    assert DensePredictor(model, "cpu", BATCHES_OF_5).cut(image, destination, PER_BAND, options) == BANDS
    # The tokens are there: nobody computes them again.
    monkeypatch.setattr(model, "context", None)
    for band in reversed(BANDS):
        DensePredictor(model, "cpu", BATCHES_OF_5).predict_band(image, destination, band, options)
    monkeypatch.setattr(model, "decode", None)
    result = DensePredictor(model, "cpu", BATCHES_OF_5).predict(image, destination, options)
    for what, path in result.files.items():
        np.testing.assert_array_equal(pixels_of(path), pixels_of(expected.files[what]))
    assert result.counts == expected.counts
    assert not list(tmp_path.glob("*.partial"))


def test_points_in_bands_are_the_same_rows(image, tmp_path):
    predictor = DensePredictor(dense_model("points"), "cpu", BATCHES_OF_5)
    expected = predictor.predict(image, tmp_path / "whole")
    for band in predictor.cut(image, tmp_path / "scene", PER_BAND):
        predictor.predict_band(image, tmp_path / "scene", band)
    result = predictor.predict(image, tmp_path / "scene")
    assert sum(result.counts.values()) > 20
    for what, path in result.files.items():
        assert path.read_bytes() == expected.files[what].read_bytes()


def test_a_killed_band_goes_on_and_one_process_takes_bands_up(model, whole, image, tmp_path, monkeypatch):
    options, destination = DenseOptions(probabilities=True), tmp_path / "scene"
    predictor = DensePredictor(model, "cpu", BATCHES_OF_5)
    predictor.cut(image, destination, PER_BAND, options)
    with monkeypatch.context() as patch:
        patch.setattr(model, "decode", StopsAfter(model, 1))
        for band in (BANDS[1], BANDS[2]):
            with pytest.raises(RuntimeError, match="the lights went out"):
                predictor.predict_band(image, destination, band, options)
    started = []
    decode = model.decode

    def noted(*arguments, **given):
        started.append(given["first_batch"])
        return decode(*arguments, **given)

    monkeypatch.setattr(model, "decode", noted)
    predictor.predict_band(image, destination, BANDS[2], options)
    predictor.predict_band(image, destination, BANDS[2], options)
    assert started == [5], "its second region batch, and a band that is whole is not begun again"
    # 0 and 1 are missing, 2 is there, 3 is missing, 4 and 5 are there, 6 is missing.
    result = predictor.predict(image, destination, options)
    assert started == [5, 0, 3, 6]
    for what, path in result.files.items():
        np.testing.assert_array_equal(pixels_of(path), pixels_of(whole.files[what]))


def test_small_images_are_not_cut_and_what_one_process_left_is_not_done_again(model, image, tmp_path):
    predictor = DensePredictor(model, "cpu", BATCHES_OF_5)
    assert predictor.cut(image, tmp_path / "scene", 35) == []
    assert not list(tmp_path.iterdir()), "and nothing is begun"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "decode", StopsAfter(model, 3))
        with pytest.raises(RuntimeError):
            predictor.predict(image, tmp_path / "scene")
    assert predictor.cut(image, tmp_path / "scene", PER_BAND) == BANDS[1:]


def test_a_band_without_its_image_is_refused(model, image, tmp_path):
    with pytest.raises(OutputError, match=r"scene\.partial does not hold the tokens .* that all workers see"):
        DensePredictor(model, "cpu", BATCHES_OF_5).predict_band(image, tmp_path / "scene", BANDS[0])


def test_joining_stops_at_a_gap_and_survives_being_killed(tmp_path):
    header = {"model": "a"}
    values = [np.full(number + 1, number, np.uint8) for number in range(6)]
    with RegionStore(tmp_path / "x.partial", header) as store:
        for band in (Band(0, 2), Band(4, 6)):
            with RegionStore(band.folder(store.folder), {**header, "band": list(band)}) as part:
                for number in range(*band):
                    part.append(values[number])
        # As if killed after the first region batch was moved.
        store.append(values[0])
        assert join_bands(store) == 4
        assert store.num_batches == 2
        assert bands_in(store.folder) == [Band(4, 6)]
        store.append(values[2])
        store.append(values[3])
        assert join_bands(store) is None
        for number, expected in enumerate(values):
            np.testing.assert_array_equal(store.batch(number, np.uint8), expected)
    with RegionStore(tmp_path / "x.partial", {"model": "b"}, restart=True) as store:
        assert bands_in(store.folder) == []
