"""A hub in a thread: model repositories in memory, served the way huggingface_hub asks for them."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

type Step = Literal["listing", "head", "body"]


@dataclass
class Repository:
    """A model on the hub, and how the hub behaves when asked for it.

    Attributes:
      files: content by name, at the commit of every revision in `revisions`.
      revisions: commits by the name of a branch or tag.
      token: what to show to be let in; None means public.
      refuses: the status to answer with, and the hub's code for the reason.
      stalls_at: where it accepts a request and then sends nothing.
      cuts: how many times it hangs up in the middle of a body of more than 1,000 bytes.
      loses: bytes missing at the end of every body, its Content-Length being right for what is sent.
    """

    files: dict[str, bytes]
    revisions: dict[str, str] = field(default_factory=lambda: {"main": "a" * 40})
    token: str | None = None
    refuses: tuple[int, str] | None = None
    stalls_at: Step | None = None
    cuts: int = 0
    loses: int = 0


class Hub(ThreadingHTTPServer):
    """The server; `asked` lists what came in as "METHOD path", and `ranges` the Range headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.closing = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        assert isinstance(self.server, Hub)
        return self.server

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        self.hub.asked.append(f"{self.command} {unquote(self.path)}")
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        is_listing = parts[:2] == ["api", "models"]
        parts = parts[2:] if is_listing else parts
        repository = self.hub.repositories.get("/".join(parts[:2]))
        if repository is None:
            return self._refuse(404, "RepoNotFound")
        if repository.token and self.headers["Authorization"] != f"Bearer {repository.token}":
            return self._refuse(401, "RepoNotFound")
        revision = parts[3] if len(parts) > 3 else "main"
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.revisions.values():
            return self._refuse(404, "RevisionNotFound")
        step: Step = "listing" if is_listing else "head" if self.command == "HEAD" else "body"
        if repository.stalls_at == step != "body":
            self.hub.closing.wait(60)
            return None
        if repository.refuses:
            return self._refuse(*repository.refuses)
        if is_listing:
            return self._list(repository, "/".join(parts[:2]), commit)
        content = repository.files.get("/".join(parts[4:]))
        if content is None:
            return self._refuse(404, "EntryNotFound")
        return self._send(repository, content, commit)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _list(self, repository: Repository, name: str, commit: str) -> None:
        files = [{"rfilename": file} for file in repository.files]
        body = json.dumps({"id": name, "sha": commit, "siblings": files}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(self, repository: Repository, content: bytes, commit: str) -> None:
        etag = hashlib.sha256(content).hexdigest()
        body = content
        if asked_range := self.headers["Range"]:
            self.hub.ranges.append(asked_range)
            start = int(asked_range.removeprefix("bytes=").removesuffix("-"))
            body = content[start:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.command == "GET" and repository.loses:
            body = body[: -repository.loses]
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if repository.stalls_at == "body":
            self.wfile.write(body[: len(body) // 2])
            self.hub.closing.wait(60)
        elif repository.cuts and len(body) > 1_000:
            repository.cuts -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        else:
            self.wfile.write(body)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serves on a free port of this machine."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.closing.set()
            hub.shutdown()
            thread.join()
