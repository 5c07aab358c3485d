"""What the classes of masks are, where nobody says so: from the values of some of them."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from xt.errors import XTError
from xt.images import open_image
from xt.labels.formats.vector_files import is_vector_file
from xt.tasks.base import Guess
from xt.tasks.label_facts import mask_values

_LOOKED_AT = 64
_SEVERAL = 5
_MOST_CLASSES = 64
_UNKNOWN = 255


def guess_masks(paths: Sequence[str], given: Collection[str]) -> Guess:
    """What the classes are, from the values of some of the masks; see `Task.guess_files`."""
    if any(is_vector_file(path) for path in paths):
        # Polygons have names.
        return Guess()
    if "class_names" in given or "mask_values" in given:
        return Guess()
    masks_with: Counter[float] = Counter()
    looked_at = 0
    for place in np.unique(np.linspace(0, len(paths) - 1, min(_LOOKED_AT, len(paths))).astype(int)):
        try:
            with open_image(paths[place]) as mask:
                if mask.channels == 1:
                    masks_with.update(mask_values(mask).keys())
                    looked_at += 1
        except XTError:
            # It is said of its row.
            continue
    # What one mask of many has, is more likely a mistake in it.
    enough = 2 if looked_at >= _SEVERAL else 1
    values = [value for value, count in masks_with.items() if count >= enough]
    whole = sorted(int(value) for value in values if float(value).is_integer() and value >= 0)
    if not whole:
        return Guess()
    seen = f"the values {', '.join(map(str, whole[:12]))}{', ...' if len(whole) > 12 else ''} of {looked_at} masks"
    if whole in ([0, _UNKNOWN], [_UNKNOWN]):
        # As drawing programs write black and white.
        labels = {"class_names": "[background, object]", "mask_values": "[0, 255]"}
        return Guess(labels, (f"0 and 255 are two classes, by {seen}",))
    numbers = [value for value in whole if value != _UNKNOWN]
    last = max(numbers, default=0)
    if last < _MOST_CLASSES:
        names = ", ".join(f"class{number}" for number in range(max(last + 1, 2)))
        return Guess({"class_names": f"[{names}]"}, (f"{last + 1} classes, by {seen}",))
    if len(numbers) <= _MOST_CLASSES:
        names = ", ".join(f"value{number}" for number in numbers)
        labels = {"class_names": f"[{names}]", "mask_values": str(numbers)}
        return Guess(labels, (f"{len(numbers)} classes, each a value of the masks, by {seen}",))
    return Guess()
