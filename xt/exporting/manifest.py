"""What stands beside an exported model's three graphs: all that is not computed in them, as JSON."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xt.errors import CheckpointError
from xt.model.exported import FORMAT, MANIFEST
from xt.option_types import from_dict


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """One graph.

    Attributes:
        file: its name in the folder.
        sha256: of that file, in hexadecimal.
        kind: "pt2" (torch.export), "compiled" (AOTInductor) or "onnx".
        inputs: what it takes, in order, with shapes; a letter stands for a number that may be any.
        outputs: what it gives, likewise.
    """

    file: str
    sha256: str
    kind: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RestFile:
    """A file of weights; see `PartFile`."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that a program needs to know to run the graphs as `xt predict` does.

    Attributes:
        format: which manifest this is.
        graphs: what was asked for; each part says of what kind it is.
        config: of the model, as `ModelConfig`.
        region: what the region encoder sees and gives: name, region_size, halo, in_channels, strides, feature_dims,
            tokens_per_side, readout, pooling, regions at a time.
        pixel_mean: of each channel in unit scale (8 and 16-bit integers over their largest number).
        pixel_std: likewise; a region's pixels less the mean, over this, are what its graph takes, -1 where there are
            none.
        class_names: in order; empty where they have none.
        thresholds: from which probability on a class or label is said; empty for the likeliest, or 1/2.
        longest: tokens of the longest image.
        rest: a safetensors file of the few weights that no graph holds, such as those that tell the images of a case
            apart; None where there are none.
        nodata: pixel value that meant "nothing here" in training; None where files say so.
        alpha: what a band was that files call alpha.
        versions: of xt and torch, and of the model's format, that wrote it.
        source: sha256 of the model's configuration and weights.
        parts: the graphs, by "region_encoder", "context_encoder" (none without context) and "head".
    """

    format: str = FORMAT
    graphs: str
    config: Mapping[str, Any]
    region: Mapping[str, Any]
    pixel_mean: Sequence[float]
    pixel_std: Sequence[float]
    class_names: Sequence[str] = ()
    thresholds: Sequence[float] = ()
    longest: int
    rest: Any = None
    nodata: float | None = None
    alpha: str
    versions: Mapping[str, str]
    source: str
    parts: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.rest is not None and not isinstance(self.rest, RestFile):
            object.__setattr__(self, "rest", from_dict(RestFile, self.rest, "rest"))

    def part(self, name: str) -> PartFile | None:
        """A graph's file; None where there is none."""
        return None if name not in self.parts else from_dict(PartFile, self.parts[name], f"parts.{name}")

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2, default=list)


def read_manifest(folder: Path) -> Manifest:
    """What an exported model says of itself; its graphs are those that it names.

    Raises:
        CheckpointError: it is damaged, of another version, or one of its files is missing or another one.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            found = values.get("format") if isinstance(values, dict) else type(values).__name__
            raise CheckpointError(
                f"{path} is of the format {found!r}, expected {FORMAT!r}: export the model again with this xt"
            )
        manifest = from_dict(Manifest, values, "manifest")
        graphs = [part for name in manifest.parts if (part := manifest.part(name)) is not None]
        files: list[PartFile | RestFile] = [*graphs, *([] if manifest.rest is None else [manifest.rest])]
    except CheckpointError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): export the model again") from error
    for file in files:
        check_file(folder / Path(file.file).name, file.sha256)
    return manifest


def check_file(path: Path, sha256: str) -> None:
    """Refuse a graph that is not the one that was written.

    Raises:
        CheckpointError: it is missing, or another one.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: copy the whole folder of the exported model")
    if digest_of(path) != sha256:
        raise CheckpointError(
            f"{path} is not the file that its {MANIFEST} names: copy it again, or export again"
        )


def digest_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
