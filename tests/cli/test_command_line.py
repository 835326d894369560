"""What holds for every command: help, options, errors, exit codes, completion; broken pipes and Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flyteplugins_vol import errors
from flyteplugins_vol.cli import main as main_module
from flyteplugins_vol.cli.errors import _TYPED, failure_of
from flyteplugins_vol.cli.main import COMMANDS
from flyteplugins_vol.cli.main import cli as group
from tests.cli.conftest import COMMAND, Cli
from tests.waiting import wait_for


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_the_common_options(cli: Cli, name: str) -> None:
    text = cli(name, "--help").out
    assert f"flytevol {name}" in text or "flytevol completion" in text
    for option in ("--json", "--store", "--debug"):
        assert option in text
    assert group.get_command(None, name).get_short_help_str(200)  # type: ignore[arg-type, union-attr]


def test_the_overview(cli: Cli) -> None:
    text = cli("--help").out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert cli(code=2).err.startswith("Usage:")
    assert "flytevol, version" in cli("--version").out
    assert "No such command 'nonsense'" in cli("nonsense", code=2).err
    assert "No such option" in cli("ls", "x", "--nonsense", code=2).err


def test_errors_are_short_and_json_for_programs(cli: Cli) -> None:
    done = cli("ls", "nowhere", code=3)
    assert "Traceback" not in done.err
    assert done.err.count("\n") == 2
    assert "Traceback" in cli("ls", "nowhere", "--debug", code=3).err
    assert "Traceback" in cli("--debug", "ls", "nowhere", code=3).err
    import json

    wire = json.loads(cli("ls", "nowhere", "--json", code=3).err)
    for line in (["ls", "--nonsense", "--json"], ["nonsense", "--json"], ["get", "--json"], ["exec", "x", "--json"]):
        code = 125 if "exec" in line else 2
        assert json.loads(cli(*line, code=code).err)["error"]["kind"] == "usage"
    assert cli("exec", "--nonsense", "--", "x", "--json", code=125).err.startswith("Usage:")
    assert wire["error"]["kind"] == "not-found"
    assert wire["error"]["code"] == 3
    assert wire["error"]["hint"]


def test_a_lack_of_rights_has_a_hint() -> None:
    assert "give another place" in failure_of(PermissionError(13, "Permission denied", "/root/x")).hint


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.LocatorError("x"), 2),
        (errors.VersionNotFoundError("x"), 3),
        (FileNotFoundError(2, "x", "p"), 3),
        (errors.RefMovedError("x"), 4),
        (errors.VolumeBusyError("x"), 4),
        (FileExistsError(17, "x", "p"), 4),
        (errors.FuseMissingError("x"), 5),
        (errors.StoreAccessError("x"), 6),
        (errors.PackDamagedError("x"), 7),
        (errors.NewerFormatError("x"), 7),
        (errors.CommitError("x"), 1),
        (RuntimeError("x"), 1),
        (PermissionError(13, "x"), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert failure_of(error).code == code


def test_hints_are_to_be_typed_at_a_command_line() -> None:
    """What the library says in Python is said in other words."""
    modules = [path for path in Path(errors.__file__).parent.rglob("*.py") if path.parent.name != "cli"]
    source = "".join(path.read_text() for path in modules)
    for call, command in _TYPED:
        assert call in source
        hint = failure_of(errors.StoreError("x", hint=f"before{call}after")).hint
        assert hint == f"before{command}after"
        assert not re.search(r"\(\)|\w=|StoreOptions|vol\.", hint)
    of_commands = re.findall(r'hint=f?"([^"]*(?: --\w|`flytevol)[^"]*)"', source)
    assert len(of_commands) > 10
    for hint in (re.sub(r"{.*?}", "", hint) for hint in of_commands):
        assert not re.search(r"\(\)|\w=", failure_of(errors.StoreError("x", hint=hint)).hint), hint


def test_a_bug_is_an_error_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main_module.COMMANDS, "ls", "nowhere:nothing")
    done = cli("ls", code=1)
    assert "ModuleNotFoundError" in done.err
    assert "--debug" in done.err


def test_a_store_that_cannot_be_used(cli: Cli) -> None:
    assert "no store speaks nonsense://" in cli("list", "--store", "nonsense://x", code=2).err
    assert "user name or a password" in cli("list", "--store", "s3://key:secret@bucket/x", code=2).err
    assert "secret" not in cli("list", "--store", "s3://key:secret@bucket/x", code=2).err
    for scheme, code in (("ftp", 6), ("zip", 2)):  # which fsspec knows
        process = cli.process("list", "--store", f"{scheme}://localhost/x")
        err = process.communicate(timeout=60)[1].decode()
        assert process.returncode == code
        assert err.startswith("error: ")
        assert "use file://, s3://" in err
        assert "Traceback" not in err
    (cli.root / "file").write_text("")
    assert cli("new", "x", "--store", cli.root / "file", code=6).err


def test_a_reader_that_goes_away(cli: Cli) -> None:
    cli.volume("data", {"big": bytes(8 << 20), **{f"d/{number:04}": b"" for number in range(2000)}})
    for arguments in (["cat", "data", "big"], ["ls", "data", "-r"], ["get", "data", "big", "-"]):
        process = cli.process(*arguments, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr.read() == b""


def _in_terminal(cli: Cli, columns: int, *arguments: str, stream: str = "stdout") -> list[str]:
    """The lines that a command prints on a terminal, without colours."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = cli.process(*arguments, **{stream: theirs}, env={**environment, "TERM": "xterm"})
    os.close(theirs)
    printed = b""
    with suppress(OSError):  # the end of a terminal is EIO
        while data := os.read(ours, 65536):
            printed += data
    os.close(ours)
    assert process.wait(30) == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).split("\r\n")[:-1]


