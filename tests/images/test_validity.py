"""Where a file holds something: what GDAL's own masks say, for every way in which files say it."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

import xt
from tests.images.files import colours, raster_pixels, raster_validity, smooth, write_raster
from tests.shared_data import _FOLDER
from xt.errors import ConfigError
from xt.images import LargeImage
from xt.images.raster import RasterImage
from xt.testing.images import ImageContract

HEIGHT, WIDTH = 149, 163
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
# What rasterio says of files that the tests make.
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NodataShadowWarning"),
    pytest.mark.filterwarnings("ignore:overflow encountered in nextafter:RuntimeWarning"),
]


def blob(seed: int = 0) -> np.ndarray:
    """A mask (h, w) of 0 and 255 without symmetry, in large pieces."""
    coarse = np.random.default_rng(seed).random((-(-HEIGHT // 20), -(-WIDTH // 20))) > 0.4
    return np.kron(coarse, np.ones((20, 20), bool))[:HEIGHT, :WIDTH].astype(np.uint8) * 255


def with_alpha(channels: int, dtype: str = "uint8", values: tuple[int, ...] = (0, 1, 255)) -> np.ndarray:
    pixels = smooth(HEIGHT, WIDTH, channels, dtype)
    alpha = np.random.default_rng(5).choice(values, (HEIGHT // 10 + 1, WIDTH // 10 + 1))
    pixels[..., -1] = np.kron(alpha, np.ones((10, 10)))[:HEIGHT, :WIDTH]
    return pixels


def last_is_alpha(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    write_raster(path, pixels, photometric="MINISBLACK", **options)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (
            [ColorInterp.gray] + [ColorInterp.undefined] * (dataset.count - 2) + [ColorInterp.alpha]
        )
    return path


def masked(
    path: Path, internal: bool, channels: int = 3, overviews: str = "", dtype: str = "uint8", **options: Any
) -> Path:
    """A file with a mask for all bands, and overviews made "before" it, "after" it, or not."""
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
        write_raster(path, smooth(HEIGHT, WIDTH, channels, dtype), **options)
        for step in {"before": ("build", "mask"), "after": ("mask", "build")}.get(overviews, ("mask",)):
            with rasterio.open(path, "r+") as dataset:
                if step == "mask":
                    dataset.write_mask(blob())
                else:
                    dataset.build_overviews([2, 4])
    return path


def mask_of_each_band(path: Path) -> Path:
    write_raster(path, smooth(HEIGHT, WIDTH, 2))
    flags = {f"INTERNAL_MASK_FLAGS_{band}": "0" for band in (1, 2)}
    write_raster(Path(f"{path}.msk"), np.stack([blob(1), blob(2)], axis=-1), tags=flags)
    return path


def virtual(path: Path, bands: str, whole: str = "") -> Path:
    """A VRT over the two files that are beside it."""
    write_raster(path.with_name("one.tif"), smooth(HEIGHT, WIDTH, 1, "uint16", seed=1) % 7)
    write_raster(path.with_name("two.tif"), smooth(HEIGHT, WIDTH, 1, "uint16", seed=2) % 5)
    path.write_text(f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}">{whole}{bands}</VRTDataset>')
    return path


def band(number: int, file: str, inside: str = "", dtype: str = "UInt16") -> str:
    return (
        f'<VRTRasterBand dataType="{dtype}" band="{number}">{inside}<SimpleSource><SourceFilename relativeToVRT="1">'
        f"{file}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
    )


def nodata(value: float) -> str:
    return f"<NoDataValue>{value}</NoDataValue>"


def mask_band(file: str) -> str:
    inner = band(0, file, dtype="Byte").replace(' band="0"', "")
    return f"<MaskBand>{inner}</MaskBand>"


def pillow(path: Path, mode: str, **options: Any) -> Path:
    channels = {"L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4}[mode]
    pixels = with_alpha(channels) if mode.endswith("A") else smooth(HEIGHT, WIDTH, channels) // 40
    picture = Image.fromarray(pixels.squeeze())
    if mode == "P":
        picture = Image.fromarray(pixels.squeeze(), "P")
        picture.putpalette(list(range(256)) * 3)
    picture.save(path, **options)
    return path


def close_to_nodata(path: Path, value: float, dtype: str) -> Path:
    """Floats that differ from a nodata value by their last digits, NaN and infinities: GDAL takes some for equal."""
    pixels = np.zeros((HEIGHT, WIDTH, 2), dtype)
    near = value * (1 + np.linspace(-1e-6, 1e-6, WIDTH * 3))
    with np.errstate(over="ignore"):
        pixels[:3, :, 0] = near.reshape(3, WIDTH)
    up, down = np.asarray(value, dtype), np.asarray(value, dtype)
    for number in range(20):
        pixels[3, number] = up
        pixels[4, number] = down
        up, down = np.nextafter(up, np.asarray(np.inf, dtype)), np.nextafter(down, np.asarray(-np.inf, dtype))
    pixels[5, :7, 1] = np.nan, np.inf, -np.inf, value, -value, 3.4028234663852886e38, -3e38
    pixels[6, :, 0] = np.geomspace(1e-30, 3e38, WIDTH) * np.sign(value or 1)
    return write_raster(path, pixels, nodata=value, **TILED, overviews=(2,))


KINDS: dict[str, Callable[[Path], Path]] = {
    "internal mask": lambda folder: masked(folder / "a.tif", True, **TILED),
    "internal mask with overviews": lambda folder: masked(folder / "a.tif", True, overviews="after", **TILED),
    "internal mask in strips": lambda folder: masked(folder / "a.tif", True, blockysize=7),
    "internal mask, JPEG": lambda folder: masked(folder / "a.tif", True, overviews="after", **TILED, compress="jpeg"),
    "mask beside": lambda folder: masked(folder / "a.tif", False, overviews="after", **TILED),
    "mask beside a PNG": lambda folder: masked(folder / "a.png", False, driver="PNG"),
    "mask beside a JPEG": lambda folder: masked(folder / "a.jpg", False, driver="JPEG"),
    "mask of 5 bands of floats": lambda folder: masked(folder / "a.tif", True, 5, dtype="float32", **TILED),
    "mask and nodata": lambda folder: masked(folder / "a.tif", True, nodata=7, **TILED),
    "mask and alpha": lambda folder: masked(folder / "a.tif", True, 4, photometric="RGB", alpha="YES", **TILED),
    "mask of each band": lambda folder: mask_of_each_band(folder / "a.tif"),
    "RGBA": lambda folder: write_raster(folder / "a.tif", with_alpha(4), overviews=(2, 4), **TILED),
    "RGBA, premultiplied": lambda folder: write_raster(
        folder / "a.tif", with_alpha(4), photometric="RGB", alpha="PREMULTIPLIED", overviews=(2,), **TILED
    ),
    "RGBA, bands apart": lambda folder: write_raster(folder / "a.tif", with_alpha(4), interleave="band", **TILED),
    "RGBA of 16 bits": lambda folder: write_raster(
        folder / "a.tif", with_alpha(4, "uint16", (0, 1, 300, 65535)), photometric="RGB", alpha="YES", **TILED
    ),
    "RGBA and nodata": lambda folder: write_raster(folder / "a.tif", with_alpha(4), nodata=7, **TILED),
    "RGBA as COG": lambda folder: write_raster(
        folder / "a.tif", with_alpha(4), driver="COG", blocksize=128, overview_resampling="average"
    ),
    "grey and alpha": lambda folder: write_raster(folder / "a.tif", with_alpha(2), alpha="YES", overviews=(2,)),
    "grey and alpha of 16 bits": lambda folder: write_raster(
        folder / "a.tif", with_alpha(2, "uint16"), alpha="YES", **TILED
    ),
    "PNG with alpha": lambda folder: pillow(folder / "a.png", "RGBA"),
    "grey PNG with alpha": lambda folder: pillow(folder / "a.png", "LA"),
    "PNG with a transparent colour": lambda folder: pillow(folder / "a.png", "RGB", transparency=(1, 2, 3)),
    "PNG with a transparent grey": lambda folder: pillow(folder / "a.png", "L", transparency=3),
    "palette with a transparent entry": lambda folder: pillow(folder / "a.png", "P", transparency=3),
    "palette with several": lambda folder: pillow(folder / "a.png", "P", transparency=bytes([0, 255, 0, 128])),
    "GIF": lambda folder: pillow(folder / "a.gif", "P", transparency=2),
    "WebP with alpha": lambda folder: pillow(folder / "a.webp", "RGBA", lossless=True),
    "TIFF of Pillow with alpha": lambda folder: pillow(folder / "a.tif", "RGBA"),
    "nodata of each band": lambda folder: virtual(
        folder / "a.vrt", band(1, "one.tif", nodata(3)) + band(2, "two.tif", nodata(0))
    ),
    "nodata of one band": lambda folder: virtual(
        folder / "a.vrt", band(1, "one.tif", nodata(3)) + band(2, "two.tif")
    ),
    "nodata of the second band": lambda folder: virtual(
        folder / "a.vrt", band(1, "one.tif") + band(2, "two.tif", nodata(0))
    ),
    "nodata of bands of other types": lambda folder: virtual(
        folder / "a.vrt",
        band(1, "one.tif", nodata(3), "Byte") + band(2, "two.tif", nodata("nan"), "Float32")
        + band(3, "two.tif", nodata(-9999), "Int16"),
    ),
    "nodata of two bits beyond a byte": lambda folder: virtual(
        folder / "a.vrt", band(1, "one.tif", nodata(-1), "Byte") + band(2, "two.tif", nodata(2.5), "Byte")
    ),
    "values of nodata of all bands": lambda folder: virtual(
        folder / "a.vrt", band(1, "one.tif") + band(2, "two.tif"),
        '<Metadata><MDI key="NODATA_VALUES">3 0</MDI></Metadata>',
    ),
    "mask of a virtual file": lambda folder: virtual(
        folder / "a.vrt", band(1, "one.tif") + band(2, "two.tif"), mask_band("two.tif")
    ),
    "masks of a virtual file's bands": lambda folder: virtual(
        folder / "a.vrt", band(1, "one.tif", mask_band("two.tif")) + band(2, "two.tif", nodata(4))
    ),
    "64-bit integers": lambda folder: write_raster(
        folder / "a.tif", smooth(HEIGHT, WIDTH, 1, "int64") % 5, nodata=3, **TILED
    ),
    "floats at -9999": lambda folder: close_to_nodata(folder / "a.tif", -9999, "float32"),
    "floats at the least": lambda folder: close_to_nodata(folder / "a.tif", -3.4028234663852886e38, "float32"),
    "floats near the least": lambda folder: close_to_nodata(folder / "a.tif", -3.402823e38, "float32"),
    "floats at 0.1": lambda folder: close_to_nodata(folder / "a.tif", 0.1, "float32"),
    "floats at 0": lambda folder: close_to_nodata(folder / "a.tif", 0, "float32"),
    "floats at NaN": lambda folder: close_to_nodata(folder / "a.tif", np.nan, "float32"),
    "floats at infinity": lambda folder: close_to_nodata(folder / "a.tif", np.inf, "float32"),
    "doubles at -9999.9": lambda folder: close_to_nodata(folder / "a.tif", -9999.9, "float64"),
    "doubles at 1e300": lambda folder: close_to_nodata(folder / "a.tif", 1e300, "float64"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
class TestValidity(ImageContract):
    @pytest.fixture
    def path(self, kind: str, tmp_path: Path) -> Path:
        return KINDS[kind](tmp_path)

    @pytest.fixture
    def image(self, path: Path) -> Iterator[LargeImage]:
        with xt.open_image(path) as image:
            assert isinstance(image, RasterImage)
            yield image

    @pytest.fixture
    def reference(self, path: Path, image: LargeImage) -> np.ndarray:
        return raster_pixels(path).astype(image.dtype)

    @pytest.fixture
    def level_references(self, path: Path, image: LargeImage) -> list[np.ndarray]:
        return [raster_pixels(path, level).astype(image.dtype) for level in range(len(image.levels))]

    @pytest.fixture
    def validity_references(self, path: Path, image: LargeImage) -> list[np.ndarray]:
        return [raster_validity(path, level) for level in range(len(image.levels))]

    def test_says_which_values_are_data(self, image: LargeImage, reference: np.ndarray) -> None:
        """What GDAL says is not always whether a value is that of nodata."""
        pixels, valid = image.read_valid(0, 0, *image.shape)
        np.testing.assert_array_equal(pixels, reference)
        said = raster_validity(image.path)
        np.testing.assert_array_equal(valid, np.broadcast_to(said.reshape(*image.shape, -1), valid.shape))


# All rasters of maps and microscopes, and some of many hundred pictures.
REAL = [*sorted(_FOLDER.rglob("*.tif")), *sorted([*_FOLDER.rglob("*.png"), *_FOLDER.rglob("*.jpg")])[::7]]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.relative_to(_FOLDER).as_posix())
def test_real_files_hold_something_where_gdal_says(path: Path) -> None:
    with rasterio.open(path) as dataset:
        if dataset.dtypes[0].startswith("complex"):
            pytest.skip("complex numbers are no pixels here")
    with rasterio.open(path) as dataset, RasterImage(path) as image:
        height, width = min(image.shape[0], 3000), min(image.shape[1], 3000)
        window = Window(0, 0, width, height)
        expected = dataset.read_masks(colours(dataset), window=window).transpose(1, 2, 0) > 0
        np.testing.assert_array_equal(image.read_valid(0, 0, height, width)[1], expected)


@pytest.mark.parametrize("internal", [True, False])
def test_a_mask_without_overviews_holds_for_all_levels(internal: bool, tmp_path: Path) -> None:
    path = masked(tmp_path / "a.tif", internal, overviews="before", **TILED)
    with xt.open_image(path) as image:
        assert len(image.levels) == 3
        for level, (height, width) in enumerate(image.level_shapes):
            _, valid = image.read_valid(0, 0, height, width, level=level)
            rows, columns = (
                ((np.arange(side) + 0.5) * full / side).astype(int)
                for side, full in zip((height, width), image.shape, strict=True)
            )
            assert (valid == (blob()[np.ix_(rows, columns)] > 0)[..., None]).mean() > 0.99
            part = image.read_valid(8 * 2**level, 16 * 2**level, 12, 9, level=level)[1]
            np.testing.assert_array_equal(part, valid[8:20, 16:25])


@pytest.mark.parametrize(
    ("dtype", "bands"), [("uint8", 5), ("uint16", 6), ("float32", 4)], ids=["5 bytes", "6 words", "4 floats"]
)
def test_alpha_counts_however_many_bands_there_are(dtype: str, bands: int, tmp_path: Path) -> None:
    """As multispectral mosaics of drones have it; GDAL's own masks know alpha beside one or three bytes or words."""
    pixels = with_alpha(bands, dtype)
    path = last_is_alpha(tmp_path / "a.tif", pixels, overviews=(2,), **TILED)
    with xt.open_image(path) as image:
        assert image.channels == bands - 1
        read, valid = image.read_valid(0, 0, HEIGHT, WIDTH)
        np.testing.assert_array_equal(read, pixels[..., :-1])
        np.testing.assert_array_equal(valid, np.repeat(pixels[..., -1:] > 0, bands - 1, axis=2))
        _, low = image.read_valid(0, 0, *image.level_shapes[1], level=1)
        np.testing.assert_array_equal(low[..., 0], raster_pixels_of(path, 1)[..., -1] > 0)


