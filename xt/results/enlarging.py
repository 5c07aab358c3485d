"""Answers about pixels of a region that was read at 1/s, on the s x s as many pixels of the image."""

import numpy as np
from numpy.typing import NDArray


def enlarged(
    values: NDArray[np.float32], known: NDArray[np.bool_], scale: int, rows: slice, columns: slice
) -> NDArray[np.float32]:
    """A window of a region's answers, enlarged bilinearly: what a pixel says stands at the middle of the s x s that it
    covers, and goes over into what its neighbours say.

    Only pixels of which something is known go over into each other; those at the region's border, which have no
    neighbour beyond it, keep what they say up to it. Any window says what all of them together would.

    Args:
        values: (K, height, width), of pixels as the region is read.
        known: (height, width): which lie in the image and have data. The others keep what they say, all over.
        scale: s.
        rows, columns: of the image's pixels, counted from the region's corner.

    Returns:
        (K, rows, columns).
    """
    above, below, down = _between(rows, scale, values.shape[1])
    left, right, along = _between(columns, scale, values.shape[2])
    some = np.s_[:, above.min() : below.max() + 1, left.min() : right.max() + 1]
    above, below, left, right = (
        above - above.min(),
        below - above.min(),
        left - left.min(),
        right - left.min(),
    )
    values, known = values[some], known[some[1:]]

    def between(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        tall = pixels[:, above] * (1 - down[:, None]) + pixels[:, below] * down[:, None]
        wide = tall[:, :, left] * (1 - along) + tall[:, :, right] * along
        return wide.astype(np.float32, copy=False)

    if known.all():
        return between(values)
    own = np.ix_(np.where(down < 0.5, above, below), np.where(along < 0.5, left, right))
    (weights,) = between(known[None].astype(np.float32))
    weights[~known[own]] = 1
    said = between(np.where(known, values, 0)) / weights
    return np.where(known[own], said, values[:, own[0], own[1]])


def _between(
    places: slice, scale: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Which two of `length` coarse pixels each fine one lies between, middle to middle, and how far towards the second,
    from 0 to 1."""
    # In halves of a fine pixel, so that nothing is rounded.
    beyond = 2 * np.arange(places.start, places.stop) + 1 - scale
    first, share = beyond // (2 * scale), beyond % (2 * scale) / np.float32(2 * scale)
    return first.clip(0, length - 1), (first + 1).clip(0, length - 1), share.astype(np.float32)
