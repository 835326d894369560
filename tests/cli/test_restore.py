"""``flytevol restore``."""

from __future__ import annotations

import pytest

from flyteplugins_vol.io import Volume
from tests.cli.conftest import Cli


@pytest.fixture
def data(cli: Cli) -> Cli:
    """A volume without ``dir`` in its second version, and with another ``a`` in its third."""
    cli.volume("data", {"a": b"aa", "dir/b": b"b" * 2000, "z\n": b"z"})
    cli("rm", "data", "dir", "-r")
    cli("put", "data", "-", "/a", "--force", stdin=b"another")
    return cli


def test_from_a_version(data: Cli) -> None:
    done = data("restore", "data", "dir", "--from", "1")
    newest = data.versions("data")[0]
    assert done.lines == [newest["locator"]]
    assert "from data@1: 2 files" in done.err
    assert newest["message"] == "restored dir from data@1"
    assert newest["stats"]["new_pack_bytes"] == 0
    assert data("cat", "data", "dir/b").raw == b"b" * 2000
    assert data("diff", "data@1", "data").lines == ["M\ta"]


def test_from_the_version_before(data: Cli) -> None:
    data("restore", "data", "a", "--force", "-m", "no, as it was")
    assert data("cat", "data", "a").raw == b"aa"
    assert data.versions("data")[0]["message"] == "no, as it was"
    data("new", "empty")
    done = data("restore", "empty", "a", code=3)
    assert "no version before empty@1" in done.err
    assert "--from" in done.err


@pytest.mark.parametrize("source", ["1", "@1", "00000001", "data@1", "v1", "data@v1", "LOCATOR"])
def test_names_of_versions(data: Cli, source: str) -> None:
    data("tag", "data@1", "v1")
    locator = data.versions("data")[-1]["locator"]
    data("restore", "data", "dir", "--from", locator if source == "LOCATOR" else source)
    assert data("ls", "data", "dir").lines == ["b"]


def test_of_a_locator_a_fork(data: Cli) -> None:
    locator = data.versions("data")[0]["locator"]
    done = data("restore", locator, "dir", "--from", "1", "--json").json
    assert (done["name"], done["restored"]) == ("data-fork", 2)
    assert data("ls", "data-fork").lines == ["a", "dir/", "z\\n"]
    assert len(data.versions("data")) == 3
    data("restore", "data@2", "a", "--fork", "mine", "--from", "3", "--force")
    assert data("cat", "mine", "a").raw == b"another"


def test_from_another_volume(data: Cli) -> None:
    data.volume("other", {"x/y": b"y"})
    data("restore", "data", "x/y", "--from", "other@main", "--to", "y\\n")
    assert data("ls", "data").lines == ["a", "y\\\\n", "z\\n"]
    data("restore", "data", "z\\n", "--from", "1", "--to", "z2")
    assert data("cat", "data", "z2").raw == b"z"
    elsewhere = Volume.new("else", f"file://{data.root}/store2")
    elsewhere.write_bytes.sync("q", b"q")
    locator = str(elsewhere.finalize.sync().locator)
    assert "another store" in data("restore", "data", "q", "--from", locator, code=2).err


def test_what_is_there_already(data: Cli) -> None:
    done = data("restore", "data", "a", "--from", "1", code=4)
    assert "--force" in done.err
    assert len(data.versions("data")) == 3, "nothing is published"
    data("restore", "data", "/", "--from", "1", code=4)
    data("restore", "data", "/", "--from", "1", "--force")
    assert data("diff", "data@1", "data", "--exit-code").out == ""


def test_what_is_not_there(data: Cli) -> None:
    assert "not in version data@2" in data("restore", "data", "dir", code=3).err
    data("restore", "data", "a", "--from", "9", code=3)
    data("restore", "data", "a", "--from", "nothing@1", code=3)
    data("restore", "nothing", "a", code=3)
    data("restore", "data", "a", "--from", "1", "--to", "no/a", code=3)
    data("restore", "data", code=2)
    assert len(data.versions("data")) == 3
