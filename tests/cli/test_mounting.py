"""``flytevol mount``, in a process of its own: what it begins with, in the background too, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from flyteplugins_vol.mount.wire_passthrough import may_pass_through
from tests.cli.conftest import COMMAND, Cli
from tests.cli.running import ended, mounted, stop
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


def test_ctrl_c_publishes_and_prints_the_locator(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data", "-m", "by hand")
    (path / "b").write_text("b")
    out, _ = stop(process)
    assert out.strip() == cli.versions("data")[0]["locator"]
    assert cli.versions("data")[0]["message"] == "by hand"
    assert cli("ls", "data").lines == ["a", "b"]
    assert not path.exists()


@pytest.mark.skipif(not may_pass_through(), reason="needs CAP_SYS_ADMIN")
def test_passthrough(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    assert "has nothing to publish" in cli("mount", "data", "look", "--read-only", "--passthrough", code=2).err
    process, path = mounted(cli, "data", "--passthrough")
    (path / "b").write_bytes(bytes(3 << 20))
    (live,) = cli("status", "--json").json
    assert live["passthrough"]
    stop(process)
    assert len(cli("cat", "data", "b").out) == 3 << 20


@pytest.mark.skipif(find_spec("pyfuse3") is None, reason="pyfuse3 is not installed")
def test_passthrough_where_it_cannot_be(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.volume("data", {"a": b"a"})
    monkeypatch.setenv("FLYTE_VOL_DRIVER", "pyfuse3")
    process = cli.process("mount", "data", cli.root / "mnt", "--passthrough")
    assert process.stderr is not None
    assert "no passthrough; why is in" in process.stderr.readline().decode()
    assert "mnt" in process.stderr.readline().decode()
    (live,) = cli("status", "--json").json
    assert not live["passthrough"]
    assert "the driver pyfuse3 has none" in Path(live["log_path"]).read_text()
    stop(process)


def test_a_mount_that_is_in_use_at_its_end_is_told(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data")
    with (path / "b").open("w") as file, suppress(OSError):
        file.write("b")
        file.flush()
        assert "it was in use: what programs still write to its files is lost" in stop(process)[1]
    assert cli("cat", "data", "b").out == "b"


def test_a_signal_that_is_ignored_does_not_end_it(cli: Cli) -> None:
    """As nohup starts it."""
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data", begun_by="trap '' HUP")
    (mask,) = re.findall(r"^SigIgn:\s*(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert int(mask, 16) >> signal.SIGHUP - 1 & 1
    process.send_signal(signal.SIGHUP)
    (path / "b").write_text("b")
    assert stop(process, signal.SIGTERM)[0].strip() == cli.versions("data")[0]["locator"]
    assert cli("ls", "data").lines == ["a", "b"]


def test_a_locator_is_forked_first(cli: Cli) -> None:
    locator = cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, locator, "--json")
    (path / "b").write_text("b")
    version = json.loads(stop(process, signal.SIGTERM)[0])["version"]
    assert (version["name"], version["parents"]) == ("data-fork", [locator])
    assert cli("ls", "data").lines == ["a"]


def test_read_only_and_no_commit_publish_nothing(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data", "--read-only")
    with pytest.raises(OSError, match="Read-only"):
        (path / "b").write_text("b")
    assert stop(process)[0] == ""
    process, path = mounted(cli, "data", "--no-commit")
    (path / "b").write_text("b")
    assert stop(process)[0] == ""
    process, path = mounted(cli, "data", "--read-only")
    assert cli("umount", path).out == ""
    ended(process)
    assert len(cli.versions("data")) == 1
    assert cli("ls", "data").lines == ["a"]
    cli("mount", "data", path, "--read-only", "--autocommit", "3", code=2)


def test_who_writes_already_and_how_that_ends(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data")
    busy = cli("put", "data", "-", "x", code=4).err
    assert f"is mounted for writing already, at {path} by process {process.pid} on " in busy
    assert f"hint: `flytevol umount {path}` ends that mount; or fork the volume" in busy
    stop(process)
    writer = cli.process("put", "data", "-", "x")
    wait_for(lambda: any((cli.root / "cache" / "unmounted").rglob("state.json")))
    busy = cli("put", "data", "-", "x", code=4).err
    assert f"is open for writing already, by process {writer.pid} on " in busy
    assert "hint: wait for its end" in busy


def test_a_mount_path_that_cannot_be_used(cli: Cli) -> None:
    cli.volume("data")
    (cli.root / "full").mkdir()
    (cli.root / "full" / "file").write_text("")
    assert "is not empty" in cli("mount", "data", cli.root / "full", code=5).err
    assert "no volume" in cli("mount", "nowhere", cli.root / "x", code=3).err


def test_a_failed_commit_leaves_it_mounted(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data")
    (path / "b").write_text("b")
    cli("put", "data", "-", "c", stdin=b"", code=4)  # one writer
    shutil.move(cli.root / "store" / "volumes", cli.root / "away")
    (cli.root / "store" / "volumes").write_text("in the way")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    lines = [process.stderr.readline().decode()]
    while "still mounted" not in lines[-1]:
        lines.append(process.stderr.readline().decode())
    assert lines[0].startswith("error: ")
    assert (path / "b").read_text() == "b"
    (cli.root / "store" / "volumes").unlink()
    shutil.move(cli.root / "away", cli.root / "store" / "volumes")
    assert stop(process)[0].strip() == cli.versions("data")[0]["locator"]
    assert cli("ls", "data").lines == ["a", "b"]


_KILLED_WRITER = """
import os, signal, sys
from flyteplugins_vol.io import Volume
volume = Volume.from_name.sync("data", sys.argv[1])
volume.write_bytes.sync("b", b"in no version")
volume._access.writer.call(volume._access.writer.workspace.housekeep)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_only_what_a_killed_put_has_written_is_spoken_of(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process = cli.process("put", "data", "-", "big")
    wait_for(lambda: any((cli.root / "cache" / "unmounted").rglob("state.json")))
    process.kill()
    process.wait()
    shutil.rmtree(cli.root / "cache" / "cache" / "index")  # which keeps the last few only
    process, _ = mounted(cli, "data", "--read-only")
    assert "recover" not in stop(process)[1]
    assert "nothing to recover" in cli("recover").err
    subprocess.run([sys.executable, "-c", _KILLED_WRITER, cli.store], check=False)
    reader = cli.process("mount", "data", cli.root / "mnt", "--read-only")
    assert reader.stderr is not None
    assert b"`flytevol recover` has it" in reader.stderr.readline()
    assert b"mounted" in reader.stderr.readline()  # until then a signal ends it as any other command
    stop(reader)


def test_a_detached_mount_that_fails_says_why(cli: Cli) -> None:
    done = subprocess.run(
        [*COMMAND, "mount", "nowhere", str(cli.root / "mnt"), "-d"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 3
    assert "no volume 'nowhere'" in done.stderr


def test_a_detached_mount_returns_when_nobody_reads(cli: Cli) -> None:
    """`flytevol mount … --detach | true`."""
    cli.volume("data", {"a": b"a"})
    path = cli.root / "mnt"
    reading, writing = os.pipe()
    os.close(reading)
    process = cli.process("mount", "data", path, "--detach", stdout=writing)
    os.close(writing)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (141, b"")
    assert (path / "a").read_bytes() == b"a"
    cli("umount", path)
    with open("/dev/full", "wb") as full:
        process = cli.process("mount", "data", path, "--detach", stdout=full)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 5
    assert b"No space left" in told
    assert (path / "a").read_bytes() == b"a"
    cli("umount", path)


@pytest.mark.parametrize("stream", ["<", ">", "2>"])
def test_streams_may_be_closed(cli: Cli, stream: str) -> None:
    cli.volume("data", {"a": b"a"})
    path = cli.root / "mnt"
    closing = f"exec {stream}&-"
    told = f"{path}\n" if stream != ">" else ""
    assert ended(cli.process("mount", "data", path, "--detach", begun_by=closing)) == (told, "")
    (path / "b").write_text("b")
    assert ended(cli.process("umount", path, "--json", begun_by=closing))[1] == ""
    assert cli("ls", "data").lines == ["a", "b"]


@pytest.mark.parametrize("options", [(), ("--read-only",)])
def test_a_relative_cache_directory(cli: Cli, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon has another working directory than whoever starts it, and than `umount`."""
    cli.volume("data", {"a": b"a"})
    name = f"cache-of-{cli.root.name}"
    monkeypatch.chdir(cli.root)
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", name)
    ended(cli.process("mount", "data", "mnt", "--detach", *options))
    assert (cli.root / "mnt" / "a").read_bytes() == b"a"
    assert (cli.root / name / "cache").is_dir()
    assert not Path("/", name).exists()
    assert len(cli("status", "--json").json) == 1
    cli("umount", "mnt")


def test_a_directory_in_the_home_directory(cli: Cli) -> None:
    """As ``--meta-dir=~/changes`` gives it: no shell replaces that."""
    cli.volume("data", {"a": b"a"})
    path = cli.root / "mnt"
    ended(cli.process("mount", "data", path, "--meta-dir", "~/changes", "--detach"))
    assert (cli.root / "home" / "changes" / "workspaces").is_dir()
    cli("umount", path, "--meta-dir", "~/changes")


@pytest.mark.parametrize(
    ("before", "after"), [(["--debug"], ["--detach"]), ([], ["-m", "-d", "-d"]), ([], ["-qd"])], ids=" ".join
)
def test_a_detached_mount_takes_its_options_as_others_do(cli: Cli, before: list[str], after: list[str]) -> None:
    cli.volume("data", {"a": b"a"})
    path = cli.root / "mnt"
    assert ended(cli.process(*before, "mount", "data", path, *after)) == (f"{path}\n", "")
    (path / "b").write_text("b")
    [status] = cli("status", "--json").json
    os.kill(status["client"], signal.SIGTERM)
    wait_for(lambda: len(cli.versions("data")) == 2)
    assert cli.versions("data")[0]["message"] == ("-d" if "-m" in after else None)
    wait_for(lambda: cli("status", "--json").json == [])


def test_ctrl_c_ends_a_detached_mount_that_is_under_way(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # a store that does not answer
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        process = cli.process("mount", "data", cli.root / "mnt", "--detach", "--store", "s3://bucket/store")
        connection, _ = server.accept()
        process.send_signal(signal.SIGINT)
        assert ended(process, 130)[0] == ""
        with connection:
            while connection.recv(4096):  # until the one that would have mounted is gone
                pass


def test_a_mount_path_that_no_terminal_shows(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    path = cli.root / "two\nlines"
    told = f"{cli.root}/two\\nlines\n"
    assert ended(cli.process("mount", "data", path, "--detach")) == (told, "")
    assert (path / "a").read_bytes() == b"a"
    cli("umount", path)
