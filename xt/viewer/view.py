"""`xt.view`: images in a browser, from Python, a notebook or the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xt.errors import MissingPackageError
from xt.images import LargeImage, open_image
from xt.images.array import ArrayImage
from xt.prediction.inputs import find_images
from xt.prediction.results import RECORD
from xt.viewer.found import FoundAnswers
from xt.viewer.labelled import read_labels
from xt.viewer.live import LiveModel
from xt.viewer.viewer import Viewer

if TYPE_CHECKING:
    from xt.viewer.running import View

_HOST = "127.0.0.1"
_PACKAGES = ("nicegui", "fastapi", "starlette", "uvicorn")


def view(
    images: Any,
    *,
    model: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    host: str = _HOST,
    port: int = 0,
    browser: bool = False,
) -> View:
    """Open images in a viewer that runs beside what is done next.

        xt.view("slide.svs")                    # in a notebook, a frame
        xt.view(image, browser=True).wait()     # in a script, until it is interrupted

    Args:
        images: an image, a path, a folder, a glob, or a list of these; names to open images and arrays, as
            {"scene": array}; or a folder that `xt predict` wrote.
        model: a run, or the file of a model, that predicts what is looked at.
        labels: a table of the images' labels.
        host: who may ask: this machine only, or the name or address by which others reach it.
        port: 0 for any that is free.
        browser: open the machine's browser.
    Raises:
        ConfigError: there is nothing to show, or the port is taken.
        ImageError: there is no such image, or the only one cannot be opened.
        MissingPackageError: the viewer's packages are not installed.
    """
    _check_packages()
    from xt.viewer.running import View

    viewer = viewer_of(images, model=model, labels=labels)
    if len(viewer.sources) == 1:
        # Of several the others can be looked at; one alone is told before a browser opens.
        viewer.image(0)
    shown = View(viewer, host, port)
    if browser:
        shown.open_browser()
    return shown


def viewer_of(images: Any, *, model: Any = None, labels: Any = None) -> Viewer:
    """What is looked at, with what is known of it; args and errors as of `view`."""
    given = list(_several(images))
    found = FoundAnswers(given[0]) if len(given) == 1 and _is_found(given[0]) else None
    live = None if model is None else LiveModel(model)
    table = None
    if labels is not None:
        answers = (None, ()) if found is None else found.meant()
        table = read_labels(labels, answers=answers) if live is None else live.read_labels(labels)
    sources: list[Any] = list(found.images) if found is not None else []
    for one in given if found is None else []:
        sources += find_images([os.fspath(one)]) if isinstance(one, (str, os.PathLike)) else [one]
    opened = open_image if live is None else live.open
    return Viewer(sources, found=found, labels=table, live=live, open_image=opened)


def _several(images: Any) -> Iterable[Any]:
    """Each of them, those that are open by their names."""
    if isinstance(images, Mapping):
        return [
            image if isinstance(image, (LargeImage, str, os.PathLike)) else ArrayImage(image, name=name)
            for name, image in images.items()
        ]
    return images if isinstance(images, (list, tuple)) else [images]


def _is_found(given: Any) -> bool:
    return isinstance(given, (str, os.PathLike)) and (Path(given) / RECORD).is_file()


def _check_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingPackageError(f'xt view needs {", ".join(missing)}: pip install "xt-vision[viewer]"')
