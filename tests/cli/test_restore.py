"""``flytevol restore``."""

from __future__ import annotations

import pytest

from flyteplugins_vol.io import Volume
from tests.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("three_versions")


def test_from_a_version(cli: Cli) -> None:
    done = cli("restore", "data", "dir", "--from", "1")
    newest = cli.versions("data")[0]
    assert done.lines == [newest["locator"]]
    assert "from data@1: 2 files" in done.err
    assert newest["message"] == "restored dir from data@1"
    assert newest["stats"]["new_pack_bytes"] == 0
    assert cli("cat", "data", "dir/b").raw == b"b" * 2000
    assert cli("diff", "data@1", "data").lines == ["M\ta"]


def test_from_the_version_before(cli: Cli) -> None:
    cli("restore", "data", "a", "--force", "-m", "no, as it was")
    assert cli("cat", "data", "a").raw == b"aa"
    assert cli.versions("data")[0]["message"] == "no, as it was"
    cli("new", "empty")
    done = cli("restore", "empty", "a", code=3)
    assert "no version before empty@1" in done.err
    assert "--from" in done.err


@pytest.mark.parametrize("source", ["1", "@1", "00000001", "data@1", "v1", "data@v1", "LOCATOR"])
def test_names_of_versions(cli: Cli, source: str) -> None:
    cli("tag", "data@1", "v1")
    locator = cli.versions("data")[-1]["locator"]
    cli("restore", "data", "dir", "--from", locator if source == "LOCATOR" else source)
    assert cli("ls", "data", "dir").lines == ["b"]


def test_of_a_locator_a_fork(cli: Cli) -> None:
    locator = cli.versions("data")[0]["locator"]
    done = cli("restore", locator, "dir", "--from", "1", "--json").json
    assert (done["name"], done["restored"]) == ("data-fork", 2)
    assert cli("ls", "data-fork").lines == ["a", "dir/", "z\\n"]
    assert len(cli.versions("data")) == 3
    cli("restore", "data@2", "a", "--fork", "mine", "--from", "3", "--force")
    assert cli("cat", "mine", "a").raw == b"another"


def test_from_another_volume(cli: Cli) -> None:
    cli.volume("other", {"x/y": b"y"})
    cli("restore", "data", "x/y", "--from", "other@main", "--to", "y\\n")
    assert cli("ls", "data").lines == ["a", "y\\\\n", "z\\n"]
    cli("restore", "data", "z\\n", "--from", "1", "--to", "z2")
    assert cli("cat", "data", "z2").raw == b"z"
    elsewhere = Volume.new("else", f"file://{cli.root}/store2")
    elsewhere.write_bytes.sync("q", b"q")
    locator = str(elsewhere.finalize.sync().locator)
    assert "another store" in cli("restore", "data", "q", "--from", locator, code=2).err


def test_what_is_there_already(cli: Cli) -> None:
    done = cli("restore", "data", "a", "--from", "1", code=4)
    assert "--force" in done.err
    assert len(cli.versions("data")) == 3, "nothing is published"
    cli("restore", "data", "/", "--from", "1", code=4)
    cli("restore", "data", "/", "--from", "1", "--force")
    assert cli("diff", "data@1", "data", "--exit-code").out == ""


def test_what_is_not_there(cli: Cli) -> None:
    assert "not in version data@2" in cli("restore", "data", "dir", code=3).err
    cli("restore", "data", "a", "--from", "9", code=3)
    cli("restore", "data", "a", "--from", "nothing@1", code=3)
    cli("restore", "nothing", "a", code=3)
    cli("restore", "data", "a", "--from", "1", "--to", "no/a", code=3)
    cli("restore", "data", code=2)
    assert len(cli.versions("data")) == 3
