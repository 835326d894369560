"""Whole volumes: new, list, log, fork and delete."""

from __future__ import annotations

import json

import pytest

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.io import Volume
from tests.cli.conftest import Cli


def test_new_and_list(cli: Cli) -> None:
    assert f"there is no store {cli.store}\n" in cli("list", code=3).err
    (cli.root / "store").write_text("")
    assert "it is no directory" in cli("list", code=3).err
    (cli.root / "store").unlink()
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


def test_two_that_are_made_at_once_both_have_the_name_and_one_can_go(cli: Cli) -> None:
    made = [Volume.from_name.sync("twin", cli.store, create_if_missing=True) for _ in range(2)]
    locators = [volume.finalize.sync().locator for volume in made]
    with pytest.raises(UsageError, match="2 volumes are named 'twin'") as caught:
        Volume.from_name.sync("twin", cli.store)
    command = caught.value.hint.partition("`flytevol delete ")[2].partition("`")[0]
    cli("delete", command, "--yes")
    assert Volume.from_name.sync("twin", cli.store).locator in locators


def test_delete(cli: Cli, data: str) -> None:
    cli("put", "data", "-", "x", stdin=b"")
    fork = cli("fork", "data@1", "--name", "child").lines[0]
    assert "the ref main" in cli("delete", "data@2", "--yes", code=4).err
    asked = cli("delete", "data@1", stdin=b"n\n", code=1)
    assert "for ever? [y/N]: error: the answer was no: nothing is deleted\n" in asked.err
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
