"""The configuration of a run: frozen dataclasses, each field with its unit and range.

`xt.config.parser` fills them from YAML and the command line.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from xt.config.training import OptimConfig, TrainConfig
from xt.data.photos import Photos
from xt.data.sources import Source
from xt.errors import ConfigError
from xt.model.config import ModelConfig
from xt.option_types import in_range
from xt.tasks import task_of


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What `xt compare` holds equal between down-sampling, cropping and xT."""

    contestants: tuple[Literal["downsample", "crop", "xt"], ...] = ("downsample", "crop", "xt")
    """Who takes part, in this order."""
    budget: Literal["passes", "seconds"] = "passes"
    """'passes': every contestant sees each training image `train.epochs` times. 'seconds': every contestant
    trains for `seconds`, however often it sees the images in that time."""
    seconds: float | None = None
    """Training time of each contestant in seconds, > 0; needed with (and only with) budget 'seconds'."""

    def __post_init__(self) -> None:
        if not self.contestants or len(set(self.contestants)) != len(self.contestants):
            raise ConfigError(
                f"compare.contestants must be different from each other, got {self.contestants}"
            )
        if (self.budget == "seconds") != (self.seconds is not None):
            raise ConfigError(
                "compare.seconds is needed with compare.budget 'seconds' and has no meaning with 'passes', "
                "got budget "
                f"{self.budget!r} and seconds {self.seconds}"
            )
        if self.seconds is not None:
            in_range("compare.seconds", self.seconds, 0, lower_open=True)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run computes."""

    model: ModelConfig
    """The model; `num_classes` and `class_names` come from the data when left out."""
    data: Source = field(default_factory=Source)
    """Where images come from, how they are divided, read and changed: one of `xt.data.sources`."""
    labels: Any = None
    """Which labels there are: the `Labels` of the head's task, its defaults if left out."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and learning rates."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Duration, devices, run folder."""
    evaluation: Any = None
    """How the model is measured: the `Evaluation` of the head's task, its defaults if left out."""
    compare: CompareConfig = field(default_factory=CompareConfig)
    """Only for `xt compare`."""

    def __post_init__(self) -> None:
        task = task_of(self.model.head)
        for name, cls in (("labels", task.Labels), ("evaluation", task.Evaluation)):
            given = getattr(self, name)
            if given is None:
                object.__setattr__(self, name, cls())
            elif type(given) is not cls:
                raise ConfigError(
                    f"{name} must be {cls.__name__}, as model.head is {self.model.head!r}, got {type(given).__name__}"
                )
        if self.train.budget_loss is not None and self.model.regions == "all":
            raise ConfigError(
                "train.budget_loss chooses how many regions are looked at, and model.regions is all: set it to "
                "by_content or by_model, or leave train.budget_loss out"
            )
        self._check_labels_have_a_place()
        self._check_sampling()
        self._check_photos()

    def _check_labels_have_a_place(self) -> None:
        """Refuse fields that say where a table has its labels, where the source brings its own."""
        if self.data.gives is None:
            return
        for item in fields(self.labels):
            if item.name != "class_names" and getattr(self.labels, item.name) != item.default:
                raise ConfigError(
                    f"labels.{item.name} says where a table has its labels, but data.{self.data.kind} brings its own: "
                    "leave it out"
                )

    def _check_sampling(self) -> None:
        if self.train.sampling == "images":
            return
        task, options = task_of(self.model.head), self.model.head_options
        if task.about_places or not task.has_classes:
            raise ConfigError(
                f"train.sampling is 'balanced', which is for classes of whole images, but model.head is "
                f"{self.model.head!r}: leave it out"
            )
        for name in ("class_weights", "logit_adjustment"):
            if options.get(name):
                raise ConfigError(
                    f"train.sampling 'balanced' and model.head_options.{name} both correct for rare classes: leave one "
                    "of them out"
                )

    def _check_photos(self) -> None:
        if self.data.view == "downsample" and self.model.resolution.is_set:
            raise ConfigError(
                "data.view 'downsample' shrinks each image to one region, whatever its resolution: leave "
                "model.microns_per_pixel and model.map_units_per_pixel out"
            )
        self._check_trained()
        if self.model.image_size is None:
            if self.data.photos != Photos():
                raise ConfigError(
                    "data.photos is about images that are read whole and resized to one size: set model.image_size to "
                    "that size, or leave data.photos out (data.augmentation changes images of any size)"
                )
            return
        self.model.check_answers(task_of(self.model.head).about_places)
        if self.data.has_cases:
            raise ConfigError(
                "data.case_column makes one sequence of several images, and model.image_size has each resized to stand "
                "alone: leave one of them out"
            )
        whole = Source()
        for name in ("augmentation", "view", "crops", "tokens", "features", "nodata"):
            if getattr(self.data, name) != getattr(whole, name):
                raise ConfigError(
                    f"data.{name} is about images that are read region by region, but model.image_size has them read "
                    "whole and resized: leave one of them out"
                    + (
                        "; data.photos has the random changes of photographs"
                        if name == "augmentation"
                        else ""
                    )
                )
        if self.data.photos.mixes and not task_of(self.model.head).can_mix:
            raise ConfigError(
                f"data.photos.mixup and cutmix mix classes, but model.head is {self.model.head!r}: leave them out"
            )

    def _check_trained(self) -> None:
        """What is trained of the region encoder fits the model and the data."""
        schedule, adapter = self.optim.schedule, self.model.adapter
        if adapter is not None and adapter != str(schedule.adapter) and not schedule.is_frozen:
            raise ConfigError(
                f"model.adapter is {adapter}, and optim.encoder_train {self.optim.encoder_train!r}: set "
                "optim.encoder_train to what is trained, and leave model.adapter out"
            )
        if self.model.encoder_dtype != "float32" and any(
            trained.kind != "none" and not trained.is_adapter for _, trained in schedule.stages
        ):
            raise ConfigError(
                f"model.encoder_dtype is {self.model.encoder_dtype}, which is too coarse for weights that are trained: "
                "set optim.encoder_train to none or lora:RANK, or leave model.encoder_dtype out"
            )
        if self.optim.unfreeze_at is not None:
            if self.data.encoded is None:
                raise ConfigError(
                    "optim.unfreeze_at ends the epochs in which features stand for pixels, and there are none: give "
                    "data.features or data.tokens, or set optim.encoder_train to {0: none, EPOCH: all}"
                )
            return
        if self.data.encoded is not None and not (schedule.is_all or schedule.is_frozen):
            raise ConfigError(
                f"{self.data.encoded} holds what the region encoder has found, so that nothing of it can be "
                f"trained: leave optim.encoder_train out, got {self.optim.encoder_train!r}"
            )
