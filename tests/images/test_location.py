"""Where images lie that have no transform, and that their views lie there too."""

import pickle
import warnings

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer

import xt
from tests.images.located_files import curved, gcps, rpc, straight, write_located
from tests.shared_data import shared_data
from xt.errors import ConfigError, DataWarning, ImageError, ShapeError
from xt.images import open_image
from xt.images.location import compose, inverse
from xt.labels.alignment import aligned
from xt.testing.images import ImageContract

SHAPE = (150, 200)
PIXELS = np.random.default_rng(0).integers(1, 255, (*SHAPE, 3), dtype=np.uint8)


@pytest.fixture(params=["straight", "curved", "rpc"])
def located(request, tmp_path):
    """An image and the function that says where its pixels lie."""
    where = curved if request.param == "curved" else straight
    given = {"rpcs": rpc(SHAPE)} if request.param == "rpc" else {"points": gcps(SHAPE, where)}
    return open_image(write_located(tmp_path / "scene.tif", PIXELS, **given)), where


class TestControlPointsContract(ImageContract):
    @pytest.fixture
    def reference(self):
        return PIXELS

    @pytest.fixture
    def image(self, tmp_path):
        return open_image(write_located(tmp_path / "scene.tif", PIXELS, gcps(SHAPE, curved)))


class TestRationalPolynomialsContract(TestControlPointsContract):
    @pytest.fixture
    def image(self, tmp_path):
        return open_image(write_located(tmp_path / "scene.tif", PIXELS, rpcs=rpc(SHAPE)))


def test_pixels_go_to_the_map_and_back(located):
    image, where = located
    y, x = np.array([0.0, 10.5, 149.5, 75.0]), np.array([0.0, 190.25, 3.5, 100.0])
    assert image.transform is None
    assert image.crs == "EPSG:4326"
    map_x, map_y = image.location.to_map(y, x)
    there = np.array([where(*place) for place in zip(y, x, strict=True)])
    np.testing.assert_allclose(np.stack([map_x, map_y], 1), there, atol=2e-8)
    # Of a curve the way back is a polynomial of its own.
    again = image.location.to_pixels(map_x, map_y)
    np.testing.assert_allclose(again, [y, x], atol=0.02)


def test_equals_the_function_of_gdal(located):
    image, _ = located
    with rasterio.open(image.path) as dataset:
        if not dataset.gcps[0]:
            pytest.skip("of control points")
        with GCPTransformer(dataset.gcps[0]) as own:
            lon, lat = own.xy([3, 100], [7, 150])
            rows, columns = own.rowcol(lon, lat, op=np.positive)
    np.testing.assert_array_equal(
        image.location.to_map(np.array([3.5, 100.5]), np.array([7.5, 150.5])), (lon, lat)
    )
    np.testing.assert_array_equal(image.location.to_pixels(lon, lat), (rows, columns))


@pytest.mark.parametrize("turns", range(4))
def test_views_of_views_keep_their_place(located, turns):
    image, _ = located
    view = image.crop(10, 20, 120, 150).rotate(turns).flip("x")
    stored = np.arange(150 * 200, dtype=np.float64).reshape(150, 200)
    turned = np.fliplr(np.rot90(stored[10:130, 20:170], turns))
    rng = np.random.default_rng(turns)
    rows, columns = rng.integers(0, view.shape[0], 9), rng.integers(0, view.shape[1], 9)
    own_y, own_x = np.divmod(turned[rows, columns], 200)
    expected = image.location.to_map(own_y + 0.5, own_x + 0.5)
    np.testing.assert_allclose(view.location.to_map(rows + 0.5, columns + 0.5), expected, atol=1e-9)
    y, x = view.location.to_pixels(*expected)
    np.testing.assert_allclose((y, x), (rows + 0.5, columns + 0.5), atol=0.02)


def test_the_real_swath_goes_through_its_210_points():
    with open_image(shared_data("cog_rio_tiler/cog_gcps.tif")) as image:
        assert len(image.control.points) == 210
        known = np.array([point[:4] for point in image.control.points])
        y, x = image.location.to_pixels(known[:, 2], known[:, 3])
        assert np.hypot(y - known[:, 0], x - known[:, 1]).max() < 1
        assert 0.3 < image.control.misses() < 0.6
        low = image.crop(100, 100, 512, 512).at_level(1)
        map_x, map_y = low.location.to_map(np.array([0.0]), np.array([0.0]))
        assert np.abs(np.array(image.location.to_pixels(map_x, map_y)) - 100).max() < 0.1


def test_a_place_far_away_is_not_folded_into_the_image():
    with open_image(shared_data("cog_rio_tiler/cog_gcps.tif")) as image:
        lon, lat = (axis.ravel() for axis in np.meshgrid(np.arange(-180, 180, 0.5), np.arange(-89, 90, 0.5)))
        y, x = image.location.to_pixels(lon, lat)
        inside = (y >= 0) & (x >= 0) & (y < image.shape[0]) & (x < image.shape[1])
        assert inside.any()
        assert (np.abs(lon[inside] - 77) < 2).all()
        assert (np.abs(lat[inside] - 10.2) < 2).all()


