"""new list delete log fork, ls tree cat stat get put cp rm: what they do, in text and in JSON."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from flyteplugins_vol.cli.addresses import _is_meant
from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.io import Volume
from tests.cli.conftest import COMMAND, Cli


@pytest.fixture
def data(cli: Cli) -> str:
    return cli.volume("data", {"a": b"aa\n", "dir/b": b"b" * 2000, "dir/sub/c": b"c"})


# --- volumes ----------------------------------------------------------------------------------------------------


def test_new_and_list(cli: Cli) -> None:
    assert f"there is no store {cli.store}\n" in cli("list", code=3).err
    (cli.root / "store").mkdir()
    assert cli("list").out == ""
    made = cli("new", "data", "-m", "begin").lines
    assert len(made) == 1
    assert made[0].startswith(f"{cli.store}/volumes/data-")
    there = cli("new", "data", code=4)
    assert there.out == ""
    assert "there is a volume 'data'" in there.err
    assert "--if-missing" in there.err
    assert cli("new", "data", "--if-missing").lines == made
    assert cli("new", "other", "--json").json["locator"].startswith(f"{cli.store}/volumes/other-")
    head, *rows = cli("list").lines
    assert head.split() == ["NAME", "VERSION", "FILES", "SIZE", "CREATED", "MESSAGE"]
    assert [row.split()[0] for row in rows] == ["data", "other"]
    assert rows[0].endswith("begin")
    assert rows[0].split()[1:4] == ["1", "0", "0"]
    listed = cli("list", "--json").json
    assert [(one["name"], one["newest"]["message"]) for one in listed] == [("data", "begin"), ("other", None)]
    assert "hint:" in cli("new", "no/name", code=2).err


def test_this_users_own_store_may_be_yet_to_be_made(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLYTE_VOL_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(cli.root / "data"))
    assert "no volumes in" in cli("list").err


def test_log_follows_a_line_also_before_a_fork(cli: Cli, data: str) -> None:
    cli("put", "data", "-", "new", "-m", "second\n\x1b[31m[bold]", stdin=b"new")
    fork = cli("fork", "data", "--name", "child", "-m", "forked").lines[0]
    rows = cli("log", fork).lines
    assert [row.split()[0] for row in rows] == ["VERSION", "child@1", "data@2", "data@1"]
    assert rows[2].endswith(r"second\n\x1b[31m[bold]")
    versions = cli.versions("child")
    assert [one["name"] for one in versions] == ["child", "data", "data"]
    assert versions[0]["parents"] == [versions[1]["locator"]]
    assert cli("log", "child", "-n", "1", "--locators").lines == [fork]
    assert cli("fork", data).lines[0].startswith(f"{cli.store}/volumes/data-fork-")


def test_addresses(cli: Cli, data: str) -> None:
    cli("put", "data", "-", "second", stdin=b"2")
    one, two = reversed(cli.versions("data"))
    number, _, digest = one["version"].partition("-")
    for address in (data, data.removeprefix("file://"), "data@1", f"data@{number}", f"data@{digest[:6]}",
                    f"data@{one['version'][:12]}"):  # fmt: skip
        assert cli("stat", address, "--json").json["locator"] == one["locator"], address
    for address in ("data", "data@main", "data@2", two["locator"].split("/")[-3]):
        assert cli("stat", address, "--json").json["locator"] == two["locator"], address
    assert "has no version '9'" in cli("ls", "data@9", code=3).err
    assert "no volume 'nowhere'" in cli("ls", "nowhere", code=3).err
    assert "is not a locator" in cli("ls", "s3://bucket/what.json", code=2).err
    assert "neither a locator nor" in cli("ls", "what.json", code=2).err
    gone = data.replace(digest, "0" * 40)
    assert "there is no version at" in cli("ls", gone, code=3).err


def test_a_name_of_several_volumes_lists_them(cli: Cli) -> None:
    first, second = cli.volume("twin", {"a": b"1"}), cli.volume("twin", {"b": b"2"})
    done = cli("ls", "twin", code=2)
    assert done.out == ""
    names = {first.split("/")[-3], second.split("/")[-3]}
    assert names <= set(done.err.split())
    assert cli("ls", second.split("/")[-3]).lines == ["b"]
    assert {row.split()[0] for row in cli("list").lines[1:]} == names
    assert cli("ls", "twin", "--json", code=2).out == ""


def test_two_that_are_made_at_once_both_have_the_name_and_one_can_go(cli: Cli) -> None:
    made = [Volume.from_name.sync("twin", cli.store, create_if_missing=True) for _ in range(2)]
    locators = [volume.finalize.sync().locator for volume in made]
    with pytest.raises(UsageError, match="2 volumes are named 'twin'") as caught:
        Volume.from_name.sync("twin", cli.store)
    command = caught.value.hint.partition("`flytevol delete ")[2].partition("`")[0]
    cli("delete", command, "--yes")
    assert Volume.from_name.sync("twin", cli.store).locator in locators


def test_a_version_that_several_begin_like_lists_them(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers began from the same version: both versions have the number 2, and the ref names one of them."""
    monkeypatch.setenv("FLYTE_VOL_LEASE_SECONDS", "0")  # else the second would be refused before it writes one
    from flyteplugins_vol.errors import RefMovedError
    from flyteplugins_vol.io import RWVolume

    cli("new", "data")
    first, second = (Volume.from_name.sync("data", cli.store) for _ in range(2))
    first.finalize.sync("one")
    assert isinstance(second, RWVolume)
    with pytest.raises(RefMovedError):
        second.finalize.sync("two")
    done = cli("ls", "data@2", code=2)
    versions = [word for word in done.err.split() if word.startswith("00000002-")]
    assert len(versions) == 2
    messages = {cli("stat", f"data@{version}", "--json").json["message"] for version in versions}
    assert messages == {"one", "two"}


