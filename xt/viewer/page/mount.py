"""NiceGUI beside the viewer's routes.

It keeps its state in its modules, so there is one in a process, whatever the number of viewers; each request says which
viewer it is for.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from xt.errors import MissingPackageError
from xt.viewer.viewer import Viewer

_VIEWER = "xt.viewer"
_SECONDS_TO_RECONNECT = 60
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

    def __init__(self, app: FastAPI, lifespan: AbstractAsyncContextManager[Any]) -> None:
        self.app, self._lifespan = app, lifespan
        self._starting: asyncio.Task[Any] | None = None

    async def start(self) -> None:
        if self._starting is None:
            # Held open as long as the process is: another viewer may come.
            self._starting = asyncio.ensure_future(self._lifespan.__aenter__())
        await asyncio.shield(self._starting)


@functools.cache
def _nicegui() -> _NiceGui:
    try:
        from nicegui import app as own
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
        # A machine that is busy predicting answers late; the page would be loaded anew.
        reconnect_timeout=_SECONDS_TO_RECONNECT,
    )
    # Its own lifespan: that of an application around it would look at every object of the process for its server.
    return _NiceGui(app, own.router.lifespan_context(own))
