"""Slides, and what can be said of them by a rule: where tissue is, and where nuclei are by their stain."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nuclei import Picture
from scipy import ndimage

import xt

# Of what is called tissue: side of the blocks, and how far the mean colours of one that is grey may be apart, of 255.
_BLOCK, _GREY = 16, 20
# Of haematoxylin, eosin and what else there is: how much each takes of red, green and blue.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_STAINS /= np.linalg.norm(_STAINS, axis=1, keepdims=True)


def pixels_of(path: Path | str) -> np.ndarray:
    """Of a slide, stretched."""
    with xt.open_image(path) as slide:
        pixels = slide.read(0, 0, *slide.shape)[..., :3]
    low, high = np.percentile(pixels[::7, ::7], (1, 99.8))
    stretched: np.ndarray = (
        ((pixels - low) * (255 / max(high - low, 1))).clip(0, 255).round().astype(np.uint8)
    )
    return stretched


def tissue_in(pixels: np.ndarray) -> np.ndarray:
    """(height, width): where the mean colour of the blocks is no grey."""
    height, width = (-(-side // _BLOCK) * _BLOCK for side in pixels.shape[:2])
    margins = [(0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)]
    blocks = np.pad(pixels, margins, "edge").reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, 3)
    colour = blocks.mean(axis=(1, 3))
    coloured = (colour.max(axis=-1) - colour.min(axis=-1) > _GREY).astype(np.uint8)
    return coloured.repeat(_BLOCK, 0).repeat(_BLOCK, 1)[: pixels.shape[0], : pixels.shape[1]]


def stained_in(pixels: np.ndarray) -> np.ndarray:
    """(height, width): where, of tissue, there is much of the nuclei's stain.

    Haematoxylin by colour deconvolution (Ruifrok and Johnston 2001, with their vectors), smoothed over some pixels, and
    divided in two by Otsu's threshold (1979).
    """
    density = -np.log10(np.maximum(pixels, 1) / np.float32(255))
    stain = ndimage.gaussian_filter(density @ np.linalg.inv(_STAINS)[:, 0].astype(np.float32), 2)
    tissue = tissue_in(pixels) > 0
    counts, edges = np.histogram(stain[tissue], 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middles)
    between = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * (below[-1] - below), 1)
    stained: np.ndarray = (tissue & (stain > middles[between.argmax()])).astype(np.uint8)
    return stained


def windows(
    pixels: np.ndarray, classes: np.ndarray, side: int, generator: np.random.Generator
) -> Iterator[Picture]:
    """Of a slide, for ever, turned and mirrored by chance."""
    while True:
        y, x = (int(generator.integers(length - side + 1)) for length in classes.shape)
        part = np.s_[y : y + side, x : x + side]
        turns = int(generator.integers(4))
        window, known = (np.rot90(values[part], turns) for values in (pixels, classes))
        step = int(generator.choice([1, -1]))
        yield np.ascontiguousarray(window[::step]), np.ascontiguousarray(known[::step])
