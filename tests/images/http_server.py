"""A web server that sends parts of files, counts what it sends, and fails as it is told.

It runs in a process of its own, as GDAL opens files without letting Python's other threads run.
"""

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_CONTROL = "/-control"
_IN_S3S_WORDS = {
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
}


class FileServer:
    """Files of a folder under http://127.0.0.1:PORT/, seen from the tests' process."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def tell(self, **settings: Any) -> None:
        """Change how it answers.

        Args:
            ranges: whether it sends parts of files; one that does not sends all of it, as HTTP allows.
            status: by file name, what it answers instead of the file.
            busy: how many requests for parts of files it first answers with 503.
        """
        self._control(settings)

    @property
    def sent(self) -> int:
        """Bytes of files sent since the last `reset`."""
        return int(self._control({})["sent"])

    @property
    def asked(self) -> list[str]:
        """ "GET /scene.tif" and so on, since the last `reset`."""
        return list(self._control({})["asked"])

    def reset(self) -> None:
        self._control({"sent": 0, "asked": []})

    def _control(self, settings: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(self.url(_CONTROL[1:]), json.dumps(settings).encode(), method="POST")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return dict(json.load(answer))


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    """A server of this folder's files."""
    with subprocess.Popen([sys.executable, __file__, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield FileServer(int(process.stdout.readline()))
        finally:
            process.kill()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.lock = threading.Lock()
        self.state: dict[str, Any] = {"ranges": True, "status": {}, "busy": 0, "sent": 0, "asked": []}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        settings = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.state.update(settings)
            self._say(200, json.dumps(self.server.state).encode())

    def _answer(self) -> None:
        state, name = self.server.state, self.path.split("?")[0].lstrip("/")
        path = self.server.folder / name
        with self.server.lock:
            state["asked"].append(f"{self.command} {self.path}")
            busy = "Range" in self.headers and state["busy"] > 0
            state["busy"] -= busy
        status = 503 if busy else state["status"].get(name, 200 if path.is_file() else 404)
        if status == 200:
            self._send(path.read_bytes())
        else:
            code, words = _IN_S3S_WORDS.get(status, ("Error", "no"))
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>"
            self._say(status, body.encode())

    def _send(self, content: bytes) -> None:
        status, headers, total = 200, {}, len(content)
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.server.state["ranges"]:
            headers["Accept-Ranges"] = "bytes"
            if part is not None:
                first, last = int(part[1]), min(int(part[2] or total), total - 1)
                if first >= total:
                    self._say(416, b"", {"Content-Range": f"bytes */{total}"})
                    return
                status, content = 206, content[first : last + 1]
                headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        if self.command == "GET":
            with self.server.lock:
                self.server.state["sent"] += len(content)
        self._say(status, content, headers)

    def _say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            # Whoever wanted a part and is sent everything hangs up.
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    server = _Server(Path(sys.argv[1]))
    print(server.server_address[1], flush=True)
    server.serve_forever()
