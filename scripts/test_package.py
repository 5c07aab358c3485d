"""Builds the package, installs it in an empty environment of each Python, and uses it outside of the repository.

    pip install uv
    python scripts/test_package.py                      # each Python from 3.11 to 3.13 that is found; others are said
    python scripts/test_package.py --python 3.12
    python scripts/test_package.py --lowest --extras viewer,cohort    # the oldest versions allowed

An environment takes 7 GB, most of it PyTorch and CUDA, and is deleted afterwards; what was downloaded for it stays in
uv's cache. Where packages come from is told to uv as always, by its variables (UV_INDEX_URL and others).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
# What is loaded when it is used; `import xt` costs nothing but its name.
_HEAVY = ("torch", "numpy", "timm", "lightning", "rasterio", "pandas", "nicegui", "ray", "torchsurv")
IMPORT = f"""
import sys, xt
from importlib.metadata import version
assert xt.__version__ == version("xt-vision"), xt.__version__
assert "site-packages" in xt.__file__, xt.__file__
loaded = set({_HEAVY}) & set(sys.modules)
assert not loaded, f"import xt loads {{loaded}}"
for name in xt.__all__:
    getattr(xt, name)
"""
_MODEL, _IMAGE = "demo/real_pixels/nuclei.safetensors", "demo/real_pixels/section.ome.tif"
# In this order, since each may use what those before it left in the folder. `{bin}` is the environment's.
USES: Mapping[str, Sequence[str]] = {
    "import xt": ("{bin}/python", "-c", IMPORT),
    "doctor": ("{bin}/xt", "doctor"),
    "demo": ("{bin}/xt", "demo", "--pixels"),
    "predict": (
        "{bin}/xt", "predict", _MODEL, _IMAGE, "--out", "found", "--outlines", "nucleus",
    ),
    "export": ("{bin}/xt", "export", _MODEL, "--out", "exported"),
    "predict by the export": ("{bin}/xt", "predict", "exported", _IMAGE, "--out", "found_exported"),
    "push": ("{bin}/xt", "push", _MODEL, "lab/nuclei", "--license", "apache-2.0"),
    "predict from the hub": ("{bin}/xt", "predict", "hf://lab/nuclei", _IMAGE, "--out", "found_hub"),
    "view": ("{bin}/xt", "view", "--help"),
    "recipes": ("{bin}/xt", "recipes", "show", "classification"),
}  # fmt: skip
_WRITTEN = (
    "demo/real_pixels/section.ome.mask.tif",
    "found/section.ome.outlines.geojson",
    "found_exported/section.ome.mask.tif",
    "found_hub/section.ome.mask.tif",
)


def main(words: Sequence[str] | None = None) -> int:
    """The exit status: 0 where everything worked in every environment."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None, allow_abbrev=False
    )
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="VERSION", choices=PYTHONS)
    parser.add_argument("--extras", default="", metavar="NAMES", help="of the package, such as viewer,cohort")
    parser.add_argument("--lowest", action="store_true", help="the oldest versions that are allowed")
    chosen = parser.parse_args(words)
    if shutil.which("uv") is None:
        sys.exit("this needs uv: pip install uv")
    failed = 0
    with tempfile.TemporaryDirectory(prefix="xt-package-") as folder:
        wheel = build(Path(folder))
        for version in chosen.python:
            python = find_python(version)
            if python is None:
                print(f"Python {version}: not found here, not tested", flush=True)
                continue
            print(f"Python {version}: {python}", flush=True)
            extras = [name for name in chosen.extras.split(",") if name]
            with environment(Path(folder), python, wheel, extras, lowest=chosen.lowest) as bin_folder:
                failed += use(bin_folder, Path(tempfile.mkdtemp(prefix="outside-", dir=folder)))
    print(f"{failed} uses failed" if failed else "all of it works")
    return 1 if failed else 0


def build(folder: Path) -> Path:
    """Builds the sdist, and from that, not from the tree, the wheel."""
    # A copy, as setuptools leaves files beside its sources.
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "xt", source / "xt", ignore=shutil.ignore_patterns("__pycache__"))
    _run("uv", "build", "--quiet", "--out-dir", str(folder / "dist"), str(source))
    built = sorted((folder / "dist").glob("xt_vision-*"))
    print(", ".join(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in built), flush=True)
    [wheel] = (path for path in built if path.suffix == ".whl")
    return wheel


def find_python(version: str) -> Path | None:
    """A Python of this version that runs, in the search path or among pyenv's."""
    named = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [Path(named)] if named else []
    for python in [*candidates, *sorted(pyenv.glob(f"{version}.*/bin/python"))]:
        said = subprocess.run([python, "-c", "import venv"], capture_output=True)
        if said.returncode == 0:
            return python
    return None


@contextmanager
def environment(
    folder: Path, python: Path, wheel: Path, extras: Sequence[str], *, lowest: bool
) -> Iterator[Path]:
    """The programs' folder of an empty environment with the wheel in it, which is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="environment-", dir=folder) as place:
        _run("uv", "venv", "--quiet", "--clear", "--python", str(python), place)
        install = ["uv", "pip", "install", "--quiet", "--python", f"{place}/bin/python"]
        started = time.perf_counter()
        if lowest:
            # Of a wheel that is installed its own requirements are not the direct ones.
            direct = ["--resolution", "lowest-direct", "--requirements", str(ROOT / "pyproject.toml")]
            _run(*install, *direct, *(word for name in extras for word in ("--extra", name)))
            _run(*install, "--no-deps", str(wheel))
        else:
            named = f"[{','.join(extras)}]" if extras else ""
            _run(*install, f"xt-vision{named} @ {wheel.as_uri()}")
        print(f"  installed in {time.perf_counter() - started:.0f} s", flush=True)
        yield Path(place) / "bin"


def use(bin_folder: Path, outside: Path) -> int:
    """Does everything of `USES` in a folder, with a line for each; how many failed."""
    sys.path.insert(0, str(ROOT))
    from tests.hub.server import TOKEN, serving

    with serving() as hub:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        kept |= {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HUB_CACHE": str(outside / "hub")}
        kept |= {"no_proxy": "127.0.0.1"}
        failed = sum(not _works(name, words, bin_folder, outside, kept) for name, words in USES.items())
    lacking = [name for name in _WRITTEN if not (outside / name).is_file()]
    for name in lacking:
        print(f"  FAILS  {name} was not written", flush=True)
    return failed + len(lacking)


def _works(name: str, words: Sequence[str], bin_folder: Path, outside: Path, kept: Mapping[str, str]) -> bool:
    started = time.perf_counter()
    command = [word.replace("{bin}", str(bin_folder)) for word in words]
    done = subprocess.run(command, cwd=outside, env=kept, capture_output=True, text=True)
    works = done.returncode == 0
    print(f"  {'works' if works else 'FAILS'}  {name}, {time.perf_counter() - started:.1f} s", flush=True)
    if not works:
        print(done.stdout[-2000:] + done.stderr[-4000:], flush=True)
    return works


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


if __name__ == "__main__":
    sys.exit(main())