def test_delete(cli: Cli, data: str) -> None:
    cli("put", "data", "-", "x", stdin=b"")
    fork = cli("fork", "data@1", "--name", "child").lines[0]
    assert "the ref main" in cli("delete", "data@2", "--yes", code=4).err
    asked = cli("delete", "data@1", stdin=b"n\n", code=130)
    assert "for ever?" in asked.err
    assert len(cli.versions("data")) == 2
    unasked = cli("delete", "data", code=2)
    assert "with its 2 versions for ever?" in unasked.err
    assert "--yes does not ask" in unasked.err
    assert "interrupted" not in unasked.err
    assert cli("delete", "data@1", "--yes", "--json").json == {"deleted": [data]}
    assert len(cli.versions("data")) == 1
    assert cli("cat", fork, "a").out == "aa\n"
    done = cli("delete", "data", stdin=b"y\n")
    assert "with its 1 version for ever?" in done.err
    assert done.out.endswith(": 1 version\n")
    assert "no volume 'data'" in cli("ls", "data", code=3).err
    assert [one["name"] for one in cli("list", "--json").json] == ["child"]
    cli("new", "data")
    kept = [path.name for path in (cli.root / "store").rglob("deleted/*.json")]
    assert len(kept) == 2


def test_delete_waits_for_a_writer_that_may_be_dead_and_says_so(cli: Cli, data: str) -> None:
    cli("put", "data", "-", "x", stdin=b"")
    (path,) = (cli.root / "store").glob("volumes/data-*/lease.json")
    lease = {**json.loads(path.read_text()), "released": False, "machine": "elsewhere", "host": "node-7"}
    path.write_text(json.dumps({**lease, "milliseconds": 300}))
    done = cli("delete", "data", "--yes")
    assert "is held by" in done.err
    assert "on node-7 since 20" in done.err
    assert cli("list", "--json").json == []


# --- looking ----------------------------------------------------------------------------------------------------


def test_ls(cli: Cli, data: str) -> None:
    assert cli("ls", "data").lines == ["a", "dir/"]
    assert cli("ls", data, "dir").lines == ["b", "sub/"]
    assert cli("ls", data, "dir", "a").lines == ["/dir/b", "/dir/sub/", "/a"]
    assert cli("ls", "data", "-r").lines == ["/a", "/dir/", "/dir/b", "/dir/sub/", "/dir/sub/c"]
    assert cli("ls", "data", "-r", "-S").lines[0] == "/dir/b"
    long = cli("ls", "data", "-l").lines
    assert long[0].split() == ["MODE", "LINKS", "OWNER", "SIZE", "MODIFIED", "NAME"]
    assert long[1].startswith("-rw-r--r--")
    assert long[1].endswith(" a")
    wire = cli("ls", "data", "a", "--json").json
    assert (wire[0]["path"], wire[0]["size"], wire[0]["mode"]) == ("/a", 3, "0644")
    done = cli("ls", "data", "nowhere", code=3)
    assert done.err.startswith("error: nowhere: No such file or directory\n  hint:")


def test_tree_and_stat(cli: Cli, data: str) -> None:
    assert cli("tree", "data").lines == [
        "/", "├── a  3 B", "└── dir/", "    ├── b  2.0 KiB", "    └── sub/", "        └── c  1 B",
    ]  # fmt: skip
    assert cli("tree", "data", "-L", "1", "-d").lines == ["/", "└── dir/"]
    assert cli("tree", "data", "dir/b").lines == ["/dir/b"]
    wire = cli("tree", "data", "dir", "--json").json
    assert [child["path"] for child in wire["children"]] == ["/dir/b", "/dir/sub"]
    assert "2000  (2.0 KiB)" in cli("stat", "data", "dir/b").out
    assert cli("stat", "data", "dir/b", "--json").json["size"] == 2000
    assert cli("stat", "data", "--json").json["locator"] == data
    assert data in cli("stat", "data").out


