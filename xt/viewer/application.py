"""The viewer's routes: they call `Viewer` and say what it says, in JSON and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from xt.errors import ConfigError, ImageError, ShapeError, XTError
from xt.viewer.correction_routes import add_corrections
from xt.viewer.corrections import ConflictError
from xt.viewer.guard import LOOPBACK, Guard
from xt.viewer.layers import Filters
from xt.viewer.live_routes import add_predictions
from xt.viewer.pictures import Picture
from xt.viewer.viewer import Viewer
from xt.viewer.work import UnwantedError, Work

# What no browser waits for any more (nginx's number for it).
_GONE = 499
# In one browser only, and without asking whether it has changed.
_KEPT = "private, max-age=86400, immutable"


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
    add_corrections(app, viewer, app.state.work)
    add_predictions(app, viewer, app.state.work)
    return app


async def _told(request: Request, error: Exception) -> Response:
    """An error as one sentence; what was asked for wrongly is told apart from what is wrong with a file."""
    if isinstance(error, UnwantedError):
        return Response(status_code=_GONE)
    if isinstance(error, ConflictError):
        told = {"error": str(error), "revision": error.revision, "object": error.now}
        return JSONResponse(told, 409)
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

        return _shown(await work.do(request, draw), request)

    @app.get("/images/{number:int}/layers/{layer}/{zoom:int}/{y:int}/{x:int}")
    async def layer_tile(request: Request, number: int, layer: str, zoom: int, y: int, x: int) -> Response:
        def draw() -> Picture:
            return viewer.image(number).layer_tile(layer, zoom, y, x, Filters.of(request.query_params))

        return _shown(await work.do(request, draw), request)

    @app.get("/images/{number:int}/layers/{layer}")
    async def legend(request: Request, number: int, layer: str) -> Response:
        def tell() -> dict[str, Any]:
            return viewer.image(number).layer(layer).legend(Filters.of(request.query_params))

        return JSONResponse(await work.do(request, tell))

    @app.get("/images/{number:int}/thumbnail")
    async def thumbnail(request: Request, number: int) -> Response:
        return _shown(await work.do(request, lambda: viewer.image(number).thumbnail()), request)

    @app.get("/images/{number:int}/value")
    async def value(request: Request, number: int, y: float, x: float, reach: float = 0.0) -> Response:
        def tell() -> dict[str, Any]:
            return viewer.image(number).value(y, x, reach=reach)

        return JSONResponse(await work.do(request, tell))


def _shown(picture: Picture, request: Request) -> Response:
    # The number of an image means another one in the next viewer on this port; see `ViewedImage.made`.
    kept = _KEPT if "made" in request.query_params else "no-cache"
    return Response(picture.content, media_type=picture.media_type, headers={"cache-control": kept})
