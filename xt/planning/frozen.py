"""What a training step takes where the region encoder's network does not learn, see `xt.model.frozen`."""

from dataclasses import dataclass

from xt.model.xt import XT
from xt.planning.costs import Costs
from xt.streaming.memory import WORKING_SHARE


@dataclass(frozen=True, kw_only=True)
class FrozenCosts(Costs):
    """Every region is gone through once, without a graph; what is found there is kept for all that learns.

    Attributes:
        found_bytes: of what is found in all regions, on the device.
    """

    found_bytes: float

    def training_bytes(self, kept: int) -> float:
        return super().training_bytes(0) + self.found_bytes

    def again(self, kept: int) -> float:
        return 0.0


def found_bytes(model: XT, regions: int) -> int:
    """Of what the network finds in so many regions: features, and the maps of those that answer about every place."""
    encoder = model.region_encoder
    values = encoder.tokens_per_region * encoder.feature_width
    if model.dense_head is not None:
        values += sum(
            dim * (encoder.window_size // stride) ** 2
            for dim, stride in zip(encoder.feature_dims, encoder.strides, strict=True)
        )
    return regions * values * encoder.dtype.itemsize


def kept_on_device(total_bytes: int, memory_bytes: float, on_host: bool) -> int | None:
    """How many of so many bytes lie on the device; None where they fit nowhere, so that regions are gone through again.

    Args:
        on_host: whether the device is the CPU itself, behind which there is no other place.
    """
    if total_bytes <= WORKING_SHARE * memory_bytes:
        return total_bytes
    return None if on_host else 0
