"""Real files that lie beside the repository on the developers' machines; tests that need one skip without it."""

from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data(relative: str) -> Path:
    """The file, or a skipped test that says which file was missing."""
    path = _FOLDER / relative
    if not path.exists():
        pytest.skip(f"needs {relative} in a folder shared/data beside the repository")
    return path
