"""New versions without a mount: put, cp and rm."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Cli


def test_put_makes_one_version(cli: Cli, data: str) -> None:
    local = cli.root / "local"
    (local / "sub").mkdir(parents=True)
    (local / "run").write_text("#!/bin/sh\n")
    (local / "run").chmod(0o755)
    (local / "sub" / "x").write_bytes(b"x")
    locator = cli("put", "data", local, "/", "-m", "more").lines[0]
    assert cli("ls", locator, "-r", "local").lines == ["/local/run", "/local/sub/", "/local/sub/x"]
    assert stat.S_IMODE(int(cli("stat", locator, "local/run", "--json").json["mode"], 8)) == 0o755
    assert [one["message"] for one in cli.versions("data")] == ["more", None]
    cli("put", "data", local / "run", local / "sub", "into")
    assert cli("ls", "data", "into").lines == ["run", "sub/"]
    cli("put", "data", local / "run", "into/renamed", "--json")
    assert cli("ls", "data", "into").lines == ["renamed", "run", "sub/"]
    assert len(cli.versions("data")) == 4


def test_put_refuses_what_is_there_and_publishes_nothing(cli: Cli, data: str) -> None:
    local = cli.root / "a"
    local.write_text("new")
    done = cli("put", "data", local, "/", code=4)
    assert "/a: File exists" in done.err
    assert "--force" in done.err
    assert "there is no local file" in cli("put", "data", cli.root / "nowhere", "x", code=3).err
    assert len(cli.versions("data")) == 1
    cli("put", "data", local, "/", "--force")
    assert cli("cat", "data", "a").out == "new"
    assert cli("put", "data", "-", "dir/", code=2).err
    assert not list((cli.root / "cache" / "unmounted").iterdir())


def test_what_has_no_content_is_left_out_and_spoken_of(cli: Cli, data: str) -> None:
    local = cli.root / "local"
    local.mkdir()
    (local / "a").write_bytes(b"a")
    for name in ("fifo", "other"):
        os.mkfifo(local / name)
    done = cli("put", "data", local, "/")
    assert f"2 fifos, sockets and devices, first {local}/fifo" in done.err
    assert cli("ls", "data", "local").lines == ["a"]
    assert cli("put", "data", local, "/", "--force", "--json").json["skipped"] == 2
    assert cli("put", "data", local, "/", "--force", "--quiet").err == ""
    refused = cli("put", "data", local / "fifo", "x", code=2)
    assert "fifo is a fifo" in refused.err
    assert f"flytevol put data - NAME < {local}/fifo" in refused.err
    assert len(cli.versions("data")) == 4


def test_a_locator_is_forked(cli: Cli, data: str) -> None:
    done = cli("put", data, "-", "x", stdin=b"x")
    assert "a fork: volume data-fork-" in done.err
    assert cli("ls", "data").lines == ["a", "dir/"]
    assert cli("ls", done.lines[0]).lines == ["a", "dir/", "x"]
    forked = cli("rm", "data", "a", "--fork", "mine").lines[0]
    assert cli("ls", "mine").lines == ["dir/"]
    assert cli.versions("mine")[0]["locator"] == forked
    assert len(cli.versions("data")) == 1


def test_cp_and_rm(cli: Cli, data: str) -> None:
    cli("cp", "data", "a", "a2")
    assert "-r" in cli("cp", "data", "dir", "dir2", code=1).err
    cli("cp", "data", "-r", "dir", "dir2", "-m", "copied")
    assert cli("ls", "data", "-r", "dir2").lines == ["/dir2/b", "/dir2/sub/", "/dir2/sub/c"]
    cli("cp", "data", "a", "a2", code=4)
    done = cli("rm", "data", "dir", code=1)
    assert "dir: Directory not empty" in done.err
    assert "-r" in done.err
    cli("rm", "data", "nowhere", code=3)
    cli("rm", "data", "nowhere", "--force")
    assert "the root of a volume stays" in cli("rm", "data", "/", code=1).err
    cli("rm", "data", "-r", "dir", "a", "a2")
    assert cli("ls", "data").lines == ["dir2/"]
    assert cli("rm", "data", "dir2/b", "--json").json["parents"] == [cli.versions("data")[1]["locator"]]


def test_mv(cli: Cli, data: str) -> None:
    moved = cli("mv", "data", "a", "c", "-m", "renamed").lines
    newest = cli("stat", "data", "--json").json
    assert (newest["locator"], newest["message"], newest["stats"]["new_pack_bytes"]) == (moved[0], "renamed", 0)
    assert cli("cat", "data", "c").out == "aa\n"
    cli("mv", "data", "c", "dir")
    assert cli("ls", "data", "-r").lines == ["/dir/", "/dir/b", "/dir/c", "/dir/sub/", "/dir/sub/c"]
    assert "--force" in cli("mv", "data", "dir/b", "dir/c", code=4).err
    cli("mv", "data", "dir/b", "dir/c", "--force")
    assert len(cli("cat", "data", "dir/c").out) == 2000
    assert "dir/sub: a directory cannot be moved into itself" in cli("mv", "data", "dir", "dir/sub", code=1).err
    cli("mv", "data", "nowhere", "x", code=3)
    cli("mv", "data", "", "x", code=2)
    cli("mv", "data", "/", "x", code=1)
    assert cli("mv", "data@1", "a", "z", "--json").json["name"] == "data-fork"
    assert cli("ls", "data", "-r").lines == ["/dir/", "/dir/c", "/dir/sub/", "/dir/sub/c"]


def test_cp_of_a_file_onto_itself_is_refused(cli: Cli, data: str) -> None:
    local = cli.root / "local"
    local.mkdir()
    (local / "link").symlink_to("a")
    with_link = cli("put", "data", local, "/").lines[0]
    for source, dest in (("a", "a"), ("local/link", "local/link")):
        refused = cli("cp", with_link, source, dest, "--force", code=1).err
        assert f"{dest}: is the same file as /{source}\n  hint: give another DEST" in refused
    assert [one["name"] for one in cli("list", "--json").json] == ["data"]


@pytest.mark.parametrize(
    "line",
    ["get data a ", "list --store ", "gc ", "mount data ", "mount data m --meta-dir ", "mount data m --subdir ",
     "mount data m --log-path ", "umount ", "status ", "recover --meta-dir ", "explore --from-file "],
)  # fmt: skip
def test_an_empty_path_on_this_machine_is_refused(
    cli: Cli, data: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cli.root / "here").mkdir()
    monkeypatch.chdir(cli.root / "here")
    assert "it is empty; is a variable of the shell unset?" in cli(*line.split(" "), code=2).err
    assert os.listdir() == []


def test_a_closed_standard_input_is_spoken_of(cli: Cli, data: str) -> None:
    for arguments, message in (
        (["put", "data", "-", "x"], "there is no standard input"),
        (["delete", "data"], "nobody is there to answer"),
    ):
        command = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"error: {message}" in done.stderr
    assert len(cli.versions("data")) == 1


def filled(disk: Path) -> Path:
    """A file that takes all space that is left."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_is_named_with_a_way_out(
    cli: Cli, data: str, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("put", "data", "-", "big", stdin=os.urandom(5 << 20))
    done = cli("get", "data", "big", tiny_disk / "big", code=5)
    assert done.err == f"error: {tiny_disk}: No space left on device\n  hint: free some space there\n"
    assert list(tiny_disk.iterdir()) == []
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tiny_disk / "cache"))
    cli("ls", "data")
    put = cli("put", "data", "-", "bigger", stdin=os.urandom(6 << 20), code=5).err
    assert f"the local disk of {tiny_disk}/cache/unmounted/data-" in put
    assert "FLYTE_VOL_CACHE_DIR" in put
    filled(tiny_disk)
    for arguments in (["put", "data", "-", "x"], ["new", "other"], ["verify", "data"], ["gc"]):
        done = cli(*arguments, code=5)
        assert done.err.startswith(f"error: {tiny_disk}/cache")
        assert "hint: free some space there, or set FLYTE_VOL_CACHE_DIR to" in done.err
    shutil.rmtree(tiny_disk / "cache")
    filler = filled(tiny_disk)
    os.truncate(filler, filler.stat().st_size - 65536)  # room for directories, and not for an index
    assert f"error: {tiny_disk}/cache" in cli("put", "data", "-", "x", code=5).err
    assert len(cli.versions("data")) == 2
