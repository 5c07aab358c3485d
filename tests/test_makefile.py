"""`make` with a Python that only writes down what it is told to do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"

# Writes a line for each call; makes what the real one would leave behind; fails for once where `fail` is.
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; cp "$0" .venv/bin/xt;;
  *--editable*) test ! -e fail || {{ rm fail; exit 1; }};;
  demo) mkdir -p demo; echo '{{}}' > demo/results.json;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


class Clone:
    """A folder with the Makefile in it, in which `make` is called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "calls.txt"
        shutil.copy(MAKEFILE, folder)
        (folder / "pyproject.toml").write_text("")
        python = folder / "fake-python"
        python.write_text(FAKE.format(log=self.log))
        python.chmod(0o755)

    def make(self, target: str, status: int = 0) -> str:
        done = subprocess.run(
            ["make", target, "PYTHON=./fake-python"], cwd=self.folder, capture_output=True, text=True
        )
        assert (done.returncode != 0) == (status != 0), done.stderr
        return done.stdout

    def calls(self) -> list[str]:
        """Since last asked; without the question for the version."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line for line in lines if " -c " not in line]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_demo_says_what_it_downloads_and_shows_the_environment_being_made(clone):
    said = clone.make("demo")
    assert said.index("GB") < said.index("1 of 3") < said.index("2 of 3") < said.index("3 of 3")
    made, pip, packages, demo = clone.calls()
    assert made == "fake-python -m venv .venv"
    assert "install" in pip
    # Neither in silence nor from scratch: pip draws its downloads, and takes from its cache what it has.
    assert "--quiet" not in packages
    assert "--no-cache" not in packages
    assert demo == "xt demo"


def test_a_second_call_does_nothing(clone):
    clone.make("demo")
    clone.calls()
    said = clone.make("demo")
    assert clone.calls() == []
    assert "GB" not in said
    assert "demo/report.html" in said
    assert "rm -r demo" in said


def test_an_interrupted_installation_goes_on_with_the_environment_that_is_there(clone):
    (clone.folder / "fail").touch()
    clone.make("demo", status=2)
    assert not (clone.folder / ".venv" / "installed").exists()
    assert "fake-python -m venv .venv" in clone.calls()
    assert "1 of 3" not in clone.make("demo")
    assert [call.split()[0] for call in clone.calls()] == ["python", "python", "xt"]


def test_a_changed_pyproject_updates_the_environment_and_does_not_repeat_the_demo(clone):
    clone.make("demo")
    clone.calls()
    later = (clone.folder / ".venv" / "installed").stat().st_mtime + 10
    os.utime(clone.folder / "pyproject.toml", (later, later))
    said = clone.make("demo")
    assert "pyproject.toml has changed" in said
    assert "GB" not in said
    assert not [call for call in clone.calls() if call.startswith("xt")]
