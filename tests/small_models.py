"""Region encoders of every tested family, small enough to test with, as timm makes them."""

from typing import Any

from xt import XT, create_model

SMALL_ENCODERS: dict[str, dict[str, Any]] = {
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24), "drop_path_rate": 0.3},
    "convnextv2_atto": {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24), "drop_path_rate": 0.3},
    "swin_tiny_patch4_window7_224": {
        "embed_dim": 8, "depths": (1, 2, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4, "drop_path_rate": 0.3,
    },
    "swinv2_tiny_window8_256": {
        "embed_dim": 8, "depths": (1, 2, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4, "drop_path_rate": 0.3,
    },
    "hiera_tiny_224": {"embed_dim": 8, "stages": (1, 1, 2, 1), "drop_path_rate": 0.3},
}  # fmt: skip


def small_model(encoder: str = "convnext_atto", **settings: Any) -> XT:
    """A model of 64-pixel regions with 4 tokens each and a context of width 32."""
    defaults = {"num_classes": 3, "region_size": 64, "dim": 32, "encoder_options": SMALL_ENCODERS[encoder]}
    return create_model(encoder, **(defaults | settings))
