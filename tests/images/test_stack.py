"""Stacks: what they are, by place or by size, and what cannot be one."""

import functools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

import xt
from tests.images.files import raster_pixels, smooth, write_raster
from tests.images.stack_files import PLACE, TILED, UTM, by_rasterio, write_scene
from tests.shared_data import shared_data
from xt.errors import ConfigError, ImageError, ShapeError
from xt.images import LargeImage
from xt.testing.images import ImageContract


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path)


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    """Coarse, in another coordinate system, covering all but the scene's right part."""
    grid = Affine(0.004, 0, -117.01, 0, -0.004, 37.06)
    return write_raster(
        tmp_path / "depth.tif", smooth(30, 6, 1, "float32"), nodata=-1, crs="EPSG:4326", transform=grid
    )


class TestAlignedStack(ImageContract):
    @pytest.fixture
    def image(self, scene: Path, depth: Path) -> Iterator[LargeImage]:
        with xt.stack([scene, depth]) as image:
            yield image

    @pytest.fixture
    def level_references(self, scene: Path, depth: Path) -> list[np.ndarray]:
        with xt.stack([scene, depth]) as image:
            whole = [image.read(0, 0, *shape, level=level) for level, shape in enumerate(image.level_shapes)]
        assert len(whole) == 3
        for level, pixels in enumerate(whole):
            np.testing.assert_array_equal(pixels[..., :1], raster_pixels(scene, level))
            expected = by_rasterio(depth, scene, "bilinear", level)
            covered = np.isfinite(expected)
            assert 0.2 < covered.mean() < 0.9
            # Positions are interpolated to an eighth of the file's pixel, which may also decide about an edge.
            both = covered & np.isfinite(pixels[..., 1:])
            assert (covered != np.isfinite(pixels[..., 1:])).mean() < 0.01
            assert np.abs(pixels[..., 1:] - expected)[both].max() < 0.125 * np.ptp(raster_pixels(depth))
            assert np.median(np.abs(pixels[..., 1:] - expected)[both]) < 0.01
        return whole

    @pytest.fixture
    def reference(self, level_references: list[np.ndarray]) -> np.ndarray:
        return level_references[0]

    def test_is_the_reference_s(self, image: LargeImage, scene: Path) -> None:
        with xt.open_image(scene) as reference:
            assert image.transform == reference.transform
            assert image.crs == reference.crs
            assert image.levels == reference.levels
        assert np.isnan(image.nodata)
        assert image.channel_names == ("vv", "depth")


class TestStackBySize(ImageContract):
    @pytest.fixture
    def image(self) -> Iterator[LargeImage]:
        with xt.stack([smooth(64, 80, 3), smooth(64, 80, 2, "int16", seed=1)]) as image:
            yield image

    @pytest.fixture
    def reference(self) -> np.ndarray:
        return np.concatenate(
            [smooth(64, 80, 3).astype(np.int16), smooth(64, 80, 2, "int16", seed=1)], axis=2
        )


def test_sizes_that_are_multiples_cover_one_field() -> None:
    base, small = smooth(60, 81, 1), smooth(20, 27, 1, seed=1)
    pixels = xt.stack([base, small], resampling="nearest").read(0, 0, 60, 81)
    np.testing.assert_array_equal(pixels[..., 1:], small.repeat(3, axis=0).repeat(3, axis=1))
    # The other way round: means of 3 x 3.
    pixels = xt.stack([base, small], reference=1).read(0, 0, 20, 27)
    means = base.astype(float).reshape(20, 3, 27, 3, 1).mean(axis=(1, 3))
    np.testing.assert_allclose(pixels[..., :1], means, atol=0.51)
    # Sizes that do not divide: 61 pixels are 31 at half.
    assert xt.stack([smooth(61, 81), smooth(31, 41)]).shape == (61, 81)
    with pytest.raises(
        ShapeError, match=r"array 25x30x1 is 25 x 30 pixels and array 60x81x1 is 60 x 81, .*same_field=True"
    ):
        xt.stack([base, smooth(25, 30, 1)])
    image = xt.stack([base, smooth(25, 30, 1)], same_field=True)
    assert image.read(0, 0, 60, 81).shape == (60, 81, 2)


