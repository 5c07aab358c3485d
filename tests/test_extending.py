"""The package of docs/extending.md, installed, trains and predicts; without it, a file says what is missing."""

import csv
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.processes import Ended, python
from xt.errors import XTError
from xt.model.files import load_model

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
_SETTINGS = ["--train.accelerator=cpu", "--train.progress=false"]


def files_of_page() -> dict[str, str]:
    """The page's blocks that say in their first line which file they are."""
    blocks = re.findall(r"```(?:toml|python|yaml)\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL)
    return dict(blocks)


def installed(folder: Path) -> Path:
    """The page's package as pip installs it from a wheel."""
    files = files_of_page()
    project = tomllib.loads(files["pyproject.toml"])["project"]
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    packed = {name: text for name, text in files.items() if name.startswith("my_parts/")}
    about = "my_parts-1.0.dist-info"
    packed |= {
        "my_parts/__init__.py": "",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "\n".join(lines) + "\n",
    }
    packed[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*packed, f"{about}/RECORD"])
    wheel = folder / "my_parts-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in packed.items():
            archive.writestr(name, text)
    target = folder / "installed"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True, capture_output=True)
    return target


def write_data(folder: Path) -> None:
    """Images with one to four bright squares, in files of NumPy's, and a table of how many there are."""
    generator = np.random.default_rng(0)
    (folder / "new").mkdir()
    rows = []
    for number in range(12):
        count = 1 + number % 4
        pixels = generator.integers(0, 40, (96, 128, 3), dtype=np.uint8)
        for place in generator.choice(12, count, replace=False):
            y, x = divmod(int(place), 4)
            pixels[32 * y + 8 : 32 * y + 24, 32 * x + 8 : 32 * x + 24] = 255
        name = f"new/{number}.npz"
        np.savez(folder / name, pixels=pixels)
        rows.append((name, count, ("train", "train", "val", "train")[number % 4]))
    with open(folder / "counts.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "split"), *rows])


def xt(folder: Path, *words: str, path: Path | None = None) -> Ended:
    return python("-m", "xt.cli.main", *words, folder=folder, path=path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package under `installed` and what it was trained to under `runs/counts`."""
    folder = tmp_path_factory.mktemp("parts")
    path = installed(folder)
    write_data(folder)
    (folder / "counts.yaml").write_text(files_of_page()["counts.yaml"])
    run = xt(folder, "train", "counts.yaml", *_SETTINGS, path=path)
    assert run.returncode == 0, run.stderr + run.stdout
    return folder


def test_the_package_of_the_page_trains_and_predicts(trained: Path) -> None:
    assert "mae" in (trained / "runs/counts/metrics.json").read_text()
    run = xt(trained, "predict", "runs/counts", "new", "--out", "found", path=trained / "installed")
    assert run.returncode == 0, run.stderr + run.stdout
    with open(trained / "found/predictions.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    # The middle of three rows and four columns, and two coarse regions below it.
    assert {(row["regions"], row["finest_scale"]) for row in rows} == {("10", "1")}
    # The task's own way to write an answer.
    assert all(row["predicted"].isdigit() for row in rows), rows[0]


def test_a_model_without_the_package_names_what_is_missing(trained: Path) -> None:
    with pytest.raises(XTError, match=r"'(two_strides|mean|middle|poisson)'"):
        load_model(trained / "runs/counts/model.safetensors")


def test_a_file_of_the_command_line_registers_parts(trained: Path) -> None:
    source = files_of_page()
    (trained / "parts_of_mine.py").write_text(
        "import xt\n"
        + source["my_parts/mean.py"]
        + "\nxt.register('context_encoders', 'mean_of_mine', MeanContext)\n"
    )
    words = [
        "train", "counts.yaml", "--import", "parts_of_mine.py", "--model.context=mean_of_mine",
        "--train.out=runs/imported", *_SETTINGS,
    ]  # fmt: skip
    run = xt(trained, *words, path=trained / "installed")
    assert run.returncode == 0, run.stderr + run.stdout
    without = xt(trained, "predict", "runs/imported", "new", "--out", "other", path=trained / "installed")
    assert without.returncode == 2
    assert "'mean_of_mine'" in without.stderr
