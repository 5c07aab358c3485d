"""Arrays work where neither rasterio nor OpenSlide is installed; files say what to install."""

import subprocess
import sys
from pathlib import Path

from tests.images.files import smooth, write_raster

WITHOUT = """
import sys
for name in {missing}:
    sys.modules[name] = None
import numpy, xt
from xt.errors import MissingPackageError
assert xt.open_image(numpy.ones((8, 9))).crop(1, 1, 3, 3).rotate(1).read(0, 0, 3, 3).sum() == 9
try:
    xt.open_image(sys.argv[1])
except MissingPackageError as error:
    print(error)
else:
    print("opened")
"""


def open_without(missing: list[str], path: Path) -> str:
    command = [sys.executable, "-c", WITHOUT.format(missing=missing), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_without_rasterio(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(40, 50))
    assert open_without(["rasterio"], path) == "image files are read through rasterio: pip install rasterio"


def test_without_openslide(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", smooth(40, 50))
    assert open_without(["openslide"], path) == "opened"
    slide = tmp_path / "a.svs"
    slide.write_bytes(path.read_bytes())
    message = "whole-slide images are read through OpenSlide: pip install openslide-python openslide-bin"
    assert open_without(["openslide"], slide) == message


def test_importing_reads_neither() -> None:
    code = "import sys, xt.images; print({'rasterio', 'openslide', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
