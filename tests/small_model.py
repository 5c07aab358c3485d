"""A small real model of 64-pixel regions, 4 tokens each, for tests that need some model."""

import torch

import xt


def small_model(**settings: object) -> "xt.XT":
    """Three classes of three-channel images unless told otherwise; always the same weights."""
    torch.manual_seed(0)
    options = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
    defaults = {"num_classes": 3, "class_names": ["cat", "dog", "eel"], "region_size": 64, "dim": 32}
    return xt.create_model("convnext_atto", encoder_options=options, **(defaults | settings))
