"""Region batches equal slices of the whole image, whatever the batch size, the threads and the mixture of images."""

import threading
from typing import ClassVar

import numpy as np
import pytest
import torch

from xt import open_image
from xt.errors import PixelError, ShapeError
from xt.images import LargeImage
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid
from xt.regions.reader import RegionReader, TensorRegions


def reader_of(*arrays, nodata=None, region_size=16, **options):
    images = [open_image(array, nodata=nodata) for array in arrays]
    return RegionReader(images, [RegionGrid.from_image(image, region_size) for image in images], **options)


def whole(array, region_size=16):
    """The regions of an array, cut by padding and reshaping: pixels and which of them lie inside."""
    height, width = (-(-size // region_size) for size in array.shape[:2])
    padding = ((0, height * region_size - array.shape[0]), (0, width * region_size - array.shape[1]), (0, 0))
    inside = np.pad(np.ones(array.shape, dtype=bool), padding)

    def cut(padded):
        blocks = padded.reshape(height, region_size, width, region_size, -1)
        return blocks.transpose(0, 2, 4, 1, 3).reshape(height * width, -1, region_size, region_size)

    return cut(np.pad(array, padding)), cut(inside)


@pytest.mark.parametrize("region_batch", [1, 4, 100])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_batches_are_slices_of_the_images(region_batch, threads, dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(1, 99, shape).astype(dtype) for shape in ((40, 33, 2), (16, 16, 2), (5, 70, 2))]
    reader = reader_of(*arrays, region_batch=region_batch, threads=threads)
    batches = list(reader)
    assert len(batches) == len(reader)
    assert reader.num_regions == sum(len(batch.pixels) for batch in batches)
    pixels = torch.cat([batch.pixels for batch in batches]).numpy()
    valid = np.concatenate(
        [np.ones_like(b.pixels, bool) if b.valid is None else b.valid.numpy() for b in batches]
    )
    expected, inside = (np.concatenate(parts) for parts in zip(*map(whole, arrays), strict=True))
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(valid, inside)
    np.testing.assert_array_equal(pixels[inside], expected[inside])


def test_it_reads_the_same_again():
    reader = reader_of(np.random.default_rng(0).integers(0, 255, (50, 50, 1), dtype=np.uint8), region_batch=3)
    first, second = list(reader), list(reader)
    assert len(first) == 6
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))


def test_images_of_different_types_do_not_share_a_batch():
    arrays = [np.zeros((32, 32, 1), dtype=t) for t in ("uint8", "uint8", "float32")]
    batches = list(reader_of(*arrays, region_batch=6))
    assert [(len(b.pixels), b.pixels.dtype) for b in batches] == [
        (6, torch.uint8),
        (2, torch.uint8),
        (4, torch.float32),
    ]


def test_nodata_is_not_valid_in_its_channel():
    array = np.ones((16, 16, 2), dtype=np.int16)
    array[3, 4, 1] = -99
    (batch,) = reader_of(array, nodata=-99)
    assert (~batch.valid).nonzero().tolist() == [[0, 1, 3, 4]]


def test_nan_declared_as_nodata_is_not_valid():
    array = np.ones((16, 16, 1), dtype=np.float32)
    array[3, 4, 0] = np.nan
    (batch,) = reader_of(array, nodata=float("nan"))
    assert (~batch.valid).nonzero().tolist() == [[0, 0, 3, 4]]


def test_undeclared_nan_is_refused_with_its_place():
    array = np.ones((40, 40, 2), dtype=np.float32)
    array[20, 35, 1] = np.nan
    with pytest.raises(PixelError, match=r"has 1 pixel values that are NaN or infinite in the window at y=16, x=32, "
                       r"the first at y=20, x=35 in channel 1: open it with nodata=float\('nan'\)"):  # fmt: skip
        list(reader_of(array))


class CountingImage(LargeImage):
    """Blank, and counts how often it was read."""

    def __init__(self, height, width):
        super().__init__("counting", [(height, width)], 1, np.dtype("uint8"))
        self.reads = 0
        self.lock = threading.Lock()

    def _read(self, y, x, height, width, level):
        with self.lock:
            self.reads += 1
        return np.zeros((height, width, 1), dtype=np.uint8)


def test_it_reads_at_most_two_batches_ahead():
    image = CountingImage(16, 160)
    reader = RegionReader([image], [RegionGrid(height=16, width=160, region_size=16)], region_batch=1)
    batches = iter(reader)
    next(batches)
    assert 1 <= image.reads <= 3
    batches.close()
    assert sum(1 for _ in reader) == 10


def test_images_that_do_not_go_together_are_refused():
    with pytest.raises(ShapeError, match=r"need the same channels, got \[1, 3\]"):
        reader_of(np.zeros((8, 8, 1)), np.zeros((8, 8, 3)))
    image = open_image(np.zeros((8, 8, 1)))
    with pytest.raises(ShapeError, match="got 1 images and 0 grids"):
        RegionReader([image], [])


def pyramid(height, width, region_size=8, levels=3, keep=False):
    """Regions of each scale: the first of the coarsest is opened, and of these the first again."""
    grid = PyramidGrid.coarsest(RegionGrid(height=height, width=width, region_size=region_size), levels)
    for _ in range(levels - 1):
        grid = grid.opened(np.array([np.flatnonzero(grid.scales == grid.scales.min())[0]]), keep=keep)
    assert len(set(grid.scales)) == levels
    return grid


