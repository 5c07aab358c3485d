"""The reader's buffers under load: what arrives on the device is what the image holds, batch after batch."""

import numpy as np
import pytest
import torch
from torch import Tensor

import xt
from xt.errors import PixelError
from xt.regions.grid import RegionGrid
from xt.regions.reader import RegionReader

SIDE, REGION, BATCH = 1024, 16, 4


def image_and_reader(device: str, nodata: int | None = None) -> tuple[Tensor, RegionReader]:
    """(regions, C, REGION, REGION) as they should arrive, on the device, and what reads them."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    image = xt.open_image(pixels, nodata=nodata)
    grid = RegionGrid(height=SIDE, width=SIDE, region_size=REGION)
    per_side = SIDE // REGION
    cut = torch.from_numpy(pixels).view(per_side, REGION, per_side, REGION, 3).permute(0, 2, 4, 1, 3)
    places = [region.y // REGION * per_side + region.x // REGION for region in grid]
    expected = cut.flatten(0, 1)[places].to(device)
    return expected, RegionReader([image], [grid], region_batch=BATCH, device=device, threads=4)


def keep_busy(device: str) -> None:
    """Work before the batch is looked at, so that copies run ahead of it."""
    if device == "cuda":
        torch.cuda._sleep(200_000)


def test_a_thousand_batches_arrive_whole(device: str) -> None:
    expected, reader = image_and_reader(device)
    assert len(reader) > 1000
    wrong = torch.zeros((), dtype=torch.long, device=device)
    for number, batch in enumerate(reader):
        keep_busy(device)
        assert batch.pixels.device.type == device
        assert batch.valid is None
        # Nothing here waits for the device, which falls behind.
        wrong += (batch.pixels != expected[number * BATCH : (number + 1) * BATCH]).sum()
    assert int(wrong) == 0


def test_batches_that_are_held_on_to_stay_as_they_are(device: str) -> None:
    expected, reader = image_and_reader(device)
    held = []
    for number, batch in zip(range(300), reader, strict=False):
        keep_busy(device)
        held.append(batch.pixels)
        assert number < 300
    assert torch.equal(torch.cat(held), expected[: 300 * BATCH])


def test_validity_arrives_with_its_pixels(device: str) -> None:
    expected, reader = image_and_reader(device, nodata=255)
    wrong = torch.zeros((), dtype=torch.long, device=device)
    for number, batch in enumerate(reader):
        keep_busy(device)
        wanted = expected[number * BATCH : (number + 1) * BATCH] != 255
        assert batch.valid is not None
        wrong += (batch.valid != wanted).sum()
    assert int(wrong) == 0


def test_in_any_order_after_a_pass_that_was_left(device: str) -> None:
    expected, reader = image_and_reader(device)
    for _ in zip(range(5), reader, strict=False):
        keep_busy(device)
    numbers = torch.randperm(len(reader), generator=torch.Generator().manual_seed(0))[:200].tolist()
    for number, batch in zip(numbers, reader.select(numbers), strict=True):
        assert torch.equal(batch.pixels, expected[number * BATCH : (number + 1) * BATCH])


@pytest.mark.gpu
def test_batches_are_copied_from_locked_memory_on_a_stream_of_their_own() -> None:
    _, reader = image_and_reader("cuda")
    from xt.regions.reader import _PendingBatch, _thread_pool

    pending = _PendingBatch(reader, reader._batches[0], _thread_pool(2))
    assert pending._pixels.is_pinned()
    copied = pending.copy()
    assert copied._stream is not None
    assert copied._stream != torch.cuda.current_stream()
    assert copied.result().pixels.is_cuda


def test_a_tensor_that_is_not_in_main_memory_is_no_image(device: str) -> None:
    pixels = torch.zeros(8, 8, 3, dtype=torch.uint8, device="meta" if device == "cpu" else device)
    with pytest.raises(PixelError, match=r"must be in main memory, not on .*: pass tensor\.cpu\(\)"):
        xt.open_image(pixels)


def test_photographs_arrive_on_the_device(device: str) -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    waiting = images.pin_memory() if device == "cuda" else images
    # With tables, which a machine that is there for its GPU may have no library for.
    photos = pytest.importorskip("xt.data.photo_dataset")
    batch = photos.PhotoBatch(waiting, torch.arange(4), (0, 1, 2, 3)).to(torch.device(device))
    assert batch.images.device.type == batch.targets.device.type == device
    assert torch.equal(batch.images.cpu(), images)
    assert batch.targets.tolist() == [0, 1, 2, 3]
