"""Configurations, checkpoints and run folders of before, written as they are now; see `xt.config.before`."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from xt.config.before import converted, is_of_before
from xt.config.files import read_file, read_with_base
from xt.config.parser import config_from_dict
from xt.errors import CheckpointError, ConfigError, OutputError
from xt.output import atomic_folder, atomic_path, write_atomically

_CONFIGURATIONS = (".yaml", ".yml")
_KEY = "xt_config"


def convert_run(source: Path, output: Path) -> bool:
    """Write what `xt train` took or left: a configuration, a checkpoint, or the folder of a run with all that is in it.

    Args:
        output: a file, or a folder that there is not yet.
    Returns:
        False for what `xt train` neither takes nor leaves; nothing is written then.
    Raises:
        ConfigError: the configuration is written as it is now, or was never a good one.
        OutputError: the folder exists, or something cannot be written.
    """
    if source.is_dir():
        _convert_folder(source, output)
    elif source.suffix.lower() in _CONFIGURATIONS:
        _convert_configuration(source, output)
    elif source.suffix == ".ckpt" and (stored := _checkpoint(source)) is not None:
        _write_checkpoint(stored, source, output)
    else:
        return False
    return True


def _convert_folder(source: Path, output: Path) -> None:
    if not (source / "config.yaml").is_file():
        raise CheckpointError(f"{source} has no config.yaml; is it the folder of an `xt train`?")
    if output.exists():
        raise OutputError(f"{output} exists: name a folder that is to be made")
    with atomic_folder(output) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        _convert_configuration(source / "config.yaml", folder / "config.yaml")
        for path in sorted(folder.rglob("*.ckpt")):
            stored = _checkpoint(path)
            if stored is not None:
                _write_checkpoint(stored, path, path)


def _convert_configuration(source: Path, output: Path) -> None:
    values = read_file(source)
    write_atomically(
        output,
        yaml.safe_dump(
            _written_now(values, read_with_base(source), source), sort_keys=False, allow_unicode=True
        ),
    )


def _checkpoint(path: Path) -> dict[str, Any] | None:
    """What `xt train` stored; None for other people's checkpoints."""
    try:
        # Plain values only: a checkpoint from elsewhere must not run code.
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch.load raises whatever the damage leads to; who reads the others says it
        return None
    return stored if isinstance(stored, dict) and _KEY in stored else None


def _write_checkpoint(stored: dict[str, Any], source: Path, output: Path) -> None:
    values = _written_now(stored[_KEY], stored[_KEY], source)
    with atomic_path(output) as temporary:
        torch.save({**stored, _KEY: values}, temporary)


def _written_now(values: Mapping[str, Any], whole: Mapping[str, Any], source: Path) -> dict[str, Any]:
    if not is_of_before(values):
        raise ConfigError(f"{source}: its configuration is written as it is now; there is nothing to convert")
    result = converted(values, whole)
    model = result.get("model")
    if "base" not in result and isinstance(model, Mapping) and model.get("encoder"):
        config_from_dict(result, str(source))
    return result
