"""refresh, and mounts that follow, as processes of their own."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli
from tests.cli.running import mounted, stop
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse


def test_a_mount_shows_the_newest_version_or_the_one_that_is_named(cli: Cli) -> None:
    first = cli.volume("data", {"a": b"old"})
    process, path = mounted(cli, "data", "--read-only")
    cli("put", "data", "-", "/a", "--force", stdin=b"new!")
    newest = cli.versions("data")[0]["locator"]
    assert (path / "a").read_bytes() == b"old"
    assert cli("refresh", path).lines == [newest]
    assert (path / "a").read_bytes() == b"new!"
    assert cli("refresh", path, "data@1", "--json").json["locator"] == first
    assert (path / "a").read_bytes() == b"old"
    assert cli("refresh", path, first).lines == [first]
    other = cli.volume("other", {"a": b"x"})
    assert "is not a version of volume 'data'" in cli("refresh", path, other, code=2).err
    assert "no live mount" in cli("refresh", cli.root / "nowhere", code=3).err
    assert "9" in cli("refresh", path, "data@9", code=3).err
    assert stop(process)[0].strip() == ""


def test_a_mount_for_writing_shows_no_other(cli: Cli) -> None:
    cli.volume("data", {"a": b"old"})
    process, path = mounted(cli, "data", "--no-commit")
    refused = cli("refresh", path, code=2)
    assert "this mount is for writing" in refused.err
    assert "read-only" in refused.err
    stop(process)
    assert "add --read-only" in cli("mount", "data", path, "--follow", "5", code=2).err


def test_a_mount_that_follows(cli: Cli) -> None:
    cli.volume("data", {"a": b"old"})
    process, path = mounted(cli, "data", "--read-only", "--follow", "0.1")
    cli("put", "data", "-", "/a", "--force", stdin=b"new!")
    wait_for(lambda: (path / "a").read_bytes() == b"new!")
    stop(process)
