"""Which source a path on a command line is."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from xt.data.inaturalist import is_inaturalist
from xt.data.sources.base import Source
from xt.data.sources.coco import CocoSource
from xt.data.sources.folder import FolderSource
from xt.data.sources.inaturalist import INaturalistSource
from xt.data.sources.scenes import SceneSource
from xt.data.sources.table import TableSource
from xt.errors import OptionError


def kind_at(path: str) -> type[Source]:
    """A JSON file is COCO's, a folder iNaturalist's or one of classes; all else is a table."""
    if Path(path).suffix.lower() == ".json":
        return CocoSource
    if is_inaturalist(path):
        return INaturalistSource
    return FolderSource if Path(path).is_dir() else TableSource


def source_at(
    path: str, like: Source, *, scenes: str | None = None, root: str | None = None, **settings: Any
) -> Source:
    """The images at a path, read as another source's were.

    Args:
        like: whose fields count where the new source has them, but those that say where its images are.
        scenes: folder of xView3's scenes, of which `path` is the table of labels.
        root: folder that relative image paths start from.
        settings: fields that count before those of `like`; None for none.
    Raises:
        OptionError: a setting that is no field of this kind of source.
    """
    kind = SceneSource if scenes else kind_at(path)
    known = {item.name for item in fields(kind)}
    place: dict[str, Any] = {kind.kind: path}
    if scenes is not None:
        place = {"scenes": scenes, "scene_labels": (path,)}
    elif kind is CocoSource:
        place = {"coco": (path,), "images": (root,) if root else ()}
    else:
        # The other source's images may lie elsewhere than these.
        settings["root"] = root
    given = {name: value for name, value in settings.items() if value is not None}
    for name in given:
        if name not in known:
            raise OptionError(f"<{name}> is for other data than {path}, whose kind is {kind.kind!r}")
    kept = {item.name: getattr(like, item.name) for item in fields(like) if item.name in known - {"root"}}
    return kind(**({name: value for name, value in kept.items() if value is not None} | place | given))
