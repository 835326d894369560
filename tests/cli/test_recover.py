"""`flytevol recover`, after a mount was really killed."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


def crashed(cli: Cli, root: Path) -> None:
    """A mount of a new fork of `data`, named `work`, whose daemon is killed with a file that is in no version."""
    cli.volume("data", {"a": b"1"})
    at = root / "mnt"
    process = cli.process("mount", "data", str(at), "--fork", "work")
    wait_for(lambda: os.path.ismount(at))
    with open(at / "b", "w") as file:
        file.write("22")
        file.flush()
        os.fsync(file.fileno())
    (live,) = cli("status", "--json").json
    os.kill(live["pid"], signal.SIGKILL)
    process.wait(30)
    assert not os.path.ismount(at)


def test_a_crash_is_shown_and_recovered(cli: Cli, tmp_path: Path) -> None:
    crashed(cli, tmp_path)
    assert "work: 2 files, 2 B on this disk only" in cli("status").err
    (row,) = cli("recover").lines[1:]
    assert row.split()[0] == "work"
    assert "of a volume without a version" in row
    (one,) = cli("recover", "--json").json
    assert (one["volume_name"], one["files"], one["staged"], one["aside"]) == ("work", 3, 2, False)
    assert one["base"].endswith(cli.versions("data")[0]["version"] + ".json")
    for wrong in (["--commit"], ["work", "--commit", "--fork", "x"], ["work", "--mount", "m", "--discard"]):
        assert cli("recover", *wrong, code=2).out == ""
    assert cli("recover", "other", "--commit", code=3).out == ""
    locator = cli("recover", "work", "--commit", "-m", "rescued").lines[0]
    assert cli("cat", locator, "b").out == "22"
    assert cli.versions("work")[0]["message"] == "rescued"
    assert "nothing to recover" in cli("recover").err
    assert cli("recover", "--json").json == []


def test_it_is_mounted_then_published(cli: Cli, tmp_path: Path) -> None:
    crashed(cli, tmp_path)
    (one,) = cli("recover", "--json").json
    at = tmp_path / "look"
    process = cli.process("recover", one["path"], "--mount", str(at), "-m", "looked at")
    assert process.stderr is not None
    assert str(at) in process.stderr.readline().decode()  # from then on a signal has it publish
    assert (at / "b").read_text() == "22"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert cli.versions("work")[0]["message"] == "looked at"
    assert cli("recover", "--json").json == []


def test_it_becomes_a_volume_of_its_own_or_is_dropped(cli: Cli, tmp_path: Path) -> None:
    crashed(cli, tmp_path)
    assert "there is a volume 'data'" in cli("recover", "work", "--fork", "data", code=4).err
    locator = cli("recover", "work", "--fork", "rescued").lines[0]
    assert cli("cat", "rescued", "b").out == "22"
    assert locator.rpartition("/volumes/")[2].startswith("rescued-")
    crashed_again = tmp_path / "again"
    crashed_again.mkdir()
    cli("new", "other")
    process = cli.process("mount", "other", str(crashed_again / "mnt"))
    wait_for(lambda: os.path.ismount(crashed_again / "mnt"))
    (crashed_again / "mnt" / "c").write_text("3")
    process.kill()
    process.wait()
    wait_for(lambda: len(cli("recover", "--json").json) == 1)
    assert cli("recover", "other", "--discard").out == ""
    assert cli("recover", "--json").json == []
    assert cli("ls", "other").lines == []


def test_what_a_volume_has_gone_on_without_is_not_published_there(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not become the next version, and each try would make one that no ref names."""
    cli.volume("data", {"a": b"1"})
    at = tmp_path / "mnt"
    process = cli.process("mount", "data", str(at))
    wait_for(lambda: os.path.ismount(at))
    (at / "b").write_text("22")
    process.kill()
    process.wait()
    wait_for(lambda: len(cli("recover", "--json").json) == 1)
    with monkeypatch.context() as patch:
        patch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "another-machine"))
        cli("put", "data", "-", "theirs", stdin=b"3")
    cli.process("mount", "data", str(tmp_path / "new"))
    wait_for(lambda: len(cli("status", "--json").json) == 1)
    cli("umount", tmp_path / "new", "--discard")
    (one,) = cli("recover", "--json").json
    assert one["aside"]
    records = sorted((tmp_path / "store").glob("volumes/data-*/versions/*"))
    assert len(records) == 2
    for how in (["--mount", tmp_path / "look"], ["--commit"]):
        done = cli("recover", "data", *how, code=4)
        assert "volume data has gone on without what was left" in done.err
        assert f"flytevol recover {shlex.quote(one['path'])} --fork NAME" in done.err
    assert sorted((tmp_path / "store").glob("volumes/data-*/versions/*")) == records
    cli("recover", one["path"], "--fork", "rescued")
    assert cli("ls", "rescued").lines == ["a", "b"]


