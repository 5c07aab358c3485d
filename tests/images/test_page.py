"""`docs/images.md` as it is written, on files made for it."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from tests.images.files import smooth, write_raster, write_slide
from tests.images.ome_files import planes, write_ome_tiff

PAGE = Path(__file__).resolve().parents[2] / "docs" / "images.md"
UTM = {"crs": "EPSG:32611", "transform": Affine(10, 0, 500_000, 0, -10, 4_100_000)}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("VH.tif", "VV.tif")):
        write_raster(tmp_path / name, smooth(400, 300, 1, "float32", number), nodata=-9999, **UTM)
    # The 117th meridian is the scene's left border; this ends 250 pixels to the right of it.
    depth = Affine(0.0056, 0, -117 - 0.0056 * 3, 0, -0.0045, 37.1)
    write_raster(tmp_path / "depth.tif", smooth(40, 8, 1, "float32"), crs="EPSG:4326", transform=depth)
    moved = UTM["transform"] @ Affine.translation(4, -7)
    for name, transform in (("before.tif", UTM["transform"]), ("after.tif", moved)):
        write_raster(tmp_path / name, smooth(100, 130, 2), crs="EPSG:32611", transform=transform)
        with rasterio.open(tmp_path / name, "r+") as dataset:
            dataset.descriptions = ("red", "nir")
    microns = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    write_ome_tiff(
        tmp_path / "cells.ome.tif", planes(2, 2, 64, 80), "TCYX", names=["DAPI", "TRITC"], microns=microns
    )
    write_raster(tmp_path / "mosaic.tif", smooth(60, 70, 4), **UTM)
    write_slide(tmp_path / "slide.tif", smooth(320, 256), microns=0.5, square=True)
    return tmp_path


def test_the_page_says_what_comes_out(files: Path) -> None:
    names: dict[str, object] = {}
    checked = 0
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        statements: list[str] = []
        for line in block.splitlines():
            code, said = line.partition("  # -> ")[::2]
            if said:
                exec("\n".join(statements), names)
                statements = []
                assert repr(eval(code, names)) == said, code
                checked += 1
            else:
                statements.append(line)
        exec("\n".join(statements), names)
    assert checked >= 15
    assert np.isfinite(names["logits"].detach().numpy()).all()
