"""How a model is trained: optimiser, duration, devices, run folder; each field with its unit and range."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import Literal

from xt.data.folds import Fold
from xt.errors import ConfigError
from xt.option_types import in_range
from xt.region_encoders.trained import Schedule
from xt.streaming.keep import Keep

_LARGEST_SEED = 2**32 - 1
Logger = Literal["tensorboard", "csv", "wandb", "mlflow"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with a warm-up and a cosine."""

    lr: float = 3e-4
    """Highest learning rate of context encoder and head, > 0."""
    encoder_lr_factor: float = 1.0
    """The region encoder's learning rate as a factor of `lr`, >= 0; 0 freezes the region encoder."""
    encoder_train: str | dict[int, str] = "all"
    """What of the region encoder's network is trained: all, none, last:N (layers), lora:RANK, dora:RANK or
    norm_and_bias; or from which epoch on, counted from 0: {0: none, 5: last:4}."""
    unfreeze_at: int | None = None
    """With `data.features` or `data.tokens`: the epoch, counted from 0, from which on pixels are read and the region
    encoder is trained as `encoder_train` says, >= 1; until then features stand for them. Without it they always do."""
    layer_decay: float = 0.75
    """Each layer of the region encoder learns at this factor of the rate of the layer after it, in (0, 1]."""
    weight_decay: float = 0.05
    """Weight decay of AdamW, >= 0; biases and norms have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's two moments, each in [0, 1)."""
    warmup: float = 0.05
    """Share of the run during which the learning rate rises, in [0, 1)."""
    final_lr_factor: float = 0.01
    """The last learning rate as a factor of the highest, in [0, 1]."""

    def __post_init__(self) -> None:
        in_range("optim.lr", self.lr, 0, lower_open=True)
        in_range("optim.encoder_lr_factor", self.encoder_lr_factor, 0)
        schedule = Schedule.parse(self.encoder_train)
        if self.unfreeze_at is not None:
            in_range("optim.unfreeze_at", self.unfreeze_at, 1)
            if isinstance(self.encoder_train, dict) or schedule.is_frozen or schedule.adapter is not None:
                raise ConfigError(
                    "optim.unfreeze_at says from which epoch on the region encoder is trained, and optim.encoder_train "
                    f"what of it then: all, last:N or norm_and_bias, got {self.encoder_train!r}"
                )
            if self.encoder_lr_factor == 0:
                raise ConfigError(
                    "optim.encoder_lr_factor is 0, so optim.unfreeze_at has no meaning: leave one out"
                )
        if self.encoder_lr_factor == 0 and not (schedule.is_all or schedule.is_frozen):
            raise ConfigError(
                f"optim.encoder_lr_factor is 0, by which the region encoder is not trained, and optim.encoder_train is "
                f"{self.encoder_train!r}: leave one of them out"
            )
        in_range("optim.layer_decay", self.layer_decay, 0, 1, lower_open=True)
        in_range("optim.weight_decay", self.weight_decay, 0)
        for beta in self.betas:
            in_range("optim.betas", beta, 0, 1, upper_open=True)
        in_range("optim.warmup", self.warmup, 0, 1, upper_open=True)
        in_range("optim.final_lr_factor", self.final_lr_factor, 0, 1)

    @property
    def schedule(self) -> Schedule:
        """What of the region encoder's network is trained in which epoch."""
        if self.unfreeze_at is not None and isinstance(self.encoder_train, str):
            return Schedule.parse({0: "none", self.unfreeze_at: self.encoder_train})
        return Schedule.parse("none" if self.encoder_lr_factor == 0 else self.encoder_train)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, on what and where to a run goes."""

    out: str = "runs/xt"
    """Folder of the run: checkpoints, logs, `model.safetensors`, `config.yaml`, `metrics.json`."""
    epochs: int = 30
    """Passes over the training images, >= 1."""
    max_seconds: float | None = None
    """Training time in seconds, validation not counted, after which the run ends even before `epochs`, >
    0."""
    batch_size: int = 8
    """Images of a step on one device, >= 1."""
    sampling: Literal["images", "balanced"] = "images"
    """'images': an epoch is every training image once. 'balanced': as many images, of each class equally many, those of
    rare classes several times."""
    accumulate: int = 1
    """Steps whose gradients are added up before the weights change, >= 1."""
    gradient_clip: float = 1.0
    """Longest gradient (Euclidean norm), >= 0; 0 does not clip."""
    precision: Precision = "auto"
    """Arithmetic as Lightning names it; 'auto' is bf16-mixed on a CUDA device that has it, else 32-true."""
    accelerator: str = "auto"
    """Lightning's accelerator: auto, cpu, gpu ..."""
    devices: int | Literal["auto"] = "auto"
    """Devices on this machine, >= 1, or 'auto' for all; on the CPU, 'auto' is one process."""
    nodes: int = 1
    """Machines, >= 1; each is told how to find the others by torchrun or Slurm."""
    region_parallel: int = 1
    """Devices that share out the regions of one image, >= 1; divides the number of all devices. The others have other
    images."""
    strategy: str = "auto"
    """Lightning's strategy: auto, ddp ..."""
    region_batch: int | None = None
    """Regions on the device at one time, >= 1; null for as many as are fast and fit, as `xt plan` says."""
    keep: Keep = "none"
    """Activations held for the backward pass: 'none' computes all again, 'all' nothing, 'auto' as the
    device's memory allows, or a number of bytes."""
    gradient_fraction: float = 1.0
    """Share of the region batches that carry gradient to the region encoder, drawn anew at each step, in (0,
    1]."""
    checkpoint_activations: bool = False
    """Whether the region encoder keeps activations between its blocks alone and computes those inside them again:
    where a single region does not fit."""
    compile: bool = False
    """Whether torch.compile makes the region encoder faster; the first step then takes minutes."""
    seed: int = 0
    """Seed of weights, order, augmentation and dropout, in [0, 2**32 - 1]."""
    resume: str = "none"
    """'none' starts anew, 'auto' goes on from the run folder's last checkpoint if there is one, else a
    checkpoint."""
    checkpoint_every: str = "10 minutes"
    """How much is lost at most when a run is killed, such as '10 minutes' or '500 steps'; 'epoch' writes checkpoints at
    the ends of epochs only."""
    init_encoder: str | None = None
    """Weights of the region encoder to start from: a file (safetensors, or a state dict of torch.save) of xt, timm,
    DINO, iBOT, MAE, MoCo or Lightning, a folder that holds one, or hf-hub:OWNER/NAME."""
    whole: bool = False
    """Whether `model.safetensors` holds the region encoder's weights even where they are those that the run began with
    and can be found again, by `model.pretrained` or `train.init_encoder`."""
    best: str | None = None
    """The metric by which the best epoch is chosen, such as auroc, 'auroc(tumour)', balanced_accuracy or loss; null for
    the one that is usual for the head's task, or balanced_accuracy where rare classes are weighed or sampled."""
    calibrate: bool = False
    """Whether the model is given the temperature with which its probabilities are likeliest for the validation images;
    what it answers stays the same."""
    thresholds: Literal["balanced_accuracy", "f1", "matthews"] | None = None
    """Of two classes, or several labels: the model says yes from the probability on at which this metric is best on the
    validation images; null for the likeliest class, and for 1/2."""
    budget_loss: float | None = None
    """After training, the model is given the smallest budget of regions (model.regions_options.budget) with which the
    metric that chooses the epoch is at most so many points (hundredths) worse than with all regions, on the validation
    images, in [0, 100]; null for the budget that it was trained with."""
    validate_every: int = 1
    """Epochs between two validations, >= 1."""
    folds: int | None = None
    """Train so many models, >= 2, each in a folder of its own below `out`: the images are divided into as many folds,
    each model holds one out and is measured on it. null for one model."""
    repeats: int = 1
    """With `folds`, how many such divisions there are, >= 1, each by another seed and with models of its own."""
    fold: int | None = None
    """With `folds`, the one model to be trained, to `out` itself: the fold that it holds out, from 1; null for all."""
    repeat: int = 1
    """With `fold`, of which division, from 1."""
    workers: int | None = None
    """With `folds`, how many models are trained at a time, >= 1, each in a process with its share of the cores, or with
    a GPU of its own. null for one after the other, in this process."""
    cluster: str | None = None
    """With `folds`, the Ray cluster that trains them: auto, HOST:PORT, or local for one of this machine; as many at a
    time as `workers`, without it one on each GPU, or on each machine."""
    logger: Logger | tuple[Logger, ...] = "tensorboard"
    """Where the numbers of each step go besides curves.csv: tensorboard, csv, wandb or mlflow, or a list of several; []
    for nowhere. wandb and mlflow are packages of their own."""
    progress: bool = True
    """Whether a progress bar is shown."""

    def __post_init__(self) -> None:
        parse_interval(self.checkpoint_every)
        for name in ("epochs", "batch_size", "accumulate", "validate_every", "nodes", "region_parallel"):
            in_range(f"train.{name}", getattr(self, name), 1)
        if self.region_batch is not None:
            in_range("train.region_batch", self.region_batch, 1)
        in_range("train.gradient_clip", self.gradient_clip, 0)
        in_range("train.gradient_fraction", self.gradient_fraction, 0, 1, lower_open=True)
        in_range("train.seed", self.seed, 0, _LARGEST_SEED)
        if self.max_seconds is not None:
            in_range("train.max_seconds", self.max_seconds, 0, lower_open=True)
        if self.budget_loss is not None:
            in_range("train.budget_loss", self.budget_loss, 0, 100)
        if isinstance(self.devices, int):
            in_range("train.devices", self.devices, 1)
        self._check_folds()

    def _check_folds(self) -> None:
        in_range("train.repeats", self.repeats, 1)
        in_range("train.repeat", self.repeat, 1, self.repeats)
        if self.folds is not None:
            in_range("train.folds", self.folds, 2)
            if self.fold is not None:
                in_range("train.fold", self.fold, 1, self.folds)
        elif self.fold is not None or self.repeats > 1:
            name = "fold" if self.fold is not None else "repeats"
            raise ConfigError(f"train.{name} is one of train.folds: say how many there are, or leave it out")
        if self.workers is not None:
            in_range("train.workers", self.workers, 1)
        if (self.workers is not None or self.cluster is not None) and not self.all_folds:
            name = "workers" if self.workers is not None else "cluster"
            raise ConfigError(
                f"train.{name} is for the models of train.folds, which are trained side by side: leave it out"
            )

    @property
    def loggers(self) -> tuple[Logger, ...]:
        """Each that is named, once."""
        return (self.logger,) if isinstance(self.logger, str) else tuple(dict.fromkeys(self.logger))

    @property
    def held_out(self) -> Fold | None:
        """The fold that this one model holds out, if any."""
        return None if self.folds is None or self.fold is None else Fold(self.fold, self.folds, self.repeat)

    @property
    def all_folds(self) -> list[Fold]:
        """Of the models that are trained; none where there is one model only."""
        if self.folds is None or self.fold is not None:
            return []
        numbers = range(1, self.folds + 1)
        return [Fold(number, self.folds, repeat + 1) for repeat in range(self.repeats) for number in numbers]


def parse_interval(text: str) -> int | timedelta | None:
    """Steps or time between two checkpoints; None for the ends of epochs only.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "epoch":
        return None
    number, _, unit = text.partition(" ")
    with suppress(ValueError):
        if unit in ("step", "steps") and int(number) >= 1:
            return int(number)
        if unit in ("minute", "minutes") and 0 < float(number) < inf:
            return timedelta(minutes=float(number))
    raise ConfigError(
        f"train.checkpoint_every must read as '10 minutes', '500 steps' or 'epoch', got {text!r}"
    )
