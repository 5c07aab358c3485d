"""iNaturalist 2018, as it is unpacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xt.data.inaturalist import read_inaturalist
from xt.data.sources.base import Source
from xt.labels.image_table import ImageTable


@dataclass(frozen=True, kw_only=True)
class INaturalistSource(Source):
    """Photographs of species, in training and validation; the labels of its test images are not public."""

    kind: ClassVar[str] = "inaturalist"
    gives: ClassVar[str] = "classes"

    inaturalist: str
    """Folder that iNaturalist 2018 was unpacked to, with train2018.json, val2018.json and, for the species' names,
    categories.json."""
    inaturalist_classes: tuple[str, ...] = ()
    """Which of its species: supercategories such as Reptilia, other groups, species or category numbers; all without
    any."""

    @property
    def evaluated_split(self) -> str:
        return self.split_names[1]

    def read(self, class_names: Sequence[str] | None) -> ImageTable:
        return read_inaturalist(self.inaturalist, classes=self.inaturalist_classes, class_names=class_names)