def mean_of_blocks(array, there, scale):
    """(height, width, C) at 1/scale, slowly: means of what is there, and where that is at least half of a block."""
    height, width = (-(-side // scale) for side in array.shape[:2])
    means, share = np.zeros((height, width, array.shape[2])), np.zeros((height, width, array.shape[2]))
    for y in range(height):
        for x in range(width):
            block = np.s_[y * scale : (y + 1) * scale, x * scale : (x + 1) * scale]
            for channel in range(array.shape[2]):
                values, usable = array[block][..., channel], there[block][..., channel]
                share[y, x, channel] = usable.mean()
                means[y, x, channel] = values[usable].mean() if usable.any() else 0
    return means, share >= 0.5


@pytest.mark.parametrize(
    ("dtype", "shape", "halo", "nodata"),
    [
        ("uint8", (64, 64), 0, None),
        ("uint8", (61, 45), 3, 7),
        ("uint16", (45, 61), 3, None),
        ("float32", (33, 70), 0, 7),
        ("float32", (40, 37), 3, None),
    ],
)
def test_regions_of_mixed_scale_are_means_over_what_is_there(dtype, shape, halo, nodata):
    random = np.random.default_rng(3)
    array = random.integers(8, 250, (*shape, 2)).astype(dtype)
    if nodata is not None:
        array[random.random(array.shape) < 0.3] = nodata
    there = np.ones(array.shape, bool) if nodata is None else array != nodata
    grid = pyramid(*shape)
    with open_image(array, nodata=nodata) as image:
        reader = RegionReader([image], [grid], region_batch=5, halo=halo)
        batches = list(reader)
    pixels = np.concatenate([batch.pixels.numpy() for batch in batches]).transpose(0, 2, 3, 1)
    valid = np.concatenate(
        [np.ones_like(b.pixels, bool) if b.valid is None else b.valid.numpy() for b in batches]
    ).transpose(0, 2, 3, 1)
    expected_at = {scale: mean_of_blocks(array, there, scale) for scale in (1, 2, 4)}
    for region, seen, is_valid in zip(grid, pixels, valid, strict=True):
        scale = region.height // 8
        means, usable = expected_at[scale]
        margin = ((halo, 8 * scale + halo), (halo, 8 * scale + halo), (0, 0))
        top, left = region.y // scale, region.x // scale
        part = np.s_[top : top + 8 + 2 * halo, left : left + 8 + 2 * halo]
        np.testing.assert_array_equal(is_valid, np.pad(usable, margin)[part])
        expected = np.pad(means, margin)[part]
        tolerance = (
            1e-3 if dtype == "float32" else 1.01
        )  # half a value of rounding, or one beside the nodata value
        np.testing.assert_allclose(seen[is_valid], expected[is_valid], atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(64, 64), (61, 45), (5, 40)])
@pytest.mark.parametrize("halo", [0, 3])
def test_a_tensor_is_read_as_the_same_image_is(dtype, shape, halo):
    tensor = torch.randint(0, 250, (1, 2, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    grid = pyramid(*shape, keep=True) if min(shape) > 30 else PyramidGrid.coarsest(
        RegionGrid(height=shape[0], width=shape[1], region_size=8), 4
    )  # fmt: skip
    image = open_image(tensor[0].permute(1, 2, 0).numpy())
    read = list(RegionReader([image], [grid], region_batch=4, halo=halo))
    given = TensorRegions(tensor, [grid], 4, halo)
    assert len(read) == len(given)
    for number, ours in enumerate(read):
        theirs = given[number]
        inside = torch.ones_like(ours.pixels, dtype=torch.bool) if ours.valid is None else ours.valid
        if theirs.valid is not None:
            assert torch.equal(theirs.valid, inside)
        difference = (ours.pixels.double() - theirs.pixels.double()).abs()[inside]
        assert difference.max() <= (0 if dtype == torch.uint8 else 1e-4)


def test_a_coarse_region_is_read_from_the_file_s_own_levels(monkeypatch):
    fine = np.full((64, 64, 1), 10, np.uint8)
    grid = PyramidGrid.coarsest(RegionGrid(height=64, width=64, region_size=16), 3)

    class Leveled(LargeImage):
        asked: ClassVar[list[int]] = []

        def __init__(self):
            super().__init__("leveled", [(64, 64), (32, 32), (16, 16)], 1, np.dtype(np.uint8))

        def _read(self, y, x, height, width, level):
            self.asked.append(level)
            return fine[:: 2**level, :: 2**level][y : y + height, x : x + width] + level

    image = Leveled()
    (batch,) = RegionReader([image], [grid])
    assert image.asked == [2]
    assert (batch.pixels == 12).all()


def test_infinite_pixels_of_a_coarse_region_are_told():
    array = np.zeros((32, 32, 1), np.float32)
    array[20, 9] = np.inf
    grid = PyramidGrid.coarsest(RegionGrid(height=32, width=32, region_size=8), 3)
    with pytest.raises(PixelError, match="NaN or infinite in the window"):
        list(RegionReader([open_image(array)], [grid]))