def test_cat_and_get(cli: Cli, data: str) -> None:
    assert cli("cat", "data", "a", "dir/sub/c").raw == b"aa\nc"
    assert cli("cat", "data", "a", "--json").json == [{"path": "a", "text": "aa\n"}]
    assert cli("get", "data", "a", "-").raw == b"aa\n"
    target = cli.root / "out"
    assert cli("get", "data", "dir", target).lines == [str(target)]
    assert (target / "sub" / "c").read_bytes() == b"c"
    done = cli("get", "data", "a", target / "b", code=4)
    assert "File exists" in done.err
    assert "--force" in done.err
    cli("get", "data", "a", target / "b", "--force")
    assert (target / "b").read_bytes() == b"aa\n"
    assert cli("get", "data", "dir/b", cli.root / "b", "--json").json["bytes"] == 2000
    assert "Is a directory" in cli("cat", "data", "dir", code=1).err
    assert "give another DEST" in cli("get", "data", "dir", "-", code=2).err
    assert f"there is no directory '{cli.root}/none'" in cli("get", "data", "a", cli.root / "none" / "a", code=3).err
    cli("get", "data", "a", "-", "--json", code=2)


# --- changing ---------------------------------------------------------------------------------------------------


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


@pytest.mark.fuse
def test_get_leaves_out_what_has_no_content_and_says_so(cli: Cli, data: str) -> None:
    fifo = cli.root / "mnt" / "dir" / "fifo"
    assert cli.process("exec", "data", "--at", cli.root / "mnt", "--", "mkfifo", fifo).wait(60) == 0
    done = cli("get", "data", "dir", cli.root / "out")
    assert "1 fifo, socket or device, first /dir/fifo" in done.err
    assert sorted(os.listdir(cli.root / "out")) == ["b", "sub"]
    wire = cli("get", "data", "dir", cli.root / "again", "--json").json
    assert (wire["bytes"], wire["skipped"]) == (2001, 1)


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
    cli("rm", "data", "-r", "dir", "a", "a2")
    assert cli("ls", "data").lines == ["dir2/"]
    assert cli("rm", "data", "dir2/b", "--json").json["parents"] == [cli.versions("data")[1]["locator"]]


def test_cp_of_a_file_onto_itself_is_refused(cli: Cli, data: str) -> None:
    local = cli.root / "local"
    local.mkdir()
    (local / "link").symlink_to("a")
    with_link = cli("put", "data", local, "/").lines[0]
    for source, dest in (("a", "a"), ("local/link", "local/link")):
        refused = cli("cp", with_link, source, dest, "--force", code=1).err
        assert f"{dest}: is the same file as /{source}\n  hint: give another DEST" in refused
    assert [one["name"] for one in cli("list", "--json").json] == ["data"]


# --- a full disk ------------------------------------------------------------------------------------------------


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


# --- odd names --------------------------------------------------------------------------------------------------


def test_any_name_is_shown_escaped_and_can_be_used(cli: Cli) -> None:
    names = [b"\xff", b"new\nline", b"esc\x1b[2J", "bidi\u202e".encode(), b"back\\slash", "grüß".encode()]
    cli.volume("odd", {os.fsdecode(name): name for name in names})
    shown = [r"back\\slash", r"bidi\u202e", r"esc\x1b[2J", "grüß", r"new\nline", r"\xff"]
    done = cli("ls", "odd")
    assert done.lines == shown
    assert b"\x1b" not in done.raw
    assert cli("tree", "odd").lines[1] == r"├── back\\slash  10 B"
    assert [row.rpartition("  ")[2] for row in cli("ls", "-l", "odd").lines[1:]] == shown
    for text in shown:
        assert len(cli("cat", "odd", text).raw) > 0
    for name in names:
        assert cli("cat", "odd", os.fsdecode(name)).raw == name
    wire = {one["path"]: one.get("path_base64") for one in cli("ls", "odd", "--json").json}
    assert base64.b64decode(wire.pop(r"/\xff")) == b"/\xff"
    assert set(wire) == {"/new\nline", "/esc\x1b[2J", "/bidi\u202e", "/back\\slash", "/grüß"}
    assert r"\x1b[2J: No such" in cli("cat", "odd", "\x1b[2J", code=3).err
    cli("rm", "odd", r"\xff")
    assert r"\xff" not in cli("ls", "odd").out
    target = cli.root / "out"
    cli("get", "odd", "/", target)
    assert sorted(os.listdir(os.fsencode(target))) == sorted(set(names) - {b"\xff"})


