"""One event loop in a thread for all viewers of a process: NiceGUI keeps its loop in a module, so there is one."""

from __future__ import annotations

import asyncio
import functools
import threading


@functools.cache
def viewer_loop() -> asyncio.AbstractEventLoop:
    """Started when the first viewer is, and running as long as the process does."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="xt-view-server", daemon=True).start()
    return loop
