"""Bands that files call alpha: how to have them as channels, and a word where one looks as if it were a channel."""

from __future__ import annotations

import os
import warnings

from xt.errors import DataWarning
from xt.images.image import LargeImage
from xt.images.opening import open_image

# Pixels along a side of what is looked at.
_SAMPLE = 512
# Of a picture's alpha nearly all is 0 or the largest value; soft edges are a small part.
_MOST_SHADES = 0.5
# Channels that pictures have beside an alpha.
_COLOURS = (1, 3)


def alpha_hint(image: LargeImage, channels: int) -> str:
    """What to do about an image that would have this number of channels with its alpha, or without one that its file
    does not call so; empty if it would not."""
    if not image.alpha_bands and channels in _COLOURS and image.channels == channels + 1:
        return (
            f", or, if channel {image.channels} is an alpha that the file does not call so, have the file say it: "
            f"gdal_edit.py -colorinterp_{image.channels} alpha FILE"
        )
    if not image.alpha_bands or image.channels + image.alpha_bands != channels:
        return ""
    return (
        ", or, if what the file calls alpha is a channel such as near infrared, say so: data.alpha=channel, "
        '--alpha channel, open_image(..., alpha="channel")'
    )


def warn_of_shades(path: str | os.PathLike[str]) -> None:
    """Say it if what a file calls alpha looks like a channel: programs write any fourth band as alpha."""
    with open_image(path, alpha="channel") as image:
        alphas = [number for number, notes in enumerate(image.band_notes()) if notes.color == "alpha"]
        if not alphas:
            return
        low = image.at_level(len(image.levels) - 1)
        height, width = (min(_SAMPLE, side) for side in low.shape)
        y, x = ((side - size) // 2 for side, size in zip(low.shape, (height, width), strict=True))
        values = low.read(y, x, height, width)[..., alphas]
    shades = float(((values != 0) & (values != values.max())).mean())
    if shades > _MOST_SHADES:
        warnings.warn(
            f"{image.name} calls a band alpha, so it is taken for no channel, but for what says where the others hold "
            f"something; but {shades:.0%} of it is neither 0 nor {values.max():g}, as of a channel such as near "
            "infrared: if it is one, set data.alpha to channel",
            DataWarning,
            stacklevel=2,
        )
