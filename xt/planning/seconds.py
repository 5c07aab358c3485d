"""How long a step on a whole image takes, from its parts."""

from dataclasses import dataclass

from xt.model.xt import XT
from xt.planning.calibration import Measured
from xt.planning.costs import Costs, mixing_footprint
from xt.planning.device import Speed
from xt.streaming.footprint import Footprint


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Seconds of the parts of a step on a whole image."""

    batches: float
    encode: float
    encode_graph: float
    mix: float
    mix_graph: float

    @property
    def inference(self) -> float:
        return self.batches * self.encode + self.mix

    def training(self, again: float) -> float:
        return self.batches * self.encode_graph + again * self.encode + self.mix_graph


def counted(speed: Speed, costs: Costs) -> Seconds:
    """By the operations that were counted, at a device's speed."""

    def of(part: Footprint | None) -> float:
        return 0.0 if part is None else speed.seconds(part)

    return Seconds(
        batches=costs.passes * costs.regions / costs.region_batch,
        encode=of(costs.encode),
        encode_graph=of(costs.encode_graph),
        mix=of(costs.mix),
        mix_graph=of(costs.mix_graph),
    )


def scaled(found: Measured, model: XT, tokens: int, costs: Costs) -> Seconds:
    """What was measured on a few regions and a short sequence -> a whole image's.

    Args:
        tokens: of the image.
    """
    times = tokens / found.tokens
    if model.config.context == "full":
        short = mixing_footprint(model, found.tokens, graph=False)
        times = costs.mix.flops / max(short.flops, 1)
    return Seconds(
        batches=costs.passes * costs.regions / costs.region_batch,
        encode=found.encode,
        encode_graph=found.encode_graph or 0.0,
        mix=found.mix * times,
        mix_graph=(found.mix_graph or 0.0) * times,
    )
