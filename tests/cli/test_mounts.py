"""What is asked of mounts that are there: umount, commit, status and warmup."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Cli
from tests.cli.running import ended, executed, mounted, stop
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


def test_detached_then_commit_status_and_umount(cli: Cli) -> None:
    cli.volume("data", {"a": b"a" * 1000})
    path = cli.root / "mnt"
    started = subprocess.run(
        [*COMMAND, "mount", "data", str(path), "--detach"], capture_output=True, text=True, timeout=60
    )
    assert (started.returncode, started.stdout) == (0, f"{path}\n"), started.stderr
    assert (path / "a").read_bytes() == b"a" * 1000
    (path / "b").write_bytes(b"b" * 5000)
    [status] = cli("status", "--json").json
    assert status["mount_path"] == str(path)
    assert status["writable"]
    assert status["dirty_bytes"] == 5000
    assert status["requests_per_second"] >= 0
    assert (status["cache_hits"], status["cache_misses"]) == (0, 1)  # it was there, and had to be checked
    assert status["lease"]["left"] > 0
    assert status["volume"].startswith("data-")
    assert str(path) in cli("status").out
    text = cli("status", "--prometheus").out
    assert f'flytevol_dirty_bytes{{volume="{status["volume"]}",mount="{path}"}} 5000' in text
    assert text.count("# TYPE ") == 13
    assert f'flytevol_lease_seconds{{volume="{status["volume"]}",mount="{path}"}} ' in text
    assert "no live mount" in cli("status", cli.root / "elsewhere", code=3).err
    locator = cli("commit", path, "-m", "middle").lines[0]
    assert cli.versions("data")[0]["locator"] == locator
    (path / "c").write_text("c")
    final = cli("umount", path, "-m", "end").lines[0]
    assert cli.versions("data")[0]["locator"] == final
    assert cli("ls", final).lines == ["a", "b", "c"]
    assert not os.path.ismount(path)
    wait_for(lambda: cli("status", "--json").json == [])
    assert str(path) in cli("umount", path, code=3).err
    assert cli("commit", path, code=3).err


def test_umount_discards_or_keeps(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data")
    (path / "b").write_text("b")
    cli("umount", path, "--no-commit")
    ended(process)
    process, path = mounted(cli, "data")
    assert (path / "b").read_text() == "b"
    cli("umount", path, "--discard")
    ended(process)
    process, path = mounted(cli, "data")
    assert os.listdir(path) == ["a"]
    stop(process)
    assert len(cli.versions("data")) == 1


def test_umount_takes_away_what_two_kills_have_left(cli: Cli) -> None:
    """Daemon and client are gone, so nobody else does."""
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data")
    with (path / "b").open("w") as file:
        file.write("b")
        file.flush()
        os.fsync(file.fileno())
    (wire,) = cli("status", "--json").json
    for pid in (wire["pid"], process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(OSError, match="endpoint is not connected"):
        while True:  # until the kernel knows; a request that is under way meanwhile is aborted
            with suppress(ConnectionAbortedError):
                os.listdir(path)
    done = cli("umount", path)
    assert done.out == ""
    assert "flytevol recover" in done.err
    assert not os.path.ismount(path)
    assert "data" in cli("recover").out
    cli("umount", path, code=3)


def left_dead(cli: Cli) -> Path:
    """A mount of which only the kernel knows any more, with the attributes of its directory."""
    process, path = mounted(cli, "data", "--read-only")
    path.stat()
    (wire,) = cli("status", "--json").json
    for pid in (wire["pid"], process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: _is_dead(path))
    assert path.is_dir()
    assert not os.access(path, os.R_OK)
    return path


def _is_dead(path: Path) -> bool:
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def test_a_dead_mount_of_which_the_kernel_has_attributes_is_taken_away(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    path = left_dead(cli)
    assert "no live mount" in cli("status", path, code=3).err
    assert "no live mount" in cli("commit", path, code=3).err
    assert "no live mount" in cli("refresh", path, code=3).err
    assert "its daemon had died" in cli("umount", path).err
    assert not os.path.ismount(path)
    left_dead(cli)
    stop(mounted(cli, "data")[0])
    path = left_dead(cli)
    assert executed(cli, "data", "--at", path, "--", "ls", path).stdout == "a\n"


def test_a_volume_that_is_mounted_is_not_deleted(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data", "--no-commit")
    refused = cli("delete", "data", "--yes", code=4)
    assert "is open for writing already, by" in refused.err
    assert f"`flytevol umount {path}` ends that mount; --force deletes" in refused.err
    assert (path / "a").read_bytes() == b"a"
    assert len(cli.versions("data")) == 1
    cli("delete", "data", "--yes", "--force")
    assert cli("list", "--json").json == []
    assert (path / "a").read_bytes() == b"a"
    stop(process)


def test_a_mount_with_another_inside_is_not_ended(cli: Cli) -> None:
    cli.volume("data", {"dir/a": b"a"})
    cli.volume("inner", {"i": b"i"})
    process, path = mounted(cli, "data")
    inside = path / "dir" / "in side"
    inner = cli.process("mount", "inner", inside)
    wait_for(lambda: len(cli("status", "--json").json) == 2)
    (path / "b").write_text("b")
    (inside / "j").write_text("j")
    for option in ((), ("--no-commit",), ("--discard",)):
        assert f"flytevol umount '{inside}'" in cli("umount", path, *option, code=4).err
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    lines = [process.stderr.readline().decode() for _ in range(3)]
    assert lines[0] == f"error: inside {path} is mounted: {inside}\n"
    assert "still mounted" in lines[2]
    assert len(cli.versions("data")) == 1
    assert (inside / "j").read_text() == "j"
    cli("umount", inside)
    ended(inner)
    cli("umount", path)
    ended(process)
    assert cli("ls", "inner").lines == ["i", "j"]
    assert cli("ls", "data", "-r").lines == ["/b", "/dir/", "/dir/a"]


def test_one_inside_is_seen_whatever_the_path_is_called(cli: Cli) -> None:
    cli.volume("data")
    cli.volume("inner", {"i": b"i"})
    path = cli.root / "mnt no\u00a0break\r\u3000"
    process = cli.process("mount", "data", path, "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["mount_path"] == str(path)
    (path / "empty").mkdir()
    inner = cli.process("mount", "inner", path / "empty", "--json")
    assert inner.stdout is not None
    assert json.loads(inner.stdout.readline())["mount_path"] == str(path / "empty")
    cli("umount", path, code=4)
    cli("umount", path / "empty")
    ended(inner)
    cli("umount", path)
    ended(process)


def test_status_can_be_watched(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data")
    watching = cli.process("status", "--watch", "--interval", "0.2", "--json")
    assert watching.stdout is not None
    [status] = json.loads(watching.stdout.readline())
    assert status["mount_path"] == str(path)
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 130
    stop(process)


def test_warmup_fills_the_cache_of_mounts(cli: Cli) -> None:
    cli.volume("data", {"a": os.urandom(3 << 20), "b": os.urandom(1 << 20)})
    shutil.rmtree(cli.root / "cache")
    assert cli("warmup", "data", "a", "--json").json["fetched_bytes"] >= 3 << 20
    assert cli("warmup", "data", "a", "--json").json["fetched_bytes"] == 0
    assert cli("warmup", "data").lines == ["fetched 1.0 MiB"]
    assert "nowhere" in cli("warmup", "data", "nowhere", code=3).err
    process, path = mounted(cli, "data", "--read-only")
    assert len((path / "a").read_bytes()) == 3 << 20
    assert cli("status", "--json").json[0]["fetched_bytes"] == 0
    stop(process)
