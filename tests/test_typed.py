"""The public face is typed: pyright, strict, accepts typical lines and refuses wrong ones."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = ROOT / "tests" / "typed_lines.py"
# What each is refused for.
WRONG = {
    "image.read(0, 0, '256', 256)": "reportArgumentType",
    "xt.RegionGrid.of(3)": "reportAttributeAccessIssue",
    "xt.load_model(3)": "reportArgumentType",
    "image.crop(0, 0)": "reportCallIssue",
    'planned.inference.seconds + "s"': "reportOperatorIssue",
}


@pytest.mark.slow
def test_pyright_accepts_typical_lines_and_refuses_wrong_ones(tmp_path: Path) -> None:
    pyright = shutil.which("pyright")
    if pyright is None:
        pytest.skip("needs pyright (pip install pyright), which needs node")
    right = LINES.read_text()
    (tmp_path / "right.py").write_text(right)
    (tmp_path / "wrong.py").write_text(right + "\n".join(WRONG) + "\n")
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [pyright, "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    said = json.loads(done.stdout)["generalDiagnostics"]
    assert [each["message"] for each in said if each["file"].endswith("right.py")] == []
    first = right.count("\n")
    refused = {(each["range"]["start"]["line"] - first, each["rule"]) for each in said}
    assert set(enumerate(WRONG.values())) <= refused
