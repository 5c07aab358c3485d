"""Images on a web server: read by window, counted in bytes, refused in words."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil
from rasterio.transform import Affine

import xt
from tests.images.files import smooth, write_raster
from tests.images.http_server import FileServer, serving
from xt.cli.main import main
from xt.data.table_files import read_image_paths, read_table
from xt.errors import ImageError
from xt.images.remote import gdal_path, is_remote, name_of, url_of, why_not
from xt.prediction.inputs import identity, image_stem

SIDE, TILE = 1536, 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bucket")
    place = {"crs": "EPSG:32611", "transform": Affine(10, 0, 500_000, 0, -10, 4_100_000)}
    write_raster(path / "plain.tif", smooth(SIDE, SIDE), **place)
    rasterio.shutil.copy(path / "plain.tif", path / "cog.tif", driver="COG", blocksize=TILE)
    moved = place | {"transform": Affine(20, 0, 500_000, 0, -20, 4_100_000)}
    write_raster(path / "coarse.tif", smooth(SIDE // 2, SIDE // 2, 1), tiled=True, **moved)
    (path / "text.tif").write_text("this is no image" * 100)
    return path


@pytest.fixture
def server(folder: Path):
    with serving(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xt.images.remote.OPTIONS", _options())


def _options() -> dict[str, str]:
    from xt.images.remote import OPTIONS

    return OPTIONS | {"GDAL_HTTP_RETRY_DELAY": "0.05"}


def test_a_window_of_a_large_image_fetches_a_small_part(server: FileServer, folder: Path):
    local = xt.open_image(folder / "cog.tif")
    with xt.open_image(server.url("cog.tif")) as image:
        assert server.sent <= 1 << 15, "to open it takes its first bytes"
        assert server.asked == ["HEAD /cog.tif", "GET /cog.tif"], "and no search for files beside it"
        assert (image.shape, image.levels, image.crs) == (local.shape, local.levels, local.crs)
        server.reset()
        np.testing.assert_array_equal(image.read(600, 700, 100, 50), local.read(600, 700, 100, 50))
        tile = TILE**2 * 3
        assert tile < server.sent < 2 * tile, (
            "one tile of noise, which does not compress, and what goes around it"
        )
        server.reset()
        np.testing.assert_array_equal(image.read(0, 0, 64, 64, level=2), local.read(0, 0, 64, 64, level=2))
        assert server.sent < 1.5 * tile
    assert (folder / "cog.tif").stat().st_size > 30 * tile


def test_what_was_read_is_not_fetched_again(server: FileServer):
    with xt.open_image(server.url("cog.tif")) as image:
        first = image.read(0, 0, TILE, TILE)
        server.reset()
        np.testing.assert_array_equal(image.read(0, 0, TILE, TILE), first)
        assert server.sent == 0


def test_it_travels_to_other_processes_and_through_paths(server: FileServer):
    image = xt.open_image(Path(server.url("cog.tif")))
    assert image.name == server.url("cog.tif"), "a pathlib.Path has one slash where a URL has two"
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.read(5, 5, 30, 30), image.read(5, 5, 30, 30))


def test_a_stack_of_here_and_there(server: FileServer, folder: Path):
    here = xt.open_image(f"{folder}/cog.tif|{folder}/coarse.tif")
    there = xt.open_image(f"{folder}/cog.tif|{server.url('coarse.tif')}")
    np.testing.assert_array_equal(there.read(300, 400, 64, 64), here.read(300, 400, 64, 64))
    assert server.sent > 0


def test_a_busy_server_is_asked_again(server: FileServer, folder: Path):
    image = xt.open_image(server.url("cog.tif"))
    server.tell(busy=2)
    np.testing.assert_array_equal(
        image.read(900, 900, 64, 64), xt.open_image(folder / "cog.tif").read(900, 900, 64, 64)
    )
    assert len(server.asked) >= 4


def test_refusals_say_what_to_do(server: FileServer):
    image = xt.open_image(server.url("cog.tif"))
    server.tell(status={"secret.tif": 403, "private.tif": 401, "ill.tif": 500})
    for name, expected in (
        ("lost.tif", r"there is no file http.*lost\.tif \(HTTP response code: 404\): check the address"),
        ("secret.tif", r"access to http.*secret\.tif is refused \(.*403\): give a signed address"),
        ("private.tif", r"access to http.*is refused \(.*401\)"),
        ("ill.tif", r"ill\.tif could not be read from its server, or it is damaged \(.*500\): try again"),
        ("text.tif", r"text\.tif is there, but it is not an image that GDAL can open"),
    ):
        with pytest.raises(ImageError, match=expected):
            xt.open_image(server.url(name))
    server.tell(status={"cog.tif": 403})
    with pytest.raises(ImageError, match="could not be read from its server"):
        image.read(1200, 1200, 64, 64)


def test_a_server_without_ranges_is_refused(server: FileServer):
    server.tell(ranges=False)
    with pytest.raises(ImageError, match=r"sends whole files only \(no HTTP range requests\).* download it"):
        xt.open_image(server.url("cog.tif?whole"))


def test_no_server_at_all():
    with pytest.raises(ImageError, match=r"the server of http.* cannot be reached .* check the address"):
        xt.open_image("http://127.0.0.1:1/cog.tif")


@pytest.fixture
def bucket(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of S3's kind, of this machine."""
    for name, value in {
        "AWS_S3_ENDPOINT": f"127.0.0.1:{server.port}",
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
    }.items():
        monkeypatch.setenv(name, value)
    return f"s3://{server.port}"


