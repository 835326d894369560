"""Credentials that expire in the middle of an upload: renewed where that can be, else said clearly; nothing is lost."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flyteplugins_vol.config import BACKEND_VARIABLE, StoreOptions
from flyteplugins_vol.errors import StoreAccessError
from flyteplugins_vol.io import RWVolume
from flyteplugins_vol.store.open import open_store
from tests.io.conftest import World
from tests.reliability.fault_proxy import FaultProxy, fault_proxy
from tests.servers import S3Server

pytestmark = pytest.mark.s3

CONTENT = {f"f{number}": random.Random(number).randbytes(6 << 20) for number in range(3)}  # two packs
BACKOFF = 0.1  # seconds; obstore asks for credentials no more often than that


@pytest.fixture
def proxy(s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Between the server and all that finds it by the environment."""
    with fault_proxy(s3_environment.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def new_keys(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", name)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"SECRET-of-{name}")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"TOKEN-of-{name}")


@pytest.mark.fuse
@pytest.mark.slow
@pytest.mark.logs_warnings
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_keys_that_were_given_expire_in_an_upload(
    world: World, proxy: FaultProxy, s3_server: S3Server, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, backend)
    new_keys(monkeypatch, "first")
    url = s3_server.new_bucket_url("store")
    volume = world.new(store=url)
    path = volume.mount.sync(world.path("mnt"), max_uploads=1, upload_delay=3600)
    (path / "old").write_bytes(b"old")
    one = volume.commit.sync("one")
    for name, data in CONTENT.items():
        (path / name).write_bytes(data)
    proxy.lives["first"] = 1
    with pytest.raises(StoreAccessError) as caught:
        volume.commit.sync("two")
    assert url in caught.value.message
    assert "ExpiredToken: the credentials have expired" in caught.value.message
    assert "AWS_SESSION_TOKEN" in caught.value.hint
    assert "mount again" in caught.value.hint
    assert "-of-first" not in str(caught.value) + caught.value.hint
    assert proxy.lives["first"] == 0, "it was in the middle"

    # The mount lives on, and nothing was published.
    assert (volume.mount_path, volume.version) == (path, one.version)
    assert {name: (path / name).read_bytes() for name in CONTENT} == CONTENT
    assert volume._mounting is not None
    volume._mounting.end(keep=True)  # as `flytevol umount` does, or the end of the process

    new_keys(monkeypatch, "second")
    path = volume.mount.sync(world.path("mnt"))
    assert {name: (path / name).read_bytes() for name in CONTENT} == CONTENT
    final = volume.finalize.sync("two")
    world.forget_caches()
    assert {name: world.load(final.locator).read_bytes.sync(name) for name in CONTENT} == CONTENT
    assert RWVolume.recoverable() == []


class Metadata(ThreadingHTTPServer):
    """A machine's metadata service: each call gives other keys, that are about to expire, ``key-1``, ``key-2`` …"""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.given = 0


class _Answers(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        self._answer("session")

    def do_GET(self) -> None:
        if self.path.endswith("/security-credentials/"):
            return self._answer("role")
        self.server.given += 1
        soon = datetime.now(timezone.utc) + timedelta(seconds=60)
        keys = {"AccessKeyId": f"key-{self.server.given}", "SecretAccessKey": "SECRET", "Token": "TOKEN"}
        return self._answer(json.dumps({**keys, "Expiration": soon.strftime("%Y-%m-%dT%H:%M:%SZ")}))

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class calls it
        return


@contextmanager
def metadata_service() -> Iterator[Metadata]:
    with Metadata() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def test_keys_of_a_credential_chain_are_renewed(s3_server: S3Server) -> None:
    """As of a machine's or a container's role: obstore asks again before they expire, and the upload goes on."""
    with metadata_service() as metadata, fault_proxy(s3_server.endpoint) as proxy:
        config = {"endpoint": proxy.endpoint, "region": s3_server.region}
        config["metadata_endpoint"] = f"http://127.0.0.1:{metadata.server_address[1]}"
        with open_store(s3_server.new_bucket_url(), StoreOptions(config=config)) as store:
            for number in range(3):
                assert store.create(f"packs/{number}", b"%d" % number)
                proxy.lives = {f"key-{used}": 0 for used in range(1, metadata.given + 1)}  # all of them have expired
                time.sleep(BACKOFF * 1.5)
    assert metadata.given >= 3
    assert not proxy.met["expired"]
