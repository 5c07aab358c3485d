"""Which folder holds an exported model: known here to whoever reads models; written and read by `xt.exporting`."""

from pathlib import Path

from xt.errors import CheckpointError

MANIFEST = "manifest.json"
FORMAT = "xt exported model 1"
_ANY_FORMAT = b'"xt exported model'
# The format is the first that a manifest says.
_BEGINNING = 200


def is_exported(path: Path) -> bool:
    """Whether there is an exported model in a folder; many another folder has a manifest.json, too."""
    manifest = path / MANIFEST
    if not manifest.is_file():
        return False
    with open(manifest, "rb") as file:
        return _ANY_FORMAT in file.read(_BEGINNING)


def refuse_exported(path: Path) -> None:
    """Refuse the folder of an exported model where another is needed.

    Raises:
        CheckpointError: it is one.
    """
    if is_exported(path):
        raise CheckpointError(
            f"{path} is an exported model, made for `xt predict`: name the run, or the model.safetensors, that it was "
            "exported from"
        )