def raster_pixels_of(path: Path, level: int) -> np.ndarray:
    with rasterio.open(path, overview_level=level - 1) as dataset:
        return np.moveaxis(dataset.read(), 0, 2)


def test_alpha_is_a_channel_for_who_says_so(tmp_path: Path) -> None:
    pixels = with_alpha(4)
    path = write_raster(tmp_path / "a.tif", pixels)
    with xt.open_image(path, alpha="channel") as image:
        assert (image.channels, image.has_nodata) == (4, False)
        np.testing.assert_array_equal(image.read(0, 0, HEIGHT, WIDTH), pixels)
        assert image.read_valid(0, 0, HEIGHT, WIDTH)[1].all()
    with xt.open_image([path, path], alpha="channel") as image:
        assert image.channels == 8
    with xt.open_image(path) as image:
        assert (image.channels, image.has_nodata) == (3, True)
    with pytest.raises(ConfigError, match='alpha is "validity" or "channel", not \'band\''):
        xt.open_image(path, alpha="band")  # type: ignore[arg-type]


def test_a_given_nodata_value_takes_the_place_of_the_files(tmp_path: Path) -> None:
    path = KINDS["nodata of each band"](tmp_path)
    with xt.open_image(path, nodata=2) as image:
        pixels, valid = image.read_valid(0, 0, HEIGHT, WIDTH)
        np.testing.assert_array_equal(valid, pixels != 2)
        assert image.nodata == 2
    with xt.open_image(path) as image:
        assert image.nodata is None
        assert image.nodata_values == (3, 0)
    with xt.open_image(KINDS["PNG with a transparent colour"](tmp_path), nodata=2) as image:
        pixels, valid = image.read_valid(0, 0, HEIGHT, WIDTH)
        np.testing.assert_array_equal(valid, pixels != 2)


