"""Threads that read and draw for a server: as many as there are cores; what nobody waits for is not begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request

from xt.errors import XTError
from xt.machine import usable_cores

Result = TypeVar("Result")


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
