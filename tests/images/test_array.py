from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import xt
from tests.images.files import smooth
from xt.errors import ConfigError, PixelError, ShapeError
from xt.images import LargeImage
from xt.testing.images import ImageContract


class TestArray(ImageContract):
    @pytest.fixture
    def reference(self) -> np.ndarray:
        return smooth(67, 90, 5, "int16")

    @pytest.fixture
    def image(self, reference: np.ndarray) -> Iterator[LargeImage]:
        with xt.open_image(reference, nodata=-32768) as image:
            yield image


class TestMemoryMap(ImageContract):
    @pytest.fixture
    def reference(self) -> np.ndarray:
        return smooth(51, 63, 2, "float32")

    @pytest.fixture
    def image(self, tmp_path: Path, reference: np.ndarray) -> Iterator[LargeImage]:
        np.save(tmp_path / "pixels.npy", reference)
        with xt.open_image(np.load(tmp_path / "pixels.npy", mmap_mode="r"), nodata=np.nan) as image:
            yield image


class TestTensor(ImageContract):
    @pytest.fixture
    def reference(self) -> np.ndarray:
        return smooth(48, 55, 3, "uint8")

    @pytest.fixture
    def image(self, reference: np.ndarray) -> Iterator[LargeImage]:
        with xt.open_image(torch.from_numpy(reference).permute(2, 0, 1)) as image:
            yield image


def test_nothing_is_copied() -> None:
    tensor = torch.zeros(3, 8, 9, requires_grad=True)
    array = np.zeros((8, 9))
    images = xt.open_image(tensor), xt.open_image(array)
    with torch.no_grad():
        tensor[1, 2, 3] = 7
    array[2, 3] = 7
    assert images[0].read(2, 3, 1, 1).tolist() == [[[0, 7, 0]]]
    assert images[1].read(2, 3, 1, 1).tolist() == [[[7]]]
    assert images[0].name == "array 8x9x3"
    assert xt.open_image(images[0]) is images[0]


def test_a_memory_map_is_read_by_window(tmp_path: Path) -> None:
    sparse = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.uint8, (200_000, 200_000, 1))
    sparse[150_000, 150_000] = 9
    window = xt.open_image(sparse).read(149_999, 149_999, 3, 3)
    assert type(window) is np.ndarray
    assert window.sum() == 9


def test_byte_order_becomes_the_machines() -> None:
    pixels = np.arange(12, dtype=">u2").reshape(3, 4)
    window = xt.open_image(pixels).read(0, 0, 3, 4)
    assert window.dtype == np.uint16
    assert window.dtype.isnative
    np.testing.assert_array_equal(window[..., 0], pixels)


def test_what_is_not_an_image_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"must be \(height, width\) or .*, not of shape \(4,\)"):
        xt.open_image(np.zeros(4))
    with pytest.raises(ShapeError, match=r"\(channels, height, width\).*, not of shape \(1, 3, 8, 8\)"):
        xt.open_image(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ShapeError, match=r"must not be empty, but its shape is \(0, 5\)"):
        xt.open_image(np.zeros((0, 5)))
    with pytest.raises(PixelError, match=r"array 8x8x1 has pixels of type complex64.*amplitude"):
        xt.open_image(np.zeros((8, 8), np.complex64))
    with pytest.raises(PixelError, match=r"bfloat16 has no counterpart in NumPy: pass tensor.float\(\)"):
        xt.open_image(torch.zeros(3, 8, 8, dtype=torch.bfloat16))
    with pytest.raises(PixelError, match=r"not on meta: pass tensor\.cpu"):
        xt.open_image(torch.zeros(3, 8, 8, device="meta"))
    with pytest.raises(ConfigError, match="nodata=-1 cannot occur in array 8x8x1, whose pixels are uint8"):
        xt.open_image(np.zeros((8, 8), np.uint8), nodata=-1)
    with pytest.raises(TypeError, match="from a path, an array or a torch tensor, not from int"):
        xt.open_image(3)


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int, int, int]:
    return (
        draw(st.integers(-9, 30)),
        draw(st.integers(-9, 30)),
        draw(st.integers(1, 25)),
        draw(st.integers(1, 25)),
    )


@given(st.integers(1, 20), st.integers(1, 20), windows())
def test_any_window_of_any_size(height: int, width: int, window: tuple[int, int, int, int]) -> None:
    pixels = smooth(height, width, 2)
    padded = np.pad(pixels, ((10, 60), (10, 60), (0, 0)), constant_values=3)
    y, x, rows, columns = window
    expected = padded[y + 10 : y + 10 + rows, x + 10 : x + 10 + columns]
    image = xt.open_image(pixels, nodata=3)
    np.testing.assert_array_equal(image.read(y, x, rows, columns), expected)


def test_the_least_float32_as_people_write_it_is_a_nodata_value() -> None:
    lowest = np.finfo(np.float32).min
    image = xt.open_image(np.array([[lowest, 0]], np.float32), nodata=-3.4028235e38)
    assert image.read_valid(0, 0, 1, 2)[1].ravel().tolist() == [False, True]
    with pytest.raises(ConfigError, match="cannot occur"):
        xt.open_image(np.zeros((2, 2), np.float32), nodata=-1e39)