def test_levels_are_the_reference_s(tmp_path: Path, scene: Path) -> None:
    plain = smooth(200, 180, 1)
    with xt.stack([scene, plain]) as image:
        assert image.levels == (1.0, 2.0, 4.0)
        low = image.read(0, 0, *image.level_shapes[2], level=2)
        means = plain.astype(float).reshape(50, 4, 45, 4, 1).mean(axis=(1, 3))
        np.testing.assert_allclose(low[..., 1:], means, atol=0.51)
        np.testing.assert_array_equal(low[..., :1], raster_pixels(scene, 2))


def test_types_are_promoted_and_values_stay() -> None:
    def dtype(*names: str) -> str:
        return xt.stack([np.zeros((4, 4), name) for name in names]).dtype.name

    assert dtype("uint8", "float32") == dtype("uint16", "float32") == "float32"
    assert dtype("uint8", "uint16") == "uint16"
    assert dtype("uint16", "int16") == "int32"
    assert dtype("int32", "float32") == "float64"
    image = xt.stack([np.full((4, 4), 255, np.uint8), np.full((4, 4), -23.5, np.float32)])
    assert image.read(0, 0, 1, 1).tolist() == [[[255.0, -23.5]]]
    assert image.nodata is None
    assert not image.has_nodata


def test_undeclared_nan_is_still_an_error() -> None:
    broken = np.ones((32, 32), np.float32)
    broken[3, 4] = np.nan
    image = xt.stack([broken, np.ones((32, 32), np.float32)])
    with pytest.raises(xt.XTError, match=r"1 pixel values that are NaN or infinite in the .* at y=0"):
        _ = xt.RegionReader([image], [xt.RegionGrid.from_image(image, 32)])[0]


def names_of(images: list[Any], names: list[str] | None = None) -> tuple[str, ...] | None:
    return xt.stack(images, names).channel_names


def test_names(tmp_path: Path) -> None:
    rgb, grey = smooth(8, 8), smooth(8, 8, 1)
    assert names_of([rgb, grey], ["photo", "height"]) == ("photo 1", "photo 2", "photo 3", "height")
    assert names_of([rgb, grey], ["r", "g", "b", "z"]) == ("r", "g", "b", "z")
    with pytest.raises(ConfigError, match="stack of 2 images with 4 channels takes 2 or 4 names, got 3"):
        names_of([rgb, grey], ["r", "g", "b"])
    with pytest.raises(ConfigError, match="names are a list"):
        xt.stack([grey], "z")
    dates = []
    for date in ("2020", "2021"):
        dates.append(write_raster(tmp_path / f"{date}.tif", smooth(8, 8, 2), **UTM))
        with rasterio.open(dates[-1], "r+") as dataset:
            dataset.descriptions = ("VV", "VH")
    assert names_of(dates[:1]) == ("VV", "VH")
    assert names_of(dates) == ("2020 VV", "2020 VH", "2021 VV", "2021 VH")
    assert names_of([*dates, grey]) == ("2020 VV", "2020 VH", "2021 VV", "2021 VH", "array 8x8x1")
    assert names_of([grey, grey]) == ("array 8x8x1 (1)", "array 8x8x1 (2)")


def test_a_list_or_joined_paths_are_a_stack(scene: Path, depth: Path) -> None:
    expected = xt.stack([scene, depth]).read(0, 0, 50, 60)
    for source in ([scene, depth], (str(scene), depth), f"{scene}|{depth}", f"{scene} | {depth}"):
        with xt.open_image(source) as image:
            np.testing.assert_array_equal(image.read(0, 0, 50, 60), expected)
    with xt.open_image([scene, depth], nodata=3) as image:
        assert all(layer.path and layer._arguments[-2] == 3 for layer in image.layers[1:])
    # Only where the pixels can have it.
    image = xt.open_image([np.full((4, 5), -7, np.int16), np.zeros((4, 5), np.uint8)], nodata=-7)
    assert image.read_valid(0, 0, 1, 1)[1].tolist() == [[[False, True]]]
    with pytest.raises(ConfigError, match="nodata=-7 cannot occur in any image of the stack of array"):
        xt.open_image([np.zeros((4, 5), np.uint8)] * 2, nodata=-7)
    with pytest.raises(ImageError, match=r"there is no file .*nowhere\.tif"):
        xt.open_image(f"{scene}|nowhere.tif")
    # A file that is truly called so.
    odd = scene.rename(scene.with_name("a|b.tif"))
    assert xt.open_image(odd).channels == 1