def test_a_narrow_terminal_cuts_messages_only(cli: Cli) -> None:
    locator = cli.volume("data", {"name-" + "x" * 60: b""})
    cli("new", "other", "-m", "message " * 10)
    assert f"locator  {locator}" in _in_terminal(cli, 40, "stat", "data")
    assert _in_terminal(cli, 40, "ls", "data", "-l")[1].endswith("  name-" + "x" * 60)
    head, entry = _in_terminal(cli, 40, "log", "other")
    assert head.split() == ["VERSION", "HASH", "CREATED", "AUTHOR", "SIZE", "STORED", "MESSAGE"]
    assert re.fullmatch(r"other@1  [0-9a-f]{10}  [0-9-]{10} [0-9:]{8}  \S+ +0 B    \+0 B  message mes…", entry)
    entry = _in_terminal(cli, 100, "log", "other")[1]
    assert len(entry) == 100
    assert entry.endswith("…")
    assert _in_terminal(cli, 200, "log", "other")[1].endswith("message " * 9 + "message")
    assert [line for line in cli("list").out.splitlines() if line.endswith(" ")] == []


def test_progress_counts_what_there_is(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    cli("put", "data", "-", "b", stdin=b"b")
    cli("put", "data", "-", "c", stdin=b"c")
    pruned = "\n".join(_in_terminal(cli, 100, "prune", "data", "--keep-last", "1", "--yes", stream="stderr"))
    assert "2/2 versions" in pruned
    assert "bytes" not in pruned
    assert "bytes" not in "\n".join(_in_terminal(cli, 100, "diff", "data", "data", stream="stderr"))


@pytest.mark.parametrize("arguments", [["--help"], ["ls", "--help"], ["list"]], ids=" ".join)
def test_nobody_reads_from_the_beginning(cli: Cli, arguments: list[str]) -> None:
    cli.volume("data")
    with _that_nobody_reads() as pipe:
        process = cli.process(*arguments, stdout=pipe)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 141


def test_errors_that_nobody_reads_change_nothing(cli: Cli) -> None:
    cli.volume("data")
    local = cli.root / "local"
    local.mkdir()
    (local / "a").write_text("a")
    os.mkfifo(local / "fifo")  # of which a note tells
    with _that_nobody_reads() as pipe:
        process = cli.process("put", "data", local, "new", stderr=pipe)
    assert process.communicate(timeout=30)[0].decode().strip() == cli.versions("data")[0]["locator"]
    assert process.returncode == 0
    assert cli("ls", "data", "new").lines == ["a"]
    for arguments, code in (
        (["ls", "nowhere"], 3), (["ls", "nowhere", "--json"], 3), (["ls", "data", "--nonsense"], 2), ([], 2),
    ):  # fmt: skip
        with open("/dev/full", "wb") as full:
            assert cli.process(*arguments, stderr=full).wait(30) == code


def test_a_full_disk_under_the_output_is_told(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    for arguments in (["cat", "data", "a"], ["ls", "data"], ["log", "data"], ["stat", "data", "--json"]):
        with open("/dev/full", "wb") as full:
            process = cli.process(*arguments, stdout=full)
        told = process.communicate(timeout=30)[1].decode()
        assert "standard output: No space left on device" in told
        assert "FLYTE_VOL_CACHE_DIR" not in told
        assert process.returncode == 5


@contextmanager
def _that_nobody_reads() -> Iterator[int]:
    """A pipe to be written to."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_ctrl_c_in_a_put_publishes_nothing(cli: Cli) -> None:
    cli.volume("data", {"a": b"a"})
    process = cli.process("put", "data", "-", "big")
    assert process.stdin is not None
    process.stdin.write(bytes(40 << 20))
    process.stdin.flush()
    wait_for(lambda: any((cli.root / "cache" / "unmounted").rglob("*.log")))
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None
    assert process.stderr.read().strip() == b"interrupted"
    assert len(cli.versions("data")) == 1
    assert cli("ls", "data").lines == ["a"]
    assert not list((cli.root / "cache" / "unmounted").iterdir())
    cli("put", "data", "-", "big", stdin=b"again")


@pytest.mark.slow
def test_ctrl_c_while_the_store_does_not_answer(cli: Cli) -> None:
    """The main thread waits in a library then, where Python cannot interrupt it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        environment = {
            **os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.getsockname()[1]}", "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1",
        }  # fmt: skip
        process = cli.process("list", "--store", "s3://bucket/volumes", env=environment)
        server.settimeout(30)
        connection, _ = server.accept()  # and never a word
        with connection:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
    assert process.stderr is not None
    assert process.stderr.read() == b"\ninterrupted\n"


def test_completion(cli: Cli) -> None:
    cli.volume("data", {"images/cat.png": b""})
    cli.volume("other")

    def completed(*words: str) -> list[str]:
        environment = {
            **os.environ, "_FLYTEVOL_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["flytevol", *words]),
            "COMP_CWORD": str(len(words)),
        }  # fmt: skip
        done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=True)
        return [line.partition(",")[2] for line in done.stdout.splitlines() if line]

    assert completed("um") == ["umount"]
    assert completed("ls", "d") == ["data"]
    assert completed("ls", "data", "im") == ["images/"]
    assert completed("ls", "data", "images/") == ["images/cat.png"]
    assert completed("ls", "nowhere", "x") == []
    assert "--recursive" in completed("ls", "--rec")
    for shell in ("bash", "zsh", "fish"):
        assert "_FLYTEVOL_COMPLETE" in cli("completion", shell).out


