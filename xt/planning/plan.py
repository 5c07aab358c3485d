"""`xt.plan`: what a model takes for an image on a device, and the settings that fit."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

import torch

from xt.errors import ConfigError
from xt.images import LargeImage
from xt.model.build import build_model
from xt.model.config import ModelConfig
from xt.model.region_batch import LARGEST, LARGEST_ELSEWHERE
from xt.model.xt import XT
from xt.planning.calibration import measure
from xt.planning.costs import Costs, encoder_footprints, mixing_footprint, of_regions, passes
from xt.planning.device import PlannedDevice, planned_device, rough_speed
from xt.planning.frozen import FrozenCosts, found_bytes, kept_on_device
from xt.planning.regions import planned_image
from xt.planning.seconds import Seconds, counted, scaled
from xt.planning.text import advice_for, table
from xt.regions.scattered import PixelRegions
from xt.streaming.map import Streaming

Optimizer = Literal["none", "sgd", "adamw"]
# Tensors of the size of a parameter that an optimizer keeps.
_STATES = {"none": 0, "sgd": 1, "adamw": 2}
_MOST_REGIONS = 1024
# The share of the memory that is planned with, where the region batch is ours to choose.
_SHARE = 0.8


@dataclass(frozen=True, kw_only=True)
class Step:
    """One way to run the model on the image.

    Attributes:
        name: "inference", or what a training step keeps: "none", "auto" or "all".
        peak_bytes: most memory taken at one time, with everything that the process takes on the device.
        seconds: of the step; None if the device's speed is not known.
        fits: whether that is within the device's memory.
    """

    name: str
    peak_bytes: int
    seconds: float | None
    fits: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a model takes for one image; `print` shows it as a table.

    Attributes:
        image: (height, width), in pixels.
        model: region encoder and context encoder, in words.
        weights: how many the model has.
        trained: how many of them learn.
        device: in words.
        memory_bytes: of the device, as far as it is free.
        region_size: in pixels.
        region_batch: regions at a time, which the steps are told for.
        regions: of the image, or of its foreground.
        training_regions: of a training step.
        tokens: of the image.
        token_bytes: of all of them.
        graph_bytes: what one region batch's graph takes; 0 without training.
        steps: inference first, then training steps.
        largest_inference: most regions at a time (a power of two) that fit in inference; 0 if none.
        largest_training: likewise for a training step; None if training was not asked for.
        measured: whether times come from running region batches, instead of counting operations.
        advice: one sentence: what to run, or what to change where nothing fits.
    """

    image: tuple[int, int]
    model: str
    weights: int
    trained: int
    device: str
    memory_bytes: int
    region_size: int
    region_batch: int
    regions: int
    training_regions: int
    tokens: int
    token_bytes: int
    graph_bytes: int
    steps: tuple[Step, ...]
    largest_inference: int
    largest_training: int | None
    measured: bool
    advice: str = ""

    @property
    def inference(self) -> Step:
        return self.steps[0]

    def training(self, keep: str = "none") -> Step:
        """The training step that keeps "none", "auto" or "all".

        Raises:
            ConfigError: there is no such step in this plan.
        """
        for step in self.steps[1:]:
            if step.name == keep:
                return step
        raise ConfigError(f"this plan has no training step with keep={keep!r}")

    @property
    def streaming(self) -> Streaming | None:
        """The settings that fit, for `model.streaming`; None if nothing does."""
        largest = self.largest_inference if self.largest_training is None else self.largest_training
        if largest == 0:
            return None
        keep: Literal["auto", "none"] = "none" if self.largest_training is None else "auto"
        return Streaming(region_batch=min(self.region_batch, largest), keep=keep)

    def with_training_of(self, other: "Plan") -> "Plan":
        """With the training steps of another plan, of more regions."""
        both = replace(
            self,
            region_batch=other.region_batch,
            training_regions=other.regions,
            graph_bytes=other.graph_bytes,
            steps=(self.inference, *other.steps[1:]),
            largest_training=other.largest_training,
        )
        return replace(both, advice=advice_for(both))

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return "\n".join(table(self))


