"""NiceGUI beside the viewer's routes.

It keeps its state in its modules, so there is one in a process, whatever the number of viewers; each request says which
viewer it is for.
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from xt.errors import MissingPackageError
from xt.viewer.viewer import Viewer

_VIEWER = "xt.viewer"
_ICON = Path(__file__).parent / "icon.svg"


def add_page(app: FastAPI, viewer: Viewer) -> None:
    """Let an application answer everything that is no route of its own with the page.

    Raises:
        MissingPackageError: NiceGUI is not installed.
    """
    app.mount("/", _Page(viewer))


class _Page:
    """NiceGUI's application, told which viewer it is asked for."""

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.nicegui = _nicegui()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.nicegui.start()
        await self.nicegui.app({**scope, _VIEWER: self.viewer}, receive, send)


class _NiceGui:
    """Made and started once."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._starting: asyncio.Task[Any] | None = None

    async def start(self) -> None:
        if self._starting is None:
            # Held open as long as the process is: another viewer may come.
            self._context = self.app.router.lifespan_context(self.app)
            self._starting = asyncio.ensure_future(self._context.__aenter__())
        await asyncio.shield(self._starting)


@functools.cache
def _nicegui() -> _NiceGui:
    try:
        from nicegui import ui
    except ImportError as error:
        raise MissingPackageError(
            'the viewer needs further packages: pip install "xt-vision[viewer]"'
        ) from error
    from xt.viewer.page.page import Page

    @ui.page("/", title="xt view")
    def page(request: Request) -> None:
        Page(request.scope[_VIEWER]).build()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ui.run_with(
        app,
        favicon=_ICON,
        show_welcome_message=False,
        tailwind=False,
        binding_refresh_interval=None,
    )
    return _NiceGui(app)
