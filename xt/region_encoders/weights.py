"""Weights of a region encoder's network from elsewhere: a pretraining's, another model's, a feature store's.

A file may hold several networks, under names of its own behind prefixes of its own. Each of its parts is tried behind
each prefix, under the network's names and under those that the encoder knows of; the one that fits best is taken.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xt.errors import CheckpointError, ConfigError
from xt.region_encoders.bands import Bands
from xt.region_encoders.base import RegionEncoder
from xt.region_encoders.first_layer import Naming
from xt.region_encoders.origin import from_file
from xt.region_encoders.recognised import what_it_seems
from xt.region_encoders.weight_files import Part, parts_of, read_weights
from xt.region_encoders.weight_types import coded_as, plain

_MOST_NAMED = 4
_DEPTH = 4
# Of several networks that fit alike those whose names say so are the first to be taken, and the last.
_FIRST = ("teacher", "ema")
_LAST = ("student", "momentum", "encoder_k")
# Counts the batches of a norm, which older files do not have.
_COUNTER = ".num_batches_tracked"


class Taken(NamedTuple):
    """What came with weights that were taken.

    Attributes:
        statistics: mean and standard deviation of the pixels that the network has learned from, where these are there.
        left_out: what of the file was not taken, in a sentence; None where there was nothing else.
    """

    statistics: tuple[Tensor, Tensor] | None
    left_out: str | None


@dataclass(frozen=True)
class _Fit:
    """Tensors of a file, under the network's names: which are of its shapes, and how many there are of its names."""

    part: Part
    prefix: str
    tensors: Mapping[str, Tensor]
    fitting: frozenset[str]
    found: int

    @property
    def rank(self) -> tuple[int, int, int, int]:
        words = f"{self.part.place}/{self.prefix}".lower()
        order = any(word in words for word in _FIRST) - any(word in words for word in _LAST)
        return len(self.fitting), self.found, order, -len(self.prefix)


def take_file(encoder: RegionEncoder, path: Path) -> Taken:
    """Put a file's weights into the network, see `take_weights`; they are the encoder's origin from then on.

    Raises:
        CheckpointError: it cannot be read, or they do not fill the network.
        ConfigError: they are of another number of channels than is said.
    """
    metadata, content = read_weights(path)
    taken = take_weights(encoder, content, path, known=_channels_of(metadata, content))
    encoder.origin = from_file(encoder.origin, path)
    return taken


def take_weights(
    encoder: RegionEncoder,
    content: Mapping[str, Any],
    source: str | PathLike[str],
    *,
    known: tuple[str, ...] | None = None,
) -> Taken:
    """Put weights into the network; whatever else there is is left out.

    Args:
        content: tensors by their names, or a file's dictionaries of them; the names in one of the encoder's `namings`,
            behind any prefix.
        source: where they are from, for messages.
        known: the channels that they know, in their order; None for those that the encoder was told.

    Raises:
        CheckpointError: they do not fill the network.
        ConfigError: they are of another number of channels than is said, or the network has none.
    """
    encoder.bands.warn_of_strangers()
    wanted = encoder.network.state_dict()
    if not wanted:
        raise ConfigError(f"{encoder.name} has no weights that {source} could be put in place of")
    bands = encoder.bands if known is None else Bands(encoder.bands.names, encoder.bands.count, known)
    parts = parts_of(content)
    if coded_as(encoder.network) is None:
        parts = [part._replace(tensors=plain(part.tensors)) for part in parts]
    best = _best(encoder, parts, wanted, bands)
    needed = [name for name in wanted if not name.endswith(_COUNTER) or best is None or name in best.tensors]
    if best is None or len(best.fitting) < len(needed):
        raise CheckpointError(_does_not_fill(encoder, content, source, best, wanted))
    encoder.network.load_state_dict({name: best.tensors[name] for name in best.fitting}, strict=False)
    outer = best.prefix.removesuffix("backbone.")
    mean, std = (best.part.tensors.get(f"{outer}scaling.{name}") for name in ("mean", "std"))
    if mean is None or std is None:
        return Taken(None, _left_out(encoder, source, best))
    if len(mean) != encoder.in_channels and bands.names is None:
        return Taken(None, None)
    return Taken((_spread(bands, mean), _spread(bands, std)), None)


