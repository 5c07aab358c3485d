"""The halo: pixels around a region that are seen with it, and cut off what is made of them."""

from torch import Tensor


def cropped(maps: Tensor, rim: int) -> Tensor:
    """Maps (..., height, width) without so many cells on every side."""
    return maps[..., rim : maps.shape[-2] - rim, rim : maps.shape[-1] - rim]
