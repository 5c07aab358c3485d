"""Models of folds that choose their regions themselves, each its own: their answers and maps are put together."""

import numpy as np
import pytest
import torch

import xt
from tests.small_model import small_model
from xt.model.cases import Case
from xt.prediction import Ensemble, Predictor
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid, union
from xt.results.relevance import mean_map, relevance_map


def image(seed: int = 0, size: int = 512):
    noise = np.random.default_rng(seed).integers(-60, 60, (size, size, 3))
    return xt.open_image((120 + noise * np.linspace(0, 1, size)[None, :, None]).astype(np.uint8))


def predictors(*settings, **more) -> list[Predictor]:
    """Of the same kind, with other weights each."""
    found = []
    for number, one in enumerate(settings):
        model = small_model(context="none", **one)
        torch.manual_seed(number)
        if model.scorer is not None:
            torch.nn.init.normal_(model.scorer.score[0].weight)
        found.append(Predictor(model.eval(), "cpu", **more))
    return found


CHOICES = {
    "by_model": [{"regions": "by_model", "regions_options": {"budget": 0.4}}] * 2,
    "budgets": [{"regions": "by_content", "regions_options": {"budget": budget}} for budget in (0.15, 0.6)],
    "both": [{"regions": "by_model"}, {"regions": "by_content"}],
}


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_each_looks_with_its_own_choice_and_answers_are_averaged(name):
    each = predictors(*CHOICES[name])
    seen, found = [one.predict(image()) for one in each], Ensemble(each).predict(image())
    assert not np.array_equal(seen[0].grid.places, seen[1].grid.places)
    np.testing.assert_allclose(found.probabilities, (seen[0].probabilities + seen[1].probabilities) / 2)
    places = {tuple(place) for one in seen for place in one.grid.places.tolist()}
    assert sorted(map(tuple, found.grid.places.tolist())) == sorted(places)
    assert len(found.weights) == 4 * len(places)
    assert found.weights.sum() == pytest.approx(1, rel=1e-5)
    assert len(found.images[0].regions) == len(places)
    # What one of them alone has looked at has half of its share.
    only = next(
        tuple(place) for place in seen[1].grid.places.tolist() if place not in seen[0].grid.places.tolist()
    )
    of_all = {tuple(place): row for row, place in enumerate(found.grid.places.tolist())}
    of_one = {tuple(place): row for row, place in enumerate(seen[1].grid.places.tolist())}
    np.testing.assert_allclose(
        found.weights.reshape(-1, 4)[of_all[only]], seen[1].weights.reshape(-1, 4)[of_one[only]] / 2
    )
    assert np.isfinite(found.relevance.values).all()
    assert found.relevance.pixel_size == min(one.relevance.pixel_size for one in seen)


def test_of_the_same_regions_it_is_as_it_was():
    each = predictors(*CHOICES["budgets"], budget=0.3)
    seen, found = [one.predict(image()) for one in each], Ensemble(each).predict(image())
    np.testing.assert_allclose(found.weights, (seen[0].weights + seen[1].weights) / 2)
    assert np.array_equal(found.grid.places, seen[0].grid.places)


def test_a_case_and_a_time_are_shared():
    each = predictors(
        *({**one, "case_images": 2, "thumbnail": True} for one in CHOICES["by_model"]), seconds=1000.0
    )
    found = Ensemble(each).predict(Case([image(1), image(2, 256)], "case"))
    assert found.reached.number == 64
    assert found.reached.seconds > 0
    assert found.weights.sum() + sum(seen.thumbnail for seen in found.images) == pytest.approx(1, rel=1e-5)


def test_regions_of_several_grids_are_each_there_once():
    coarsest = PyramidGrid.coarsest(RegionGrid(height=512, width=512, region_size=64), 3)
    grids = [coarsest, coarsest.opened(np.array([1])), coarsest.opened(np.array([2]), keep=True)]
    together, rows = union(grids)
    assert len(together) == 4 + 4 + 4
    for grid, numbers in zip(grids, rows, strict=True):
        assert np.array_equal(together.places[numbers], grid.places)


def test_maps_of_other_pixels_and_of_skipped_regions_have_a_mean():
    mask = np.ones((8, 8), bool)
    mask[:2, :2] = False
    fine = RegionGrid(height=500, width=512, region_size=64, mask=mask)
    coarsest = PyramidGrid.coarsest(fine, 3)
    finer = coarsest.with_opened(coarsest.places)
    finer = finer.with_opened(finer.places)
    maps = [
        relevance_map(np.full(4 * len(grid), value), grid, 2, mean=1.0)
        for grid, value in ((coarsest, 1), (finer, 3))
    ]
    found = mean_map(maps)
    assert found.values.shape == maps[1].values.shape == (16, 16)
    # The coarse one covers what the fine one has skipped.
    assert set(np.unique(found.values[:4, :4])) == {1.0}
    assert set(np.unique(found.values[4:])) == {2.0}
    assert np.isnan(mean_map([maps[1], maps[1]]).values[:4, :4]).all()
