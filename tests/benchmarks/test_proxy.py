"""The proxy of the benchmark: what goes through it arrives as it was, later and counted."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from volume_bench.measure import chain, traffic_of
from volume_bench.proxy import CONTROL, Proxy, Request, requests_from


class Keeper(BaseHTTPRequestHandler):
    """Keeps what is PUT, answers with it; a listing in chunks."""

    protocol_version = "HTTP/1.1"
    kept: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(self.kept[self.path])

    def do_GET(self) -> None:
        if "?" not in self.path:
            self._answer(self.kept[self.path])
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")

    def _answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def connection() -> Iterator[http.client.HTTPConnection]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Keeper) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        proxy = Proxy(server.server_address[1], 0.01)
        threading.Thread(target=proxy.serve, daemon=True).start()
        found = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
        yield found
        found.close()
        proxy.close()
        server.shutdown()


def answer(connection: http.client.HTTPConnection, verb: str, path: str, body: bytes | None = None) -> bytes:
    connection.request(verb, path, body, {"Expect": "100-continue"} if body else {})
    return connection.getresponse().read()


def test_bodies_pass_whole_in_both_directions_and_are_counted(connection: http.client.HTTPConnection) -> None:
    data = os.urandom(3_000_000)
    answer(connection, "PUT", "/bucket/key", data)
    assert answer(connection, "GET", "/bucket/key") == data
    assert answer(connection, "HEAD", "/bucket/key") == b""
    assert answer(connection, "GET", "/bucket?list-type=2") == b"hello world"
    answer(connection, "PUT", "/bucket/volumes/v/lease.json", b"1")
    seen = requests_from(answer(connection, "GET", CONTROL))
    assert [request.method for request in seen] == ["PUT", "GET", "HEAD", "GET", "PUT"]
    assert all(request.ended - request.began >= 0.01 for request in seen)
    traffic = traffic_of(seen)
    assert (traffic.puts, traffic.sent, traffic.gets, traffic.received) == (1, len(data), 1, len(data))
    assert (traffic.others, traffic.leases, traffic.trips) == (2, 1, 4)
    assert requests_from(answer(connection, "GET", CONTROL)) == []


def test_a_chain_is_of_requests_that_waited_for_one_another() -> None:
    assert chain([]) == 0
    assert chain([(0, 4), (1, 2), (2, 3), (3.5, 5)]) == 3
    assert traffic_of([Request("PUT", "/a", 1, 0, 0, 2), Request("PUT", "/b", 1, 0, 1, 2)]).trips == 1
