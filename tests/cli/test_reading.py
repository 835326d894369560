"""Looking at files: ls, tree, stat, cat and get."""

from __future__ import annotations

import os

import pytest

from tests.cli.conftest import Cli


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
    nowhere = "/proc/of-that-name"  # where nothing can be made, whoever asks
    assert f"error: {nowhere}: No such file or directory\n" in cli("get", "data", "a", nowhere, code=3).err


@pytest.mark.fuse
def test_get_leaves_out_what_has_no_content_and_says_so(cli: Cli, data: str) -> None:
    fifo = cli.root / "mnt" / "dir" / "fifo"
    assert cli.process("exec", "data", "--at", cli.root / "mnt", "--", "mkfifo", fifo).wait(60) == 0
    done = cli("get", "data", "dir", cli.root / "out")
    assert "1 fifo, socket or device, first /dir/fifo" in done.err
    assert sorted(os.listdir(cli.root / "out")) == ["b", "sub"]
    wire = cli("get", "data", "dir", cli.root / "again", "--json").json
    assert (wire["bytes"], wire["skipped"]) == (2001, 1)


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


def test_a_name_that_is_too_long_is_told(cli: Cli, data: str) -> None:
    name, local = "x" * 256, cli.root / "local"
    local.mkdir()
    (local / "c").write_text("c")
    for arguments in (
        ["put", "data", local / "c", name], ["put", "data", local, f"new/{name}"], ["get", "data", name],
        ["put", "data", local / "c", f"new/{name}/c"], ["cp", "data", "a", name], ["cp", "data", "-r", "dir", name],
        ["rm", "data", name], ["ls", "data", name],
    ):  # fmt: skip
        assert f"{name}: File name too long\n" in cli(*arguments, code=1).err
    assert len(cli.versions("data")) == 1


def test_a_refusal_shows_names_escaped(cli: Cli) -> None:
    cli.volume("odd", {os.fsdecode(b"d/\xff"): b""})
    assert r"/d/\xff: is the same file as /d/\xff" in cli("cp", "odd", "-r", "d", "/", "--force", code=1).err
