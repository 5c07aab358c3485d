"""Read the authors' published checkpoints, or ours of them; nothing in the file is executed."""

import os
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from xt.authors.architecture import work_out
from xt.authors.model import FORMAT, AuthorsModel
from xt.errors import CheckpointError

_PREFIX = "module."

# Beside tensors, a checkpoint of the authors' has a dictionary of measured numbers, which may be numpy's.
_numpy_scalar = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS: list[Any] = [
    (_numpy_scalar, "numpy.core.multiarray.scalar"),
    (_numpy_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64", "bool")),
]


def load_authors_checkpoint(
    path_or_state_dict: str | PathLike[str] | Mapping[str, Any],
    attention: str | None = None,
    *,
    region_size: int | None = None,
    pretrained_window: int | None = None,
) -> AuthorsModel:
    """A model that computes what the authors' code computes with this checkpoint, in float32 and evaluation mode.

    Region encoder (Swin-V2 or Hiera), head, depths and widths are worked out from the tensors' names and shapes.

    Args:
        path_or_state_dict: a file as the authors published them (`torch.save` of a dictionary with "state_dict"), a
            bare state dict in such a file or in a safetensors file, what `xt convert` wrote, or the dictionary itself.
            The prefix `module.` is taken off.
        attention: "hyper" or "naive", where the tensors cannot tell; `attention_method` in the authors' configuration.
        region_size: in pixels; None for 256 with Swin-V2, for which the authors build every one of theirs, and for
            what the position embedding says with Hiera.
        pretrained_window: of a Swin-V2 that was started from weights of another window ("12to16": 12); None for what
            the authors' code does: 12 for Swin-L (width 192), none for the others.

    Returns:
        a module (B, 3, S, S) -> (B, K) logits.

    Raises:
        CheckpointError: it cannot be read, is not the authors', needs to be told something, lacks tensors, has tensors
            no part of the model takes, or of another shape; each is named.
    """
    told: dict[str, Any] = {
        "attention": attention, "region_size": region_size, "pretrained_window": pretrained_window,
    }  # fmt: skip
    if isinstance(path_or_state_dict, Mapping):
        source = "the state dict"
        content: Any = path_or_state_dict
        noted: Mapping[str, str] = {}
    else:
        source = os.fspath(path_or_state_dict)
        content, noted = _read(Path(source))
    tensors = _tensors(content, source)
    told = _with_notes(told, noted, source)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    architecture = work_out(shapes, source, **told)
    # First without memory: one odd shape could ask for more than there is.
    with torch.device("meta"):
        empty = AuthorsModel(architecture)
    _check(shapes, {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}, source)
    model = AuthorsModel(architecture)
    model.load_state_dict(tensors)
    return model.eval()


def _read(path: Path) -> tuple[Any, Mapping[str, str]]:
    """What the file holds, and the metadata of a safetensors file."""
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: check the path of the checkpoint")
    try:
        if _is_safetensors(path):
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            return safetensors.torch.load_file(path), metadata
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            # Mapped, not read: the optimizer's state is twice the size of what is wanted.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)), {}
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error):
            raise _unreadable(path, error) from error
        raise CheckpointError(
            f"{path} holds more than tensors and numbers, or is not a checkpoint at all; reading it could run code "
            f"from the file, so it was not read. Ask its author for the state dict alone ({_first_line(error)})"
        ) from error
    except Exception as error:  # torch.load and safetensors raise whatever the damage leads to
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read as a checkpoint ({type(error).__name__}: {_first_line(error)}); expected a file "
        "written by torch.save, or safetensors. If it was downloaded, compare its size and fetch it again"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return lines[0][:200]


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _tensors(content: Any, source: str) -> dict[str, Tensor]:
    """The state dict in it, without the prefix, in float32."""
    if isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{source} holds a {type(content).__name__}, expected a dictionary of tensors or one with 'state_dict'"
        )
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{source}: {key} is a {type(value).__name__}, expected a tensor; a state dict holds nothing else"
            )
        name = str(key).removeprefix(_PREFIX)
        if name in tensors:
            raise CheckpointError(f"{source} holds {name} twice, with and without the prefix {_PREFIX}")
        tensors[name] = value.float() if value.is_floating_point() else value
    return tensors


def _with_notes(told: dict[str, Any], noted: Mapping[str, str], source: str) -> dict[str, Any]:
    """What a file that `xt convert` wrote says about itself; what the caller says must not differ from it."""
    if noted.get("format") != FORMAT:
        return told
    answers = dict(told)
    for name, given in told.items():
        note = noted.get(name)
        if note is None:
            continue
        if given is not None and str(given) != note:
            raise CheckpointError(
                f"{name} is {given!r}, but {source} was converted with {note!r}: leave {name} out, or convert the "
                "authors' file again"
            )
        if name != "attention" and not note.isdecimal():
            raise CheckpointError(f"{source} has {name} {note!r} in its metadata, expected a number")
        answers[name] = note if name == "attention" else int(note)
    return answers


def _check(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], source: str
) -> None:
    """Refuse what `load_state_dict` with strict=False, as the authors load, would silently leave out."""
    left = sorted(found.keys() - expected.keys())
    missing = sorted(expected.keys() - found.keys())
    other = [name for name in sorted(found.keys() & expected.keys()) if found[name] != expected[name]]
    if left:
        raise CheckpointError(
            f"{source} has tensors that no part of the model takes: {_listed(left)}. It is of another model, or of "
            "another version of the authors' code"
        )
    if missing:
        raise CheckpointError(
            f"{source} lacks tensors of the model: {_listed(missing)}. It is cut short, or of another version of the "
            "authors' code"
        )
    if other:
        shapes = (f"{name} {list(found[name])} (expected {list(expected[name])})" for name in other)
        raise CheckpointError(f"{source} has tensors of another shape than the model: {_listed(shapes)}")


def _listed(names: Iterable[str], most: int = 5) -> str:
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
