"""Scenes of xView3-SAR."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xt.data.dense_table import read_scene_table
from xt.data.sources.base import Source
from xt.data.xview3 import NODATA
from xt.labels.image_table import ImageTable


@dataclass(frozen=True, kw_only=True)
class SceneSource(Source):
    """A folder of xView3-SAR scenes and the challenge's tables of the vessels in them."""

    kind: ClassVar[str] = "scenes"
    gives: ClassVar[str] = "points"

    scenes: str
    """Folder of xView3-SAR scenes."""
    scene_labels: tuple[str, ...]
    """The scenes' CSV of labels; two or three are those of training, validation and test. Scenes that are not in both
    the folder and the CSV are left out."""
    scene_channels: tuple[str, ...] = ("vh", "vv")
    """Of the scenes: vh, vv, bathymetry, wind_speed, wind_direction, wind_quality, mask."""
    scene_confidences: tuple[str, ...] = ("HIGH", "MEDIUM")
    """Of the scenes' labels that count: HIGH, MEDIUM, LOW."""
    nodata: float | None = NODATA
    """Pixel value that means 'nothing here', for files that do not say so themselves."""

    def read(self, class_names: Sequence[str] | None) -> ImageTable:
        return read_scene_table(
            self.scenes,
            self.scene_labels,
            channels=self.scene_channels,
            confidences=self.scene_confidences,
            class_names=class_names,
        )
