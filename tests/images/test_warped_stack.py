"""Files of a stack on other grids, against rasterio's own warped virtual datasets and against plain NumPy."""

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

import xt
from tests.images.files import smooth, write_raster
from tests.images.stack_files import PLACE, TILED, UTM, by_rasterio, field, write_scene
from xt.errors import ConfigError
from xt.images.foreground import foreground_mask
from xt.images.warped import WarpedImage


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path)


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


def test_alpha_says_what_is_missing(tmp_path: Path) -> None:
    pixels = smooth(40, 50, 4)
    pixels[:, :, 3] = 0
    pixels[:, 25:, 3] = 1
    base = write_raster(tmp_path / "a.tif", pixels[..., :1], **UTM)
    moved = PLACE @ Affine.translation(1, 0)
    other = write_raster(
        tmp_path / "b.tif", pixels, crs="EPSG:32611", transform=moved, photometric="RGB", alpha="YES"
    )
    with xt.stack([base, other]) as image:
        read, valid = image.read_valid(0, 1, 40, 49)
        assert read.shape[2] == 4
        np.testing.assert_array_equal(read[:, 25:, 1:], pixels[:, 25:-1, :3])
        np.testing.assert_array_equal(valid[..., 1:], np.repeat(pixels[:, :-1, 3:] > 0, 3, axis=2))
        assert valid[..., 0].all()
    with xt.stack([base, xt.open_image(other, alpha="channel")]) as image:
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
    with pytest.raises(ConfigError, match="neither a nodata value nor a mask"):
        foreground_mask(xt.stack([smooth(8, 8), smooth(8, 8)]))
