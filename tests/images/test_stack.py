"""Stacks, against rasterio's own warped virtual datasets and against plain NumPy."""

import functools
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

import xt
from tests.images.files import raster_pixels, smooth, write_raster
from tests.shared_data import shared_data
from xt.errors import ConfigError, ImageError, ShapeError
from xt.foreground import foreground_mask
from xt.images import LargeImage
from xt.images.warped import WarpedImage
from xt.testing.images import ImageContract

PLACE = Affine(10, 0, 500_000, 0, -10, 4_100_000)
UTM = {"crs": "EPSG:32611", "transform": PLACE}
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


def field(height: int, width: int, transform: Affine) -> np.ndarray:
    """Something smooth on the map, seen on a grid: what resampling must find again."""
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x = transform.a * columns + transform.b * rows + transform.c - 500_000
    y = transform.d * columns + transform.e * rows + transform.f - 4_100_000
    return (np.sin(x / 400) * 50 + np.cos(y / 300) * 40)[..., np.newaxis].astype(np.float32)


def by_rasterio(path: Path, like: Path, resampling: str, level: int = 0) -> np.ndarray:
    """The file on another's grid as rasterio warps it whole: (h, w, c) float, NaN where there is nothing."""
    with (
        rasterio.open(path) as dataset,
        rasterio.open(like, **({"overview_level": level - 1} if level else {})) as grid,
    ):
        nodata = np.nan if dataset.nodata is None else dataset.nodata
        with WarpedVRT(
            dataset, crs=grid.crs, transform=grid.transform, height=grid.height, width=grid.width,
            resampling=Resampling[resampling], src_nodata=nodata, nodata=np.nan, dtype="float64", tolerance=1e-6,
        ) as warped:  # fmt: skip
            return warped.read().transpose(1, 2, 0)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_raster(
        tmp_path / "vv.tif", smooth(200, 180, 1, "float32"), nodata=-9999, overviews=(2, 4), **TILED, **UTM
    )


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


