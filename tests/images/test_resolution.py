"""At which resolution a model reads images, and the way back to the file's pixels."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from rasterio.transform import Affine

import xt
from tests.images.files import smooth, write_raster, write_slide
from tests.images.ome_files import planes, write_ome_tiff
from xt.errors import ConfigError, ShapeError
from xt.heads import BoxTable, PointTable
from xt.images import LargeImage
from xt.images.resolution import Resolution, metres_on_the_ground, pixel_size, say_resolution


def slide(pixels: np.ndarray, microns: tuple[float, float] | None = (0.5, 0.5)) -> LargeImage:
    image = xt.open_image(pixels)
    image.microns_per_pixel = microns
    return image


def on_map(path: Path, crs: str | None, transform: Affine, pixels: np.ndarray | None = None) -> LargeImage:
    pixels = smooth(40, 50, 1) if pixels is None else pixels
    return xt.open_image(write_raster(path, pixels, transform=transform, **({"crs": crs} if crs else {})))


def test_without_a_resolution_images_are_as_they_are() -> None:
    image = slide(smooth(30, 40), None)
    read = Resolution().as_read(image)
    assert read.image is read.file is image
    assert read.step == (1.0, 1.0)


@pytest.mark.parametrize("microns", [0.5, 0.502, 0.4975])
def test_pixels_of_nearly_that_size_are_not_resampled(microns: float) -> None:
    image = slide(smooth(30, 40), (microns, microns))
    read = Resolution(microns_per_pixel=0.5).as_read(image)
    assert read.image is image


def test_a_level_of_that_size_is_read_as_it_is(tmp_path: Path) -> None:
    with xt.open_image(write_slide(tmp_path / "a.tif", smooth(256, 192), levels=3, square=True)) as image:
        read = Resolution(microns_per_pixel=2.01).as_read(image)
        assert read.step == (4.0, 4.0)
        np.testing.assert_array_equal(read.image.read(0, 0, 64, 48), image.at_level(2).read(0, 0, 64, 48))


def test_what_it_gives_stays_as_it_is() -> None:
    resolution = Resolution(microns_per_pixel=1.3)
    read = resolution.as_read(slide(smooth(300, 200)))
    assert read.step == pytest.approx((2.6, 2.6))
    for view in (read.image, read.image.crop(7, 9, 50, 40), read.image.flip("y"), read.image.rotate(1)):
        assert resolution.as_read(view).image is view


def test_so_do_maps_of_any_unit(tmp_path: Path) -> None:
    resolution = Resolution(map_units_per_pixel=1.3)
    place = Affine(2.0, 0, 980_000.0, 0, -2.0, 200_000.0)
    with on_map(tmp_path / "feet.tif", "EPSG:2263", place, smooth(300, 200, 1)) as image:
        read = resolution.as_read(image)
        assert read.step == pytest.approx((1.3 / 0.6096012192,) * 2)
        view = read.image.crop(7, 9, 50, 40).rotate(1)
        assert resolution.as_read(view).image is view


@pytest.mark.parametrize(("height", "width"), [(301, 200), (97, 411), (60, 60)])
@pytest.mark.parametrize("asked", [0.2, 0.7, 1.0, 1.6])
def test_there_and_back(height: int, width: int, asked: float) -> None:
    """A file of class numbers in blocks, its points and boxes: as read and back they lie where they lay."""
    mask = np.kron(np.arange(12).reshape(3, 4) % 5, np.ones((height // 3 + 1, width // 4 + 1)))
    mask = mask[:height, :width, None].astype(np.uint8)
    read = Resolution(microns_per_pixel=asked).as_read(slide(mask))
    seen = read.labels(xt.open_image(mask))
    assert seen.shape == read.image.shape
    back = read.map_found(seen, "nearest")
    assert (back.shape, back.microns_per_pixel) == ((height, width), (0.5, 0.5))
    wrong = (back.read(0, 0, height, width) != mask).any(axis=2)
    # Along the edges of the blocks only, by no more than a pixel of the coarser.
    assert wrong.sum() <= 2 * max(1, asked / 0.5) * (2 * width + 3 * height)
    points = PointTable(np.array([0.0, 10.3, height - 1e-9]), np.array([0.0, 17.9, width - 1e-9]))
    labels = read.labels(points)
    assert len(labels.within(0, 0, *read.image.shape)) == 3
    found = read.found(labels)
    assert len(found.within(0, 0, height, width)) == 3
    np.testing.assert_allclose(found.y[:2], points.y[:2])
    np.testing.assert_allclose(found.x, points.x, atol=asked)
    boxes = BoxTable.of([[3, 4, 20, 30]], areas=[200.0])
    again = read.found(read.labels(boxes))
    np.testing.assert_allclose(again.edges, boxes.edges)
    np.testing.assert_allclose(again.areas, boxes.areas)
    assert read.labels(boxes).areas[0] == pytest.approx(200 * (0.5 / asked) ** 2, rel=0.02)


def test_masks_are_not_read_from_coarser_levels(tmp_path: Path) -> None:
    """What programs write there may be means of class numbers, which are other classes."""
    mask = np.zeros((512, 512, 1), np.uint8)
    mask[:, 1::2] = 2
    path = tmp_path / "mask.tif"
    with tifffile.TiffWriter(path) as file:
        for level, pixels in enumerate(
            (mask[..., 0], np.ones((256, 256), np.uint8), np.ones((128, 128), np.uint8))
        ):
            file.write(pixels, tile=(64, 64), subfiletype=int(level > 0))
    read = Resolution(microns_per_pixel=2.0).as_read(slide(smooth(512, 512)))
    with xt.open_image(path) as opened:
        assert len(opened.levels) == 3
        assert set(np.unique(read.labels(opened).read(0, 0, 128, 128))) <= {0, 2}


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_resolution_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="microns_per_pixel must be a positive number, got"):
        xt.ModelConfig(encoder="convnext_atto", microns_per_pixel=value)
    with pytest.raises(ConfigError, match="map_units_per_pixel must be a positive number, got"):
        xt.ModelConfig(encoder="convnext_atto", map_units_per_pixel=value)


def test_one_of_the_two_and_no_photographs() -> None:
    with pytest.raises(ConfigError, match=r"for slides and map_units_per_pixel for maps"):
        xt.ModelConfig(encoder="convnext_atto", microns_per_pixel=1, map_units_per_pixel=1)
    with pytest.raises(
        ConfigError, match="image_size resizes each image to one size, whatever its resolution"
    ):
        xt.ModelConfig(encoder="convnext_atto", microns_per_pixel=1, image_size=64)


def test_what_cannot_be_read_at_it_is_one_sentence(tmp_path: Path) -> None:
    slides, maps = Resolution(microns_per_pixel=0.5), Resolution(map_units_per_pixel=0.5)
    north_up = Affine(0.5, 0, 500_000, 0, -0.5, 5_500_000)
    with pytest.raises(ConfigError, match=r"does not say how many micrometres.*column microns_per_pixel"):
        slides.as_read(slide(smooth(30, 40), None))
    with (
        on_map(tmp_path / "a.tif", "EPSG:32632", north_up) as image,
        pytest.raises(ConfigError, match=r"it lies on a map, whose resolution is model.map_units_per_pixel"),
    ):
        slides.as_read(image)
    with pytest.raises(ConfigError, match=r"is no map but a slide, and the model reads maps at 0.5 metres"):
        maps.as_read(slide(smooth(30, 40)))
    with pytest.raises(ConfigError, match=r"does not say where it lies.*give it its coordinates"):
        maps.as_read(slide(smooth(30, 40), None))
    with pytest.raises(ShapeError, match="ask for a finer resolution"):
        Resolution(microns_per_pixel=1000).as_read(slide(smooth(30, 40)))


@pytest.mark.parametrize(
    ("x", "y", "zone"),
    [(13.4, 52.5, "EPSG:32633"), (-71.1, -33.4, "EPSG:32719"), (0, 88, "EPSG:3413"), (0, -88, "EPSG:3031")],
)
def test_degrees_are_refused_with_a_system_in_metres(x: float, y: float, zone: str, tmp_path: Path) -> None:
    with on_map(tmp_path / "a.tif", "EPSG:4326", Affine(1e-5, 0, x, 0, -1e-5, y)) as image:
        size = pixel_size(image)
        assert size is not None
        assert size.unit == "degrees"
        with pytest.raises(ConfigError, match=f"map in degrees.*gdalwarp -t_srs {zone} does"):
            Resolution(map_units_per_pixel=1).as_read(image)


def test_control_points_give_no_size(tmp_path: Path) -> None:
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(y, x, 500_000 + x, 5_500_000 - y) for y in (0, 40) for x in (0, 50)]
    path = write_raster(tmp_path / "a.tif", smooth(40, 50, 1), gcps=points, crs="EPSG:32632")
    with (
        xt.open_image(path) as image,
        pytest.raises(ConfigError, match=r"located by control points.*warp it"),
    ):
        Resolution(map_units_per_pixel=2).as_read(image)


def test_metres_of_maps_are_compared_with_the_ground(tmp_path: Path) -> None:
    utm, web = Affine(1, 0, 500_000, 0, -1, 5_500_000), Affine(1, 0, 1_500_000, 0, -1, 6_500_000)
    with on_map(tmp_path / "a.tif", "EPSG:32632", utm) as image:
        assert metres_on_the_ground(image) == pytest.approx(1, abs=0.01)
    with on_map(tmp_path / "b.tif", "EPSG:3857", web) as image:
        # cos of the latitude, 50.4 degrees.
        assert metres_on_the_ground(image) == pytest.approx(0.637, abs=0.01)
    with on_map(tmp_path / "c.tif", None, utm) as image:
        assert metres_on_the_ground(image) is None
        size = pixel_size(image)
        assert size is not None
        assert size.unit == "metres"
    with on_map(tmp_path / "d.tif", "EPSG:4326", Affine(1e-5, 0, 13, 0, -1e-5, 52)) as image:
        assert metres_on_the_ground(image) is None


def test_only_what_is_not_said_is_told(tmp_path: Path) -> None:
    image = slide(smooth(30, 40), None)
    say_resolution(image, None)
    assert image.microns_per_pixel is None
    say_resolution(image, 0.25)
    say_resolution(image, 0.75)
    assert image.microns_per_pixel == (0.25, 0.25)
    with xt.open_image(write_ome_tiff(tmp_path / "a.ome.tif", planes(1, 64, 80), "CYX")) as opened:
        say_resolution(opened, 7.0)
        assert opened.microns_per_pixel == pytest.approx((0.25, 0.5))
        assert Resolution(microns_per_pixel=1.0).as_read(opened).step == pytest.approx((4.0, 2.0))
