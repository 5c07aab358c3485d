"""Who may ask: only this machine unless told otherwise, and only who knows the secret in the address.

A page from elsewhere that is open in the same browser could send requests to a server on this machine, or lead its own
name to this machine's address; so Host and Origin are looked at, too, and answers say that nothing else may be loaded.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Scripts and styles of the page itself are told in it; NiceGUI's are compiled in the browser.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; font-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"
)
_log = logging.getLogger("xt.viewer")
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """An ASGI middleware.

    Args:
        hosts: names that the server is asked by, without ports.
        secret: None for a new one.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = LOOPBACK, secret: str | None = None) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}
        self.secret = secret or new_secret()
        # Cookies are shared by all ports of a machine: two viewers have two.
        self.cookie = "xt-view-" + hashlib.sha256(self.secret.encode()).hexdigest()[:12]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
            else:
                await refusal(scope, receive, _with_headers(send))
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self._answered(scope, receive, _with_headers(send))

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What goes wrong unexpectedly is told without what was being done, which may name paths."""
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception:
            if begun:
                raise
            _log.exception("a request to the viewer failed")
            await _refused(500, "Something went wrong in the viewer; where it runs it says what.")(
                scope, receive, send
            )

    def _refusal(self, scope: Scope) -> Response | None:
        """What is answered instead; None if all is well."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _name_of(host) not in self.hosts:
            return _refused(400, "This server is asked by another name than its own.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _refused(403, "Another page may not ask this server.")
        connection = HTTPConnection(scope)
        given = connection.query_params.get("secret")
        if given is not None and self._is_secret(given):
            return self._let_in(scope)
        if not self._is_secret(connection.cookies.get(self.cookie, "")):
            return _refused(403, "Open the whole address that xt view printed, with its secret.")
        return None

    def _let_in(self, scope: Scope) -> Response:
        """The same address without the secret, which becomes a cookie: addresses are shown, kept and sent on."""
        words = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        rest = urlencode([(name, value) for name, value in words if name != "secret"])
        # One slash: with two it would be the name of another host.
        path = "/" + scope["path"].lstrip("/\\")
        response = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        response.set_cookie(self.cookie, self.secret, httponly=True, samesite="strict", path="/")
        return response

    def _is_secret(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.secret.encode())


def new_secret() -> str:
    return secrets.token_urlsafe(24)


def _name_of(host: str) -> str:
    """A Host header without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _refused(status: int, sentence: str) -> Response:
    return JSONResponse({"error": sentence}, status)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
