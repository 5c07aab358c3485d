"""What the demo is made of: the region encoder that every contestant starts from."""

from typing import Any

ENCODER = "convnext_atto"
ENCODER_OPTIONS: dict[str, Any] = {"depths": [0, 1, 2, 1], "dims": [16, 32, 64, 128], "ls_init_value": None}
PIXEL_MEAN, PIXEL_STD = 0.1, 0.18
REGION_SIZE = 128
