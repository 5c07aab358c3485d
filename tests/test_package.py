"""What is installed is what is in the tree: every file of `xt/` that is no source is package data."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# To read where the source is.
_NOT_PACKED = {"xt/authors/README.md"}
_OPTIONAL = {"mamba_ssm", "causal_conv1d", "triton"}


def _files() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "xt").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_all_files_beside_the_sources_are_package_data() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packed = {
        path.relative_to(ROOT).as_posix()
        for pattern in settings["package-data"]["xt"]
        for path in (ROOT / "xt").glob(pattern)
    }
    assert {name for name in _files() if not name.endswith(".py")} - packed == _NOT_PACKED
    assert {"xt/py.typed", "xt/demo/assets/section.ome.tif", "xt/recipes/coco/swin_t.yaml"} <= packed


def test_every_folder_with_sources_is_a_package() -> None:
    folders = {Path(name).parent for name in _files() if name.endswith(".py")}
    assert [folder for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()] == []


@pytest.mark.slow
def test_a_wheel_holds_them_and_works_outside_the_repository(tmp_path: Path) -> None:
    """Needs setuptools, and beside the wheel the packages that run these tests; no network."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "xt"):
        (source / name).symlink_to(ROOT / name)
    wheels = [
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path),
        str(source),
    ]  # fmt: skip
    subprocess.run(wheels, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert {name for name in packed.namelist() if name.startswith("xt/")} == _files() - _NOT_PACKED
        packed.extractall(tmp_path / "installed")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    outside = tmp_path / "outside"
    outside.mkdir()
    for arguments, said in (
        (["recipes"], "classification "),
        (["recipes", "show", "points"], "head: points"),
        (["demo", "--help"], "xt demo --quick"),
    ):
        command = [sys.executable, "-m", "xt.cli.main", *arguments]
        done = subprocess.run(command, env=environment, cwd=outside, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
    where = [sys.executable, "-c", "import xt; print(xt.__file__)"]
    shown = subprocess.run(where, env=environment, cwd=outside, capture_output=True, text=True).stdout
    assert shown.startswith(str(tmp_path / "installed"))


def test_every_package_that_is_imported_is_declared() -> None:
    """So that a wheel installed by itself has it; what is optional is looked for where it is used."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(part for extra in project["optional-dependencies"].values() for part in extra),
    ]
    declared = {_normal(re.split(r"[\[<>=~! ]", text)[0]) for text in wanted}
    lacking = {}
    installed = packages_distributions()
    for name in _files():
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules = [node.module]
            for module in (
                {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - _OPTIONAL
            ):
                if module != "xt" and not declared & {
                    _normal(found) for found in installed.get(module, [module])
                }:
                    lacking[module] = name
    assert lacking == {}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