@pytest.mark.parametrize("resampling", ["bilinear", "nearest", "cubic", "average", "mode"])
@pytest.mark.parametrize("shift", [(0, 0), (-7, 11), (0.4, -3.7)])
def test_one_coordinate_system_is_as_rasterio_warps_it(
    tmp_path: Path, scene: Path, shift: tuple[float, float], resampling: str
) -> None:
    """The positions are linear then, so that there is nothing to approximate."""
    for size in (10, 30, 4):
        grid = Affine(size, 0, 500_000 + shift[1] * size, 0, -size, 4_100_000 + shift[0] * size)
        other = write_raster(
            tmp_path / f"{size}.tif",
            smooth(70, 90, 2, "float32"),
            crs="EPSG:32611",
            transform=grid,
            nodata=-9999,
        )
        with xt.stack([scene, other], resampling=resampling) as image:
            pixels, valid = image.read_valid(0, 0, *image.shape)
        expected = by_rasterio(other, scene, resampling)
        np.testing.assert_array_equal(valid[..., 1:], np.isfinite(expected))
        np.testing.assert_allclose(pixels[..., 1:], expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
def test_a_shift_by_whole_pixels_moves_values_only(tmp_path: Path, dtype: str) -> None:
    pixels = smooth(600, 620, 3, dtype)
    base = write_raster(tmp_path / "a.tif", pixels[:, :, :1], **UTM)
    moved = write_raster(
        tmp_path / "b.tif", pixels, crs="EPSG:32611", transform=PLACE @ Affine.translation(-13, 29)
    )
    for resampling in ("nearest", "bilinear"):
        with xt.stack([base, moved], resampling=resampling) as image:
            read, valid = image.read_valid(0, 0, 600, 620)
            assert image.dtype == dtype
        np.testing.assert_array_equal(read[29:, :-13, 1:], pixels[:-29, 13:])
        inside = np.zeros((600, 620), bool)
        inside[29:, :-13] = True
        np.testing.assert_array_equal(valid[..., 1:], np.repeat(inside[..., None], 3, axis=2))
        outside = read[..., 1:][~inside]
        assert np.isnan(outside).all() if dtype == "float32" else not outside.any()


def test_windows_across_blocks_have_no_seams(tmp_path: Path) -> None:
    pixels = smooth(1100, 1200, 1, "int16")
    base = write_raster(tmp_path / "a.tif", pixels, **UTM)
    # Turned, and in geographical coordinates: positions are truly approximated.
    grid = Affine.translation(-117.01, 37.06) @ Affine.rotation(11) @ Affine.scale(0.0007, -0.0006)
    other = write_raster(tmp_path / "b.tif", smooth(300, 250, 1, "uint16"), crs="EPSG:4326", transform=grid)
    with xt.stack([base, other]) as image:
        whole, valid = image.read_valid(-3, -3, 1106, 1206)
        assert 0.3 < valid[..., 1].mean() < 1
    with xt.stack([base, other]) as image:
        for y, x, height, width in (
            (900, 700, 200, 500),
            (0, 0, 1, 1),
            (500, 500, 30, 30),
            (-3, 511, 600, 2),
        ):
            read, there = image.read_valid(y, x, height, width)
            place = np.s_[y + 3 : y + 3 + height, x + 3 : x + 3 + width]
            np.testing.assert_array_equal(read, whole[place])
            np.testing.assert_array_equal(there, valid[place])


def test_smooth_fields_of_any_resolution_meet(tmp_path: Path) -> None:
    """The same field seen at 10 m, at 25 m turned, and at 4 m: after alignment the three agree."""
    turned = Affine.translation(499_000, 4_100_500) @ Affine.rotation(7) @ Affine.scale(25, -25)
    fine = Affine(4, 0, 499_990, 0, -4, 4_100_010)
    paths = [
        write_raster(tmp_path / f"{name}.tif", field(*shape, grid), crs="EPSG:32611", transform=grid)
        for name, shape, grid in (
            ("a", (150, 160), PLACE), ("b", (200, 200), turned), ("c", (400, 420), fine),
        )
    ]  # fmt: skip
    with xt.stack(paths) as image:
        pixels, valid = image.read_valid(0, 0, 150, 160)
    assert valid.all()
    assert np.abs(pixels[..., 1] - pixels[..., 0]).max() < 0.3
    assert np.abs(pixels[..., 2] - pixels[..., 0]).max() < 0.1


def test_a_coarse_reference_reads_overviews(tmp_path: Path) -> None:
    fine = Affine(1.25, 0, 500_000, 0, -1.25, 4_100_000)
    path = write_raster(
        tmp_path / "fine.tif",
        field(800, 800, fine),
        crs="EPSG:32611",
        transform=fine,
        overviews=(2, 4, 8),
        **TILED,
    )
    base = write_raster(tmp_path / "base.tif", field(100, 100, PLACE), **UTM)
    with xt.stack([base, path]) as image:
        pixels = image.read(0, 0, 100, 100)
        assert "OVERVIEW_LEVEL" in image.layers[1]._pools[0]._open_handle.args[0](0)
    # GDAL makes overviews of single pixels unless told otherwise.
    assert np.abs(pixels[..., 1] - pixels[..., 0]).max() < 1


def test_each_channel_has_its_own_mask(tmp_path: Path) -> None:
    pixels = np.full((40, 50, 2), 7, np.uint8)
    pixels[:10, :, 0], pixels[:, :20, 1] = 0, 0
    base = write_raster(tmp_path / "a.tif", pixels, nodata=0, **UTM)
    other = write_raster(
        tmp_path / "b.tif", pixels, nodata=0, crs="EPSG:32611", transform=PLACE @ Affine.translation(5, 0)
    )
    with xt.stack([base, other]) as image:
        assert image.nodata == 0
        read, valid = image.read_valid(0, 0, 40, 50)
        expected = np.zeros((40, 50, 4), bool)
        expected[10:, :, 0], expected[:, 20:, 1] = True, True
        expected[10:, 5:, 2], expected[:, 25:, 3] = True, True
        np.testing.assert_array_equal(valid, expected)
        np.testing.assert_array_equal(read, expected * np.uint8(7))


def test_everything_missing_is_nan_in_a_float_stack(tmp_path: Path) -> None:
    pixels = smooth(40, 50, 1, "float32")
    pixels[3:9, 4:8] = -9999
    codes = np.full((40, 50, 1), 5, np.int16)
    codes[20:, :10] = -1
    paths = [
        write_raster(tmp_path / "a.tif", pixels, nodata=-9999, **UTM),
        write_raster(tmp_path / "b.tif", codes, nodata=-1, **UTM),
        write_raster(
            tmp_path / "c.tif",
            codes,
            nodata=-1,
            crs="EPSG:32611",
            transform=PLACE @ Affine.translation(0, 15),
        ),
    ]
    with xt.stack(paths) as image:
        read, valid = image.read_valid(0, 0, 40, 50)
    np.testing.assert_array_equal(np.isnan(read), ~valid)
    expected = np.ones((40, 50, 3), bool)
    expected[3:9, 4:8, 0] = expected[20:, :10, 1] = expected[:15, :, 2] = expected[35:, :10, 2] = False
    np.testing.assert_array_equal(valid, expected)


def test_a_part_of_a_pixel_is_another_grid(tmp_path: Path) -> None:
    pixels = smooth(40, 50, 1, "float32")
    base = write_raster(tmp_path / "a.tif", pixels, **UTM)
    for shift, warped in ((0.0, False), (1e-5, False), (0.1, True)):
        moved = PLACE @ Affine.translation(shift, 0)
        other = write_raster(tmp_path / "b.tif", pixels, crs="EPSG:32611", transform=moved)
        with xt.stack([base, other]) as image:
            read = image.read(0, 1, 40, 48)
            assert (type(image.layers[1]) is WarpedImage) is warped
            expected = (1 - shift) * pixels[:, 1:-1] + shift * pixels[:, :-2] if warped else pixels[:, 1:-1]
            np.testing.assert_allclose(read[..., 1:], expected, atol=1e-3)


def test_alpha_is_a_channel_like_others(tmp_path: Path) -> None:
    pixels = smooth(40, 50, 4)
    pixels[:, :, 3] = 0
    base = write_raster(tmp_path / "a.tif", pixels[..., :1], **UTM)
    moved = PLACE @ Affine.translation(1, 0)
    other = write_raster(
        tmp_path / "b.tif", pixels, crs="EPSG:32611", transform=moved, photometric="RGB", alpha="YES"
    )
    with xt.stack([base, other]) as image:
        np.testing.assert_array_equal(image.read(0, 1, 40, 49)[..., 1:], pixels[:, :-1])


def test_masks_reach_the_model(tmp_path: Path) -> None:
    base = write_raster(tmp_path / "a.tif", smooth(64, 64, 1, "uint8") | 1, **UTM)
    half = write_raster(tmp_path / "b.tif", smooth(64, 32, 1, "uint8") | 1, crs="EPSG:32611", transform=PLACE)
    with xt.stack([base, half]) as image:
        batch = xt.RegionReader([image], [xt.RegionGrid.from_image(image, 64)])[0]
        assert batch.valid is not None
        assert batch.valid[0, 0].all()
        assert batch.valid[0, 1, :, :32].all()
        assert not batch.valid[0, 1, :, 32:].any()
        turned = xt.RegionReader([image.rotate(1)], [xt.RegionGrid.from_image(image, 64)])[0]
        assert turned.valid is not None
        assert not turned.valid[0, 1, :32].any()


def test_foreground_is_what_any_file_covers(tmp_path: Path) -> None:
    def part(name: str, x: int, dtype: str) -> Path:
        moved = PLACE @ Affine.translation(x, 0)
        return write_raster(tmp_path / name, smooth(64, 32, 1, dtype), crs="EPSG:32611", transform=moved)

    pixels = np.full((64, 128, 1), 255, np.uint8)
    base = write_raster(tmp_path / "base.tif", pixels, nodata=255, **UTM)
    with xt.stack([base, part("a.tif", 16, "uint8"), part("b.tif", 64, "uint8")]) as image:
        assert image.nodata is None
        mask = foreground_mask(image, "nodata")
    expected = np.zeros((64, 128), bool)
    expected[:, 16:48] = expected[:, 64:96] = True
    np.testing.assert_array_equal(mask, expected)
    with pytest.raises(ConfigError, match="has no nodata value"):
        foreground_mask(xt.stack([smooth(8, 8), smooth(8, 8)]))


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
        assert all(layer.path and layer._arguments[-1] == 3 for layer in image.layers[1:])
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
