"""The routes of predictions: begun by POST, followed by GET, stopped by DELETE, or by asking no more."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from xt.errors import ConfigError
from xt.viewer.bodies import body_of
from xt.viewer.live import Window
from xt.viewer.viewer import Viewer
from xt.viewer.work import Work


def add_predictions(app: FastAPI, viewer: Viewer, work: Work) -> None:
    """A window is [y, x, height, width] in level-0 pixels."""

    @app.post("/images/{number:int}/predictions")
    async def predict(request: Request, number: int) -> Response:
        window = _window((await body_of(request)).get("window"))
        return JSONResponse(await work.do(request, lambda: viewer.predict(number, window).told()))

    @app.get("/jobs/{number:int}")
    async def told(request: Request, number: int) -> Response:
        return JSONResponse(viewer.jobs.job(number).told())

    @app.delete("/jobs/{number:int}")
    async def cancel(request: Request, number: int) -> Response:
        return JSONResponse(viewer.jobs.cancel(number).told())

    @app.get("/images/{number:int}/leaning")
    async def leaning(request: Request, number: int, y: float, x: float) -> Response:
        return JSONResponse(await work.do(request, lambda: {"regions": viewer.leaned_on(number, y, x)}))

    @app.post("/images/{number:int}/grid")
    async def grid(request: Request, number: int) -> Response:
        return JSONResponse(await work.do(request, lambda: viewer.show_grid(number)))


def _window(given: Any) -> Window:
    is_window = isinstance(given, list) and len(given) == 4
    if not is_window or not all(isinstance(value, int) and abs(value) < 2**40 for value in given):
        raise ConfigError(f"a window is [y, x, height, width] in whole pixels, got {str(given)[:60]}")
    y, x, height, width = given
    return y, x, height, width
