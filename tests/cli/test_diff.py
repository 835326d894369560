"""``flytevol diff``."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def data(cli: Cli) -> Cli:
    """A volume whose second version has other files in ``dir``, and whose third has another content of ``a``."""
    cli.volume("data", {"a": b"aa", "dir/b": b"b" * 2000, "z\n": b"z"})
    cli("rm", "data", "dir", "-r")
    cli("put", "data", "-", "/a", "--force", stdin=b"another")
    return cli


def test_a_line_for_each_path(data: Cli) -> None:
    assert data("diff", "data@1", "data").lines == ["M\ta", "D\tdir/", "D\tdir/b"]
    assert data("diff", "data", "data@1").lines == ["M\ta", "A\tdir/", "A\tdir/b"]
    assert data("diff", "data@2", "data@3").lines == ["M\ta"]


def test_letters(data: Cli) -> None:
    data.volume("other", {"z\n/inside": b"", "a": b"another"})
    assert data("diff", "data@3", "other").lines == ["m\ta", "T\tz\\n/", "A\tz\\n/inside"]


def test_sums(data: Cli) -> None:
    rows = data("diff", "data@1", "data", "--stat").lines
    assert [row.split() for row in rows[1:]] == [
        ["added", "0", "+0", "B"], ["removed", "1", "−2.0", "KiB"], ["changed", "1", "2", "B", "→", "7", "B"],
        ["attributes", "0"],
    ]  # fmt: skip
    assert data("diff", "data", "data", "--stat").out == ""


def test_json(data: Cli) -> None:
    found = data("diff", "data@1", "data", "--json").json
    first, last = (version["locator"] for version in reversed(data.versions("data")[::2]))
    assert (found["old"], found["new"]) == (first, last)
    assert found["files"] == {"added": 0, "removed": 1, "changed": 1, "attributes": 0}
    assert found["changes"][0] == {
        "path": "/a", "change": "changed",
        "old": {"kind": "file", "mode": "0644", "size": 2}, "new": {"kind": "file", "mode": "0644", "size": 7},
    }  # fmt: skip
    assert [one["new"] for one in found["changes"][1:]] == [None, None]
    assert data("diff", "data", "data", "--json").json["changes"] == []
    sums = data("diff", "data@1", "data", "--json", "--stat").json
    assert "changes" not in sums
    assert sums["old_bytes"]["removed"] == 2000


def test_exit_codes(data: Cli) -> None:
    data("diff", "data@1", "data", "--exit-code", code=1)
    assert "nothing differs" in data("diff", "data", "data", "--exit-code").err
    data("diff", "data@1", "nothing", code=3)
    data("diff", "data@1", "data@9", "--exit-code", code=3)
    data("diff", "data@1", code=2)


def test_a_fork_and_its_parent(data: Cli) -> None:
    data("fork", "data", "--name", "child")
    assert data("diff", "data", "child").out == ""
    data("rm", "child", "a")
    assert data("diff", "data", "child").lines == ["D\ta"]
