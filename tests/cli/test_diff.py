"""``flytevol diff``."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.usefixtures("three_versions")


def test_a_line_for_each_path(cli: Cli) -> None:
    assert cli("diff", "data@1", "data").lines == ["M\ta", "D\tdir/", "D\tdir/b"]
    assert cli("diff", "data", "data@1").lines == ["M\ta", "A\tdir/", "A\tdir/b"]
    assert cli("diff", "data@2", "data@3").lines == ["M\ta"]


def test_letters(cli: Cli) -> None:
    cli.volume("other", {"z\n/inside": b"", "a": b"another"})
    assert cli("diff", "data@3", "other").lines == ["m\ta", "T\tz\\n/", "A\tz\\n/inside"]


def test_sums(cli: Cli) -> None:
    rows = cli("diff", "data@1", "data", "--stat").lines
    assert [row.split() for row in rows[1:]] == [
        ["added", "0", "+0", "B"], ["removed", "1", "−2.0", "KiB"], ["changed", "1", "2", "B", "→", "7", "B"],
        ["attributes", "0"],
    ]  # fmt: skip
    assert cli("diff", "data", "data", "--stat").out == ""


def test_json(cli: Cli) -> None:
    found = cli("diff", "data@1", "data", "--json").json
    first, last = (version["locator"] for version in reversed(cli.versions("data")[::2]))
    assert (found["old"], found["new"]) == (first, last)
    assert found["files"] == {"added": 0, "removed": 1, "changed": 1, "attributes": 0}
    assert found["changes"][0] == {
        "path": "/a", "change": "changed",
        "old": {"kind": "file", "mode": "0644", "size": 2}, "new": {"kind": "file", "mode": "0644", "size": 7},
    }  # fmt: skip
    assert [one["new"] for one in found["changes"][1:]] == [None, None]
    assert cli("diff", "data", "data", "--json").json["changes"] == []
    sums = cli("diff", "data@1", "data", "--json", "--stat").json
    assert "changes" not in sums
    assert sums["old_bytes"]["removed"] == 2000


def test_exit_codes(cli: Cli) -> None:
    cli("diff", "data@1", "data", "--exit-code", code=1)
    assert "nothing differs" in cli("diff", "data", "data", "--exit-code").err
    cli("diff", "data@1", "nothing", code=3)
    cli("diff", "data@1", "data@9", "--exit-code", code=3)
    cli("diff", "data@1", code=2)


def test_a_fork_and_its_parent(cli: Cli) -> None:
    cli("fork", "data", "--name", "child")
    assert cli("diff", "data", "child").out == ""
    cli("rm", "child", "a")
    assert cli("diff", "data", "child").lines == ["D\ta"]
