"""A machine that has torch and timm, but none of the libraries that read and write image files."""

import os
from collections.abc import Mapping
from pathlib import Path

MISSING = (
    "rasterio", "openslide", "zarr", "pyogrio", "geopandas", "shapely", "pydicom", "tifffile", "jsonargparse",
    "pycocotools",
)  # fmt: skip

_SITE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def bare_environment(folder: Path) -> Mapping[str, str]:
    """For subprocesses, and for theirs: Python finds none of these libraries.

    Args:
        folder: where the file is put that Python reads as it starts.
    """
    (folder / "sitecustomize.py").write_text(_SITE.format(missing=set(MISSING)))
    root = Path(__file__).parents[1]
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{root}", "OMP_NUM_THREADS": "1"}
