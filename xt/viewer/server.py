"""The viewer's server: uvicorn on the viewers' own loop, so that a notebook or a command goes on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import socket
import time
from types import TracebackType
from typing import Any, Self

from starlette.types import ASGIApp

from xt.errors import ConfigError, MissingPackageError, OptionError
from xt.viewer.guard import LOOPBACK
from xt.viewer.loop import viewer_loop

HOST = "127.0.0.1"
# Where one listens who is asked by any name; no name to ask by.
_EVERYWHERE = ("0.0.0.0", "::")
_SECONDS_TO_START = 30
_SECONDS_TO_STOP = 5


class Server:
    """Answers until it is closed.

        with Server(application(viewer, secret=secret), secret) as server:
            print(server.address)

    Args:
        app: behind a guard with this secret.
        host: the name or address that it listens at; another than this machine's own opens it to others.
        port: 0 for any that is free.
    Raises:
        ConfigError: the port is taken, or the host is not of this machine.
    """

    def __init__(self, app: ASGIApp, secret: str, host: str = HOST, port: int = 0) -> None:
        uvicorn = import_uvicorn()
        self.host, self._secret = host, secret
        self._socket = _listening(host, port)
        self.port: int = self._socket.getsockname()[1]
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, ws="auto", timeout_graceful_shutdown=2
        )
        self._server = uvicorn.Server(settings)
        self._running: concurrent.futures.Future[None] | None = None

    @property
    def is_open_to_others(self) -> bool:
        return self.host not in LOOPBACK

    @property
    def address(self) -> str:
        """To be opened in a browser, with the secret."""
        host = _own_name(self.host) if self.host in _EVERYWHERE else self.host
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/?secret={self._secret}"

    def start(self) -> Self:
        serving = self._server.serve(sockets=[self._socket])
        self._running = asyncio.run_coroutine_threadsafe(serving, viewer_loop())
        until = time.monotonic() + _SECONDS_TO_START
        while not (self._server.started or self._running.done()) and time.monotonic() < until:
            time.sleep(0.01)
        if not self._server.started:
            raise ConfigError(f"the viewer's server at {self.host}:{self.port} did not start")
        return self

    def wait(self) -> None:
        """Until it is stopped, as by an interrupt."""
        while self._running is not None and not self._running.done():
            concurrent.futures.wait([self._running], timeout=0.5)

    def close(self) -> None:
        self._server.should_exit = True
        if self._running is not None:
            concurrent.futures.wait([self._running], timeout=_SECONDS_TO_STOP)
        self._socket.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hosts_of(host: str) -> tuple[str, ...]:
    """The names that a server listening at this host may be asked by; for `Guard`."""
    own = (socket.gethostname(), socket.getfqdn(), *_addresses()) if host in _EVERYWHERE else (host,)
    return tuple(dict.fromkeys((*LOOPBACK, *own)))


def import_uvicorn() -> Any:
    """The server's package.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingPackageError(
            'the viewer needs further packages: pip install "xt-vision[viewer]"'
        ) from error
    return uvicorn


def _addresses() -> list[str]:
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)]
    except OSError:
        return []


def _own_name(host: str) -> str:
    """By which this machine can be asked, also by others if it has such a name."""
    others = [
        address
        for address in _addresses()
        if ("." in address or host == "::") and not ipaddress.ip_address(address.split("%")[0]).is_loopback
    ]
    return next((address for address in others if "%" not in address), HOST)


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise OptionError(f"<port> is 0 to 65535, got {port}")
    listening: socket.socket | None = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        if listening is not None:
            listening.close()
        raise OptionError(
            f"the viewer cannot listen at {host}, port {port} ({error.strerror}): choose another <port>, or leave it "
            "out for any that is free"
        ) from error
    return listening
