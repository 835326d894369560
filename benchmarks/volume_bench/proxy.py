"""A proxy in front of an S3 server that counts requests and makes it far away: each takes some milliseconds longer.

    python proxy.py UPSTREAM_PORT LATENCY_MS [MB_PER_SECOND]

It prints its own port; GET /__requests answers with what it saw, once. Each connection sends and receives no more than
so many MB in a second, as those to a cloud's store do.

A thread for each connection; bodies go from socket to socket by splice(2), without a copy: it passes gigabytes a
second and takes little of the processors that it shares with what is measured. It runs until its stdin is closed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

CONTROL = "/__requests"
_PIPE = 1 << 20
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """One request: bytes of its bodies, and when it came and was answered, in seconds of one clock."""

    method: str
    path: str
    sent: int
    received: int
    began: float
    ended: float

    @property
    def listing(self) -> bool:
        return "?" in self.path and ("list-type" in self.path or "prefix=" in self.path or "delimiter=" in self.path)


class Proxy:
    """Listens on a free port of the loopback."""

    def __init__(self, upstream: int, latency: float, rate: float | None = None) -> None:
        """``latency`` in seconds; ``rate`` of each connection in bytes a second."""
        self._upstream = upstream
        self._latency = latency
        self._rate = rate
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._lock = threading.Lock()
        self._seen: list[Request] = []
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        """Until it is closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Take no further connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _connection(self, client: socket.socket) -> None:
        server: _End | None = None
        near = _End(client)
        pipe = _Pipe(self._rate)
        try:
            while head := near.head():
                began = time.monotonic()
                method, path = (word.decode("latin-1") for word in head.split(b" ", 2)[:2])
                if path == CONTROL:
                    self._tell(client)
                    continue
                if server is None or server.stale:
                    server = _End(socket.create_connection(("127.0.0.1", self._upstream)))
                time.sleep(self._latency)
                if _EXPECT.search(head):
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    head = _EXPECT.sub(b"", head)
                server.socket.sendall(head)
                sent = _body(head, near, server, pipe)
                answer = server.head()
                client.sendall(answer)
                status = int(answer.split(b" ", 2)[1])
                bodiless = method == "HEAD" or status in (204, 304)
                received = 0 if bodiless else _body(answer, server, near, pipe)
                with self._lock:
                    self._seen.append(Request(method, path, sent, received, began, time.monotonic()))
                if not answer or _CLOSE.search(answer):
                    return
        except (OSError, IndexError, ValueError):
            pass  # either side went away
        finally:
            pipe.close()
            for end in (near, server):
                if end is not None:
                    end.socket.close()

    def _tell(self, client: socket.socket) -> None:
        with self._lock:
            seen, self._seen = self._seen, []
        body = json.dumps([asdict(request) for request in seen]).encode()
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


class _End:
    """One side of a connection, with the bytes that were read beyond the head of a message."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.rest = b""
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def head(self) -> bytes:
        """The next message up to its empty line; nothing at the end of the connection."""
        data = self.rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            part = self.socket.recv(65536)
            if not part:
                return b""
            data += part
        self.rest = data[end + 4 :]
        return data[: end + 4]

    def line(self) -> bytes:
        while (end := self.rest.find(b"\r\n")) < 0:
            self._more()
        line, self.rest = self.rest[: end + 2], self.rest[end + 2 :]
        return line

    def take(self, size: int) -> bytes:
        """Up to ``size`` of the bytes that are here already."""
        part, self.rest = self.rest[:size], self.rest[size:]
        return part

    @property
    def stale(self) -> bool:
        """Whether the other side has closed, or says something that nobody asked for."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def _more(self) -> None:
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionResetError
        self.rest += part


class _Pipe:
    """What splice(2) needs between two sockets."""

    def __init__(self, rate: float | None) -> None:
        self._out, self._in = os.pipe()
        self._rate = rate
        fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _PIPE)

    def move(self, source: _End, target: _End, size: int) -> None:
        began = time.monotonic()
        part = source.take(size)
        target.socket.sendall(part)
        left = size - len(part)
        while left:
            if self._rate is not None:
                time.sleep(max(0.0, began + (size - left) / self._rate - time.monotonic()))
            there = os.splice(source.socket.fileno(), self._in, min(left, _PIPE))
            if not there:
                raise ConnectionResetError
            left -= there
            while there:
                there -= os.splice(self._out, target.socket.fileno(), there)

    def close(self) -> None:
        os.close(self._in)
        os.close(self._out)


def _body(head: bytes, source: _End, target: _End, pipe: _Pipe) -> int:
    """Pass on the body that follows a head; its bytes."""
    length = _LENGTH.search(head)
    if length:
        pipe.move(source, target, int(length[1]))
        return int(length[1])
    if not _CHUNKED.search(head):
        return 0
    total = 0
    while True:
        line = source.line()
        target.socket.sendall(line)
        size = int(line.split(b";")[0], 16)
        pipe.move(source, target, size)
        target.socket.sendall(source.line())
        total += size
        if not size:
            return total


def main(arguments: list[str]) -> None:
    rate = float(arguments[2]) * 1e6 if len(arguments) > 2 else None
    proxy = Proxy(int(arguments[0]), float(arguments[1]) / 1000, rate)
    print(proxy.port, flush=True)
    threading.Thread(target=proxy.serve, daemon=True).start()
    sys.stdin.read()


def requests_from(text: bytes) -> list[Request]:
    """What the control path answered."""
    entries: list[dict[str, Any]] = json.loads(text)
    return [Request(**entry) for entry in entries]


if __name__ == "__main__":
    main(sys.argv[1:])
