"""Credentials are nowhere but in memory: not in arguments, logs, records, files, error messages or core dumps."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import LocatorError, StoreError
from flyteplugins_vol.history.record import parse_locator
from flyteplugins_vol.io import Volume
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount.handshake import greeting
from flyteplugins_vol.store.open import open_store
from tests.servers import S3Server

KEY, SECRET, TOKEN = "AKIDEXAMPLE0SECU", "wJalrXUtnFEMI-not-for-anybody", "token-not-for-anybody-either"
ENCRYPTION = "an encryption secret, also for nobody"
NEEDLES = [SECRET.encode(), TOKEN.encode(), ENCRYPTION.encode()]


def options(server: S3Server) -> StoreOptions:
    given = server.options("obstore")
    config = {**given.config, "access_key_id": KEY, "secret_access_key": SECRET, "session_token": TOKEN}
    return replace(given, config=config, encryption=ENCRYPTION, retries=1, timeout=5.0)


def assert_clean(data: bytes, where: object) -> None:
    for needle in NEEDLES:
        assert needle not in data, where


@pytest.mark.fuse
@pytest.mark.s3
@pytest.mark.logs_warnings
def test_nowhere_on_a_mount_and_in_a_store(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "cache"))
    given = options(s3_server)
    volume = Volume.new("leaks", s3_server.new_bucket_url("place"), store_options=given)
    where = volume.mount.sync(tmp_path / "mnt")
    try:
        (where / "file").write_bytes(b"x" * 10_000)
        volume.commit.sync("first")
        daemon = Path(f"/proc/{volume.status()['pid']}")
        assert_clean((daemon / "cmdline").read_bytes(), "arguments")
        assert_clean((daemon / "environ").read_bytes(), "environment")
        assert re.search(r"Max core file size +1 +1 ", (daemon / "limits").read_text())
        for path in (tmp_path / "cache").rglob("*"):
            if path.is_file():
                assert_clean(path.read_bytes(), path)
        assert_clean(repr(volume.status()).encode(), "status")
        assert_clean(repr(volume).encode(), "repr")
        assert_clean(Path("/proc/self/mountinfo").read_bytes(), "mount table")
        assert volume.locator is not None
        assert_clean(volume.locator.encode(), "locator")
    finally:
        volume.abandon.sync()
    with open_store(volume.store, replace(given, encryption=ENCRYPTION)) as store:
        for info in store.list("volumes/"):
            assert_clean(store.get(info.key) or b"", info.key)


@pytest.mark.s3
@pytest.mark.logs_warnings
def test_nowhere_in_errors_and_logs(s3_server: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    url = s3_server.new_bucket_url("place").replace("s3://", "s3://no-such-bucket-")
    for backend in ("obstore", "fsspec"):
        with open_store(url, replace(options(s3_server), backend=backend, encryption="")) as store:
            with pytest.raises(StoreError) as caught:
                store.create("volumes/x", b"x")
            error: BaseException | None = caught.value
            while error is not None:
                assert_clean(repr(error).encode() + str(error).encode(), type(error))
                error = error.__cause__ or error.__context__
            assert_clean(repr(store).encode(), "repr")
    ours = [record for record in caplog.records if record.name.startswith("flyteplugins_vol")]
    assert_clean("\n".join(record.getMessage() for record in ours).encode(), "log")


def test_not_in_the_error_for_an_address_with_a_password() -> None:
    with pytest.raises(LocatorError) as caught:
        parse_locator(f"s3://AKEY:{SECRET}@bucket/volumes/x")
    assert SECRET not in str(caught.value)
    assert "bucket" in caught.value.message


def test_nowhere_in_what_is_printed(tmp_path: Path) -> None:
    given = StoreOptions(config={"secret_access_key": SECRET, "session_token": TOKEN}, encryption=ENCRYPTION)
    spec = MountSpec("0" * 16, "x", "s3://b", "/m", "/d", "/c", store_options=given.to_wire())
    for value in (given, spec):
        assert_clean(f"{value!r}{value}".encode(), type(value))
    assert SECRET.encode() in greeting(spec, None)  # it goes through a private socket pair
    assert os.environ.get("FLYTE_VOL_ENCRYPTION_KEY") is None


@pytest.mark.logs_warnings
def test_the_daemon_takes_them_out_of_its_log(tmp_path: Path) -> None:
    import logging

    from flyteplugins_vol.mount.logs import _Redacting, _secrets

    given = StoreOptions(config={"secret_access_key": SECRET, "endpoint": "http://x"}, encryption=ENCRYPTION)
    formatter = _Redacting(_secrets(given.to_wire()))
    try:
        raise ValueError(f"a library that tells: {SECRET}")
    except ValueError as error:
        record = logging.LogRecord("x", 40, "x", 1, "%s %s", (ENCRYPTION, "http://x"), (ValueError, error, None))
    line = formatter.format(record)
    assert_clean(line.encode(), "log")
    assert "http://x" in line
