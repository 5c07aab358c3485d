"""Polygons as an image: what GDAL draws at once, drawn window by window, level by level."""

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import shapely
from rasterio.features import rasterize

from tests.images.files import smooth, write_slide
from xt.errors import ShapeError
from xt.images import LargeImage, open_image
from xt.images.array import ArrayImage
from xt.images.polygons import UNKNOWN, PolygonImage, Polygons
from xt.testing.images import ImageContract


def star(generator: np.random.Generator, y: float, x: float, radius: float, corners: int) -> shapely.Polygon:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radii = radius * (1 + 0.1 * generator.standard_normal(corners))
    return shapely.Polygon(np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1))


def shapes(height: int, width: int) -> np.ndarray:
    """Many-cornered, small, with a hole, crossing itself, in two parts that overlap, and half outside."""
    generator = np.random.default_rng(0)
    hole = shapely.box(20, 30, width - 20, height - 30).difference(
        shapely.box(50, 60, width - 50, height - 60)
    )
    bow = shapely.Polygon([(5, 5), (70, 60), (70, 5), (5, 60)])
    spiral = shapely.Polygon(
        [
            (150 + r * np.cos(a), 150 + r * np.sin(a))
            for a, r in zip(np.arange(600), np.linspace(1, 60, 600), strict=True)
        ]
    )
    several = shapely.MultiPolygon([shapely.box(100, 20, 140, 60), shapely.box(120, 40, 160, 90)])
    small = [star(generator, *generator.uniform(0, min(height, width), 2), 6, 12) for _ in range(60)]
    beyond = shapely.box(width - 10, height - 25, width + 40, height + 40)
    result = np.empty(66, object)
    result[:] = [star(generator, height / 2, width / 2, 90, 3000), hole, bow, spiral, several, beyond, *small]
    assert not spiral.is_valid
    return result


def drawn(height: int, width: int) -> tuple[Polygons, np.ndarray, np.ndarray, np.ndarray]:
    polygons = shapes(height, width)
    values, order = np.arange(len(polygons)) % 20, -shapely.area(polygons)
    return Polygons(polygons, values, order), polygons, values, np.argsort(order, kind="stable")


class TestPolygonImage(ImageContract):
    """As any source of pixels, with the levels of the slide that it is a mask of."""

    @pytest.fixture
    def slide(self, tmp_path) -> Iterator[LargeImage]:
        with open_image(write_slide(tmp_path / "a.tif", smooth(320, 256))) as image:
            yield image

    @pytest.fixture
    def image(self, slide: LargeImage) -> PolygonImage:
        return PolygonImage("polygons", drawn(320, 256)[0], slide)

    @pytest.fixture
    def reference(self, image: PolygonImage) -> np.ndarray:
        return self.level(image, 0)

    @pytest.fixture
    def level_references(self, image: PolygonImage) -> list[np.ndarray]:
        return [self.level(image, level) for level in range(len(image.levels))]

    def level(self, image: PolygonImage, level: int) -> np.ndarray:
        from rasterio import Affine

        _, polygons, values, order = drawn(320, 256)
        pixels = rasterize(
            [(polygons[row], int(values[row])) for row in order],
            out_shape=image.level_shapes[level],
            transform=Affine.scale(image.levels[level]),
            fill=UNKNOWN,
            dtype="uint8",
        )
        return pixels[..., np.newaxis]

    def test_levels_are_those_of_the_image(self, image: PolygonImage, slide: LargeImage) -> None:
        assert (image.levels, image.level_shapes, image.microns_per_pixel) == (
            slide.levels,
            slide.level_shapes,
            slide.microns_per_pixel,
        )
        assert len(image.levels) == 3


@pytest.mark.parametrize("side", [17, 64, 100])
def test_windows_have_no_seams(side: int) -> None:
    polygons, shaped, values, order = drawn(300, 300)
    image = PolygonImage("polygons", polygons, ArrayImage(np.zeros((300, 300), np.uint8)), 7)
    whole = rasterize(
        [(shaped[row], int(values[row])) for row in order], out_shape=(300, 300), fill=7, dtype="uint8"
    )
    for y in range(0, 300, side):
        for x in range(0, 300, side):
            part = whole[y : y + side, x : x + side]
            np.testing.assert_array_equal(image.read(y, x, *part.shape)[..., 0], part)


def test_a_pixel_belongs_to_a_polygon_if_its_centre_lies_inside() -> None:
    squares = np.array(
        [shapely.box(0, 0, 2.49, 4), shapely.box(2.49, 0, 8, 4), shapely.box(5.6, 6, 6.4, 7)], object
    )
    image = PolygonImage(
        "p", Polygons(squares, np.array([1, 2, 3]), np.zeros(3)), ArrayImage(np.zeros((8, 8), np.uint8))
    )
    # The third is thinner than a pixel and lies between two centres.
    assert image.read(0, 0, 1, 8)[0, :, 0].tolist() == [1, 1, 2, 2, 2, 2, 2, 2]
    assert set(image.read(6, 0, 1, 8).ravel()) == {UNKNOWN}


def test_order_and_what_is_not_covered() -> None:
    large, small = shapely.box(0, 0, 8, 8), shapely.box(2, 2, 5, 5)
    polygons = np.array([small, large], object)
    like = ArrayImage(np.zeros((10, 10), np.uint8))
    by_area = PolygonImage("p", Polygons(polygons, np.array([1, 2]), -shapely.area(polygons)), like)
    by_file = PolygonImage("p", Polygons(polygons, np.array([1, 2]), np.arange(2)), like, 0)
    assert by_area.read(3, 3, 1, 1)[0, 0, 0] == 1
    assert by_file.read(3, 3, 1, 1)[0, 0, 0] == 2
    pixels, valid = by_area.read_valid(9, 9, 1, 1)
    assert (pixels[0, 0, 0], valid[0, 0, 0]) == (UNKNOWN, False)
    pixels, valid = by_file.read_valid(9, 9, 1, 2)
    # Outside of the image nothing is known, whatever lies between polygons.
    assert (pixels[0, :, 0].tolist(), valid[0, :, 0].tolist()) == ([0, UNKNOWN], [True, False])
    with pytest.raises(ShapeError, match="class numbers of a mask drawn by polygons are 0 to 254, got 256"):
        PolygonImage("p", by_area.polygons, like, 256)


def test_none_at_all_and_those_without_area() -> None:
    like = ArrayImage(np.zeros((10, 10), np.uint8))
    nothing = Polygons(np.empty(0, object), np.empty(0, int), np.empty(0))
    assert (PolygonImage("p", nothing, like, 3).read(0, 0, 10, 10) == 3).all()
    flat = np.array([shapely.Polygon([(1, 1), (5, 5), (1, 1)]), shapely.box(2, 2, 2, 6)], object)
    assert (
        PolygonImage("p", Polygons(flat, np.ones(2, int), np.arange(2)), like, 3).read(0, 0, 10, 10) == 3
    ).all()


def test_travels_to_other_processes() -> None:
    image = PolygonImage("polygons", drawn(300, 300)[0], ArrayImage(np.zeros((300, 300), np.uint8)))
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.read(0, 0, 300, 300), image.read(0, 0, 300, 300))
