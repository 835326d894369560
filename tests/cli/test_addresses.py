"""What a person may type for a volume, a version or a path: locators, names, numbers, escapes."""

from __future__ import annotations

import base64
import os
from types import SimpleNamespace

import pytest

from flyteplugins_vol.history.finding import is_meant
from flyteplugins_vol.io import Volume
from tests.cli.conftest import Cli


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


def test_a_hash_that_begins_with_decimal_digits_is_no_number_only() -> None:
    locator = SimpleNamespace(file=f"00000001-805284{'a' * 34}.json")
    assert [text for text in ("805284", "1", "0001", "2", "0", "805285") if is_meant(locator, text)] == [
        "805284", "1", "0001"
    ]  # fmt: skip


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