def test_a_mask_holds_beside_a_given_nodata_value(tmp_path: Path) -> None:
    with xt.open_image(masked(tmp_path / "a.tif", True), nodata=2) as image:
        pixels, valid = image.read_valid(0, 0, HEIGHT, WIDTH)
        np.testing.assert_array_equal(valid, (pixels != 2) & (blob() > 0)[..., None])


PLACE = Affine(10, 0, 500_000, 0, -10, 4_000_000)
UTM = {"crs": "EPSG:32616", "transform": PLACE}


@pytest.mark.parametrize("kind", ["mask", "alpha", "alpha of five bands", "nodata of each band"])
def test_layers_of_a_stack_on_another_grid_miss_what_their_files_miss(kind: str, tmp_path: Path) -> None:
    base = write_raster(tmp_path / "base.tif", smooth(HEIGHT, WIDTH, 1) | 1, **UTM)
    path = tmp_path / "a.tif"
    moved = {"crs": "EPSG:32616", "transform": PLACE @ Affine.translation(-2, -3)}
    if kind == "mask":
        masked(path, True, **moved)
    elif kind == "nodata of each band":
        path = virtual(
            tmp_path / "a.vrt",
            band(1, "one.tif", nodata(3)) + band(2, "two.tif", nodata(0)),
            f"<SRS>EPSG:32616</SRS><GeoTransform>{', '.join(map(str, moved['transform'].to_gdal()))}</GeoTransform>",
        )
    else:
        count = 5 if kind.endswith("bands") else 4
        last_is_alpha(path, with_alpha(count), **moved)
    with xt.open_image(path) as image, xt.stack([base, path], resampling="nearest") as stacked:
        own, own_valid = image.read_valid(3, 2, HEIGHT - 3, WIDTH - 2)
        pixels, valid = stacked.read_valid(0, 0, HEIGHT - 3, WIDTH - 2)
        assert 0.1 < own_valid.mean() < 0.95
        np.testing.assert_array_equal(valid[..., 1:], own_valid)
        np.testing.assert_array_equal(pixels[..., 1:][own_valid], own[own_valid])
        assert valid[..., 0].all()