def plan(
    model: XT | ModelConfig,
    image: tuple[int, int] | LargeImage | str | os.PathLike[str],
    device: str | torch.device | None = None,
    *,
    training: bool = True,
    measure: bool = False,
    region_batch: int | None = None,
    optimizer: Optimizer = "none",
    share: float = 1.0,
) -> Plan:
    """Tell what a model takes for an image, without running it.

    Memory is that of one process: on the CPU all of it, Python and PyTorch with it; on other devices what PyTorch
    takes there. Time is that of one step on one image.

    Args:
        image: its (height, width) as the model reads it, or the image, whose foreground is looked for if the model
            wants that.
        device: "cpu", "cuda" ..., or the memory of one that is not here, such as "40GB"; None for the model's own.
        training: whether a training step is told of, too; the optimizer's own step is not in its time.
        measure: run a few region batches on the device for the time, instead of counting operations.
        region_batch: regions at a time; None for what the model is set to, or as many as are fast and fit.
        optimizer: whose state is kept between training steps: "none", "sgd" (with momentum) or "adamw".
        share: of the image's regions that hold something and are looked at, in (0, 1], such as 0.2 of a slide.

    Raises:
        ConfigError: the share is none, the device is not here or unknown, or its model cannot be followed without
            values.
        ShapeError: the image has no size, or another number of channels than the model.
    """
    if isinstance(model, ModelConfig):
        model = build_model(replace(model, pretrained=False))
    if optimizer not in get_args(Optimizer):
        raise ConfigError(f"optimizer must be one of {', '.join(get_args(Optimizer))}, got {optimizer!r}")
    if not model.region_encoder.takes_pixels:
        raise ConfigError(
            "the model was trained on features, of which an image has as many as whoever made them has found: its "
            "pixels say nothing about its cost; plan the model that made them, by its name and --context"
        )
    if region_batch is not None and region_batch < 1:
        raise ConfigError(f"region_batch must be at least 1, got {region_batch}")
    planned = planned_image(model, image)
    if share != 1:
        planned = planned.part(share)
    held = _bytes(model, everything=True) if model.device.type == "cpu" else 0
    where = planned_device(device or model.device, held)
    if measure and where.here is None:
        raise ConfigError(f"nothing can be measured on {where.name}, which is not here: name cpu or cuda")

    def with_regions(grid: PixelRegions, regions: int | None = None) -> Plan:
        parts = _Parts(model, grid, planned.pixel_bytes, where, training, optimizer)
        costs = parts.costs(regions or parts.usual_region_batch())
        return parts.plan(costs, parts.seconds(costs, planned.image, measure), measured=measure)

    asked = region_batch or model.streaming.region_batch
    if not training or len(planned.training) == len(planned.grid):
        return with_regions(planned.grid, asked)
    learning = with_regions(planned.training, asked)
    return with_regions(planned.grid, learning.region_batch).with_training_of(learning)


