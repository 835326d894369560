"""doctor and bench: what they find, what they advise, and that they clean up."""

from __future__ import annotations

import sqlite3
import time

import pytest

from flyteplugins_vol.cli import doctor
from flyteplugins_vol.errors import FuseMissingError
from flyteplugins_vol.mount import preflight
from flyteplugins_vol.store.memory import MemoryStore
from tests.cli.conftest import Cli


def states(cli: Cli, *arguments: str, code: int = 0) -> dict[str, str]:
    return {one["item"]: one["state"] for one in cli("doctor", "--json", *arguments, code=code).json}


@pytest.mark.fuse
def test_a_machine_that_is_ready(cli: Cli) -> None:
    found = states(cli)
    assert set(found) >= {
        "python", "sqlite", "kernel", "/dev/fuse", "fusermount3", "packages", "open files", "cache disk", "store",
        "put", "range get", "conditional put", "list", "clock", "delete",
    }  # fmt: skip
    assert "failed" not in found.values()
    assert not [path for path in (cli.root / "store").rglob("*") if path.is_file() and path.name != ".lock"]
    lines = cli("doctor").lines
    assert lines[0].startswith("ok")
    assert "put" not in states(cli, "--no-store")


def test_a_machine_that_is_not(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise FuseMissingError("there is no /dev/fuse", hint="modprobe fuse")

    monkeypatch.setattr(preflight, "check_device", missing)
    done = cli("doctor", "--no-store", code=5)
    assert "failed  /dev/fuse" in done.out
    assert "→ modprobe fuse" in done.out
    assert states(cli, "--no-store", code=5)["/dev/fuse"] == "failed"


def test_single_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.kernel("3.10.0-1160.el7").state == "warning"
    assert doctor.kernel("6.18.44-x").state == "ok"
    assert doctor.kernel("5.10-rc1").state == "ok"
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    assert doctor.sqlite().state == "failed"
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert "pip install trio" in doctor.packages().repair


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    found = {one.item: one for one in doctor.limits()}
    assert found["open files"].repair == "ulimit -n 4096"
    assert found["file size"].state == "warning"


def test_a_disk_that_is_full_or_missing(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    assert doctor.disk(str(tmp_path / "new")).state == "ok"
    assert doctor.disk("/proc/nope").state == "failed"
    monkeypatch.setattr(preflight, "LEAST_FREE", 1 << 60)
    assert doctor.disk(str(tmp_path)).found


def test_stores_that_do_not_do(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.root / "file").write_text("")
    assert states(cli, "--store", str(cli.root / "file"), code=5)["put"] == "failed"
    assert states(cli, "--store", "nonsense://x", code=5)["store"] == "failed"
    monkeypatch.setattr(MemoryStore, "replace", lambda self, key, data, tag: "taken")
    found = {one["item"]: one for one in cli("doctor", "--json", "--store", "memory://d", code=5).json}
    assert "wrong tag" in found["conditional put"]["found"]
    assert found["delete"]["state"] == "ok"


def test_hints_are_to_be_typed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_VOL_ENCRYPTION_KEY", "a secret of some length")
    cli.volume("data")
    monkeypatch.delenv("FLYTE_VOL_ENCRYPTION_KEY")
    put = next(one for one in cli("doctor", "--json", code=5).json if one["item"] == "put")
    [listed] = cli("list", "--json").json
    assert put["repair"] == listed["error"]["hint"] == "set FLYTE_VOL_ENCRYPTION_KEY"


def test_a_clock_that_is_wrong(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(doctor.time, "time", lambda: now - 3600)
    found = {one["item"]: one for one in cli("doctor", "--json", "--store", "memory://c", "--json").json}
    assert found["clock"]["state"] == "warning"
    assert "behind" in found["clock"]["found"]


def test_bench_measures_and_leaves_nothing(cli: Cli) -> None:
    found = cli("bench", "--size", "1", "--files", "20", "--json").json
    assert {one["unit"] for one in found} == {"MB/s", "files/s"}
    assert all(one["value"] > 0 for one in found)
    cli("bench", "--size", "1", "--files", "5", "--store", cli.store)
    assert cli("list", "--json").json == []
