import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from rasterio.transform import Affine

from tests.images.files import write_raster
from tests.shared_data import shared_data
from xt.cli.main import main


def info(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, str]:
    assert main(["info", *map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {line[2:21].split("  ")[0]: line for line in lines if line.startswith("  ")}


def test_a_real_geotiff(capsys):
    shown = info(capsys, shared_data("cog_rio_tiler/cog_world.tif"))
    assert "18,000 x 36,000 pixels" in shown["size"]
    assert "1 of uint8, 648 MB uncompressed" in shown["channels"]
    assert "tiles of 512 x 512" in shown["stored as"]
    assert "282 x 563, 1 : 64" in shown["level 6"]
    assert "EPSG:4326" in shown["crs"]
    assert "x_map = -180 + 0.01 x, y_map = 90 - 0.01 y" in shown["transform"]
    assert "10,011 (71 x 141 of 256 x 256 pixels)" in shown["regions"]
    assert "640,704 (64 a region)" in shown["tokens"]


def test_a_real_slide_with_its_tissue(capsys):
    shown = info(
        capsys, shared_data("wsi_cmu_small_region/CMU-1-Small-Region.svs"), "--foreground", "tissue",
        "--region-size", 128, "--tokens-per-region", 4,
    )  # fmt: skip
    assert "0.499" in shown["microns per pixel"]
    words = shown["regions"].split()
    kept, everything = int(words[1]), int(words[3])
    assert everything == 24 * 18
    assert 0.3 * everything < kept < 0.8 * everything
    assert f"{kept * 4:,} (4 a region)" in shown["tokens"]


def test_a_stack_with_its_channels(capsys, tmp_path):
    place = {"crs": "EPSG:32611", "transform": Affine(10, 0, 500_000, 0, -10, 4_100_000)}
    shifted = {**place, "transform": Affine(30, 0, 500_900, 0, -30, 4_100_000)}
    write_raster(tmp_path / "VH.tif", np.zeros((512, 600, 1), np.float32), nodata=0, **place)
    write_raster(tmp_path / "depth.tif", np.ones((50, 20, 1), np.int16), **shifted)
    shown = info(
        capsys, f"{tmp_path}/VH.tif|{tmp_path}/depth.tif", "--foreground", "nodata", "--region-size", "128"
    )
    assert "2 of float32" in shown["channels"]
    assert "VH, depth" in shown["channel names"]
    assert "GTiff, strips of" in shown["stored as"]
    assert "file aligned to the reference" in shown["stored as"]
    # Depth covers columns 90 to 150 of rows 0 to 150.
    assert shown["regions"].split()[1:4] == ["4", "of", "20"]
    assert shown["regions"].endswith("20.0% with data")


def test_ome_files_with_their_channels(capsys):
    for name, driver in (("section.ome.tif", "OME-TIFF"), ("section.ome.zarr", "OME-Zarr")):
        shown = info(capsys, shared_data(f"ome_made_here/{name}"))
        assert "DAPI, TRITC" in shown["channel names"]
        assert f"{driver}, tiles of" in shown["stored as"]
        assert "0.2282" in shown["microns per pixel"]
        assert "256 x 256, 1 : 8" in shown["level 3"]


@pytest.mark.filterwarnings("always::xt.errors.SlowImageWarning")
def test_a_slow_container_is_told_with_what_to_do(capsys, tmp_path):
    path = tmp_path / "big.png"
    Image.fromarray(np.zeros((12_000, 12_000), np.uint8)).save(path)
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr()
    assert "one compressed stream" in shown.out
    assert "slow to read by window: convert it with xt tile" in shown.out
    assert shown.err.startswith(f"xt: {path} (12000 x 12000 pixels) is not stored in tiles")


def test_missing_image(capsys, tmp_path):
    assert main(["info", str(tmp_path / "no.tif")]) == 2
    assert capsys.readouterr().err == f"xt: there is no file {tmp_path / 'no.tif'}\n"


def test_sizes_must_be_positive(capsys, tmp_path):
    assert main(["info", "x.tif", "--region-size", "0"]) == 2
    assert "--region-size must be at least 1, got 0" in capsys.readouterr().err
    assert main(["info", "x.tif", "--tokens-per-region", "3"]) == 2
    assert "--tokens-per-region must be a square number (1, 4, 16 ...), got 3" in capsys.readouterr().err


def test_does_not_wait_for_torch(tmp_path):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "a.png")
    program = (
        "import sys; from xt.cli.main import main; status = main(['info', sys.argv[1]]);"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.png"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_regions_at_the_resolution_of_a_model(capsys, tmp_path):
    path = write_raster(
        tmp_path / "a.tif",
        np.zeros((1000, 600, 1), np.uint8),
        crs="EPSG:32632",
        transform=Affine(0.5, 0, 5e5, 0, -0.5, 5e6),
    )
    shown = info(capsys, path, "--map-units-per-pixel", 2)
    assert "250 x 150 pixels by a model of that resolution" in shown["read as"]
    assert " 1 (1 x 1 of 256 x 256 pixels)" in shown["regions"]
    assert "read as" not in info(capsys, path, "--map-units-per-pixel", 0.5)
    assert main(["info", str(path), "--microns-per-pixel", "2"]) == 2
    assert "it lies on a map" in capsys.readouterr().err