def test_bash_completes_any_name(cli: Cli, tmp_path: Path) -> None:
    """What it inserts is what the shell makes the name of."""
    cli.volume("data", {"d/a b": b"", "d/new\nline": b"", "d/*": b"", "e x/f": b""})
    program = tmp_path / "flytevol"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    script = cli("completion", "bash").out
    function = re.findall(r"^(\w+)\(\)", script, re.MULTILINE)[0]

    def completed(word: str) -> list[str]:
        lines = (
            f"compopt() {{ :; }}; COMP_WORDS=(flytevol cat data {shlex.quote(word)}) COMP_CWORD=3; {function} {program}"
        )
        told = f"{script}\n{lines}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        return subprocess.run(["bash", "-c", told], capture_output=True, text=True, check=True).stdout.splitlines()

    assert completed("d/") == [r"d/\*", r"d/a\ b", r"d/new\\nline"]
    assert completed(r"d/a\ ") == [r"d/a\ b"]
    assert completed("e") == [r"e\ x/"]
    assert completed(r"e\ x/") == [r"e\ x/f"]


def test_the_explorer_needs_a_terminal(cli: Cli) -> None:
    cli.volume("data")
    assert "needs a terminal" in cli("explore", "data", code=2).err


def test_looking_needs_neither_trio_nor_textual(cli: Cli) -> None:
    cli.volume("data", {"a": b""})
    code = """
import sys
from flyteplugins_vol.cli.main import run
assert run(["ls", "data"]) == 0
loaded = {"trio", "pyfuse3", "textual", "fsspec", "flyte", "s3fs", "asyncio.runners"} & set(sys.modules)
assert not loaded - {"asyncio.runners"}, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
