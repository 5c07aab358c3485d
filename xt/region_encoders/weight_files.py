"""Files of weights, whoever wrote them: safetensors and what torch.save writes; nothing in a file is executed."""

import pickle
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
from torch import Tensor

from xt.errors import CheckpointError

# Of what lies beside the weights in many checkpoints: the options of a run, which hold what they are given and no more.
_INERT: list[Any] = [Namespace]
_DEPTH = 3
_MOST_WORDS = 200


class Part(NamedTuple):
    """One state dict of a file, which may hold several, as those of a teacher and a student.

    Attributes:
        place: its keys in the file, joined by slashes; empty for a file that is nothing else.
        tensors: by their names.
    """

    place: str
    tensors: Mapping[str, Tensor]


def read_weights(path: str | PathLike[str]) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """The metadata of a safetensors file (none of others), and what a file holds.

    Raises:
        CheckpointError: it cannot be read, or only by running code from it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights {path}")
    if path.suffix == ".safetensors" or not _is_of_torch(path):
        return read_safetensors(path)
    try:
        with torch.serialization.safe_globals(_INERT):
            # Mapped, not read: an optimiser's state is twice the size of what is wanted.
            content: Any = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and numbers, or is no checkpoint at all; to read it could run code from "
            "it, so it was not read. Write its weights alone where you trust it, safetensors.torch.save_file("
            f"state_dict, 'weights.safetensors') ({_first_line(error)})"
        ) from error
    except Exception as error:  # torch.load raises whatever the damage leads to
        raise CheckpointError(
            f"{path} cannot be read as a file of torch.save ({_first_line(error)}): if it was downloaded, compare its "
            "size and fetch it again"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, expected a dictionary of tensors by their names"
        )
    return {}, content


def read_safetensors(path: str | PathLike[str]) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # types that PyTorch does not have end in whatever it raises
        raise CheckpointError(
            f"{path} cannot be read as a safetensors file of weights ({error}); `xt train` writes model.safetensors"
        ) from error


def parts_of(content: Mapping[str, Any]) -> list[Part]:
    """The state dicts in a file, the outermost first."""
    return list(_parts(content, (), _DEPTH))


def _parts(content: Mapping[Any, Any], place: tuple[str, ...], depth: int) -> Iterator[Part]:
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and _is_tensor(value)}
    if tensors:
        yield Part("/".join(place), tensors)
    if depth > 0:
        for name, value in content.items():
            if isinstance(name, str) and isinstance(value, Mapping):
                yield from _parts(value, (*place, name), depth - 1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized


def _is_of_torch(path: Path) -> bool:
    """Whether it begins as a file of torch.save does, new or old; safetensors begins with a length and JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] != b"{"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_MOST_WORDS]
