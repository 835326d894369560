"""Volumes need no SDK, SDKs find volumes by themselves, and neither breaks the other."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from flyteplugins_vol.integrations.places import volumes_below

HEAVY = ("flyte", "flytekit", "pydantic", "kubernetes", "s3fs", "textual", "trio", "pyfuse3", "grpc")


def python(code: str, **variables: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "DO_NOT_TRACK": "1", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_io_imports_no_sdk() -> None:
    loaded = json.loads(
        python("import json, sys, flyteplugins_vol.io as io; io.Volume.new('x'); print(json.dumps([*sys.modules]))")
    )
    assert not set(HEAVY) & set(loaded)


def test_the_entry_points_are_installed() -> None:
    def values(group: str) -> set[str]:
        return {entry.value for entry in metadata.entry_points(group=group) if "flyteplugins_vol" in entry.value}

    assert values("flyte.plugins.types") == {"flyteplugins_vol.integrations.flyte2:register"}
    assert values("flytekit.plugins") == {"flyteplugins_vol.integrations.flytekit1"}
    assert len(values("flyteplugins_vol.hosts")) == 2


@pytest.mark.parametrize("first", ["flyte", "flytekit"])
def test_both_sdks_in_one_process(first: str) -> None:
    pytest.importorskip("flyte")
    pytest.importorskip("flytekit")
    second = {"flyte": "flytekit", "flytekit": "flyte"}[first]
    code = f"""
import {first}, {second}
from flyte.types import TypeEngine as Two
from flytekit.core.type_engine import TypeEngine as One
from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from flyteplugins_vol.io import hosts
kinds = (ROVolume, RWVolume, Volume)
print(*sorted({{type(engine.get_transformer(kind)).__module__ for engine in (One, Two) for kind in kinds}}))
print(len(hosts.hosts()), hosts.store_url(None), hosts.produced_by(), hosts.boundary())
"""
    modules, rest = python(code).splitlines()
    assert modules == (
        "flyteplugins_vol.integrations.flyte2.transformer flyteplugins_vol.integrations.flytekit1.transformer"
    )
    assert rest == "2 file:///nonexistent/.local/share/flytevol None None"


def test_an_error_of_ours_does_not_break_flytekit(tmp_path: Path) -> None:
    pytest.importorskip("flytekit")
    code = """
import sys
sys.modules["flyteplugins_vol.io.volume"] = None
import flytekit
print(flytekit.task)
"""
    assert "function task" in python(code)


def test_credentials_as_flyte_is_configured() -> None:
    pytest.importorskip("flyte")
    code = """
import flyte, flyte.storage
from flyteplugins_vol.io import hosts, StoreOptions
flyte.init(storage=flyte.storage.S3(endpoint="http://store:9000", access_key_id="key", secret_access_key="secret",
                                    region="eu-1", addressing_style="virtual"))
options = hosts.store_options("s3://bucket/x", None)
print(sorted(options.config.items()))
print(hosts.store_options("s3://bucket/x", StoreOptions()).config, hosts.store_options("file:///x", None).config)
"""
    first, second = python(code, AWS_ACCESS_KEY_ID="other", AWS_SESSION_TOKEN="other", AWS_REGION="us-1").splitlines()
    assert "other" not in first
    for pair in (("access_key_id", "key"), ("secret_access_key", "secret"), ("endpoint", "http://store:9000"),
                 ("addressing_style", "virtual")):  # fmt: skip
        assert str(pair) in first
    assert second == "{} {}"


@pytest.mark.parametrize(
    ("raw", "run", "owners", "store"),
    [
        ("s3://b/raw/r1/a0", "r1", ("o", "p", "d"), "s3://b/raw/o/p/d/volumes"),
        ("s3://b/raw/ab/r1/a0", "r1", ("o", "p", "d"), "s3://b/raw/o/p/d/volumes"),
        ("s3://b/data/x7/r1-n0-0/", "r1", ("p", "d"), "s3://b/data/p/d/volumes"),
        ("s3://b/o/p/d/r1/a0/1", "r1", ("o", "p", "d"), "s3://b/o/p/d/volumes"),
        ("s3://b/some/where/else", "r1", ("p", "d"), "s3://b/p/d/volumes"),
        ("gs://b", None, (None, "p q", ""), "gs://b/p%20q/volumes"),
        ("abfs://c@a.dfs.core.windows.net/x/r1", "r1", ("p",), "abfs://c@a.dfs.core.windows.net/x/p/volumes"),
    ],
)
def test_where_volumes_are(raw: str, run: str | None, owners: tuple[str | None, ...], store: str) -> None:
    assert volumes_below(raw, run, owners) == store
