"""moto's S3 server in this process: right about conditional writes, checks neither keys nor sums."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from .server import S3Server

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


@contextmanager
def moto_server(port: int = 0) -> Iterator[S3Server]:
    """The server, in threads; port 0 takes a free one. Its objects are in memory and end with it."""
    from moto.server import ThreadedMotoServer  # half a second to import

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server: Any = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        _, chosen = server.get_host_and_port()
        server._server.app = _in_turn(server._server.app)
        yield S3Server(f"http://127.0.0.1:{chosen}")
    finally:
        server.stop()


def _in_turn(application: Application) -> Application:
    """One change at a time, once all of it has come: between moto's look at a condition and its write others get in."""
    turn = threading.Lock()

    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return application(environ, start_response)
        if "CONTENT_LENGTH" in environ:
            environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0)))
        with turn:
            return application(environ, start_response)

    return serve
