import numpy as np
import pytest
import rasterio
from PIL import Image

from xt.cli.main import main


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_png_becomes_a_tiled_pyramid(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (1100, 700, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    # As a killed run leaves them.
    for name in (".photo.xt-part-0123abcd.tif", ".photo.xt-part-0123abcd.tif.plain.tif"):
        (tmp_path / name).touch()
    assert main(["tile", str(tmp_path / "photo.png"), str(tmp_path / "photo.tif")]) == 0
    with rasterio.open(tmp_path / "photo.tif") as file:
        assert file.block_shapes[0] == (512, 512)
        assert file.overviews(1)
        np.testing.assert_array_equal(file.read().transpose(1, 2, 0), pixels)
    shown = capsys.readouterr()
    assert "photo.tif: " in shown.out
    assert "100 of 100 %" in shown.err
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "photo.tif"}


def test_folder_that_is_not_there(tmp_path, capsys):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "photo.png")
    assert main(["tile", str(tmp_path / "photo.png"), str(tmp_path / "no" / "photo.tif")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_missing_source(tmp_path, capsys):
    assert main(["tile", str(tmp_path / "no.png"), str(tmp_path / "photo.tif")]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
