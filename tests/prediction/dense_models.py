"""Small real models that answer for every pixel, with points or boxes, and an image; always the same weights."""

import numpy as np
import torch

import xt


def dense_model(head: str = "segmentation", **settings: object) -> "xt.XT":
    """Regions of 64 pixels with 4 tokens each, a halo of 32, three classes; its answers differ from place to place."""
    torch.manual_seed(0)
    options = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 24)}
    heads = {
        "segmentation": {"width": 8},
        "points": {"width": 8, "attributes": {"length": "number"}, "score_threshold": 0.3, "radius": 6.0},
        "detection": {"width": 8, "score_threshold": 0.65},
    }
    defaults = {
        "head": head, "head_options": heads[head], "num_classes": 3, "class_names": ["sea", "ship", "ice"],
        "region_size": 64, "halo": 32, "dim": 16, "tokens_per_region": 4,
        "context": "transformer_xl", "context_options": {"depth": 1}, "encoder_options": options,
    }  # fmt: skip
    model = xt.create_model("convnext_atto", **(defaults | settings))
    with torch.no_grad():
        # As it begins, a head says nearly the same everywhere.
        model.head.predict.weight *= 8
        model.head.predict.bias.zero_()
        if head == "detection":
            model.head.predict.weight *= 4
            model.head.predict_box.weight *= 60
    return model.eval()


def scene(height: int = 300, width: int = 410) -> np.ndarray:
    """Smooth hills with noise, of three channels."""
    y, x = np.mgrid[:height, :width]
    hills = 127 + 60 * np.sin(y / 23) + 60 * np.cos(x / 31)
    noise = np.random.default_rng(0).normal(0, 20, (height, width, 3))
    return np.clip(hills[..., None] + noise, 0, 255).astype(np.uint8)
