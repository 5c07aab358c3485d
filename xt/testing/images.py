"""The contract of every source of pixels, as a test class.

A subclass says how to open its image and what the container's own library reads from it; the rest is inherited:

    class TestMyFormat(ImageContract):
        @pytest.fixture
        def image(self, tmp_path): ...            # a LargeImage, at least 40 x 50 pixels
        @pytest.fixture
        def reference(self, ...): ...             # its level 0 as the other library reads it, (h, w, channels)
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from xt.errors import ImageError, ShapeError
from xt.images import LargeImage

# Pixels up to which images are compared whole again and again.
_SMALL = 2**19


class ImageContract:
    """What must hold for any `LargeImage`."""

    @pytest.fixture
    def image(self) -> Iterator[LargeImage]:
        raise NotImplementedError

    @pytest.fixture
    def reference(self) -> np.ndarray:
        raise NotImplementedError

    @pytest.fixture
    def level_references(self, reference: np.ndarray) -> list[np.ndarray]:
        """Each level whole, as the other library reads it; more than level 0 where there is a pyramid."""
        return [reference]

    @pytest.fixture
    def validity_references(self) -> list[np.ndarray] | None:
        """Of each level, which of its values are data, as the other library says; None where it says nothing of it."""
        return None

    def test_says_what_it_is(self, image: LargeImage, reference: np.ndarray) -> None:
        assert image.shape == reference.shape[:2]
        assert image.channels == reference.shape[2]
        assert image.dtype == reference.dtype
        assert image.levels[0] == 1.0
        assert list(image.levels) == sorted(image.levels)
        assert len(image.levels) == len(image.level_shapes)
        assert image.level_shapes[0] == image.shape
        for factor, (height, width) in zip(image.levels, image.level_shapes, strict=True):
            assert abs(height * factor - image.shape[0]) <= factor
            assert abs(width * factor - image.shape[1]) <= factor

    def test_reads_each_level_whole(self, image: LargeImage, level_references: list[np.ndarray]) -> None:
        assert image.level_shapes == tuple(pixels.shape[:2] for pixels in level_references)
        for level, expected in enumerate(level_references):
            window = image.read(0, 0, *image.level_shapes[level], level=level)
            assert window.dtype == expected.dtype
            np.testing.assert_array_equal(window, expected)

    def test_reads_windows(self, image: LargeImage, reference: np.ndarray) -> None:
        height, width = image.shape
        windows = [(0, 0, 1, 1), (3, 5, 17, 11), (height - 1, width - 1, 1, 1), (height // 2, 0, 7, width)]
        for y, x, rows, columns in windows:
            expected = reference[y : y + rows, x : x + columns]
            np.testing.assert_array_equal(image.read(y, x, rows, columns), expected)

    def test_fills_outside(self, image: LargeImage, reference: np.ndarray) -> None:
        height, width = image.shape
        padded = np.pad(reference, ((20, 20), (20, 20), (0, 0)), constant_values=image.fill)
        windows = [(-20, -20, 30, 30), (height - 10, -5, 30, 20), (-7, width - 3, 9, 23), (5, -20, 10, 20)]
        for y, x, rows, columns in windows:
            expected = padded[y + 20 : y + 20 + rows, x + 20 : x + 20 + columns]
            np.testing.assert_array_equal(image.read(y, x, rows, columns), expected)
        beyond = image.read(height + 100, width + 100, 3, 4)
        np.testing.assert_array_equal(beyond, np.full((3, 4, image.channels), image.fill, image.dtype))
        around = image.read(-1, -1, height + 2, width + 2)
        np.testing.assert_array_equal(around, padded[19:-19, 19:-19])

    def test_fills_outside_of_each_level(self, image: LargeImage, level_references: list[np.ndarray]) -> None:
        for level, expected in enumerate(level_references):
            step = round(2 * image.levels[level])
            height, width = image.level_shapes[level]
            window = image.read(-step, -step, height + 4, width + 4, level=level)
            padded = np.pad(expected, ((2, 2), (2, 2), (0, 0)), constant_values=image.fill)
            np.testing.assert_array_equal(window, padded)

    def test_says_which_values_are_data(self, image: LargeImage, reference: np.ndarray) -> None:
        height, width = image.shape
        windows = [(0, 0, 1, 1), (3, 5, 17, 11), (-4, width - 6, 20, 30), (height + 9, 0, 3, 4)]
        for source in (image, image.flip("y"), image.rotate(3), image.crop(1, 2, 30, 21)):
            for y, x, rows, columns in windows:
                pixels, valid = source.read_valid(y, x, rows, columns)
                np.testing.assert_array_equal(pixels, source.read(y, x, rows, columns))
                assert valid.shape == pixels.shape
                assert valid.dtype == np.bool_
                inside = np.zeros((rows, columns, 1), dtype=bool)
                inside[max(-y, 0) : max(source.shape[0] - y, 0), max(-x, 0) : max(source.shape[1] - x, 0)] = (
                    True
                )
                assert not valid[~inside[..., 0]].any()
                if not source.has_nodata:
                    assert valid[inside[..., 0]].all()
                elif source.nodata is not None:
                    missing = np.isnan(pixels) if np.isnan(source.nodata) else pixels == source.nodata
                    np.testing.assert_array_equal(valid, inside & ~missing)

    def test_holds_something_where_the_library_says(
        self, image: LargeImage, validity_references: list[np.ndarray] | None
    ) -> None:
        if validity_references is None:
            return
        for level, expected in enumerate(validity_references):
            if expected.size <= _SMALL * 8:
                _, valid = image.read_valid(0, 0, *image.level_shapes[level], level=level)
                np.testing.assert_array_equal(valid, expected)
            assert image.has_nodata or expected.all()
        whole = validity_references[0]
        height, width = image.shape
        for source, seen in (
            (image, whole),
            (image.flip("x"), whole[:, ::-1]),
            (image.rotate(1), np.rot90(whole)),
            (image.crop(3, 5, height - 3, width - 5), whole[3:, 5:]),
        ):
            for y, x in ((-3, -5), (height // 2, width // 3), (7, source.shape[1] - 20)):
                _, valid = source.read_valid(y, x, 24, 28)
                around = np.pad(seen, ((3, 28), (5, 28), (0, 0)))
                np.testing.assert_array_equal(valid, around[y + 3 : y + 27, x + 5 : x + 33])

    def test_windows_belong_to_the_caller(self, image: LargeImage, reference: np.ndarray) -> None:
        window = image.read(2, 2, 8, 8)
        window[:] = 1
        np.testing.assert_array_equal(image.read(2, 2, 8, 8), reference[2:10, 2:10])

    def test_threads_agree(self, image: LargeImage, reference: np.ndarray) -> None:
        height, width = image.shape
        origins = [(y, x) for y in range(0, height, 16) for x in range(0, width, 16)][:200]
        start = threading.Barrier(4)

        def read_all(thread: int) -> list[np.ndarray]:
            start.wait()
            return [image.read(y, x, 16, 16) for y, x in np.roll(origins, thread * 7, axis=0).tolist()]

        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(read_all, range(4)))
        padded = np.pad(reference, ((0, 16), (0, 16), (0, 0)), constant_values=image.fill)
        for thread, windows in enumerate(results):
            for (y, x), window in zip(np.roll(origins, thread * 7, axis=0).tolist(), windows, strict=True):
                np.testing.assert_array_equal(window, padded[y : y + 16, x : x + 16])

    def test_views_are_numpys(self, image: LargeImage, reference: np.ndarray) -> None:
        height, width = image.shape
        assert_reads(image.crop(3, 5, 30, 20), reference[3:33, 5:25])
        assert_reads(image.crop(0, 0, height, width), reference)
        assert_reads(image.flip("y"), reference[::-1])
        assert_reads(image.flip("x"), reference[:, ::-1])
        for turns in range(-1, 5):
            assert_reads(image.rotate(turns), np.rot90(reference, turns))
        nested = image.crop(4, 2, 31, 22).rotate(1).flip("x").crop(1, 2, 20, 25).rotate(-2)
        expected = np.rot90(np.rot90(reference[4:35, 2:24])[:, ::-1][1:21, 2:27], -2)
        assert_reads(nested, expected)

    def test_views_have_levels(self, image: LargeImage, level_references: list[np.ndarray]) -> None:
        turned, mirrored = image.rotate(1), image.flip("x")
        for level, expected in enumerate(level_references):
            low = image.at_level(level)
            assert low.shape == expected.shape[:2]
            assert len(low.levels) == len(image.levels) - level
            if expected.shape[0] * expected.shape[1] > 8 * _SMALL:
                continue
            np.testing.assert_array_equal(low.read(0, 0, *low.shape), expected)
            np.testing.assert_array_equal(
                turned.read(0, 0, *turned.level_shapes[level], level=level), np.rot90(expected)
            )
            np.testing.assert_array_equal(
                mirrored.read(0, 0, *mirrored.level_shapes[level], level=level), expected[:, ::-1]
            )

    def test_views_keep_their_place(self, image: LargeImage) -> None:
        assert image.crop(0, 0, 9, 9).nodata == image.nodata or np.isnan(image.nodata or 0)
        if image.microns_per_pixel is not None:
            y, x = image.microns_per_pixel
            assert image.rotate(1).microns_per_pixel == (x, y)
            assert image.crop(1, 1, 5, 5).microns_per_pixel == (y, x)
        if image.location is None:
            assert image.rotate(1).location is None
            return
        height, width = image.shape
        views = {
            (3.5, 2.5): (image.crop(3, 2, 9, 9), (0.5, 0.5)),
            (0.5, 4.5): (image.flip("y"), (height - 0.5, 4.5)),
            (6.5, 0.5): (image.flip("x"), (6.5, width - 0.5)),
            (0.5, width - 0.5): (image.rotate(1), (0.5, 0.5)),
            (height - 0.5, width - 0.5): (image.rotate(2), (0.5, 0.5)),
            (height - 0.5, 0.5): (image.rotate(3), (0.5, 0.5)),
        }
        for (y, x), (view, (view_y, view_x)) in views.items():
            assert view.crs == image.crs
            np.testing.assert_allclose(_place(view, view_y, view_x), _place(image, y, x))
        last = len(image.levels) - 1
        low = image.at_level(last)
        np.testing.assert_allclose(_place(low, *low.shape), _place(image, height, width))

    def test_refuses_what_it_cannot_read(self, image: LargeImage) -> None:
        with pytest.raises(ShapeError, match="at least 1 x 1 pixels, not 0 x 4"):
            image.read(0, 0, 0, 4)
        with pytest.raises(ShapeError, match=f"level {len(image.levels)} does not exist"):
            image.read(0, 0, 4, 4, level=len(image.levels))
        with pytest.raises(ShapeError, match="level -1 does not exist"):
            image.at_level(-1)
        with pytest.raises(ShapeError, match="are not a part of"):
            image.crop(0, 0, image.shape[0] + 1, 4)
        with pytest.raises(ShapeError, match='along "y" or "x"'):
            image.flip("z")
        with pytest.raises(TypeError):
            image.read(0.5, 0, 4, 4)  # type: ignore[arg-type]

    def test_is_closed_for_good(self, image: LargeImage) -> None:
        view = image.rotate(1)
        with image as opened:
            assert opened is image
            image.read(0, 0, 4, 4)
        image.close()
        with pytest.raises(ImageError, match="was closed; open it again"):
            image.read(0, 0, 4, 4)
        with pytest.raises(ImageError, match="was closed; open it again"):
            view.read(0, 0, 4, 4)
        with pytest.raises(ImageError, match="was closed; open it again"):
            image.read(-100, -100, 4, 4)


def assert_reads(image: LargeImage, expected: np.ndarray) -> None:
    """The image reads as `expected`: whole where it is small, else at its corners and in its middle."""
    assert image.shape == expected.shape[:2]
    height, width = image.shape
    if height * width <= _SMALL:
        np.testing.assert_array_equal(image.read(0, 0, height, width), expected)
    for y in (0, height // 2, height - 17):
        for x in (0, width // 2, width - 19):
            window = image.read(y, x, 9, 7)
            np.testing.assert_array_equal(window, expected[y : y + 9, x : x + 7])
            assert all(stride > 0 for stride in window.strides)


def _place(image: LargeImage, y: float, x: float) -> np.ndarray:
    """Where a pixel position lies on the map."""
    assert image.location is not None
    return np.concatenate(image.location.to_map(np.array([y]), np.array([x])))
