"""The shipped suite over every store, bare, and in all wrappers at once."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.store.base import ObjectStore, StoreOptions
from flyteplugins_vol.store.counting import Counting
from flyteplugins_vol.store.delayed import Delayed
from flyteplugins_vol.store.doubting import Doubting
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.retrying import Retrying
from flyteplugins_vol.store.suite import StoreSuite
from tests.servers import AzureServer, S3Server

from .conftest import Opener


def wrapped(store: ObjectStore) -> ObjectStore:
    return Retrying(Counting(Doubting(Faulty(Delayed(store, latency=0.0, sleep=lambda _: None)), sleep=lambda _: None)))


class TestMemory(StoreSuite):
    @pytest.fixture
    def store(self, bare: Opener, memory_url: str) -> ObjectStore:
        return bare(memory_url)


class TestMemoryWrapped(StoreSuite):
    @pytest.fixture
    def store(self, bare: Opener, memory_url: str) -> ObjectStore:
        return wrapped(bare(memory_url))


class TestLocal(StoreSuite):
    @pytest.fixture
    def store(self, bare: Opener, local_url: str) -> ObjectStore:
        self.bare, self.where = bare, local_url
        return bare(local_url)

    def again(self, store: ObjectStore) -> ObjectStore:
        return self.bare(self.where)


class TestLocalWrapped(StoreSuite):
    @pytest.fixture
    def store(self, bare: Opener, local_url: str) -> ObjectStore:
        return wrapped(bare(local_url))


class _S3(StoreSuite):
    """Over some S3 server; ``prefix`` is the store's place in the bucket."""

    backend = "obstore"
    prefix = "some/prefix"

    @pytest.fixture
    def server(self, moto: S3Server) -> S3Server:
        return moto

    @pytest.fixture
    def store(self, bare: Opener, server: S3Server) -> ObjectStore:
        self.bare, self.server_ = bare, server
        return bare(server.new_bucket_url(self.prefix), server.options(self.backend))

    def again(self, store: ObjectStore) -> ObjectStore:
        return self.bare(store.url, self.server_.options(self.backend))


@pytest.mark.s3
class TestS3(_S3):
    pass


@pytest.mark.s3
class TestS3WholeBucket(_S3):
    prefix = ""
    many = 10


@pytest.mark.s3
class TestS3OddPrefix(_S3):
    prefix = "a b/ü+%25/x=y&z"
    many = 10


@pytest.mark.s3
class TestS3Wrapped(_S3):
    many = 10

    @pytest.fixture
    def store(self, bare: Opener, server: S3Server) -> ObjectStore:
        self.bare, self.server_ = bare, server
        return wrapped(bare(server.new_bucket_url(), server.options()))


@pytest.mark.s3
class TestS3fs(_S3):
    backend = "fsspec"
    many = 1_005


@pytest.mark.s3
@pytest.mark.slow
class TestS3fsOddPrefix(_S3):
    backend = "fsspec"
    prefix = "a b/ü+%25/x=y&z"
    many = 10


@pytest.mark.s3
@pytest.mark.slow
class TestRadosgw(_S3):
    @pytest.fixture
    def server(self, radosgw: S3Server) -> S3Server:
        return radosgw


@pytest.mark.s3
@pytest.mark.slow
class TestRadosgwOverS3fs(_S3):
    backend = "fsspec"

    @pytest.fixture
    def server(self, radosgw: S3Server) -> S3Server:
        return radosgw


@pytest.mark.slow
class TestAzure(StoreSuite):
    @pytest.fixture
    def store(self, bare: Opener, azurite: AzureServer) -> ObjectStore:
        return bare(azurite.new_container_url("some/prefix"), azurite.options())


class TestFsspecMemory(StoreSuite):
    @pytest.fixture
    def store(self, bare: Opener) -> ObjectStore:
        store = bare(f"memory://{uuid4().hex}/prefix", StoreOptions(backend="fsspec"))
        assert not store.conditional
        return store


class TestFsspecLocal(StoreSuite):
    @pytest.fixture
    def store(self, bare: Opener, tmp_path: Path) -> ObjectStore:
        return bare(f"file://{tmp_path}/store", StoreOptions(backend="fsspec"))