# --- whoever comes by ---------------------------------------------------------------------------------------------


def crashed_writer(cli: Cli, root: Path) -> Path:
    """A mount of `data` itself that was killed with a file that is in no version; its path."""
    cli.volume("data", {"a": b"1"})
    at = root / "mnt"
    process = cli.process("mount", "data", str(at))
    wait_for(lambda: os.path.ismount(at))
    with open(at / "precious", "w") as file:
        file.write("22")
        file.flush()
        os.fsync(file.fileno())
    (live,) = cli("status", "--json").json
    os.kill(live["pid"], signal.SIGKILL)
    process.wait(30)
    return at


@pytest.mark.parametrize("when", ["success", "always"])
def test_a_command_that_there_is_not_drops_nothing(cli: Cli, tmp_path: Path, when: str) -> None:
    at = crashed_writer(cli, tmp_path)
    before = cli("recover", "--json").json
    inside = str(at / "not-there")
    for command, code in (("pyhton", 127), (str(tmp_path), 126), (inside, 127)):
        process = cli.process("exec", "data", "--at", str(at), "--commit", when, "--", command)
        assert process.wait(60) == code
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        assert "error: " in errors
        assert ("is kept: `flytevol recover` has it" in errors) == (command == inside), "else nothing was mounted"
    (after,) = cli("recover", "--json").json
    assert (after["files"], after["path"]) == (before[0]["files"], before[0]["path"])
    assert len(cli.versions("data")) == 1


@pytest.mark.parametrize("option", [(), ("--no-commit",), ("--commit", "never")])
def test_a_command_that_publishes_nothing_drops_nothing_of_what_was_left(
    cli: Cli, tmp_path: Path, option: tuple[str, ...]
) -> None:
    at = crashed_writer(cli, tmp_path)
    code = 0 if option else 3
    process = cli.process("exec", "data", "--at", str(at), *option, "--", "sh", "-c", f"echo > {at}/more; exit {code}")
    assert process.wait(60) == code
    assert process.stderr is not None
    assert "is kept: `flytevol recover` has it" in process.stderr.read().decode()
    (one,) = cli("recover", "--json").json
    assert one["files"] == 4
    assert len(cli.versions("data")) == 1


def test_a_mount_that_publishes_nothing_drops_nothing_of_what_was_left(cli: Cli, tmp_path: Path) -> None:
    at = crashed_writer(cli, tmp_path)
    process = cli.process("mount", "data", str(at), "--no-commit")
    assert process.stderr is not None
    assert str(at) in process.stderr.readline().decode()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    (one,) = cli("recover", "--json").json
    assert one["files"] == 3
    process = cli.process("exec", "data", "--at", str(at), "--", "cat", str(at / "precious"))
    assert process.wait(60) == 0
    assert process.stdout is not None
    assert process.stdout.read() == b"22"
    assert cli("recover", "--json").json == []
    assert len(cli.versions("data")) == 2
