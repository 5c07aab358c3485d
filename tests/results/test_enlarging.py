"""Answers of coarse regions on the image's pixels: beside a plain twin, window by window, to the edge, without data."""

import numpy as np
import pytest

import xt
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.results.decoded_image import DecodedImage
from xt.results.enlarging import enlarged
from xt.results.kept_pixels import NOTHING, KeptPixels
from xt.results.region_store import RegionStore


def plain(values: np.ndarray, known: np.ndarray, scale: int) -> np.ndarray:
    """The same one pixel after the other: the mean of the four nearest that are known, each by how near it is."""
    channels, height, width = values.shape
    result = np.empty((channels, height * scale, width * scale))
    for y in range(height * scale):
        for x in range(width * scale):
            if not known[y // scale, x // scale]:
                result[:, y, x] = values[:, y // scale, x // scale]
                continue
            # Where the middle of the pixel lies, in coarse pixels from the middle of the first.
            at = np.array([(y + 0.5) / scale - 0.5, (x + 0.5) / scale - 0.5])
            total, weight = np.zeros(channels), 0.0
            for row in range(height):
                for column in range(width):
                    near = np.clip(1 - np.abs(at - (row, column)), 0, None).prod() * known[row, column]
                    total, weight = total + near * values[:, row, column], weight + near
            result[:, y, x] = total / weight
    return result


def whole(values: np.ndarray, known: np.ndarray, scale: int) -> np.ndarray:
    height, width = known.shape
    return enlarged(values, known, scale, slice(0, scale * height), slice(0, scale * width))


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("share", [1.0, 0.7, 0.1, 0.0])
def test_as_one_would_do_it_pixel_by_pixel(scale, share):
    rng = np.random.default_rng(scale)
    values, known = rng.random((3, 5, 6), dtype=np.float32), rng.random((5, 6)) < share
    np.testing.assert_allclose(whole(values, known, scale), plain(values, known, scale), atol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_a_window_says_what_all_of_them_say_bit_for_bit(share):
    rng = np.random.default_rng(1)
    values, known = rng.random((2, 7, 9), dtype=np.float32), rng.random((7, 9)) < share
    everything = whole(values, known, 4)
    for _ in range(50):
        y, x = rng.integers(0, 28), rng.integers(0, 36)
        rows, columns = slice(y, rng.integers(y + 1, 29)), slice(x, rng.integers(x + 1, 37))
        np.testing.assert_array_equal(enlarged(values, known, 4, rows, columns), everything[:, rows, columns])


def test_an_even_slope_stays_one_and_what_is_alike_stays_alike():
    slope = np.broadcast_to(np.arange(6, dtype=np.float32), (1, 6, 6))
    found = whole(slope, np.ones((6, 6), bool), 4)[0, 0]
    np.testing.assert_array_equal(found[2:-2], (np.arange(2, 22) + 0.5) / 4 - 0.5)
    # There is nothing beyond the border to go over into.
    assert (found[:2] == 0).all()
    assert (found[-2:] == 5).all()
    alike = np.full((2, 4, 4), 0.3, np.float32)
    assert (whole(alike, np.ones((4, 4), bool), 8) == np.float32(0.3)).all()


def test_what_is_not_known_says_nothing_to_its_neighbours():
    values = np.array([[[0.9, 0.1]]], np.float32)
    found = whole(values, np.array([[True, False]]), 4)
    np.testing.assert_allclose(found[0, 0], [0.9] * 4 + [0.1] * 4, rtol=1e-6)


def laid_out(tmp_path, kept: KeptPixels, grid: PyramidGrid, shares: list, known: list) -> tuple:
    """The mask and the probabilities of these answers of regions."""
    image = xt.open_image(np.zeros((grid.height, grid.width), np.uint8))
    with RegionStore(tmp_path / "store", {}) as store:
        for scale, share, of in zip(grid.scales, shares, known, strict=True):
            fine = np.concatenate([share.argmax(axis=0)[None], (share * 254).round()]).astype(np.uint8)
            store.append(fine[: kept.num_bands] if scale == 1 else kept.of_coarse(share, of))
        bands = [range(1), range(1, kept.num_bands)]
        mask, others = (DecodedImage(store, grid, image, kept=kept, bands=some) for some in bands)
        rng = np.random.default_rng(2)
        for one in (mask, others):
            all_of_it = one.read(0, 0, *one.shape)
            for _ in range(20):
                y, x = rng.integers(0, one.shape[0] - 1), rng.integers(0, one.shape[1] - 1)
                part = np.s_[y : rng.integers(y + 1, one.shape[0]), x : rng.integers(x + 1, one.shape[1])]
                expected = all_of_it[part]
                np.testing.assert_array_equal(one.read(y, x, *expected.shape[:2]), expected)
        return tuple(one.read(0, 0, *one.shape) for one in (mask, others))


@pytest.mark.parametrize("classes", [2, 40])
def test_masks_and_probabilities_of_regions_of_all_scales(tmp_path, monkeypatch, classes):
    # Enlarged in many pieces.
    monkeypatch.setattr("xt.results.kept_pixels._VALUES", 300)
    size, rng = 8, np.random.default_rng(classes)
    fine = RegionGrid(height=40, width=70, region_size=size)
    grid = PyramidGrid.coarsest(fine, 3).with_opened(np.array([[4, 0, 0], [4, 1, 2], [2, 0, 1]]))
    assert set(grid.scales) == {1, 2, 4}
    shares = list(
        rng.dirichlet(np.full(classes, 0.4), (len(grid), size, size)).astype(np.float32).transpose(0, 3, 1, 2)
    )
    known = [
        np.ones((size, size), bool) if scale == 1 else rng.random((size, size)) < 0.8 for scale in grid.scales
    ]
    mask, others = laid_out(tmp_path, KeptPixels(classes, size, True), grid, shares, known)
    for region, scale, share, of in zip(grid, grid.scales, shares, known, strict=True):
        place = np.s_[region.y : region.y + region.height, region.x : region.x + region.width]
        rows, columns = mask[place].shape[:2]
        expected = (share if scale == 1 else plain(share, of, scale))[:, :rows, :columns]
        there = of.repeat(scale, 0).repeat(scale, 1)[:rows, :columns]
        assert (mask[place][~there] == NOTHING).all()
        assert (others[place][~there] == NOTHING).all()
        assert np.abs(others[place].transpose(2, 0, 1) - 254 * expected)[:, there].max() <= 0.51
        best = np.sort(expected, axis=0)[-2:]
        clear = there & (best[1] - best[0] > 1e-4)
        assert clear.sum() > 0.9 * there.sum()
        np.testing.assert_array_equal(mask[place][clear, 0], expected.argmax(axis=0)[clear])


def test_a_disc_seen_coarsely_is_round(tmp_path):
    """Fewer wrong pixels than where each becomes a square, and no steps of the size of a square along its outline."""
    size, scale = 32, 4
    y, x = np.mgrid[: size * scale, : size * scale] + 0.5
    disc = np.hypot(y - 61, x - 66) < 40
    share = disc.reshape(size, scale, size, scale).mean(axis=(1, 3)).astype(np.float32)
    squares = (share > 0.5).repeat(scale, 0).repeat(scale, 1)
    grid = PyramidGrid.coarsest(RegionGrid(height=128, width=128, region_size=size), 3)
    both = np.stack([1 - share, share])
    mask, _ = laid_out(tmp_path, KeptPixels(2, size, True), grid, [both], [np.ones((size, size), bool)])
    found = mask[..., 0] > 0
    assert (found != disc).sum() < 0.3 * (squares != disc).sum()
    # Between rows the outline moves as little as the disc's own does, away from its top and bottom.
    starts = np.array([row.argmax() for row in found[35:87]])
    assert np.abs(np.diff(starts)).max() <= 2
