"""Whether the squares that a model learns from show it regions of every scale, as larger images will."""

import warnings

from xt.errors import DataWarning
from xt.regions.choice import RegionChoice
from xt.regions.grid import RegionGrid
from xt.regions.pyramid_grid import PyramidGrid


def warn_of_unseen_scales(choice: RegionChoice, region_size: int, side: int | None) -> None:
    """Say which scales are in no square, wherever its content lies: a budget holds for each square by itself, and few
    regions leave little to choose.

    Args:
        side: of the squares, in pixels; None where whole images are learned from.
    """
    # What a model asks for while it learns is not known before.
    if side is None or choice.levels == 1 or choice.asks_model:
        return
    fine = RegionGrid(height=side, width=side, region_size=region_size)
    unseen = unseen_scales(choice, fine)
    if unseen:
        scales = ", ".join(map(str, unseen))
        warnings.warn(
            f"squares of {side} x {side} pixels (data.augmentation.train_size) are {len(fine)} regions of "
            f"{region_size}, of which model.regions looks at {choice.most(fine)}: where they hold anything, none of "
            f"scale {scales} is learned from, as larger images will have; take larger squares, or another budget",
            DataWarning,
            stacklevel=2,
        )


def unseen_scales(choice: RegionChoice, fine: RegionGrid) -> list[int]:
    """The scales of a choice at which no image with these regions is looked at, wherever its content lies."""
    coarsest, most = PyramidGrid.coarsest(fine, choice.levels), choice.most(fine)
    largest = int(coarsest.scales.max())
    beyond = [1 << level for level in range(choice.levels) if 1 << level > largest]
    if most == len(fine) or largest == 1:
        # All may be opened, or as much as there is.
        return beyond
    stays = bool(getattr(choice, "keep_coarse", False))
    # As many are opened as fit, and more regions are there with each.
    opened = max(0, most - len(coarsest)) // (4 if stays else 3)
    depth = largest.bit_length() - 1
    finest = [1] if opened < depth else []
    # All of them lie in the other coarsest ones, where these and all that they hold are enough.
    in_one = (4**depth - 1) // 3
    always_opened = not stays and opened > (len(coarsest) - 1) * in_one
    return finest + ([largest] if always_opened else []) + beyond
