import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image, ImageOps, PngImagePlugin
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

import xt
from tests.images.files import TRANSFORM, raster_pixels, set_orientation, smooth, write_raster
from xt.images import LargeImage
from xt.images.array import ArrayImage
from xt.images.orientation import TURNS
from xt.images.photo import read_photo
from xt.testing.images import ImageContract

ALL = range(1, 9)
TAG = 0x0112
SHAPE = (70, 95)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[TAG] = orientation
    return tags


def xmp(orientation: int) -> str:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    )


def write_tiff(path: Path, pixels: np.ndarray, orientation: int, levels: int = 3, **options) -> Path:
    """Tiled, with a mask for all bands and overviews of both, as GDAL lays them out; the tag as scanners write it."""
    write_raster(path, pixels, tiled=True, blockxsize=32, blockysize=32, **options)
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(mask_of(pixels))
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews((2, 4)[: levels - 1])
    set_orientation(path, orientation)
    return path


def mask_of(pixels: np.ndarray) -> np.ndarray:
    mask = np.full(pixels.shape[:2], 255, np.uint8)
    mask[:9, :30] = 0
    return mask


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """By Pillow: what an image of these pixels and this tag is shown as."""
    if orientation == 1:
        return pixels
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }[orientation]  # fmt: skip
    return np.asarray(Image.fromarray(pixels).transpose(method))


class TestUpright(ImageContract):
    @pytest.fixture(params=[3, 5, 6])
    def orientation(self, request: pytest.FixtureRequest) -> int:
        return request.param

    @pytest.fixture
    def path(self, orientation: int, tmp_path: Path) -> Path:
        return write_tiff(tmp_path / "a.tif", smooth(*SHAPE), orientation)

    @pytest.fixture
    def image(self, path: Path) -> Iterator[LargeImage]:
        with xt.open_image(path) as image:
            yield image

    @pytest.fixture
    def reference(self, orientation: int) -> np.ndarray:
        return turned(smooth(*SHAPE), orientation)

    @pytest.fixture
    def level_references(self, path: Path, orientation: int) -> list[np.ndarray]:
        return [turned(raster_pixels(path, level), orientation) for level in range(3)]


