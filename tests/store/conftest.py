"""Stores to test, each new and empty, and the servers behind some of them, each started once and only if wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.store.base import ObjectStore, StoreOptions
from flyteplugins_vol.store.open import open_bare
from flyteplugins_vol.store.url import parse_store_url
from tests.servers import AzureServer, S3Server, azurite_missing, azurite_server, moto_server, radosgw_missing
from tests.servers import radosgw_server as start_radosgw

Opener = Callable[..., ObjectStore]


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw() -> Iterator[S3Server]:
    if reason := radosgw_missing():
        pytest.skip(reason)
    with start_radosgw() as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzureServer]:
    if reason := azurite_missing():
        pytest.skip(reason)
    with azurite_server() as server:
        yield server


@pytest.fixture
def bare() -> Iterator[Opener]:
    """Opens stores that try once, and closes them."""
    opened: list[ObjectStore] = []

    def open_(url: str, options: StoreOptions | None = None) -> ObjectStore:
        store = open_bare(parse_store_url(url), options or StoreOptions())
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def local_url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


@pytest.fixture
def memory_url() -> str:
    return f"memory://{uuid4().hex}"
