"""Region batches equal slices of the whole image, whatever the batch size, the threads and the mixture of images."""

import threading

import numpy as np
import pytest
import torch

from xt import open_image
from xt.errors import PixelError, ShapeError
from xt.images import LargeImage
from xt.regions.grid import RegionGrid
from xt.regions.reader import RegionReader


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
