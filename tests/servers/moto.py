"""moto's S3 server in this process: right about conditional writes, checks neither keys nor sums."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from .server import S3Server


@contextmanager
def moto_server(port: int = 0) -> Iterator[S3Server]:
    """The server, in threads; port 0 takes a free one. Its objects are in memory and end with it."""
    from moto.server import ThreadedMotoServer  # half a second to import

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        _, chosen = server.get_host_and_port()
        yield S3Server(f"http://127.0.0.1:{chosen}")
    finally:
        server.stop()