@pytest.mark.parametrize("orientation", ALL)
@pytest.mark.parametrize("kind", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_the_picture_is_the_one_pillow_shows(kind: str, orientation: int, tmp_path: Path) -> None:
    options = {".webp": {"lossless": True}, ".jpg": {"subsampling": 0}}.get(Path(kind).suffix, {})
    Image.fromarray(smooth(*SHAPE)).save(tmp_path / kind, exif=exif(orientation), **options)
    with Image.open(tmp_path / kind) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    with xt.open_image(tmp_path / kind) as image:
        assert image.orientation == orientation
        assert image.name == str(tmp_path / kind)
        assert image.shape == (SHAPE if orientation < 5 else SHAPE[::-1])
        pixels = image.read(0, 0, *image.shape)
        # Two builds of one decoder of JPEG differ by a step or two.
        np.testing.assert_allclose(pixels.astype(int), expected.astype(int), atol=3 if kind == "a.jpg" else 0)
        np.testing.assert_array_equal(image.read(11, 23, 17, 29), pixels[11:28, 23:52])


@pytest.mark.parametrize("orientation", ALL)
def test_levels_mask_and_coordinates_turn_with_a_tiff(orientation: int, tmp_path: Path) -> None:
    pixels = smooth(*SHAPE)
    path = write_tiff(tmp_path / "a.tif", pixels, orientation, crs="EPSG:32611", transform=TRANSFORM)
    with xt.open_image(path) as image, rasterio.open(path) as stored:
        assert len(image.levels) == 3
        for level, shape in enumerate(image.level_shapes):
            with rasterio.open(path, **({"overview_level": level - 1} if level else {})) as low:
                expected = turned(np.ascontiguousarray(low.read().transpose(1, 2, 0)), orientation)
                # COVERED = turned(np.ascontiguousarray(low.read_masks(1)), orientation)
                covered = turned(np.ascontiguousarray(low.read_masks(1)), orientation)
            assert shape == expected.shape[:2]
            seen, valid = image.read_valid(0, 0, *shape, level)
            np.testing.assert_array_equal(seen, expected)
            np.testing.assert_array_equal(valid, np.repeat(covered[..., None] > 0, 3, axis=2))
        a, b, c, d, e, f = image.transform
        for y, x in ((0, 0), (11, 23), (image.shape[0] - 1, image.shape[1] - 1)):
            # The middle of a pixel lies on the map where GDAL says that the stored one does.
            place = a * (x + 0.5) + b * (y + 0.5) + c, d * (x + 0.5) + e * (y + 0.5) + f
            row, column = stored.index(*place)
            np.testing.assert_array_equal(image.read(y, x, 1, 1)[0, 0], pixels[row, column])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pixels_of_a_microscope_turn_their_sides(orientation: int, tmp_path: Path) -> None:
    tags = [(TAG, 3, 1, orientation, True)]
    tifffile.imwrite(
        tmp_path / "a.tif", smooth(*SHAPE), tile=(32, 32), photometric="rgb", extratags=tags, metadata=None,
        resolution=(20_000, 10_000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with xt.open_image(tmp_path / "a.tif") as image:
        assert image.microns_per_pixel == pytest.approx((1.0, 0.5) if orientation < 5 else (0.5, 1.0))
        np.testing.assert_array_equal(image.read(0, 0, *image.shape), turned(smooth(*SHAPE), orientation))


def raw_profile(path: Path) -> None:
    data = exif(6).tobytes()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
    Image.fromarray(smooth(*SHAPE)).save(path, pnginfo=info)


def behind_the_pixels(path: Path) -> None:
    """The order in which ImageMagick writes a PNG."""
    Image.fromarray(smooth(*SHAPE)).save(path, exif=exif(6))
    content = path.read_bytes()
    place = content.index(b"eXIf") - 4
    size = 12 + struct.unpack_from(">I", content, place)[0]
    end = content.index(b"IEND") - 4
    path.write_bytes(
        content[:place] + content[place + size : end] + content[place : place + size] + content[end:]
    )


def in_xmp(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(6))
    Image.fromarray(smooth(*SHAPE)).save(path, pnginfo=info)


def in_xmp_of_jpeg(path: Path) -> None:
    Image.fromarray(smooth(*SHAPE)).save(path, "JPEG", quality=100, subsampling=0, xmp=xmp(6).encode())


def in_xmp_of_webp(path: Path) -> None:
    Image.fromarray(smooth(*SHAPE)).save(path, "WEBP", lossless=True, xmp=xmp(6).encode())


def big_tiff(path: Path) -> None:
    tifffile.imwrite(path, smooth(*SHAPE), bigtiff=True, byteorder=">", extratags=[(TAG, 3, 1, 6, True)])


def not_a_short(path: Path) -> None:
    tifffile.imwrite(path, smooth(*SHAPE), extratags=[(TAG, 4, 1, 6, True)])


@pytest.mark.parametrize(
    "write",
    [raw_profile, behind_the_pixels, in_xmp, in_xmp_of_jpeg, in_xmp_of_webp, big_tiff, not_a_short],
    ids=lambda write: write.__name__,
)
def test_wherever_the_tag_is_written(write: Callable[[Path], None], tmp_path: Path) -> None:
    # The content says what a file is.
    path = tmp_path / "a.png"
    write(path)
    with xt.open_image(path) as image:
        assert image.orientation == 6
        seen = image.read(0, 0, *image.shape).astype(int)
    np.testing.assert_allclose(seen, turned(smooth(*SHAPE), 6), atol=0 if write is not in_xmp_of_jpeg else 10)
    if write is not big_tiff:  # Pillow 13 does not read that tag.
        with Image.open(path) as picture:
            np.testing.assert_allclose(
                seen, np.asarray(ImageOps.exif_transpose(picture).convert("RGB")), atol=3
            )


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_a_number_that_does_not_exist_turns_nothing(orientation: int, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", smooth(*SHAPE), extratags=[(TAG, 3, 1, orientation, True)])
    Image.fromarray(smooth(*SHAPE)).save(tmp_path / "a.png", exif=exif(orientation))
    for path in tmp_path.iterdir():
        with xt.open_image(path) as image:
            assert image.orientation == 1
            np.testing.assert_array_equal(image.read(0, 0, *SHAPE), smooth(*SHAPE))


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_in_an_archive_and_over_the_network(name: str, tmp_path: Path) -> None:
    Image.fromarray(smooth(*SHAPE)).save(tmp_path / name, exif=exif(8))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / name, name)
    with xt.open_image(f"/vsizip/{tmp_path}/a.zip/{name}") as image, xt.open_image(tmp_path / name) as local:
        assert (image.orientation, image.shape) == (8, SHAPE[::-1])
        np.testing.assert_array_equal(image.read(0, 0, *image.shape), local.read(0, 0, *image.shape))


def test_it_travels_to_other_processes_and_through_views(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", smooth(*SHAPE), 6)
    expected = turned(smooth(*SHAPE), 6)
    with xt.open_image(path) as image, pickle.loads(pickle.dumps(image)) as copy:
        np.testing.assert_array_equal(copy.read(0, 0, *copy.shape), expected)
        crop = image.crop(3, 5, 40, 50)
        assert crop.orientation == 6
        np.testing.assert_array_equal(crop.flip("y").read(0, 0, 40, 50), expected[3:43, 5:55][::-1])


def test_the_eight_are_all_there_are() -> None:
    pixels = smooth(5, 7)
    seen = set()
    for orientation, turn in TURNS.items():
        np.testing.assert_array_equal(turn.pixels(pixels), turned(pixels, orientation))
        seen.add(turn.pixels(pixels).tobytes())
    assert len(seen) == 8
    assert isinstance(xt.open_image(pixels), ArrayImage)


@pytest.mark.parametrize("orientation", ALL)
@pytest.mark.parametrize("kind", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_a_photograph_read_whole_is_turned_once(kind: str, orientation: int, tmp_path: Path) -> None:
    Image.fromarray(smooth(*SHAPE)).save(tmp_path / kind, exif=exif(orientation))
    with Image.open(tmp_path / kind) as picture:
        expected = ImageOps.exif_transpose(picture).convert("RGB")
    np.testing.assert_array_equal(np.asarray(read_photo(tmp_path / kind)), np.asarray(expected))


@pytest.mark.parametrize(
    "data", [b"Exif\0\0nothing of the kind", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM"]
)
@pytest.mark.parametrize("kind", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:.*EXIF")
def test_exif_that_is_damaged_turns_nothing(kind: str, data: bytes, tmp_path: Path) -> None:
    Image.fromarray(smooth(*SHAPE)).save(tmp_path / kind, exif=data)
    with xt.open_image(tmp_path / kind) as image:
        assert image.orientation == 1
        assert image.read(0, 0, *SHAPE).shape == (*SHAPE, 3)
    assert read_photo(tmp_path / kind).size == SHAPE[::-1]


def test_in_a_stack_coordinates_say_what_lies_where(tmp_path: Path) -> None:
    place = {"crs": "EPSG:32611", "transform": Affine(2, 0, 500_000, 0, -2, 4_100_000)}
    grey = smooth(*SHAPE, 1)
    base = write_raster(tmp_path / "base.tif", grey, **place)
    path = write_raster(tmp_path / "a.tif", smooth(*SHAPE), **place)
    set_orientation(path, 6)
    with xt.stack([base, path], resampling="nearest") as image:
        np.testing.assert_array_equal(image.read(0, 0, *SHAPE)[..., 1:], smooth(*SHAPE))
    with xt.stack([path, base], resampling="nearest") as image:
        np.testing.assert_array_equal(image.read(0, 0, *SHAPE[::-1])[..., 3], turned(grey[..., 0], 6))
