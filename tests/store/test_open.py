"""URLs, schemes, options, and what of it comes from the environment."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from flyteplugins_vol.config import StoreOptions, store_options_from_environment
from flyteplugins_vol.errors import StoreAccessError, UnknownSchemeError, UsageError
from flyteplugins_vol.store import open_store, parse_store_url
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.doubting import Doubting
from flyteplugins_vol.store.encrypted import Unencrypted
from flyteplugins_vol.store.fsspecstore import FsspecStore
from flyteplugins_vol.store.local import LocalStore
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.objectstore import CloudStore
from flyteplugins_vol.store.retrying import Retrying
from flyteplugins_vol.store.s3fsstore import S3fsStore


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("file:///a/b", "file:///a/b"),
        ("file:///a//b/./", "file:///a/b"),
        ("file://localhost/a", "file:///a"),
        ("/a/b/", "file:///a/b"),
        ("/a b/ü#?%", "file:///a%20b/%C3%BC%23%3F%25"),
        ("file:///a%20b", "file:///a%20b"),
        ("memory://name/", "memory://name"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a//b/", "s3://bucket/a/b"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("az://container/x", "az://container/x"),
        ("abfs://container@account.dfs.core.windows.net/x/", "abfs://container@account.dfs.core.windows.net/x"),
    ],
)
def test_urls_are_written_in_one_way(given: str, normal: str) -> None:
    assert parse_store_url(given).text == normal
    assert parse_store_url(normal).text == normal


def test_paths_are_decoded() -> None:
    assert parse_store_url("file:///a%20b").path == "/a b"
    assert parse_store_url("/a%20b").path == "/a%20b"
    assert parse_store_url("s3://bucket/a%20b").path == "a b"


@pytest.mark.parametrize(
    "url",
    [
        "", "a/b", "./a", "s3:/bucket", "s3://", "file://a/b", "file:a", "s3://b/../c", "file:///a/../b", "s3://b/x?y=z",
        "s3://b/x#y", "://x", "1s3://x", "s3://b/a\nb", "s3://[x", "/a/../b",
    ],
)  # fmt: skip
def test_what_is_no_store_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_store_url(url)
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:s3cr3t@bucket/x",
        "s3://key@bucket",
        "abfs://c:s3cr3t@account/x",
        "gs://s3cr3t@b",
        "s3://b/x?sig=s3cr3t",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "backend", "kind"),
    [
        ("memory://x", "auto", MemoryStore),
        ("/tmp/x", "auto", LocalStore),
        ("s3://b/x", "auto", CloudStore),
        ("s3://b/x", "obstore", CloudStore),
        ("s3://b/x", "fsspec", S3fsStore),
        ("az://c/x", "auto", CloudStore),
        ("abfss://c@account.dfs.core.windows.net/x", "auto", CloudStore),
        ("file:///tmp/x", "fsspec", FsspecStore),
        ("local:///tmp/x", "auto", FsspecStore),
    ],
)
def test_schemes_and_backends(url: str, backend: str, kind: type[ObjectStore]) -> None:
    config = {"account_name": "account", "account_key": "a2V5"} if url.startswith("a") else {}
    with open_store(url, StoreOptions(backend=backend, config=config)) as store:
        assert isinstance(store, Retrying)
        assert isinstance(store.inner, Unencrypted)
        inner = store.inner.inner
        if isinstance(inner, Doubting):
            inner = inner.inner
        else:
            assert url.startswith(("memory:", "/", "file:"))
        assert type(inner) is kind


def test_google_is_opened_without_a_network(tmp_path: Path) -> None:
    """No emulator installs from the registries, so this is all that runs here: URL, options and client fit."""
    key = tmp_path / "key.json"
    key.write_text('{"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}')
    with open_store("gs://bucket/prefix", StoreOptions(config={"application_credentials": str(key)})) as store:
        assert store.url == "gs://bucket/prefix"
    with open_store("gs://bucket", StoreOptions(config={"skip_signature": "true", "endpoint": "http://127.0.0.1:1"})):
        pass


def test_unknown_scheme_names_the_known() -> None:
    with pytest.raises(UnknownSchemeError, match="gopher") as caught:
        open_store("gopher://x/y")
    assert "s3://" in caught.value.hint


def test_scheme_that_lacks_a_package_names_it() -> None:
    with pytest.raises(UnknownSchemeError) as caught:
        open_store("oci://b/x", StoreOptions(backend="fsspec"))
    assert "ocifs" in caught.value.hint


def test_unknown_backend() -> None:
    with pytest.raises(UsageError, match="turbo"):
        open_store("memory://x", StoreOptions(backend="turbo"))


def test_options_that_no_client_takes_are_named_without_their_values() -> None:
    with pytest.raises(StoreAccessError) as caught:
        open_store("s3://b", StoreOptions(config={"sekret_key": "s3cr3t"}))
    assert "sekret_key" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_options_travel() -> None:
    options = StoreOptions(backend="fsspec", config={"access_key_id": "k"}, retries=2, timeout=5.0)
    assert StoreOptions.from_wire(json.loads(json.dumps(options.to_wire()))) == options
    assert StoreOptions.from_wire({}) == StoreOptions()
    assert pickle.loads(pickle.dumps(options)) == options


# --- the environment


def config_of(url: str, **environ: str) -> dict[str, str]:
    return dict(store_options_from_environment(url, environ).config)


def test_nothing_set_is_nothing_said() -> None:
    for url in ("s3://b", "gs://b", "abfs://c", "file:///x", "memory://x"):
        assert store_options_from_environment(url, {}) == StoreOptions()


def test_s3_variables() -> None:
    assert config_of(
        "s3://b", AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s", AWS_SESSION_TOKEN="t", AWS_DEFAULT_REGION="r",
        AWS_ENDPOINT_URL="http://e", AWS_ALLOW_HTTP="true", FLYTE_AWS_S3_ADDRESSING_STYLE="virtual",
    ) == {
        "access_key_id": "k", "secret_access_key": "s", "session_token": "t", "region": "r", "endpoint": "http://e",
        "allow_http": "true", "addressing_style": "virtual",
    }  # fmt: skip


def test_the_more_special_variable_wins() -> None:
    environ = {"AWS_ENDPOINT": "e1", "AWS_ENDPOINT_URL": "e2", "AWS_ENDPOINT_URL_S3": "e3", "AWS_REGION": "r1"}
    assert config_of("s3://b", **environ, AWS_DEFAULT_REGION="r2") == {"endpoint": "e3", "region": "r1"}
    assert config_of("s3://b", **environ, FLYTE_AWS_ENDPOINT="e4")["endpoint"] == "e4"


def test_keys_of_two_families_are_not_mixed() -> None:
    aws = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    flyte = {"FLYTE_AWS_ACCESS_KEY_ID": "fk", "FLYTE_AWS_SECRET_ACCESS_KEY": "fs"}
    assert config_of("s3://b", **aws, **flyte) == {"access_key_id": "fk", "secret_access_key": "fs"}
    assert config_of("s3://b", AWS_SESSION_TOKEN="t", **flyte) == {"access_key_id": "fk", "secret_access_key": "fs"}


def test_azure_and_google_variables() -> None:
    assert config_of("abfs://c", AZURE_STORAGE_ACCOUNT="a", AZURE_STORAGE_KEY="k", AZURE_STORAGE_USE_EMULATOR="1") == {
        "account_name": "a", "account_key": "k", "use_emulator": "1",
    }  # fmt: skip
    assert config_of("gs://b", GOOGLE_APPLICATION_CREDENTIALS="/key.json") == {"application_credentials": "/key.json"}


def test_backend_from_the_environment() -> None:
    assert store_options_from_environment("s3://b", {"FLYTE_VOL_STORE_BACKEND": "fsspec"}).backend == "fsspec"


def test_open_store_looks_there_only_when_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_VOL_STORE_BACKEND", "fsspec")
    with open_store("memory://x") as store:
        assert store.conditional is False
    with open_store("memory://x", StoreOptions()) as store:
        assert store.conditional is True
    assert "FLYTE_VOL_STORE_BACKEND" in os.environ