def test_a_name_with_an_arrow_is_listed_whole(cli: Cli) -> None:
    cli.volume("odd", {"a -> b": b"1", "d -> e/f": b"2"})
    assert cli("ls", "odd").lines == ["a -> b", "d -> e/"]
    local = cli.root / "local"
    local.mkdir()
    (local / "link").symlink_to("a -> b")
    cli("put", "odd", local, "/")
    assert cli("ls", "odd", "local").lines == ["link"]
    assert cli("ls", "odd", "-l", "local").lines[1].endswith("link -> a -> b")


def test_stat_escapes_once_what_ls_escapes(cli: Cli) -> None:
    cli.volume("odd", {os.fsdecode(b"\xff"): b"", "new\nline": b""})
    local = cli.root / "local"
    local.mkdir()
    os.symlink(b"\xff\n", os.fsencode(local) + b"/link\xfe")
    cli("put", "odd", local, "/")
    for text in (r"\xff", r"new\nline", r"local/link\xfe"):
        assert cli("stat", "odd", text).lines[0].split() == ["path", "/" + text]
    assert cli("stat", "odd", r"local/link\xfe").lines[-1].split() == ["target", r"\xff\n"]
    cli("rm", "odd", r"local/link\xfe")  # which leads nowhere
    assert cli("ls", "odd", "local").lines == []


def test_an_escaped_path_is_also_where_something_is_made(cli: Cli) -> None:
    cli.volume("odd", {"new\nline/a": b"1", "plain": b"2"})
    cli("cp", "odd", "plain", r"new\nline")
    cli("cp", "odd", "plain", r"/new\nline/b")
    cli("put", "odd", "-", r"new\nline/not/the\re", stdin=b"3")
    cli("put", "odd", "-", r"new\nline/a", "--force", stdin=b"4")
    assert cli("ls", "odd", "-r").lines == [
        r"/new\nline/", r"/new\nline/a", r"/new\nline/b", r"/new\nline/not/", r"/new\nline/not/the\\re",
        r"/new\nline/plain", "/plain",
    ]  # fmt: skip
    assert cli("cat", "odd", r"new\nline/a").raw == b"4"
    cli("cp", "odd", "plain", r"as\typed")
    assert cli("ls", "odd", r"as\\typed").lines == [r"as\\typed"]


def test_an_empty_path_is_refused(cli: Cli, data: str) -> None:
    for arguments in (
        ["rm", "data", "-r", ""], ["rm", "data", "-rf", "a", ""], ["cp", "data", "a", ""],
        ["cp", "data", "-r", "", "x"], ["ls", "data", ""], ["get", "data", "", "x"],
    ):  # fmt: skip
        assert "error: an empty path names no file\n  hint: / is the volume's root" in cli(*arguments, code=2).err
    assert "an empty path" in cli("put", "data", "-", "", code=2, stdin=b"x").err
    assert len(cli.versions("data")) == 1
    cli("rm", "data", "-r", "/")
    assert cli("ls", "data").lines == []


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


def test_get_of_a_symlink_keeps_its_name(cli: Cli, data: str) -> None:
    local = cli.root / "local"
    local.mkdir()
    for name, target in (("current", "../dir/sub"), ("first", "../a")):
        (local / name).symlink_to(target)
    cli("put", "data", local, "/")
    out = cli.root / "out"
    out.mkdir()
    cli("get", "data", "local/current/", out)
    cli("get", "data", "local/first", out)
    assert sorted(os.listdir(out)) == ["current", "first"]
    assert (out / "current" / "c").read_bytes() == b"c"
    assert (out / "first").read_bytes() == b"aa\n"


def test_a_hash_that_begins_with_decimal_digits_is_no_number_only() -> None:
    locator = SimpleNamespace(file=f"00000001-805284{'a' * 34}.json")
    assert [text for text in ("805284", "1", "0001", "2", "0", "805285") if _is_meant(locator, text)] == [
        "805284", "1", "0001"
    ]  # fmt: skip


def test_a_fork_takes_no_name_that_is_taken(cli: Cli, data: str) -> None:
    assert "there is a volume 'data'" in cli("fork", "data", "--name", "data", code=4).err
    local = cli.root / "local"
    local.write_text("x")
    assert "there is a volume 'data'" in cli("put", "data", local, "x", "--fork", "data", code=4).err
    assert cli("ls", "data").lines  # the name still means one volume


def test_a_fork_without_a_name_takes_the_next_that_is_free(cli: Cli, data: str) -> None:
    cli("fork", data)
    cli("put", "data@1", "-", "x", stdin=b"x")
    cli("fork", "data-fork-2")
    listed = [one["name"] for one in cli("list", "--json").json]
    assert sorted(listed) == ["data", "data-fork", "data-fork-2", "data-fork-3"]
    long = cli.volume("n" * 63)
    names = [cli("fork", long, "--json").json["name"] for _ in range(2)]
    assert names == ["n" * 58 + "-fork", "n" * 56 + "-fork-2"]