def test_a_bucket(server: FileServer, folder: Path, bucket: str):
    link = folder / str(server.port)
    link.symlink_to(folder)
    with xt.open_image(f"{bucket}/cog.tif") as image:
        np.testing.assert_array_equal(
            image.read(600, 700, 100, 50), xt.open_image(folder / "cog.tif").read(600, 700, 100, 50)
        )
    assert server.sent < 3 * TILE**2 * 3
    assert not [asked for asked in server.asked if "list" in asked or "prefix" in asked], (
        "no listing of the bucket"
    )
    server.tell(status={f"{server.port}/secret.tif": 403})
    with pytest.raises(ImageError, match=r"access to s3://.*secret\.tif is refused .* AWS_ACCESS_KEY_ID"):
        xt.open_image(f"{bucket}/secret.tif")
    with pytest.raises(ImageError, match=r"there is no file s3://.*lost\.tif"):
        xt.open_image(f"{bucket}/lost.tif")


def test_in_tables_and_on_the_command_line(server: FileServer, tmp_path: Path, capsys):
    table = tmp_path / "images.csv"
    stack = f"{server.url('cog.tif')}|{server.url('coarse.tif')}"
    table.write_text(f"image,label\n{server.url('cog.tif')},a\n{stack},b\n")
    paths = read_image_paths(table)
    assert [xt.open_image(path).channels for path in paths] == [3, 4]
    read_table(table).check_files()
    assert main(["info", server.url("cog.tif")]) == 0
    assert "1,536 x 1,536 pixels" in capsys.readouterr().out
    assert main(["info", server.url("lost.tif")]) == 2
    assert "there is no file http://127.0.0.1" in capsys.readouterr().err


def test_names_of_results_hold_no_signature():
    signed = "https://host/a/scene.v1.tif?X-Amz-Signature=abc/def.tif"
    assert name_of(signed) == "scene.v1.tif"
    assert image_stem(signed) == "scene.v1"
    assert image_stem("s3://bucket/t1/VH.tif|s3://bucket/t1/VV.tif") == "t1"
    assert identity("https:/host/a.tif") == identity("https://host/a.tif") == "https://host/a.tif"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://bucket/a/b.tif", "/vsis3/bucket/a/b.tif"),
        ("s3:/bucket/a/b.tif", "/vsis3/bucket/a/b.tif"),
        ("gs://bucket/b.tif", "/vsigs/bucket/b.tif"),
        ("az://box/b.tif", "/vsiaz/box/b.tif"),
        ("https://host/b.tif?x=1", "/vsicurl/https://host/b.tif?x=1"),
        ("/vsicurl/https:/host/b.tif", "/vsicurl/https://host/b.tif"),
        ("/vsizip/vsicurl/http:/host/b.zip/c.tif", "/vsizip/vsicurl/http://host/b.zip/c.tif"),
        ("/data/b.tif", "/data/b.tif"),
        ("C:/data/b.tif", "C:/data/b.tif"),
        ("NETCDF:b.nc:wind", "NETCDF:b.nc:wind"),
    ],
)
def test_what_gdal_calls_it(path: str, expected: str):
    assert gdal_path(path) == expected
    assert is_remote(path) == expected.startswith("/vsi")
    assert gdal_path(url_of(path)) == expected


@pytest.mark.parametrize(
    ("path", "said", "expected"),
    [
        ("s3://b/a.tif", "The specified key does not exist.", "there is no file"),
        ("s3://b/a.tif", "Access Denied", "AWS_NO_SIGN_REQUEST=YES for a public bucket"),
        ("s3://b/a.tif", "InvalidCredentials: AWS_SECRET_ACCESS_KEY not defined", "AWS_ACCESS_KEY_ID"),
        ("gs://b/a.tif", "HTTP response code: 403", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://b/a.tif", "HTTP response code: 403", "AZURE_STORAGE_ACCOUNT"),
        ("https://h/a.tif", "CURL error: Could not resolve host: h", "check the address and the network"),
    ],
)
def test_other_services_in_their_own_words(path: str, said: str, expected: str):
    assert expected in why_not(path, said)
