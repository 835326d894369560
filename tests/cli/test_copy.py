"""``flytevol copy``."""

from __future__ import annotations

import re

import pytest

from flyteplugins_vol.config import COPY_ENCRYPTION_VARIABLE, ENCRYPTION_VARIABLE
from flyteplugins_vol.io import Volume
from tests.cli.conftest import Cli


@pytest.fixture
def data(cli: Cli) -> Cli:
    """A volume with three versions, the first of which has a tag."""
    cli.volume("data", {"a": b"1", "dir/b": b"b" * 100_000})
    for number in (2, 3):
        cli("put", "data", "-", "/a", "--force", stdin=b"%d" % number)
    cli("tag", "data@1", "v1")
    return cli


def there(cli: Cli, name: str = "other") -> str:
    return f"file://{cli.root}/{name}"


def test_a_copy_prints_its_locator(data: Cli) -> None:
    newest = data.versions("data")[0]["locator"]
    done = data("copy", "data", "--to", there(data))
    assert done.lines == [newest.replace(data.store, there(data))]
    assert re.fullmatch(r"sent \d objects, [0-9.]+ KiB; 0 objects, 0 B, were there; 1 version new there\n", done.err)
    assert data("cat", done.lines[0], "a").out == "3"
    assert data("cat", "data", "a", "--store", there(data)).out == "3"
    assert len(data("log", "data", "--store", there(data), "--json").json) == 1
    again = data("copy", "data", "--to", there(data))
    assert again.lines == done.lines
    assert again.err.startswith("sent 0 objects, 0 B; ")
    assert again.err.endswith("no version is new there\n")
    assert data("copy", "data", "--to", there(data), "--quiet").err == ""


def test_all_versions_and_tags(data: Cli) -> None:
    wire = data("copy", "data", "--history", "--to", there(data), "--json").json
    assert (wire["versions"], wire["tags"], wire["moved"]) == (3, ["v1"], True)
    assert wire["copied"]["objects"] == len([p for p in (data.root / "other").glob("*/??/*") if p.is_file()])
    assert wire["skipped"] == {"objects": 0, "bytes": 0}
    assert (wire["name"], wire["locator"]) == (
        "data",
        data.versions("data")[0]["locator"].replace("/store/", "/other/"),
    )
    other = ("--store", there(data))
    assert data("cat", "data@v1", "a", *other).out == "1"
    assert [one["version"] for one in data("log", "data", "--json", *other).json] == [
        one["version"] for one in data.versions("data")
    ]
    data("tag", "data@2", "v1", "--force")
    done = data("copy", "data", "--history", "--to", there(data), code=4)
    assert "--force" in done.err
    data("copy", "data", "--history", "--force", "--to", there(data))
    assert data("cat", "data@v1", "a", *other).out == "2"


def test_under_another_name(data: Cli) -> None:
    done = data("copy", "data@2", "--to", there(data), "--name", "old")
    other = ("--store", there(data))
    assert data("cat", "old", "a", *other).out == "2"
    assert data("log", "old", "--json", *other).json[0]["parents"] == [data.versions("data")[1]["locator"]]
    data("put", "old", "-", "/a", "--force", *other, stdin=b"mine")
    assert "another name" in data("copy", "data", "--to", there(data), "--name", "old", code=4).err
    assert data("copy", "data", "--to", there(data)).lines != done.lines, "both are there"


def test_what_has_gone_on_there_is_left(data: Cli) -> None:
    other = ("--store", there(data))
    data("copy", "data", "--to", there(data))
    data("put", "data", "-", "/a", "--force", *other, stdin=b"there")
    data("put", "data", "-", "/a", "--force", stdin=b"here")
    done = data("copy", "data", "--to", there(data), "--json", code=4)
    assert '"kind": "diverged"' in done.err
    assert "--name" in done.err
    assert data("cat", "data", "a", *other).out == "there"


def test_a_name_that_is_taken_there(data: Cli) -> None:
    data("new", "data", "--store", there(data))
    done = data("copy", "data", "--to", there(data), code=4)
    assert "--name" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("data",), ("data", "--to", "relative"), ("data", "--to", "STORE"), ("data", "--to", "no-such://x"),
        ("data", "--to", "OTHER", "--force"), ("data", "--to", "OTHER", "--history", "--name", "x"),
        ("data", "--to", "OTHER", "--name", "a/b"), ("--to", "OTHER"),
    ],
)  # fmt: skip
def test_what_nobody_can_mean(data: Cli, arguments: tuple[str, ...]) -> None:
    urls = {"STORE": data.store, "OTHER": there(data)}
    done = data("copy", *(urls.get(one, one) for one in arguments), code=2)
    assert done.out == ""
    assert not (data.root / "other").exists()


def test_of_what_is_not_there(data: Cli) -> None:
    data("copy", "nothing", "--to", there(data), code=3)
    data("copy", "data@9", "--to", there(data), code=3)


def test_damage_ends_with_7_and_names_the_object(data: Cli) -> None:
    pack = max((data.root / "store" / "packs").glob("*/*"), key=lambda path: path.stat().st_size)
    harmed = bytearray(pack.read_bytes())
    harmed[30] ^= 1
    pack.write_bytes(harmed)
    done = data("copy", "data@1", "--to", there(data), code=7)
    assert pack.name in done.err
    assert "flytevol verify" in done.err
    assert not (data.root / "other" / "volumes").exists()


def test_secrets_of_both_stores(data: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, other = "the secret of one store", "the secret of the other"
    monkeypatch.setenv(COPY_ENCRYPTION_VARIABLE, secret)
    data("copy", "data", "--to", there(data))
    monkeypatch.setenv(ENCRYPTION_VARIABLE, secret)
    assert data("cat", "data", "a", "--store", there(data)).out == "3"
    monkeypatch.setenv(COPY_ENCRYPTION_VARIABLE, other)
    data("copy", "data", "--store", there(data), "--to", there(data, "third"))
    monkeypatch.setenv(COPY_ENCRYPTION_VARIABLE, "short")
    data("copy", "data", "--store", there(data), "--to", there(data, "fourth"), code=2)
    monkeypatch.setenv(COPY_ENCRYPTION_VARIABLE, "")
    plain = data("copy", "data", "--store", there(data), "--to", there(data, "fourth")).lines[0]
    monkeypatch.delenv(COPY_ENCRYPTION_VARIABLE)
    data("copy", "data", "--store", there(data), "--to", there(data, "fifth"))
    assert data("cat", "data", "a", "--store", there(data, "fifth")).out == "3", "with the same secret"
    monkeypatch.setenv(ENCRYPTION_VARIABLE, other)
    assert data("cat", "data", "a", "--store", there(data, "third")).out == "3"
    monkeypatch.delenv(ENCRYPTION_VARIABLE)
    assert data("cat", plain, "a").out == "3"


@pytest.mark.fuse
def test_while_it_is_written_to_there(data: Cli) -> None:
    data("copy", "data@1", "--to", there(data))
    writer = Volume.from_name.sync("data", there(data))
    writer.mount.sync(data.root / "mnt")
    done = data("copy", "data", "--to", there(data), code=4)
    assert "open for writing" in done.err
    assert "end that mount" in done.err
    writer.abandon.sync()
    data("copy", "data", "--to", there(data))
    assert data("cat", "data", "a", "--store", there(data)).out == "3"
