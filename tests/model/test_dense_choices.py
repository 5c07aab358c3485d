"""Answers about every place over regions of several scales: gradients of one graph, targets, places and weights."""

import numpy as np
import pytest
import torch

import xt
from tests.model.test_dense import assert_same_gradients, unstreamed_loss
from tests.prediction.dense_models import dense_model
from xt.errors import ConfigError, ShapeError
from xt.heads import PointTable
from xt.labels.box_table import BoxTable
from xt.model.dense import Decode
from xt.prediction.leaning import leaned_on, regions_leaned_on
from xt.regions.grid import Region, RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.streaming.map import Streaming

HEADS = ["segmentation", "points", "detection"]
SHAPE = (200, 390)


def image(seed: int = 0, shape: tuple[int, int] = SHAPE) -> xt.LargeImage:
    """Plain but for two places."""
    random = np.random.default_rng(seed)
    array = np.full((*shape, 3), 0.4)
    array[20:60, 70:120] = random.random((40, 50, 3))
    array[-60:, :50] = random.random((60, 50, 3))
    return xt.open_image(array)


def target(head: str, seed: int = 1, shape: tuple[int, int] = SHAPE) -> object:
    random = np.random.default_rng(seed)
    if head == "segmentation":
        mask = random.integers(0, 3, (*shape, 1)).astype(np.uint8)
        mask[:70, :90] = 255
        return xt.open_image(mask)
    y, x = random.uniform(0, shape[0], 30), random.uniform(0, shape[1], 30)
    labels = random.integers(0, 3, 30)
    if head == "points":
        return PointTable(y, x, labels, attributes={"length": random.uniform(5, 50, 30)})
    sides = random.uniform(4, 60, (2, 30))
    edges = np.stack([y - sides[0] / 2, x - sides[1] / 2, y + sides[0] / 2, x + sides[1] / 2], axis=1)
    return BoxTable.of(edges, labels).clipped(*shape)


def choosing(head: str = "segmentation", regions: str = "by_content", **settings: object) -> xt.XT:
    options = {"regions": regions, "regions_options": {"budget": 0.6}}
    model = dense_model(head, **(options | settings))
    torch.nn.init.normal_(model.which_scale.weight)
    return model


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("keep_coarse", [False, True])
def test_gradients_of_what_was_chosen_are_those_of_one_graph(head, keep_coarse):
    model = choosing(head, regions_options={"budget": 0.6, "keep_coarse": keep_coarse}).double()
    model.streaming = Streaming(region_batch=5, features="device")
    (grid,) = grids = [model.grid(image())]
    assert set(grid.scales) == {1, 2, 4}
    assert (grid.leaves is grid) == (not keep_coarse)
    loss = model.loss([image()], [target(head)])
    assert_same_gradients(model, loss, unstreamed_loss(model, [image()], [target(head)], 5, 0, grids))


def test_gradients_of_what_a_model_has_asked_for_are_those_of_one_graph():
    model = choosing(regions="by_model", regions_options={"budget": 1.0}, levels=2).double().eval()
    model.streaming = Streaming(region_batch=5)
    images = [image(), image(2, (130, 190))]
    targets = [target("segmentation"), target("segmentation", 3, (130, 190))]
    grids = []
    for one in images:
        dense = model.dense_pass(one)
        dense.context()
        grids += dense.grids
    assert all({1, 2} <= set(grid.leaves.scales) and len(grid.leaves) < len(grid) for grid in grids)
    loss = model.loss(images, targets)
    twin = unstreamed_loss(model, images, targets, 5, 0, grids)
    names = [name for name in dict(model.named_parameters()) if not name.startswith("scorer")]
    assert_same_gradients(model, loss, twin, names)
    model.loss(images[1:], targets[1:]).backward()
    assert max(float(parameter.grad.abs().max()) for parameter in model.scorer.parameters()) > 0


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("thumbnail", [False, True])
def test_with_everything_opened_losses_and_answers_are_those_of_all(head, thumbnail):
    opened = choosing(head, regions_options={"tolerance": 0.0}, order="hilbert", thumbnail=thumbnail)
    plain = dense_model(head, order="hilbert", thumbnail=thumbnail)
    weights = {name: value for name, value in opened.state_dict().items() if "which_scale" not in name}
    plain.load_state_dict(weights)
    noise = xt.open_image(np.random.default_rng(0).random((200, 270, 3)))
    wanted = target(head, shape=(200, 270))
    assert isinstance(opened.grid(noise), PyramidGrid)
    with torch.no_grad():
        assert torch.equal(opened.loss([noise], [wanted]), plain.loss([noise], [wanted]))
    # One after the other: while one decodes, there are no gradients.
    parts, others = list(opened.decode(noise)), list(plain.decode(noise))
    for found, expected in zip(parts, others, strict=True):
        assert found.regions == expected.regions
        if head == "segmentation":
            assert torch.equal(found.predictions, expected.predictions)
        else:
            for one, other in zip(found.predictions, expected.predictions, strict=True):
                assert np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize("context", ["none", "multiscale"])
