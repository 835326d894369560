"""``flytevol merge``."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def data(cli: Cli) -> Cli:
    """A volume, and two forks of its first version."""
    cli.volume("data", {"a": b"aa", "dir/b": b"b" * 2000})
    for name in ("one", "two"):
        cli("fork", "data", "--name", name)
        cli("put", name, "-", name, stdin=name.encode())
    return cli


def conflicting(data: Cli) -> None:
    data("put", "one", "-", "a", "--force", stdin=b"1")
    data("put", "two", "-", "a", "--force", stdin=b"2")
    data("put", "one", "-", "dir/new\n", stdin=b"n")
    data("rm", "two", "dir", "-r")


def test_into_a_volume(data: Cli) -> None:
    data("put", "data", "-", "own", stdin=b"own")
    done = data("merge", "data@1", "one", "two", "--into", "data", "-m", "both")
    newest = data.versions("data")[0]
    assert done.lines == [newest["locator"]]
    assert newest["message"] == "both"
    assert len(newest["parents"]) == 3
    assert data("ls", "data").lines == ["a", "dir/", "one", "own", "two"]
    assert data("cat", "data", "two").raw == b"two"
    data("verify", "data", "--deep")
    assert data("merge", "data@1", "one", "two", "--into", "data").lines == [newest["locator"]], "there is nothing new"


def test_a_new_volume(data: Cli) -> None:
    made = data("merge", "data", "one", "two", "--json").json
    assert (made["name"], made["stats"]["new_pack_bytes"]) == ("data-fork", 0)
    assert made["message"] == "merged one@2, two@2"
    assert data("ls", "data-fork").lines == ["a", "dir/", "one", "two"]
    assert data("merge", "data", "one", "two", "--name", "both", "--json").json["name"] == "both"
    assert len(data.versions("data")) == 1
    data("merge", "data", "one", "--name", "both", code=4)


def test_conflicts(data: Cli) -> None:
    conflicting(data)
    done = data("merge", "data", "one", "two", "--into", "data", code=4)
    one, two = (f"{name}-{data.versions(name)[0]['locator'].split('/volumes/')[1][4:20]}" for name in ("one", "two"))
    assert done.lines == [
        f"a: changed in {one}@4, changed in {two}@4",
        f"dir: changed below in {one}@4, deleted in {two}@4",
        f"dir/new\\n: added in {one}@4, deleted in {two}@4",
    ]
    assert "3 conflicts, nothing is merged" in done.err
    assert "--on-conflict" in done.err
    assert len(data.versions("data")) == 1
    done = data("merge", "data", "one", "two", "--json", code=4)
    assert [found["path"] for found in done.json["conflicts"]] == ["/a", "/dir", "/dir/new\n"]
    assert list(done.json["conflicts"][1]["changes"].values()) == ["below", "removed"]
    assert json.loads(done.err)["error"]["kind"] == "merge-conflict"
    assert [volume["name"] for volume in data("list", "--json").json] == ["data", "one", "two"]


def test_who_wins(data: Cli) -> None:
    conflicting(data)
    data("merge", "data", "one", "two", "--on-conflict", "first", "--name", "first")
    assert data("cat", "first", "a").raw == b"1"
    assert data("ls", "first", "dir").lines == ["new\\n"]
    data("merge", "data", "one", "two", "--on-conflict", "last", "--name", "last")
    assert data("cat", "last", "a").raw == b"2"
    assert data("ls", "last").lines == ["a", "one", "two"]


def test_bad_input(data: Cli) -> None:
    data("merge", "data", code=2)
    data("merge", "data", "nothing", code=3)
    data("merge", "data@7", "one", code=3)
    data("merge", "data", "one", "--into", "nothing", code=3)
    data("merge", "data", "one", "--into", "data@1", code=2)
    data("merge", "data", "one", "--into", "data", "--name", "x", code=2)
    data("merge", "data", "one", "--on-conflict", "mine", code=2)
    assert len(data.versions("data")) == 1
