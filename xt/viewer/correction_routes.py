"""The routes of corrections: a body of JSON in, what `Corrections` returns out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from xt.errors import ConfigError
from xt.viewer.bodies import body_of
from xt.viewer.layers import Filters
from xt.viewer.viewer import Viewer
from xt.viewer.work import Work


def add_corrections(app: FastAPI, viewer: Viewer, work: Work) -> None:
    """GET tells the objects and the state, POST draws, PUT changes, DELETE deletes; each change names the revision
    that it saw as "revision"."""
    path = "/images/{number:int}/corrections"

    async def changed(request: Request, number: int, change: Callable[[], dict[str, Any]]) -> Response:
        def do() -> dict[str, Any]:
            done = change()
            viewer.corrected_now(number)
            return done

        return JSONResponse(await work.do(request, do))

    @app.get(path)
    async def told(request: Request, number: int, window: str = "") -> Response:
        def tell() -> dict[str, Any]:
            corrections = viewer.corrections(number)
            return corrections.told() | {"objects": corrections.objects(_window(window))}

        return JSONResponse(await work.do(request, tell))

    @app.post(path)
    async def add(request: Request, number: int) -> Response:
        body = await body_of(request)
        return await changed(
            request,
            number,
            lambda: viewer.corrections(number).add(
                str(body.get("kind")), body.get("class", ""), body.get("coordinates"), _seen(body)
            ),
        )

    @app.put(path + "/objects/{key}")
    async def change(request: Request, number: int, key: str) -> Response:
        body = await body_of(request)
        return await changed(
            request,
            number,
            lambda: viewer.corrections(number).change(
                key, _seen(body), class_name=body.get("class"), coordinates=body.get("coordinates")
            ),
        )

    @app.delete(path + "/objects/{key}")
    async def remove(request: Request, number: int, key: str, revision: int) -> Response:
        return await changed(request, number, lambda: viewer.corrections(number).remove(key, revision))

    @app.put(path + "/answer")
    async def answer(request: Request, number: int) -> Response:
        body = await body_of(request)
        return await changed(
            request,
            number,
            lambda: viewer.answer(
                number, _state(body), _seen(body), label=body.get("label"),
                filters=Filters.of({name: str(value) for name, value in body.get("filters", {}).items()}),
            ),
        )  # fmt: skip

    @app.post(path + "/undo")
    async def undo(request: Request, number: int) -> Response:
        return await changed(request, number, lambda: viewer.corrections(number).undo())


def _seen(body: dict[str, Any]) -> int:
    seen = body.get("revision")
    if not isinstance(seen, int) or isinstance(seen, bool):
        raise ConfigError("a change says which revision it saw, as a whole number")
    return seen


def _state(body: dict[str, Any]) -> str:
    state = body.get("state")
    if not isinstance(state, str):
        raise ConfigError(
            "an answer says its state: accepted, rejected, corrected, or nothing as an empty text"
        )
    return state


def _window(words: str) -> tuple[float, float, float, float] | None:
    if not words:
        return None
    try:
        y, x, height, width = (float(word) for word in words.split(","))
    except ValueError as error:
        raise ConfigError(f"a window is y,x,height,width, got {words!r}") from error
    return y, x, height, width
