"""mount, umount, commit, status, warmup and exec, as processes of their own."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, wait_for

pytestmark = pytest.mark.fuse


def mounted(cli: Cli, *arguments: str | Path, begun_by: str = "") -> tuple[subprocess.Popen[bytes], Path]:
    """Start `flytevol mount … <root>/mnt` and wait for the mount."""
    path = cli.root / "mnt"
    process = cli.process("mount", *arguments[:1], path, *arguments[1:], begun_by=begun_by)
    pipe = process.stdout if "--json" in arguments else process.stderr
    assert pipe is not None
    line = pipe.readline().decode()
    assert str(path) in line, line + pipe.read().decode()
    assert os.path.ismount(path)
    return process, path


def ended(process: subprocess.Popen[bytes], code: int = 0) -> tuple[str, str]:
    """Output and errors of a process that ends with ``code``."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (process.returncode, out, err)
    return out.decode(), err.decode()


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> tuple[str, str]:
    process.send_signal(number)
    return ended(process)


# --- mount ------------------------------------------------------------------------------------------------------


def test_ctrl_c_publishes_and_prints_the_locator(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process, path = mounted(cli, "data", "-m", "by hand")
    (path / "b").write_text("b")
    out, _ = stop(process)
    assert out.strip() == cli.versions("data")[0]["locator"]
    assert cli.versions("data")[0]["message"] == "by hand"
    assert cli("ls", "data").lines == ["a", "b"]
    assert not path.exists()


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


def test_detached_then_commit_status_and_umount(cli: Cli) -> None:
    cli.volume("data", {"a": b"a" * 1000})
    path = cli.root / "mnt"
    started = subprocess.run(
        [*_command(), "mount", "data", str(path), "--detach"], capture_output=True, text=True, timeout=60
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


def test_a_detached_mount_that_fails_says_why(cli: Cli) -> None:
    done = subprocess.run(
        [*_command(), "mount", "nowhere", str(cli.root / "mnt"), "-d"], capture_output=True, text=True, timeout=60
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


# --- exec -------------------------------------------------------------------------------------------------------


def executed(cli: Cli, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*_command(), "exec", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def test_exec_publishes_and_passes_the_output_on(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    path = cli.root / "mnt"
    done = executed(
        cli, "data", "--at", path, "-m", "made", "--locator-file", cli.root / "locator", "--chdir",
        "--", "sh", "-c", 'cat a; echo new > "$FLYTEVOL_MOUNT/b"; echo told >&2',
    )  # fmt: skip
    assert done.stdout == "a"
    locator = (cli.root / "locator").read_text().strip()
    assert done.stderr.splitlines() == ["told", locator]
    assert cli.versions("data")[0]["locator"] == locator
    assert cli("cat", "data", "b").out == "new\n"
    assert not path.exists()


def test_exec_begins_nothing_if_the_locator_cannot_be_written(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    (cli.root / "link").symlink_to(cli.root / "nowhere" / "out")
    for file, why in (("nowhere/out", "is no directory"), ("link", "is no directory"), (".", "is a directory"),
                      ("store/volumes/data/x", "is no directory")):  # fmt: skip
        arguments = ("data", "--at", cli.root / "mnt", "--locator-file", cli.root / file)
        done = executed(cli, *arguments, "--", "touch", cli.root / "begun", code=125)
        assert why in done.stderr
    assert not (cli.root / "begun").exists()
    assert len(cli.versions("data")) == 1
    (cli.root / "out").write_text("of an earlier run, and longer than a locator" * 100)
    arguments = ("data", "--at", cli.root / "mnt", "--locator-file", cli.root / "out")
    executed(cli, *arguments, "--", "false", code=1)
    assert (cli.root / "out").read_text().startswith("of an earlier run")
    executed(cli, *arguments, "--", "touch", cli.root / "mnt" / "b")
    assert (cli.root / "out").read_text() == f"{cli.versions('data')[0]['locator']}\n"
    arguments = ("data", "--at", cli.root / "mnt", "--locator-file", "/dev/stdout")
    done = executed(cli, *arguments, "--", "rm", cli.root / "mnt" / "b")
    assert done.stdout == f"{cli.versions('data')[0]['locator']}\n"


def test_exec_passes_exit_codes_on(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    at = ("data", "--at", cli.root / "mnt")
    done = executed(cli, *at, "--", "sh", "-c", "echo x > $FLYTEVOL_MOUNT/x; exit 42", code=42)
    assert "nothing is published" in done.stderr
    assert len(cli.versions("data")) == 1
    executed(cli, *at, "--commit", "always", "--", "sh", "-c", "echo x > $FLYTEVOL_MOUNT/x; exit 42", code=42)
    assert cli("ls", "data").lines == ["a", "x"]
    executed(cli, *at, "--no-commit", "--", "sh", "-c", "echo x > $FLYTEVOL_MOUNT/y")
    assert cli("ls", "data").lines == ["a", "x"]
    executed(cli, *at, "--read-only", "--", "sh", "-c", "touch $FLYTEVOL_MOUNT/y", code=1)
    executed(cli, *at, "--", "sh", "-c", "kill -KILL $$", code=137)
    executed(cli, *at, "--", str(cli.root / "not-there"), code=127)
    executed(cli, *at, "--", str(cli.root), code=126)
    executed(cli, "nowhere", "--", "true", code=125)
    executed(cli, "data", code=125)
    assert len(cli.versions("data")) == 2


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_exec_passes_signals_on(cli: Cli, name: str) -> None:
    cli.volume("data", {"a": b"a"})
    script = f'trap "echo caught > $FLYTEVOL_MOUNT/caught; exit 7" {name[3:]}; echo ready; while :; do sleep 0.05; done'
    process = cli.process("exec", "data", "--at", cli.root / "mnt", "--commit", "always", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(getattr(signal, name))
    ended(process, 7)
    assert cli("cat", "data", "caught").out == "caught\n"


def test_exec_passes_no_signal_on_that_is_ignored(cli: Cli) -> None:
    """As nohup starts it, and then the terminal is closed: both it and the command are told."""
    cli.volume("data", {"a": b"a"})
    script = "echo $$; read line; echo $line > $FLYTEVOL_MOUNT/heard"
    process = cli.process("exec", "data", "--at", cli.root / "mnt", "--", "sh", "-c", script, begun_by="trap '' HUP")
    assert process.stdout is not None
    command = int(process.stdout.readline())
    process.send_signal(signal.SIGHUP)
    os.kill(command, signal.SIGHUP)
    out, err = process.communicate(b"word\n", timeout=60)
    assert process.returncode == 0, (out, err)
    assert cli("cat", "data", "heard").out == "word\n"


def test_exec_beside_a_failing_store_keeps_what_was_written(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    volumes = cli.root / "store" / "volumes"
    script = f"echo b > $FLYTEVOL_MOUNT/b; mv {volumes} {cli.root}/away; touch {volumes}"
    log = ("--log-path", cli.root / "log")
    done = executed(cli, "data", "--at", cli.root / "mnt", *log, "--", "sh", "-c", script, code=125)
    assert f"what was written is kept in {cli.root}/cache/workspaces/data-" in done.stderr
    volumes.unlink()
    shutil.move(cli.root / "away", volumes)
    executed(cli, "data", "--at", cli.root / "mnt", "--", "test", "-f", cli.root / "mnt" / "b")
    assert cli("ls", "data").lines == ["a", "b"]


def test_exec_of_a_fork_beside_a_failing_store_is_recovered(cli: Cli) -> None:
    """No version knows of the fork, so no name and no locator lead to it."""
    cli.volume("data", {"a": b"a"})
    volumes = cli.root / "store" / "volumes"
    script = f"echo b > $FLYTEVOL_MOUNT/b; mv {volumes} {cli.root}/away; touch {volumes}"
    arguments = ("data", "--fork", "work", "--at", cli.root / "mnt", "--", "sh", "-c", script)
    assert "what was written is kept in" in executed(cli, *arguments, code=125).stderr
    volumes.unlink()
    shutil.move(cli.root / "away", volumes)
    wait_for(lambda: cli("recover", "--json").json != [])
    locator = cli("recover", "work", "--commit", "-m", "late").lines[0]
    assert cli("cat", locator, "b").out == "b\n"
    assert cli("ls", "data").lines == ["a"]


def _command() -> list[str]:
    from tests.cli.conftest import COMMAND

    return COMMAND
