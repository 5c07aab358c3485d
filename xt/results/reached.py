"""How far a model got with an image in the time that it was given."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reached:
    """How far it got with one image, or with a case of several.

    Attributes:
        number: of regions of each image that it could look at; as a budget it gives the same answer.
        seconds: that it took, from the first look to the answer; where every place is decoded, to the last of them, of
            all processes that had a part in it.
    """

    number: int
    seconds: float
