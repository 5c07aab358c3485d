"""What the demo is made of: its images, the region encoder that all start from, the budget."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xt.configuration import CompareConfig, DataConfig, OptimConfig, RunConfig, TrainConfig
from xt.data.augmentation import Augmentation
from xt.demo.digits import ASSETS
from xt.demo.scenes import LABELS
from xt.model_config import ModelConfig

ENCODER = "convnext_atto"
# A small ConvNeXt whose first layers overlap, as digits lie at any place. Without layer scale, which starts at
# a millionth: so small a network has no time to grow it.
ENCODER_OPTIONS: dict[str, Any] = {
    "depths": [1, 1, 1, 1],
    "dims": [16, 32, 64, 128],
    "stem_type": "overlap_act",
    "ls_init_value": None,
}
PIXEL_MEAN, PIXEL_STD = 0.1, 0.18
# A token for each 64 x 64 pixels.
REGION_SIZE = 256
TOKENS_PER_REGION = 16


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How large a demo is.

    Attributes:
        scene_side: of the images for training and testing, in pixels.
        train_images, validation_images, test_images: how many.
        passes: over the training images, by each contestant.
        giant: height and width of the last image, in pixels.
        examples: held-out images shown in the report.
    """

    scene_side: int = 768
    train_images: int = 900
    validation_images: int = 120
    test_images: int = 300
    passes: int = 3
    giant: tuple[int, int] = (29_000, 25_000)
    examples: int = 3
    seed: int = 0


QUICK = DemoSettings(
    train_images=60, validation_images=12, test_images=24, passes=1, giant=(4_000, 3_000), examples=1
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
        data=DataConfig(
            table=str(table),
            class_names=tuple(str(label) for label in LABELS),
            # A six on its head is a nine.
            augmentation=Augmentation(flips=False, quarter_turns=False),
        ),
        # The encoder can read digits already; what is put on top of it starts from nothing.
        optim=OptimConfig(lr=3e-3, encoder_lr_factor=0.1, layer_decay=1.0, warmup=0.1),
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
