"""A folder with a sub-folder of images for each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from xt.data.class_folders import read_folder
from xt.data.sources.base import NamedSplits
from xt.images.folders import images_below
from xt.labels.image_table import ImageTable


@dataclass(frozen=True, kw_only=True)
class FolderSource(NamedSplits):
    """A folder with one sub-folder of images per class, which may lie in sub-folders of the splits' names."""

    kind: ClassVar[str] = "folder"
    gives: ClassVar[str] = "classes"

    folder: str
    """Folder with one sub-folder of images per class."""

    def read(self, class_names: Sequence[str] | None) -> ImageTable:
        return read_folder(self.folder, class_names=class_names, split_names=self.split_names)

    def image_paths(self, rows: Sequence[int] | None = None) -> list[Path]:
        return [Path(path) for path in images_below(self.folder)]