def test_what_cannot_be_stacked_is_refused(tmp_path: Path, scene: Path, depth: Path) -> None:
    with pytest.raises(ConfigError, match="a list of images or paths, at least one, not of"):
        xt.stack([])
    with pytest.raises(ConfigError, match=r"a list of images or paths, at least one, not of 'a[.]tif'"):
        xt.stack("a.tif")
    with pytest.raises(ConfigError, match="reference is the place of an image in the stack, 0 to 1, not 2"):
        xt.stack([scene, depth], reference=2)
    with pytest.raises(ConfigError, match=r"can be resampled by 'bilinear', [^.]*, not by 'linear'"):
        xt.stack([scene, depth], resampling="linear")
    with pytest.raises(ConfigError, match="one for all or one for each image of a stack, got 3 for 2 images"):
        xt.stack([scene, depth], resampling=["nearest"] * 3)
    with (
        xt.open_image(depth) as image,
        pytest.raises(ConfigError, match="is no file, but only files are aligned"),
    ):
        xt.stack([scene, image.crop(0, 0, 5, 5)])
    lost = write_raster(
        tmp_path / "lost.tif", smooth(200, 180, 1), transform=PLACE @ Affine.translation(3, 3)
    )
    with pytest.raises(
        ConfigError, match=r"lie at different places, but .*lost\.tif names no coordinate system"
    ):
        xt.stack([scene, lost])
    with pytest.raises(ShapeError, match=r"where on the map array 7x9x1 lies is not known"):
        xt.stack([scene, smooth(7, 9, 1)])


def test_closes_what_it_reads(scene: Path, depth: Path) -> None:
    image = xt.open_image(scene)
    stacked = xt.stack([image, depth])
    stacked.close()
    assert image.closed
    stacked = xt.stack([scene, depth])
    stacked.layers[1].close()
    with pytest.raises(ImageError, match=r"depth\.tif .*was closed; open it again"):
        stacked.read(0, 0, 4, 4)


def test_goes_to_other_processes(scene: Path, depth: Path) -> None:
    with xt.stack([scene, depth], ["vv", "z"]) as image:
        expected = image.read(0, 0, *image.shape)
        copy = pickle.loads(pickle.dumps(image))
    with copy:
        assert copy.channel_names == ("vv", "z")
        np.testing.assert_array_equal(copy.read(0, 0, *copy.shape), expected)


def test_a_damaged_file_is_named(tmp_path: Path, scene: Path) -> None:
    moved = PLACE @ Affine.translation(3, 3)
    path = write_raster(tmp_path / "b.tif", smooth(700, 700), crs="EPSG:32611", transform=moved, **TILED)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 10])
    with (
        xt.stack([scene, path]) as image,
        pytest.raises(ImageError, match=r"b\.tif is damaged or cut off, or cannot be"),
    ):
        image.read(0, 0, 200, 180)


@functools.cache
def sen1floods() -> tuple[Path, Path, Path]:
    folder = "sen1floods11_sample"
    return (
        shared_data(f"{folder}/S1/Spain_7370579_S1Hand.tif"),
        shared_data(f"{folder}/S2/Spain_7370579_S2Hand.tif"),
        shared_data("cog_rio_tiler/cog_world.tif"),
    )


def test_real_radar_and_optical_bands() -> None:
    radar, optical, world = sen1floods()
    with xt.stack([radar, optical, world], resampling=["bilinear", "bilinear", "nearest"]) as image:
        assert (image.channels, image.dtype.name, image.shape) == (2 + 13 + 1, "float32", (512, 512))
        pixels, valid = image.read_valid(0, 0, 512, 512)
        np.testing.assert_array_equal(pixels[..., 2:15], raster_pixels(optical))
        np.testing.assert_array_equal(pixels[..., :2], raster_pixels(radar))
        expected = by_rasterio(world, radar, "nearest")
        np.testing.assert_array_equal(valid[..., 15:], np.isfinite(expected))


def test_ground_control_points_are_coordinates() -> None:
    path = shared_data("cog_rio_tiler/cog_gcps.tif")
    with rasterio.open(path) as dataset:
        points, crs = dataset.gcps
        west, north = min(point.x for point in points), max(point.y for point in points)
    base = write_base(Affine(0.01, 0, west, 0, -0.01, north), crs.to_string())
    with xt.stack([base, path]) as image:
        pixels, valid = image.read_valid(0, 0, *image.shape)
    assert 0.5 < valid[..., 1].mean() < 0.95
    assert pixels[..., 1][valid[..., 1]].std() > 10


def write_base(transform: Affine, crs: str) -> LargeImage:
    image = xt.open_image(smooth(180, 270, 1))
    image.transform, image.crs = tuple(transform)[:6], crs
    return image
