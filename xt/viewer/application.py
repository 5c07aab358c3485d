"""The viewer's routes: they call `Viewer` and say what it says, in JSON and pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from xt.errors import ConfigError, ImageError, ShapeError, XTError
from xt.machine import usable_cores
from xt.viewer.guard import LOOPBACK, Guard
from xt.viewer.layers import Filters
from xt.viewer.pictures import Picture
from xt.viewer.viewer import Viewer

Result = TypeVar("Result")
# What no browser waits for any more (nginx's number for it).
_GONE = 499


def application(viewer: Viewer, hosts: Iterable[str] = LOOPBACK, secret: str | None = None) -> FastAPI:
    """All routes behind the guard; a page may be added to it.

    Args:
        hosts, secret: as of `Guard`.
    """
    # Its own pages of documentation would load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard, hosts=tuple(hosts), secret=secret)
    app.add_exception_handler(XTError, _told)
    app.state.viewer = viewer
    app.state.work = Work()
    _add_images(app, viewer, app.state.work)
    return app


class Work:
    """Threads that read and draw, as many as there are cores; what is no longer wanted is not begun."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or max(2, usable_cores())
        self._pool = ThreadPoolExecutor(self.threads, "xt-view")
        self._places: asyncio.Semaphore | None = None

    async def do(self, request: Request, function: Callable[..., Result], *args: Any) -> Result:
        """A function's result, from a thread.

        Raises:
            UnwantedError: whoever asked is gone.
        """
        if self._places is None:
            self._places = asyncio.Semaphore(self.threads)
        async with self._places:
            if await request.is_disconnected():
                raise UnwantedError
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class UnwantedError(XTError):
    """Whoever asked is gone."""


async def _told(request: Request, error: Exception) -> Response:
    """An error as one sentence; what was asked for wrongly is told apart from what is wrong with a file."""
    if isinstance(error, UnwantedError):
        return Response(status_code=_GONE)
    asked_wrongly = isinstance(error, (ConfigError, ShapeError)) and not isinstance(error, ImageError)
    return JSONResponse({"error": str(error)}, 404 if asked_wrongly else 500)


def _add_images(app: FastAPI, viewer: Viewer, work: Work) -> None:
    @app.get("/images")
    async def images(request: Request) -> Response:
        return JSONResponse(await work.do(request, viewer.list))

    @app.get("/images/{number:int}")
    async def facts(request: Request, number: int) -> Response:
        return JSONResponse(await work.do(request, lambda: viewer.image(number).facts()))

    @app.get("/images/{number:int}/tiles/{zoom:int}/{y:int}/{x:int}")
    async def tile(request: Request, number: int, zoom: int, y: int, x: int) -> Response:
        def draw() -> Picture:
            image = viewer.image(number)
            return image.tile(zoom, y, x, image.look.changed(request.query_params, image.image.channels))

        return _shown(await work.do(request, draw))

    @app.get("/images/{number:int}/layers/{layer}/{zoom:int}/{y:int}/{x:int}")
    async def layer_tile(request: Request, number: int, layer: str, zoom: int, y: int, x: int) -> Response:
        def draw() -> Picture:
            return viewer.image(number).layer_tile(layer, zoom, y, x, Filters.of(request.query_params))

        return _shown(await work.do(request, draw))

    @app.get("/images/{number:int}/layers/{layer}")
    async def legend(request: Request, number: int, layer: str) -> Response:
        def tell() -> dict[str, Any]:
            return viewer.image(number).layer(layer).legend(Filters.of(request.query_params))

        return JSONResponse(await work.do(request, tell))

    @app.get("/images/{number:int}/thumbnail")
    async def thumbnail(request: Request, number: int) -> Response:
        return _shown(await work.do(request, lambda: viewer.image(number).thumbnail()))

    @app.get("/images/{number:int}/value")
    async def value(request: Request, number: int, y: float, x: float, reach: float = 0.0) -> Response:
        def tell() -> dict[str, Any]:
            return viewer.image(number).value(y, x, reach=reach)

        return JSONResponse(await work.do(request, tell))


def _shown(picture: Picture) -> Response:
    # The number of an image means another one in the next viewer on this port.
    return Response(picture.content, media_type=picture.media_type, headers={"cache-control": "no-cache"})