def _channels_of(metadata: Mapping[str, str], content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The channels of a model of `xt`, if its file or checkpoint names them."""
    try:
        model = json.loads(metadata["config"]) if metadata else content["xt_config"]["model"]
        names = model.get("channels")
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    return None if names is None else tuple(str(name).strip().lower() for name in names)


def _spread(bands: Bands, values: Tensor) -> Tensor:
    return torch.tensor(bands.statistics(values.tolist()), dtype=values.dtype)


def _best(
    encoder: RegionEncoder, parts: list[Part], wanted: Mapping[str, Tensor], bands: Bands
) -> _Fit | None:
    namings = encoder.namings()
    fits = [
        fit for part in parts for prefix in _prefixes(part.tensors, len(wanted))
        for fit in _fits(namings, part, prefix, wanted, bands)
    ]  # fmt: skip
    return max(fits, key=lambda fit: fit.rank, default=None)


def _prefixes(tensors: Mapping[str, Tensor], count: int) -> list[str]:
    """What the names of a network may stand behind: nothing, or what many of the names begin with."""
    found: Counter[str] = Counter()
    for name in tensors:
        steps = name.split(".")[:-1][:_DEPTH]
        found.update(".".join(steps[:end]) + "." for end in range(1, len(steps) + 1))
    many = min(count, len(tensors)) / 2
    return ["", *(prefix for prefix, names in found.items() if names >= many)]


def _fits(
    namings: Sequence[Naming], part: Part, prefix: str, wanted: Mapping[str, Tensor], bands: Bands
) -> Iterator[_Fit]:
    """In each way they may be named, up to one that fits."""
    bare = {
        name.removeprefix(prefix): value for name, value in part.tensors.items() if name.startswith(prefix)
    }
    for naming in namings:
        tensors = naming(bare, bands)
        fitting = frozenset(
            name for name, value in wanted.items() if name in tensors and tensors[name].shape == value.shape
        )
        yield _Fit(part, prefix, tensors, fitting, sum(name in tensors for name in wanted))
        if len(fitting) == len(wanted):
            return


def _left_out(encoder: RegionEncoder, source: str | PathLike[str], best: _Fit) -> str | None:
    outside = [name for name in best.part.tensors if not name.startswith(best.prefix)]
    others = [name for name in best.tensors if name not in best.fitting] + outside
    if not others:
        return None
    place = f" (of {best.part.place})" if best.part.place else ""
    return f"{source} fills the region encoder {encoder.name!r}{place}; left out is {_groups(others)}"


def _groups(names: list[str]) -> str:
    """What tensors there are, by the first word of their names."""
    counts = Counter(name.split(".")[0] for name in names)
    said = [f"{word} ({number} tensors)" if number > 1 else word for word, number in counts.items()]
    more = f" and {len(said) - _MOST_NAMED} others" if len(said) > _MOST_NAMED else ""
    return ", ".join(said[:_MOST_NAMED]) + more


def _does_not_fill(
    encoder: RegionEncoder,
    content: Mapping[str, Any],
    source: str | PathLike[str],
    best: _Fit | None,
    wanted: Mapping[str, Tensor],
) -> str:
    begin = f"{source} does not hold the weights of the region encoder {encoder.name!r}"
    if best is None:
        held = ", ".join(sorted(map(str, content))[:_MOST_NAMED])
        return (
            f"{begin}: there are no tensors with names in it{f' ({held})' if held else ', it is empty'}; expected a "
            "state dict"
        )
    missing = [name for name in wanted if name not in best.tensors]
    shaped = [name for name in wanted if name in best.tensors and name not in best.fitting]
    total = sum(value.numel() for value in wanted.values())
    share = sum(wanted[name].numel() for name in best.fitting) / max(total, 1)
    said = [f"{len(missing)} are missing, such as {missing[0]}"] if missing else []
    if shaped:
        name = shaped[0]
        said.append(
            f"{len(shaped)} have another shape, such as {name}, which is {tuple(best.tensors[name].shape)} instead of "
            f"{tuple(wanted[name].shape)}"
        )
    return (
        f"{begin}: {len(missing) + len(shaped)} of {len(wanted)} do not fit ({share:.0%} of the weights do): "
        f"{'; '.join(said)}. {what_it_seems(best.part.tensors, best.prefix)}; check model.encoder, "
        "model.encoder_options and model.in_channels"
    )
