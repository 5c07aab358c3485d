"""A machine that has torch, timm and pytest, but no library that reads or writes images and labels."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What these need comes along, such as NumPy and safetensors.
THERE = ("torch", "timm", "pytest")
MISSING = (
    "rasterio", "openslide", "zarr", "tifffile", "pyogrio", "geopandas", "shapely", "pydicom", "pycocotools", "pandas",
    "lightning", "pydantic", "rich", "pytest_timeout",
)  # fmt: skip


def bare_python(folder: Path) -> Path:
    """The Python of an environment made in a folder.

    Its packages are links to those of the environment that runs: it takes no network, a second, and hardly any disk.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    for found in _with_what_they_need(THERE):
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (packages / name).exists():
                (packages / name).symlink_to(str(found.locate_file(name)))
    return folder / "bin" / "python"


def bare_environment() -> Mapping[str, str]:
    """For processes of that Python: xt is found there, and nothing that is set for the Python that runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}


def _with_what_they_need(names: Iterable[str]) -> Iterator[Distribution]:
    waiting, known = list(names), set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in known:
            continue
        known.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # optional for what asks for it, or another system's
        yield found
        needs = [Requirement(line) for line in found.requires or ()]
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
