"""From what is known of an image to the layers that lie on it."""

from __future__ import annotations

from collections.abc import Sequence

from xt.images import LargeImage
from xt.results.shown import REGIONS, Shown, ShownObjects, ShownRaster
from xt.viewer.differences import difference
from xt.viewer.found import FoundAnswers
from xt.viewer.labelled import Labels
from xt.viewer.layers import Layer
from xt.viewer.objects import ObjectLayer
from xt.viewer.rasters import RasterLayer

# Of points that are one, where nobody says otherwise: as `xt evaluate`.
_REACH = 10.0


def layer_of(shown: Shown) -> Layer:
    """What draws it."""
    if isinstance(shown, ShownRaster):
        return RasterLayer(shown)
    assert isinstance(shown, ShownObjects)
    return ObjectLayer(shown)


def layers_of(
    name: str,
    image: LargeImage,
    found: FoundAnswers | None,
    labels: Labels | None,
    reach: float | None = None,
) -> list[Layer]:
    """All of an image, those that are looked at first above: the answer, then the labels and where they differ.

    Args:
        reach: how far a labelled point may be from the one that was found of it, in pixels of the image; None for how
            near found ones are one, if that was chosen.
    Raises:
        XTError: a file of results or labels cannot be read.
    """
    answered: Sequence[Shown] = [] if found is None else found.shown(name, image)
    labelled: Sequence[Shown] = [] if labels is None else labels.shown(name, image)
    if reach is None and found is not None:
        reach = found.merge_radius(name)
    answers = [one for one in answered if one.name != REGIONS]
    differs = difference(answers, labelled, _REACH if reach is None else reach)
    return [layer_of(shown) for shown in (*answered, *labelled, *([] if differs is None else [differs]))]
