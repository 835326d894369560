"""An HTTP proxy on loopback that harms what passes, by chance and from a seed: to be put before a real S3 server.

It stands where load balancers, caches and gateways do: requests are refused, connections reset before or after the
server has applied a request, answers are delayed, cut, altered, made up.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = {
    "GET": ("503", "500", "429", "reset before", "reset after", "stall", "slow", "cut", "flip", "stale 404"),
    "HEAD": ("503", "reset before", "reset after", "slow"),
    "PUT": ("503", "500", "429", "reset before", "reset after", "reset after", "stall", "slow", "lie"),
    "DELETE": ("503", "reset before", "reset after", "slow"),
}
SECONDS = {"stall": 0.3, "slow": 0.2}
ANSWERS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "429": (429, "TooManyRequests"),
    "stale 404": (404, "NoSuchKey"),
    "expired": (400, "ExpiredToken"),
}
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "expect", "content-length")


class FaultProxy(ThreadingHTTPServer):
    """Forwards to ``upstream``; ``rate`` of the requests meet a fault. ``met`` counts them by kind."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream)
        self.rate = 0.0
        self.met: Counter[str] = Counter()
        self.lives: dict[str, int] = {}  # PUTs after which an access key has expired; no entry: it never does
        self._rng = random.Random()
        self._lock = threading.Lock()
        self._burst = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def harm(self, seed: int, rate: float) -> None:
        with self._lock:
            self._rng.seed(seed)
            self.rate, self._burst = rate, 0

    def draw(self, method: str, authorization: str = "") -> str:
        """The fault of the next request, '' for none. A 503 comes with some more."""
        key = re.search(r"Credential=([^/]+)/", authorization)
        with self._lock:
            if key and (left := self.lives.get(key[1])) is not None:
                if left <= 0:
                    self.met["expired"] += 1
                    return "expired"
                self.lives[key[1]] = left - (method == "PUT")
            if self._burst and self.rate:
                self._burst -= 1
                return "503"
            if self._rng.random() >= self.rate:
                return ""
            kind = self._rng.choice(FAULTS.get(method, ("503",)))
            if kind == "503":
                self._burst = self._rng.randrange(4)
            self.met[kind] += 1
            return kind

    def flipped(self, body: bytes) -> bytes:
        with self._lock:
            changed = bytearray(body)
            changed[self._rng.randrange(len(changed))] ^= 1 << self._rng.randrange(8)
            return bytes(changed)

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that break are what it is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultProxy

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.server.draw(self.command, self.headers.get("Authorization") or "")
        time.sleep(SECONDS.get(kind, 0))
        if kind in ("reset before", "stall"):
            self._reset()
        elif kind == "lie":
            self._answer(200, [("ETag", '"00000000000000000000000000000000"')], b"")
        elif kind in ANSWERS:
            status, code = ANSWERS[kind]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>"
            self._answer(status, [("Content-Type", "application/xml")], text.encode())
        else:
            self._forward(kind, body)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _pass  # noqa: N815

    def _forward(self, kind: str, body: bytes) -> None:
        where = self.server.upstream
        upstream = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
        if self.command == "HEAD":
            headers.append(("Content-Length", answer.headers.get("Content-Length") or "0"))
        if kind == "reset after":
            self._reset()
        elif kind == "flip" and data and answer.status in (200, 206):
            self._answer(answer.status, headers, self.server.flipped(data))
        elif kind == "cut" and data:
            self._answer(answer.status, headers, data, cut=True)
        else:
            self._answer(answer.status, headers, data)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self._reset()

    def _reset(self) -> None:
        """The connection ends with RST and not as one that is done."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class calls it
        return


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy in threads of this process, harmless until it is told to `harm`."""
    with FaultProxy(upstream) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()
