"""The parts of an exported model behind the interfaces of all parts: the same streaming, other computation."""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xt.context_encoders import ContextEncoder
from xt.errors import ConfigError, ShapeError
from xt.exporting.manifest import Manifest
from xt.exporting.programs import Program
from xt.heads import DenseHead, Head
from xt.region_encoders.base import RegionEncoder
from xt.regions.grid import Region


class ExportedRegionEncoder(RegionEncoder):
    """Regions -> tokens and maps by a graph.

    Args:
        manifest: says what it sees and gives.
        dim: width of the tokens, D.
    """

    source: Tensor

    def __init__(self, program: Program, manifest: Manifest, dim: int) -> None:
        said = manifest.region
        super().__init__(
            said["name"],
            region_size=said["region_size"],
            halo=said["halo"],
            in_channels=said["in_channels"],
            pixel_mean=manifest.pixel_mean,
            pixel_std=manifest.pixel_std,
        )
        # What tells one model from another are its weights, and these are not here.
        digest = torch.frombuffer(bytearray.fromhex(manifest.source), dtype=torch.uint8)
        self.register_buffer("source", digest)
        self.program = program
        self.feature_dims, self.strides = list(said["feature_dims"]), list(said["strides"])
        self.tokens_per_side = said["tokens_per_side"]
        self.readout, self.pooling = said["readout"], said["pooling"]
        self.backbone = nn.Identity()
        self._dim = dim

    @property
    def dim(self) -> int:
        return self._dim

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        return self._computed(pixels, valid)[0]

    def feature_maps(self, pixels: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        return list(self._computed(pixels, valid)[1:])

    def features_and_maps(self, pixels: Tensor, valid: Tensor | None = None) -> NoReturn:
        raise ConfigError(
            f"the region encoder {self.name} was exported as far as its tokens: its features, and training, are for "
            "the model that it was exported from"
        )

    def as_maps(self, result: Any) -> list[Tensor]:
        return list(result[1:])

    def _computed(self, pixels: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
        return self.program(self.scaled(pixels, valid))


class ExportedContextEncoder(ContextEncoder):
    """Tokens -> tokens by a graph, one image at a time.

    Args:
        longest: tokens that the graph takes at most.
    """

    def __init__(self, program: Program, dim: int, longest: int) -> None:
        super().__init__(dim)
        self.program = program
        self.longest = longest

    def encode(self, tokens: Tensor, positions: Tensor) -> Tensor:
        if tokens.shape[1] > self.longest:
            raise ShapeError(
                f"the context encoder was exported for images of up to {self.longest:,} tokens, got "
                f"{tokens.shape[1]:,}: use the model that it was exported from"
            )
        images = zip(tokens.split(1), positions.split(1), strict=True)
        return torch.cat([self.program(one, where)[0] for one, where in images])


class ExportedHead(Head):
    """An answer about whole images by a graph.

    Args:
        head: says how its numbers read; its weights are in the graph.
    """

    def __init__(self, program: Program, head: Head) -> None:
        super().__init__()
        self.program = program
        self.head = head
        self.task = head.task  # type: ignore[misc]
        self.num_logits = head.num_logits

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logits, weights, _ = self._computed(tokens, mask)
        return logits, weights

    def embed(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._computed(tokens, mask)[2]

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.head.loss(logits, targets)

    def probabilities(self, logits: Tensor) -> Tensor:
        return self.head.probabilities(logits)

    def decisive(self, probabilities: Tensor) -> Tensor:
        return self.head.decisive(probabilities)

    @property
    def num_thresholds(self) -> int:
        return self.head.num_thresholds

    def _computed(self, tokens: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        if len(tokens) != 1 or mask is not None:
            raise ShapeError(f"an exported model answers about one image at a time, got {len(tokens)}")
        return self.program(tokens)


class ExportedDenseHead(DenseHead):
    """An answer about every place by a graph.

    Args:
        head: says where it looks and how its numbers read; its weights are in the graph.
    """

    def __init__(self, program: Program, head: DenseHead) -> None:
        nn.Module.__init__(self)
        self.program = program
        self.head = head
        self.task = head.task  # type: ignore[misc]
        self.given, self.geometry, self.stride = head.given, head.geometry, head.stride

    def __getattr__(self, name: str) -> Any:
        """What its kind of head alone has, such as the classes' names of points."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("head"), name)

    @property
    def reach(self) -> int:
        return self.head.reach

    def forward(self, maps: Sequence[Tensor], context: Tensor | None = None) -> Tensor:
        return self.program(*maps, *([] if context is None else [context]))[0]

    def region_target(self, target: Any, region: Region) -> NDArray:
        return self.head.region_target(target, region)

    def statistics(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return self.head.statistics(predictions, targets)

    def weighted(self, statistics: Tensor, scales: Tensor) -> Tensor:
        return self.head.weighted(statistics, scales)

    def loss(self, statistics: Tensor) -> Tensor:
        return self.head.loss(statistics)

    def decode(self, predictions: Tensor, regions: Sequence[Region]) -> Any:
        return self.head.decode(predictions, regions)

    def said_at(self, predictions: Tensor, y: float, x: float) -> Tensor:
        return self.head.said_at(predictions, y, x)
