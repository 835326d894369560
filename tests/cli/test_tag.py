"""``flytevol tag``, and what tags do for other commands."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def data(cli: Cli) -> Cli:
    """A volume with three versions."""
    cli.volume("data", {"a": b"1"})
    for number in (2, 3):
        cli("put", "data", "-", "/a", "--force", stdin=b"%d" % number)
    return cli


def test_a_tag_is_an_address(data: Cli) -> None:
    first = data.versions("data")[-1]["locator"]
    assert data("tag", "data@1", "v1.0").lines == [first]
    assert data("tag", "data", "stable", "--json").json["tag"] == "stable"
    assert data("cat", "data@v1.0", "a").out == "1"
    data("put", "data", "-", "/a", "--force", stdin=b"4")
    assert data("cat", "data@stable", "a").out == "3"
    assert data("diff", "data@v1.0", "data@stable").lines == ["M\ta"]
    assert data("fork", "data@v1.0", "--name", "child").lines
    assert data("tag", first, "again").lines == [first], "a locator, too"


def test_show_them(data: Cli) -> None:
    assert data("tag", "--list", "data").out == ""
    assert "no tags" in data("tag", "data").err
    assert data("tag", "--list", "data", "--json").json == []
    data("tag", "data@1", "v1")
    data("tag", "data@1", "first")
    data("tag", "data", "stable")
    rows = data("tag", "--list", "data").lines
    assert [row.split()[:2] for row in rows] == [
        ["TAG", "VERSION"], ["first", "data@1"], ["stable", "data@3"], ["v1", "data@1"],
    ]  # fmt: skip
    assert data("tag", "data").lines == rows
    versions = data.versions("data")
    assert [version["tags"] for version in versions] == [["stable"], [], ["first", "v1"]]
    listed = data("tag", "--list", "data@2", "--json").json
    assert [one["locator"] for one in listed] == [versions[number]["locator"] for number in (2, 0, 2)]


def test_log_shows_them_also_before_a_fork(data: Cli) -> None:
    assert "TAGS" not in data("log", "data").out
    data("tag", "data@1", "v1")
    data("fork", "data@2", "--name", "child")
    data("tag", "child", "mine")
    head, *rows = data("log", "child").lines
    assert "TAGS" in head
    assert [row.split()[-1] for row in rows if row.split()[0] in ("child@1", "data@1")] == ["mine", "v1"]


def test_move_and_delete(data: Cli) -> None:
    data("tag", "data@1", "v1")
    data("tag", "data@1", "v1")
    done = data("tag", "data@2", "v1", code=4)
    assert "--force" in done.err
    data("tag", "data@2", "v1", "--force")
    assert data("cat", "data@v1", "a").out == "2"
    assert data("tag", "--delete", "data", "v1").lines == ["deleted tag v1 of data"]
    data("tag", "--delete", "data", "v1", code=3)
    data("cat", "data@v1", "a", code=3)
    assert len(data.versions("data")) == 3


def test_what_has_a_tag_stays(data: Cli) -> None:
    data("tag", "data@1", "v1")
    done = data("delete", "data@1", "--yes", code=4)
    assert "flytevol tag --delete data v1" in done.err
    plan = data("prune", "data", "--keep-last", "1", "--yes", "--json").json
    assert [one["reasons"] for one in plan["kept"]] == [["ref v1"], ["ref main", "last"]]
    assert data("cat", "data@v1", "a").out == "1"


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "7"), ("data", "main"), ("data", "a/b"), ("--list", "data", "v1"), ("--delete", "data"),
        ("--list", "--delete", "data"), ("data", "--force"), ("--delete", "data", "v1", "--force"), (),
    ],
)  # fmt: skip
def test_what_nobody_can_mean(data: Cli, arguments: tuple[str, ...]) -> None:
    data("tag", *arguments, code=2)
    assert data("tag", "--list", "data").out == ""


def test_of_what_is_not_there(data: Cli) -> None:
    data("tag", "nothing", "v1", code=3)
    data("tag", "data@9", "v1", code=3)