@pytest.mark.parametrize("halo", [0, 32])
def test_whatever_the_context_coarse_regions_are_decoded_as_the_image_at_their_scale(context, halo):
    """Of an image all at 1/2 the answers are those of a small copy of it."""
    model = choosing(levels=2, context=context, context_options={}, halo=halo)
    array = np.random.default_rng(0).random((256, 384, 3))
    small = xt.open_image(array.reshape(128, 2, 192, 2, 3).mean(axis=(1, 3)))
    fine = model.fine_grid(xt.open_image(array))
    torch.nn.init.zeros_(model.which_scale.weight)
    parts = list(model.decode(xt.open_image(array), grid=PyramidGrid.coarsest(fine, 2)))
    expected = list(model.decode(small, grid=RegionGrid(height=128, width=192, region_size=64)))
    assert [tuple(side // 2 for side in region) for part in parts for region in part.regions] == [
        tuple(region) for part in expected for region in part.regions
    ]
    if context == "none":
        torch.testing.assert_close(
            torch.cat([part.predictions for part in parts]),
            torch.cat([part.predictions for part in expected]),
        )


@pytest.mark.parametrize("head", ["points", "detection"])
def test_places_found_in_coarse_regions_are_in_pixels_of_the_image(head):
    model = choosing(head, levels=2, context="none", context_options={})
    array = np.random.default_rng(0).random((256, 384, 3))
    small = xt.open_image(array.reshape(128, 2, 192, 2, 3).mean(axis=(1, 3)))
    coarse = PyramidGrid.coarsest(model.fine_grid(xt.open_image(array)), 2)
    found = [one for part in model.decode(xt.open_image(array), grid=coarse) for one in part.predictions]
    fine = RegionGrid(height=128, width=192, region_size=64)
    expected = [one for part in model.decode(small, grid=fine) for one in part.predictions]
    assert sum(map(len, found)) > 20
    for one, other in zip(found, expected, strict=True):
        for name in ("y", "x") if head == "points" else ("y0", "x0", "y1", "x1"):
            np.testing.assert_allclose(getattr(one, name), 2 * getattr(other, name), atol=1e-3)


@pytest.mark.parametrize("head", HEADS)
def test_targets_of_coarse_regions_are_those_of_the_labels_at_their_scale(head):
    model, wanted = dense_model(head), target(head, shape=(256, 256))
    found = model.head.region_target(wanted, Region(0, 128, 128, 128))
    if head != "segmentation":
        halves = wanted.scaled(0.5, 0.5)
        expected = model.head.region_target(halves, Region(0, 64, 64, 64))
        np.testing.assert_array_equal(found, expected)
        return
    blocks = wanted.read(0, 128, 128, 128)[..., 0].reshape(64, 2, 64, 2).transpose(0, 2, 1, 3).reshape(-1, 4)
    for block, number in zip(blocks, found.ravel(), strict=True):
        counts = np.bincount(block[block != 255], minlength=3)
        assert number == 255 if not counts.any() else counts[number] == counts.max()


def test_targets_of_coarse_regions_are_read_in_stripes(monkeypatch):
    from xt.heads import segmentation

    model, mask = dense_model(), target("segmentation")
    region = Region(0, 0, 512, 512)
    whole = model.head.region_target(mask, region)
    monkeypatch.setattr(segmentation, "_PIXELS_READ", 10)
    np.testing.assert_array_equal(model.head.region_target(mask, region), whole)
    assert (whole[:, 25:] == 255).all(), "beyond the image nothing is known"


def test_a_pixel_of_a_coarse_region_counts_as_all_it_stands_for():
    """Where every pixel is answered alike, the loss is that of full resolution."""
    model = choosing(head_options={"width": 8, "losses": {"cross_entropy": 1.0, "dice": 0.5}}).double()
    torch.nn.init.zeros_(model.head.predict.weight)
    torch.nn.init.normal_(model.head.predict.bias)
    classes = np.kron(np.random.default_rng(0).integers(0, 3, (2, 2)), np.ones((128, 128), int))
    mask = xt.open_image(classes[..., None].astype(np.uint8))
    whole = xt.open_image(np.full((256, 256, 3), 0.5))
    fine = model.fine_grid(whole)
    with torch.no_grad():
        chosen = PyramidGrid.coarsest(fine, 2).opened(np.array([2]))
        found, expected = (model.loss([whole], [mask], grids=[grid]) for grid in (chosen, fine))
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)


