"""Where images come from: one dataclass for each kind of source, the section `data` of a run's configuration."""

from xt.data.sources.at import kind_at, source_at
from xt.data.sources.base import Source, View
from xt.data.sources.coco import CocoSource
from xt.data.sources.folder import FolderSource
from xt.data.sources.inaturalist import INaturalistSource
from xt.data.sources.scenes import SceneSource
from xt.data.sources.table import TableSource

SOURCES: dict[str, type[Source]] = {
    source.kind: source for source in (TableSource, FolderSource, CocoSource, SceneSource, INaturalistSource)
}
"""Every source by its kind, which is also the field of it that says where it is."""

__all__ = [
    "SOURCES",
    "CocoSource",
    "FolderSource",
    "INaturalistSource",
    "SceneSource",
    "Source",
    "TableSource",
    "View",
    "kind_at",
    "source_at",
]
