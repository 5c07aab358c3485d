"""Boxes in COCO's JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xt.data.sources.base import Source
from xt.labels.formats.coco import read_coco_table
from xt.labels.image_table import ImageTable


@dataclass(frozen=True, kw_only=True)
class CocoSource(Source):
    """Files of COCO instances and the photographs or other images that they are about."""

    kind: ClassVar[str] = "coco"
    gives: ClassVar[str] = "boxes"
    has_grey_among_coloured: ClassVar[bool] = True

    coco: tuple[str, ...]
    """JSON file of COCO instances; two or three are those of training, validation and test."""
    images: tuple[str, ...] = ()
    """Folder that the file names in `coco` start from, one for all or one for each; without it, each JSON file's own
    folder."""

    @property
    def place(self) -> str:
        return ", ".join(self.coco)

    def read(self, class_names: Sequence[str] | None) -> ImageTable:
        return read_coco_table(self.coco, self.images, class_names=class_names)
