"""A stand-in for the Hugging Face hub: repositories in memory behind the routes that huggingface_hub asks."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_mine"
OWNER = "lab"


@dataclass
class Repository:
    """Files by commit, the newest last."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    @property
    def newest(self) -> dict[str, bytes]:
        return list(self.commits.values())[-1] if self.commits else {}

    def commit(self, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[sha] = files
        return sha


@dataclass
class Hub:
    """What a test sees of it.

    Attributes:
        asked: "GET /path" and so on.
        fails: what is asked for, as a pattern, and the status that it is answered by.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    address: str = ""

    def holding(self, name: str, files: dict[str, bytes], **settings: Any) -> str:
        """Puts files into a repository; its new commit."""
        return self.repositories.setdefault(name, Repository(**settings)).commit(files)

    @property
    def downloads(self) -> list[str]:
        """The names of the files that were sent, since the last reset of `asked`."""
        return [
            line.rpartition("/")[2] for line in self.asked if line.startswith("GET") and "/resolve/" in line
        ]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for pattern, status in self.hub.fails.items():
            if re.search(pattern, path):
                return self._send(status, b"")
        if path == "/":
            return self._send(200, b"")
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/(.+))?", path)
        if found is not None:
            return self._api(found[1], found[2] or "revision", found[3] or "main", body)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if found is not None:
            return self._file(found[1], found[2], found[3])
        return self._send(404, b"")

    @property
    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _create(self, asked: dict[str, Any]) -> None:
        if not self._is_known or asked.get("organization") != OWNER:
            return self._send(403 if self._is_known else 401, b"")
        name = f"{OWNER}/{asked['name']}"
        if name in self.hub.repositories:
            return self._json({"url": f"{self.hub.address}/{name}"}, 409)
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.hub.repositories[name] = Repository({}, private=private)
        self.hub.repositories[name].commit({".gitattributes": b""})
        return self._json({"url": f"{self.hub.address}/{name}"})

    def _api(self, name: str, what: str, revision: str, body: bytes) -> None:
        repository = self._repository(name)
        if repository is None:
            return None
        if what == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if what == "commit":
            return self._commit(name, repository, body)
        sha = self._sha(repository, revision)
        if sha is None:
            return None
        files = repository.commits[sha]
        if what == "tree":
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return self._json(entries)
        siblings = [{"rfilename": path} for path in files]
        return self._json(
            {"id": name, "sha": sha, "siblings": siblings, "private": repository.private, "tags": []}
        )

    def _commit(self, name: str, repository: Repository, body: bytes) -> None:
        if not self._is_known:
            return self._send(403, b"")
        files = dict(repository.newest)
        for line in body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(files)
        address = f"{self.hub.address}/{name}/commit/{sha}"
        return self._json({"success": True, "commitUrl": address, "commitOid": sha})

    def _file(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name)
        if repository is None:
            return None
        if repository.gated and not self._is_known:
            return self._send(401, b"", {"X-Error-Code": "GatedRepo"})
        sha = self._sha(repository, revision)
        if sha is None:
            return None
        if path not in repository.commits[sha]:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        content = repository.commits[sha][path]
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self._send(200, content, {"X-Repo-Commit": sha, "ETag": etag})

    def _repository(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._is_known):
            return self._send(404 if self._is_known else 401, b"", {"X-Error-Code": "RepoNotFound"})
        return repository

    def _sha(self, repository: Repository, revision: str) -> str | None:
        if revision == "main":
            return list(repository.commits)[-1]
        if revision not in repository.commits:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        return revision

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()