class _Parts:
    """The footprints of a model's parts, from which costs follow for any number of regions at a time."""

    def __init__(
        self,
        model: XT,
        grid: PixelRegions,
        pixel_bytes: int,
        device: PlannedDevice,
        training: bool,
        optimizer: Optimizer,
    ) -> None:
        self.model = model
        self.grid = grid
        self.pixel_bytes = pixel_bytes
        self.device = device
        self.training = training
        self.optimizer = optimizer
        self.regions = len(grid) + (model.thumbnail is not None)
        self.tokens = self.regions * model.tokens_per_side**2
        try:
            self.encode = encoder_footprints(model, graph=False)
            self.encode_graph = encoder_footprints(model, graph=True) if training else None
            self.mix = mixing_footprint(model, self.tokens, graph=False)
            self.mix_graph = mixing_footprint(model, self.tokens, graph=True) if training else None
        except RuntimeError as error:
            raise ConfigError(
                f"{model.config.encoder} with {model.config.context} cannot be planned, as what it does depends on "
                f"values, not on shapes alone ({error}); plan it with other context_options, or another context "
                "encoder, to see what the regions need"
            ) from error

    def costs(self, region_batch: int) -> Costs:
        model, size = self.model, self.model.region_encoder.window_size
        region_batch = min(region_batch, len(self.grid))
        trainable = _bytes(model, everything=False)
        encoder = _bytes(model.region_encoder, everything=False)
        element = model.region_encoder.dtype.itemsize
        costs = Costs(
            regions=self.regions,
            region_batch=region_batch,
            passes=passes(model),
            # Where a thumbnail tells them something, those from before are there, too.
            token_bytes=(1 + (model.thumbnail is not None)) * self.tokens * (model.config.dim + 2) * element,
            pixel_bytes=size**2 * self.pixel_bytes,
            parameter_bytes=_bytes(model, everything=True),
            encoder_gradient_bytes=encoder,
            context_gradient_bytes=trainable - encoder,
            optimizer_bytes=_STATES[self.optimizer] * trainable,
            encode=of_regions(self.encode, region_batch),
            encode_graph=None if self.encode_graph is None else of_regions(self.encode_graph, region_batch),
            mix=self.mix,
            mix_graph=self.mix_graph,
            slack=self.device.slack,
        )
        return costs if model.region_encoder.network_learns else self._of_frozen(costs)

    def _of_frozen(self, costs: Costs) -> Costs:
        """The network is run once a step, where what it finds can be kept."""
        on_host = self.device.here is not None and self.device.here.type == "cpu"
        kept = kept_on_device(found_bytes(self.model, costs.regions), self.device.memory_bytes, on_host)
        if kept is None:
            return costs
        return FrozenCosts(**vars(costs) | {"passes": 1, "found_bytes": kept})

    def usual_region_batch(self) -> int:
        """The largest that is fast and fits, at least 1."""
        kind = self.device.here.type if self.device.here else "cuda"
        usual = LARGEST.get(kind, LARGEST_ELSEWHERE)
        return max(1, min(usual, self.largest(self.training, _SHARE)))

    def largest(self, training: bool, share: float = 1.0) -> int:
        """The largest power of two of regions at a time that fits; 0 if not even one does."""
        found, regions = 0, 1
        while regions <= _MOST_REGIONS:
            costs = self.costs(regions)
            peak = costs.training_bytes(0) if training else costs.inference_bytes()
            if self.device.process_bytes + peak > share * self.device.memory_bytes:
                break
            found, regions = regions, 2 * regions
            if found >= len(self.grid):
                break
        return found

    def seconds(self, costs: Costs, image: LargeImage | None, measured: bool) -> Seconds | None:
        here = self.device.here
        if here is None:
            return None
        if measured:
            return scaled(
                measure(self.model, image, self.grid, costs.region_batch, here, self.training),
                self.model,
                self.tokens,
                costs,
            )
        speed = rough_speed(here, self.model.region_encoder.dtype)
        return counted(speed, costs)

    def plan(self, costs: Costs, seconds: Seconds | None, measured: bool) -> Plan:
        height, width = self.grid.height, self.grid.width
        config = self.model.config
        result = Plan(
            image=(height, width),
            model=f"{config.encoder}, {config.context}",
            weights=_weights(self.model, everything=True),
            trained=_weights(self.model, everything=False),
            device=self.device.name,
            memory_bytes=int(self.device.memory_bytes),
            region_size=self.grid.region_size,
            region_batch=costs.region_batch,
            regions=len(self.grid),
            training_regions=len(self.grid),
            tokens=self.tokens,
            token_bytes=self.tokens * config.dim * self.model.region_encoder.dtype.itemsize,
            graph_bytes=int(costs.graph_bytes) if self.training else 0,
            steps=tuple(self._steps(costs, seconds)),
            largest_inference=self.largest(training=False),
            largest_training=self.largest(training=True) if self.training else None,
            measured=measured,
        )
        return replace(result, advice=advice_for(result))

    def _steps(self, costs: Costs, seconds: Seconds | None) -> Iterator[Step]:
        kept = {"none": 0, "all": costs.batches}
        if self.training:
            kept["auto"] = costs.kept_in(self.device.memory_bytes - self.device.process_bytes)
        for name in ("inference", *(("none", "auto", "all") if self.training else ())):
            peak = costs.inference_bytes() if name == "inference" else costs.training_bytes(kept[name])
            peak += self.device.process_bytes
            took = None
            if seconds is not None:
                took = seconds.inference if name == "inference" else seconds.training(costs.again(kept[name]))
            yield Step(name=name, peak_bytes=int(peak), seconds=took, fits=peak <= self.device.memory_bytes)


def _weights(module: torch.nn.Module, everything: bool) -> int:
    return sum(p.numel() for p in module.parameters() if everything or p.requires_grad)


def _bytes(module: torch.nn.Module, everything: bool) -> int:
    """Of its parameters and buffers, or of what is trained alone."""
    if not everything:
        return sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
