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


def corner(folder, size: int = 512):
    """Plain but for a corner."""
    array = np.full((size, size, 3), 120, np.uint8)
    array[:90, :100] = np.random.default_rng(0).integers(0, 256, (90, 100, 3))
    Image.fromarray(array).save(folder / "corner.png")
    return folder / "corner.png"


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        ({}, [], {"regions": "64 at full resolution", "tokens": "256 (4 a region)"}),
        (
            {"regions": "by_content"},
            [],
            {
                "regions": "10, 15.6% of the 64 at full resolution",
                "scale 4": "3 regions of 256 x 256 pixels",
                "scale 2": "3 regions of 128 x 128 pixels",
                "scale 1": "4 regions of 64 x 64 pixels",
                "tokens": "40 (4 a region)",
            },
        ),
        (
            {"regions": "by_content"},
            ["--budget", "7"],
            {"regions": "7, 10.9%", "scale 2": "4 regions of 128"},
        ),
        (
            {"regions": "by_model", "thumbnail": True},
            ["--budget", "0.5"],
            {
                "regions": "at most 32, 50.0% of the 64",
                "scale 4": "4 regions of 256 x 256 pixels",
                "finer": "what the model asks for",
                "tokens": "132 (4 a region, and 4 of the thumbnail)",
            },
        ),
        (
            {"regions": "by_content", "map_units_per_pixel": 2.0},
            [],
            {"read as": "256 x 256 pixels", "regions": "4, 25.0% of the 16"},
        ),
    ],
)
def test_what_a_model_looks_at_of_this_very_image(capsys, tmp_path, settings, options, expected):
    from tests.small_model import small_model

    small_model(context="none", **settings).save(tmp_path / "model.safetensors")
    path = corner(tmp_path)
    if "map_units_per_pixel" in settings:
        place = {"crs": "EPSG:32632", "transform": Affine(1, 0, 5e5, 0, -1, 5e6)}
        path = write_raster(tmp_path / "map.tif", np.asarray(Image.open(path)), **place)
    shown = info(capsys, path, "--model", tmp_path / "model.safetensors", *options)
    for name, words in expected.items():
        assert words in shown[name]
    assert ("finer" in shown) == (settings.get("regions") == "by_model")


def test_a_model_that_chooses_says_so(capsys, tmp_path):
    from tests.small_model import small_model

    model = small_model(context="none", regions="by_model", regions_options={"budget": 0.1})
    model.save(tmp_path / "model.safetensors")
    shown = info(capsys, tmp_path / "model.safetensors")
    assert "what is chosen by_model (budget 0.1)" in shown["looks at"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "0.1"], "--budget is one of a model that chooses regions: name it"),
        (["--model", "m", "--region-size", "64"], "a model has its own --region-size: leave that out beside"),
        (
            ["--model", "m", "--foreground", "tissue", "--microns-per-pixel", "1"],
            "--foreground, --microns-per-pixel",
        ),
        (["--model", "nowhere"], "nowhere"),
    ],
)
def test_what_does_not_go_with_a_model_is_refused(capsys, tmp_path, options, message):
    assert main(["info", str(corner(tmp_path)), *options]) == 2
    assert message in capsys.readouterr().err


def test_odd_budgets_are_refused(capsys, tmp_path):
    from tests.small_model import small_model

    small_model(context="none", regions="by_content").save(tmp_path / "model.safetensors")
    command = ["info", str(corner(tmp_path)), "--model", str(tmp_path / "model.safetensors")]
    assert main([*command, "--budget=1.5"]) == 2
    assert "a budget is a share of the regions" in capsys.readouterr().err
