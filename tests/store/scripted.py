"""An S3 server that answers as a test tells it to: one object, a list of answers to come, and a log of requests."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flyteplugins_vol.store.base import StoreOptions


def error(status: int, code: str) -> Callable[[Handler], None]:
    """An answer: this status, with S3's XML around the code."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return lambda handler: handler.answer(status, body)


def applied_then(answer: Callable[[Handler], None]) -> Callable[[Handler], None]:
    """Apply the request, throw its true answer away, and answer this instead."""

    def act(handler: Handler) -> None:
        handler.script.apply(handler)
        answer(handler)

    return act


def hang_up(handler: Handler) -> None:
    """No answer: the connection ends."""
    handler.close_connection = True
    handler.connection.close()


def cut_short(handler: Handler) -> None:
    """Half of the body that was announced, then the end of the connection."""
    handler.send_response(200)
    handler.send_header("ETag", '"x"')
    handler.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 500)
    hang_up(handler)


@dataclass
class Script:
    """The server's mind: ``answers`` are given first, in order; after them it behaves."""

    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    answers: list[Callable[[Handler], None]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def options(self, backend: str, **config: str) -> StoreOptions:
        given = {"endpoint": self.endpoint, "access_key_id": "AKEY", "secret_access_key": "TOPSECRET", "region": "r"}
        return StoreOptions(backend=backend, config={**given, **config}, timeout=20)

    def apply(self, handler: Handler) -> tuple[int, bytes]:
        key, headers = handler.path, handler.headers
        there = self.objects.get(key)
        if handler.command in ("GET", "HEAD"):
            return (200, there) if there is not None else (404, b"<Error><Code>NoSuchKey</Code></Error>")
        if headers.get("If-None-Match") and there is not None:
            return 412, b"<Error><Code>PreconditionFailed</Code></Error>"
        if headers.get("If-Match") and (there is None or headers["If-Match"].strip('"') != _etag(there)):
            return 412, b"<Error><Code>PreconditionFailed</Code></Error>"
        self.objects[key] = handler.body
        return 200, b""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def handle_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.path = self.path.split("?", 1)[0]
        self.script.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.script.answers:
            self.script.answers.pop(0)(self)
        else:
            self.answer(*self.script.apply(self))

    do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = handle_any  # noqa: N815

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{_etag(self.script.objects.get(self.path, b""))}"')
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def scripted_server() -> Iterator[Script]:
    script = Script()
    handler = type("Bound", (Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        script.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield script
        server.shutdown()


def _etag(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()
