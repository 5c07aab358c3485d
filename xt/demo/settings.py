"""What the demo is made of: its images, the region encoder that all start from, the budget."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from xt.config.run import CompareConfig, RunConfig
from xt.config.training import OptimConfig, TrainConfig
from xt.data.augmentation import Augmentation
from xt.data.sources import TableSource
from xt.demo.digits import ASSETS
from xt.demo.key_scenes import KeyLayout
from xt.demo.scenes import LABELS
from xt.model.config import ModelConfig
from xt.tasks.classification import ClassificationLabels

ENCODER = "convnext_atto"
# A small ConvNeXt whose first layers overlap, as digits lie at any place. Without layer scale, which starts at
# a millionth: so small a network has no time to grow it.
ENCODER_OPTIONS: dict[str, Any] = {
    "depths": [1, 1, 3, 1],
    "dims": [16, 32, 64, 128],
    "stem_type": "overlap_act",
    "ls_init_value": None,
}
PIXEL_MEAN, PIXEL_STD = 0.1, 0.18
# A token for each 64 x 64 pixels.
REGION_SIZE = 256
TOKENS_PER_REGION = 16


class Stage(NamedTuple):
    """A part of the training: `images` scenes a step, drawn out of `scenes`.

    Up to `distance` regions of other places come between the key and all else, see `xt.demo.far_apart`.
    """

    layout: KeyLayout
    scenes: int
    images: int
    steps: int
    distance: int = 0


_SMALL, _MIDDLE = KeyLayout.square(2, kinds=3, of_each=1), KeyLayout.square(4, kinds=4, of_each=2)
# More clutter than elsewhere: on a large image it is nearly all there is, and what fools a model.
_CLUTTERED = KeyLayout.square(8, kinds=4, of_each=4, clutter=0.8)
_LARGE = KeyLayout.square(16, kinds=4, of_each=7, clutter=1.2)
# A digit in as many places as on the giant image.
_SPARSE = KeyLayout.square(32, kinds=4, of_each=5)
_GIANT = KeyLayout(29_000, 25_000, kinds=4, of_each=900)
# By turns, as what is far apart is learned at a high learning rate, too.
_STAGES = (
    Stage(_SMALL, 3000, 32, 200),
    Stage(_MIDDLE, 800, 8, 140),
    *4 * (Stage(_CLUTTERED, 400, 4, 60, distance=256), Stage(_LARGE, 80, 1, 50, distance=8192)),
)


@dataclass(frozen=True, kw_only=True)
class KeyTask:
    """How the task is set.

    Attributes:
        stages: first small scenes, of which each step sees many; then larger ones.
        evaluation: what held-out scenes are like, and how many there are.
        choosing: what scenes of training digits are like on which the lowest score that counts is chosen.
        lr: the highest learning rate.
    """

    stages: Sequence[Stage] = _STAGES
    evaluation: KeyLayout = _MIDDLE
    evaluation_images: int = 60
    choosing: KeyLayout = _SPARSE
    choosing_images: int = 16
    lr: float = 6e-3
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How large a demo is.

    Attributes:
        scene_side: of the images for training and testing, in pixels.
        train_images, validation_images, test_images: how many.
        passes: over the training images, by each contestant.
        encoder_lr_factor: of the region encoder in this contest; 0 to leave it as it is.
        giant: what the last image is like.
        giants: how many there are; the report shows the first.
        examples: held-out images shown in the report.
        key_task: the second contest, between context encoders.
        contexts: those that take part in it.
    """

    scene_side: int = 768
    train_images: int = 400
    validation_images: int = 60
    test_images: int = 240
    passes: int = 3
    encoder_lr_factor: float = 0.0
    giant: KeyLayout = _GIANT
    giants: int = 1
    examples: int = 3
    key_task: KeyTask = field(default_factory=KeyTask)
    contexts: tuple[str, ...] = ("none", "mamba")
    seed: int = 0


QUICK = DemoSettings(
    train_images=60,
    validation_images=12,
    test_images=24,
    passes=1,
    giant=KeyLayout(4_000, 3_000, kinds=4, of_each=20),
    giants=2,
    examples=1,
    key_task=KeyTask(
        stages=(Stage(_SMALL, 64, 16, 6), Stage(_MIDDLE, 16, 4, 2, distance=8)),
        evaluation_images=4,
        choosing_images=1,
    ),
)
# What is left out to be quick: the region encoder learns, too; more images, more steps, further context encoders.
FULL = DemoSettings(
    train_images=900,
    validation_images=120,
    test_images=600,
    passes=4,
    encoder_lr_factor=0.1,
    giants=3,
    key_task=KeyTask(stages=[stage._replace(steps=2 * stage.steps) for stage in _STAGES]),
    contexts=("none", "mamba", "mamba2", "longformer"),
)


def run_config(settings: DemoSettings, table: Path, out: Path) -> RunConfig:
    """What `xt compare` is told; the same for all contestants."""
    return RunConfig(
        model=ModelConfig(
            encoder=ENCODER,
            encoder_options=ENCODER_OPTIONS,
            in_channels=1,
            region_size=REGION_SIZE,
            tokens_per_region=TOKENS_PER_REGION,
            dim=96,
            context="transformer_xl",
            # Segments shorter than the training images, so that the giant one is worked on as they were.
            context_options={
                "depth": 1,
                "segment_length": 72,
                "memory_length": 72,
                "summary_length": 0,
                "mlp_ratio": 2.0,
            },
            num_classes=len(LABELS),
            pixel_mean=(PIXEL_MEAN,),
            pixel_std=(PIXEL_STD,),
        ),
        # A six on its head is a nine.
        data=TableSource(table=str(table), augmentation=Augmentation(flips=False, quarter_turns=False)),
        labels=ClassificationLabels(class_names=tuple(str(label) for label in LABELS)),
        # The encoder can read digits already; what is put on top of it starts from nothing.
        optim=OptimConfig(lr=3e-3, encoder_lr_factor=settings.encoder_lr_factor, layer_decay=1.0, warmup=0.1),
        train=TrainConfig(
            out=str(out),
            epochs=settings.passes,
            batch_size=4,
            region_batch=9,
            # The images are small: every graph fits, and nothing has to be computed twice.
            keep="all",
            seed=settings.seed,
            init_encoder=str(ASSETS / "encoder.safetensors"),
        ),
        compare=CompareConfig(contestants=("downsample", "crop", "xt")),
    )
