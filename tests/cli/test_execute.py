"""``flytevol exec``, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest

from tests.cli.conftest import Cli
from tests.cli.running import ended, executed
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


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


def test_exec_tells_programs_of_the_end(cli: Cli) -> None:
    cli.volume("data", {"a": b"a", "no-program": b""})
    path = cli.root / "mnt"
    at = ("data", "--at", path, "--json", "--")
    done = executed(cli, *at, "sh", "-c", 'echo out; echo new > "$FLYTEVOL_MOUNT/b"')
    told = json.loads(done.stderr)
    assert (done.stdout, told["mount_path"], told["code"]) == ("out\n", str(path), 0)
    assert told["version"]["locator"] == cli.versions("data")[0]["locator"]
    told = json.loads(executed(cli, *at, "false", code=1).stderr)
    assert (told["version"], told["code"]) == (None, 1)
    for command, code in (("nowhere-at-all", 127), (f"{path}/not-there", 127), (f"{path}/no-program", 126)):
        assert json.loads(executed(cli, *at, command, code=code).stderr)["error"]["code"] == code


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
