"""The reference's golden tensors, which lie beside the repository on the developers' machines."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

_ROOT = Path(__file__).resolve().parents[2]
# Beside the repository, or in it where only the repository was brought to a machine.
_FOLDERS = [folder / "shared" / "reference" / "golden" for folder in (_ROOT.parent, _ROOT)]


def golden_file(relative: str) -> Path:
    """The file, or a skipped test that says which file was missing."""
    for folder in _FOLDERS:
        if (folder / relative).exists():
            return folder / relative
    pytest.skip(f"needs {relative} in a folder shared/reference/golden in or beside the repository")


def golden(case: str) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
    """Images (2, 3, 512, 512), what the authors' code makes of them, and notes."""
    images = next(iter(load_file(golden_file(f"{case}/input.safetensors")).values()))
    outputs = load_file(golden_file(f"{case}/outputs.safetensors"))
    return images.float(), outputs, json.loads(golden_file(f"{case}/golden.json").read_text())