def test_a_context_of_other_regions_is_refused():
    model = choosing(regions="by_model", regions_options={"budget": 0.8})
    dense = model.dense_pass(image())
    context = dense.context()
    with pytest.raises(ShapeError, match="give the grid too that it was computed with"):
        next(iter(model.decode(image(), context=context)))
    again = model.decode(image(), context=context, grid=dense.grids[0])
    regions = [region for part in again for region in part.regions]
    assert regions == list(dense.leaves[0])


def test_a_model_that_hears_nothing_of_others_cannot_learn_what_to_open():
    with pytest.raises(ConfigError, match=r"'by_model' learns what to open.*'segmentation' hears nothing"):
        dense_model(regions="by_model", context="none", context_options={})
    told = dense_model(regions="by_model", context="none", context_options={}, thumbnail=True)
    assert len(list(told.decode(image()))) > 0


@pytest.mark.parametrize("regions", ["by_content", "by_model"])
def test_what_an_answer_leans_on_is_laid_out_where_its_tokens_lie(regions):
    """Against differences: one token after the other is made a little smaller."""
    model = choosing(regions=regions, regions_options={"budget": 0.5}).double()
    y, x = 60.0, 200.0
    seen = leaned_on(model, image(), y, x)
    dense = model.dense_pass(image())
    with torch.no_grad():
        tokens = dense.tokens()
        (grid,), (leaves,) = dense.grids, dense.leaves
        assert set(leaves.scales) == {1, 2, 4}
        assert (leaves is grid) == (regions == "by_content")
        row, region = next(
            (row, one)
            for row, one in enumerate(leaves)
            if one.y <= y < one.y + one.height and one.x <= x < one.x + one.width
        )
        number = next(n for n in range(len(dense.regions)) if row < dense.regions.first_region(n + 1))
        batch, within = dense.regions[number], row - dense.regions.first_region(number)
        valid = None if batch.valid is None else batch.valid[within : within + 1]

        def said(tokens):
            context = dense._around(dense._mixed(tokens)).piece(row, row + 1)
            step = Decode(model.region_encoder, dense.head, True)
            answers = step(batch.pixels[within : within + 1], valid, context)[0]
            return dense.head.said_at(answers, (y - region.y) / region.height, (x - region.x) / region.width)

        some = range(0, len(grid), 3)
        changes = np.zeros((len(some), 4))
        for place in np.ndindex(changes.shape):
            smaller = tokens.clone()
            smaller[some[place[0]], place[1]] *= 1 - 1e-4
            changes[place] = abs(float(said(tokens) - said(smaller))) / 1e-4
    weights = seen.weights.reshape(-1, 4)
    np.testing.assert_allclose(weights[some], changes, rtol=0.02, atol=1e-3 * changes.max())
    assert len({float(f"{weight:.3g}") for weight in weights.ravel()}) > len(grid), "tokens differ"
    # By hand: the finest token at each place of the map, and each token somewhere or below what was opened of it.
    laid = np.full((2 * 4, 2 * 7), np.nan)
    for one, values in sorted(
        zip(grid, weights / weights.mean(), strict=True), key=lambda pair: -pair[0].height
    ):
        for token, value in enumerate(values):
            side = one.height // 64
            top, left = one.y // 32 + side * (token // 2), one.x // 32 + side * (token % 2)
            laid[top : top + side, left : left + side] = value
    np.testing.assert_allclose(seen.relevance.values, laid[:7, :13], rtol=1e-4)


@pytest.mark.parametrize("regions", ["by_content", "by_model"])
def test_each_region_that_an_answer_leans_on_is_counted_once(regions):
    model = choosing(regions=regions, regions_options={"budget": 0.5})
    seen = leaned_on(model, image(), 60.0, 200.0)
    found = regions_leaned_on(seen, model.tokens_per_side)
    assert sorted(region for region, _ in found) == sorted(seen.grid)
    shares = [share for _, share in found]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    weights = dict(zip(seen.grid, seen.weights.reshape(-1, 4).sum(axis=1), strict=True))
    for region, share in found:
        assert share == pytest.approx(weights[region] / seen.weights.sum())
