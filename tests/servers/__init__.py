"""Object storage servers on loopback, for tests, benchmarks and the demo: each a context manager that ends it.

    with moto_server() as server:                 # S3; checks no keys
        store = open_store(server.new_bucket_url(), server.options())

`radosgw_server` (Ceph, strict) and `azurite_server` (Azure) need packages of their own: ask `radosgw_missing` and
`azurite_missing` first. By hand: ``python -m tests.servers moto --port 5333``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flyteplugins_vol.config import StoreOptions

from .azurite import azurite_missing, azurite_server
from .moto import moto_server
from .radosgw import radosgw_missing, radosgw_server
from .server import AzureServer, S3Server

__all__ = [
    "AzureServer",
    "S3Server",
    "azurite_missing",
    "azurite_server",
    "moto_server",
    "radosgw_missing",
    "radosgw_server",
    "s3_store_url",
]


@contextmanager
def s3_store_url(prefix: str = "") -> Iterator[tuple[str, StoreOptions]]:
    """URL and options of a new, empty store on an S3 server of its own."""
    with moto_server() as server:
        yield server.new_bucket_url(prefix), server.options()