def test_a_lower_resolution_misses_what_is_mostly_masked(tmp_path: Path) -> None:
    path = masked(tmp_path / "a.tif", True, **UTM)
    with xt.open_image(path) as image:
        _, valid = image.at_resolution(map_units_per_pixel=20).read_valid(0, 0, HEIGHT // 2, WIDTH // 2)
    np.testing.assert_array_equal(valid[..., 0], blob()[1 : HEIGHT // 2 * 2 : 2, 1 : WIDTH // 2 * 2 : 2] > 0)


@pytest.mark.parametrize("channels", [1, 2])
def test_alpha_of_an_ome_tiff(channels: int, tmp_path: Path) -> None:
    pixels = np.stack([np.roll(with_alpha(4), number * 7, axis=0) for number in range(channels)])
    path = tmp_path / "a.ome.tif"
    shown = pixels if channels > 1 else pixels[0]
    axes = "CYXS" if channels > 1 else "YXS"
    tifffile.imwrite(path, shown, photometric="rgb", metadata={"axes": axes}, tile=(64, 64))
    with xt.open_image(path) as image:
        assert image.channels == 3 * channels
        read, valid = image.read_valid(0, 0, HEIGHT, WIDTH)
        np.testing.assert_array_equal(read, np.concatenate(list(pixels[..., :3]), axis=-1))
        np.testing.assert_array_equal(valid, np.repeat(np.moveaxis(pixels[..., 3] > 0, 0, -1), 3, axis=-1))
        np.testing.assert_array_equal(image.read(0, 0, HEIGHT, WIDTH), read)
        again = pickle.loads(pickle.dumps(image))
        np.testing.assert_array_equal(again.read_valid(0, 0, HEIGHT, WIDTH)[1], valid)
    with xt.open_image(path, alpha="channel") as image:
        assert (image.channels, image.has_nodata) == (4 * channels, False)
        np.testing.assert_array_equal(image.read(0, 0, HEIGHT, WIDTH), np.concatenate(list(pixels), axis=-1))


def test_a_tiled_rgba_of_a_microscope_is_no_slide_over_white(tmp_path: Path) -> None:
    pixels = with_alpha(4)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unassalpha"], tile=(64, 64),
        resolution=(20000, 20000), resolutionunit="CENTIMETER", metadata=None,
    )  # fmt: skip
    with xt.open_image(tmp_path / "a.tif") as image:
        read, valid = image.read_valid(0, 0, HEIGHT, WIDTH)
        assert image.microns_per_pixel == (0.5, 0.5)
        np.testing.assert_array_equal(read, pixels[..., :3])
        np.testing.assert_array_equal(valid[..., 0], pixels[..., 3] > 0)


def test_it_travels_to_other_processes(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", with_alpha(4))
    for alpha, channels in (("channel", 4), ("validity", 3)):
        with xt.open_image(path, alpha=alpha) as image:  # type: ignore[arg-type]
            assert pickle.loads(pickle.dumps(image)).channels == channels