def test_a_swath_across_the_date_line_is_in_one_piece(tmp_path):
    def across(y, x):
        longitude = 179.999 + 1e-5 * x
        return longitude - 360 * (longitude > 180), 10 - 1e-5 * y

    with open_image(write_located(tmp_path / "fiji.tif", PIXELS, gcps(SHAPE, across))) as image:
        map_x, map_y = image.location.to_map(np.array([50.0, 50.0]), np.array([50.0, 150.0]))
        np.testing.assert_allclose(map_x, [179.9995, -179.9995], atol=1e-9)
        np.testing.assert_allclose(image.location.to_pixels(map_x, map_y), [(50, 50), (50, 150)], atol=1e-3)


def test_heights_that_matter_are_said(tmp_path):
    image = open_image(write_located(tmp_path / "high.tif", PIXELS, rpcs=rpc(SHAPE, height=300.0)))
    with pytest.warns(DataWarning, match="about 300 m, which moves places by 60 pixels: rectify it first"):
        y, x = image.location.to_pixels(*np.array(straight(40, 60)).reshape(2, 1))
    np.testing.assert_allclose((y[0], x[0]), (40, 60), atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_image(write_located(tmp_path / "sea.tif", PIXELS, rpcs=rpc(SHAPE))) as image:
            image.location.to_map(np.array([1.0]), np.array([1.0]))


@pytest.mark.parametrize("points", [[(0, 0), (0, 100)], [(0, 0), (50, 50), (100, 100)]])
def test_points_that_say_nothing_are_refused_where_they_are_needed(tmp_path, points):
    path = write_located(
        tmp_path / "few.tif", PIXELS, [GroundControlPoint(y, x, *straight(y, x)) for y, x in points]
    )
    with open_image(path) as image:
        assert image.read(0, 0, 4, 4).shape == (4, 4, 3)
        with pytest.raises(
            ImageError, match=f"the {len(points)} ground control points of .*few.tif do not say where"
        ):
            image.location.to_map(np.array([1.0]), np.array([1.0]))


def test_a_transform_comes_first(tmp_path):
    path = write_located(tmp_path / "both.tif", PIXELS, rpcs=rpc(SHAPE))
    with rasterio.open(path, "r+") as file:
        file.transform, file.crs = rasterio.Affine(2, 0, 500_000, 0, -2, 4e6), "EPSG:32633"
    with open_image(path) as image:
        assert image.control is None
        assert image.location.to_map(np.array([0.0]), np.array([1.0]))[0] == 500_002


def test_a_location_travels_to_other_processes(located):
    image, _ = located
    again = pickle.loads(pickle.dumps(image.location))
    places = np.array([5.0]), np.array([6.0])
    np.testing.assert_array_equal(again.to_map(*places), image.location.to_map(*places))


def test_a_transform_and_its_inverse():
    there = (0.4, 0.3, 437_000.0, 0.3, -0.4, 4_420_000.0)
    np.testing.assert_allclose(compose(there, inverse(there)), (1, 0, 0, 0, 1, 0), atol=1e-8)


def test_stacks_of_what_lies_elsewhere(tmp_path):
    """Two swaths of one size at different places are not put on top of each other."""

    def east(y, x):
        return curved(y, x + 100)

    here = write_located(tmp_path / "here.tif", PIXELS, gcps(SHAPE, curved))
    same = write_located(tmp_path / "same.tif", 255 - PIXELS, gcps(SHAPE, curved, side=5))
    there = write_located(tmp_path / "there.tif", PIXELS, gcps(SHAPE, east))
    with xt.stack([here, same]) as stack:
        assert stack.channels == 6
        assert stack.location is not None
    with pytest.raises(
        ConfigError, match=r"here.tif and .*there.tif lie at different places, and no transform"
    ):
        xt.stack([here, there])


def test_a_swath_of_the_same_size_is_warped_onto_a_map(tmp_path):
    flat = tmp_path / "map.tif"
    with rasterio.open(
        flat, "w", driver="GTiff", height=SHAPE[0], width=SHAPE[1], count=1, dtype="uint8", crs="EPSG:4326",
        transform=rasterio.Affine(1e-5, 0, straight(0, 50)[0], 0, -1e-5, 36),
    ) as file:  # fmt: skip
        file.write(PIXELS[None, ..., 0])
    swath = write_located(tmp_path / "swath.tif", PIXELS, gcps(SHAPE, straight))
    with xt.stack([flat, swath], resampling="nearest") as stack:
        pixels, valid = stack.read_valid(0, 0, *SHAPE)
    np.testing.assert_array_equal(pixels[:, :150, 1:], PIXELS[:, 50:])
    assert not valid[:, 151:, 1:].any()


def test_a_mask_of_another_swath_is_refused(tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    with (
        open_image(write_located(tmp_path / "here.tif", PIXELS, gcps(SHAPE, curved))) as image,
        open_image(write_located(tmp_path / "mask.tif", mask, gcps(SHAPE, curved))) as own,
        open_image(write_located(tmp_path / "plain.tif", mask)) as plain,
        open_image(write_located(tmp_path / "other.tif", mask, gcps(SHAPE, straight))) as other,
    ):
        assert aligned(own, image) is own
        assert aligned(plain, image) is plain
        with pytest.raises(
            ShapeError, match=r"other.tif lies elsewhere on the map than .*here.tif, which control"
        ):
            aligned(other, image)
