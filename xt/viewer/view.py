"""`xt.view`: images in a browser, from Python, a notebook or the command line."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from xt.errors import MissingPackageError
from xt.prediction.inputs import find_images
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
        images: an image, a path, a folder, a glob, or a list of these.
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

    shown = View(Viewer(_sources(images)), host, port)
    if browser:
        shown.open_browser()
    return shown


def _sources(images: Any) -> list[Any]:
    """Paths, folders and globs as one image each; what is open already stays as it is."""
    sources: list[Any] = []
    for given in images if isinstance(images, (list, tuple)) else [images]:
        is_path = isinstance(given, (str, os.PathLike))
        sources += find_images([os.fspath(given)]) if is_path else [given]
    return sources


def _check_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise MissingPackageError(f'xt view needs {", ".join(missing)}: pip install "xt-vision[viewer]"')
