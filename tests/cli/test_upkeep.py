"""``flytevol verify``, ``du``, ``prune`` and ``gc``."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

WEEK = 7 * 86_400


def version(cli: Cli, name: str, text: str, tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(text.encode() * 1000)
    cli("put", name, source, "/a", "--force", "-m", text)


@pytest.fixture
def data(cli: Cli, tmp_path: Path) -> Cli:
    """A volume with four versions; the last needs one pack."""
    cli("new", "data")
    for text in ("one", "two", "three"):
        version(cli, "data", text, tmp_path)
    return cli


def files(cli: Cli, kind: str) -> list[Path]:
    return sorted(path for path in (cli.root / "store" / kind).rglob("*") if path.is_file())


def age(cli: Cli, *kinds: str) -> None:
    """Eight days pass for these objects."""
    then = time.time() - WEEK - 86_400
    for path in [path for kind in kinds for path in files(cli, kind)]:
        os.utime(path, (then, then))


def test_verify_says_what_is_whole(data: Cli) -> None:
    assert data("verify", "data").lines == ["whole: 1 pack, 1 block"]
    assert data("verify", "data", "--deep").lines[0].startswith("whole: 1 pack, 1 block, ")
    found = data("verify", "data@2", "--json").json
    assert (found["ok"], found["deep"], found["packs"], found["files"]) == (True, False, 1, [])


def test_verify_names_broken_files_and_ends_with_7(data: Cli) -> None:
    before = set(files(data, "packs"))
    version(data, "data", "four", data.root)
    (pack,) = set(files(data, "packs")) - before
    pack.unlink()
    done = data("verify", "data", code=7)
    assert done.lines[0] == f"pack: packs/{pack.parent.name}/{pack.name}: it is missing"
    assert done.lines[1].startswith("broken: a: 4,000 bytes: packs/")
    assert done.lines[-1] == "1 problem, 1 broken file: 1 pack, 1 block"
    found = data("verify", "data", "--deep", "--json", code=7).json
    assert not found["ok"]
    assert [file["paths"] for file in found["files"]] == [[{"path": "a"}]]
    assert data("verify", "data@4").lines == ["whole: 1 pack, 1 block"], "the others are whole"


def test_verify_of_what_is_not_there(data: Cli) -> None:
    data("verify", "nothing", code=3)
    data("verify", "data@99", code=3)


def test_du_of_a_volume_and_of_one_version(data: Cli) -> None:
    head, *rows, last = data("du", "data").lines
    assert head.split() == ["VERSION", "CREATED", "FILES", "SIZE", "STORED", "EXCLUSIVE", "FREED"]
    assert [row.split()[0] for row in rows] == ["data@4", "data@3", "data@2", "data@1"]
    assert last.split()[0] == "all"
    (one,) = data("du", "data@2").lines[1:]
    assert one == rows[2]
    found = data("du", "data", "--json").json
    assert [version["locator"] for version in found["versions"]] == [one["locator"] for one in data.versions("data")]
    newest = found["versions"][0]
    assert (newest["files"], newest["bytes"]) == (2, 5000)
    assert 0 < newest["exclusive"] < newest["freed"] <= newest["stored"]
    assert found["stored"] == found["freed"]
    assert len(data("du", "data@2", "--json").json["versions"]) == 1
    data("fork", "data@2", "--name", "child")
    assert data("du", "data@2", "--json").json["versions"][0]["freed"] == 0
    data("du", "nothing", code=3)


def test_prune_shows_its_plan_and_does_it_with_yes(data: Cli) -> None:
    for arguments in ((), ("--dry-run",), ("--dry-run", "--yes")):
        done = data("prune", "data", "--keep-last", "2", *arguments)
        assert [line.split()[-1] for line in done.lines[1:]] == ["delete", "delete", "last", "last"]
        assert len(data.versions("data")) == 4
    assert "2 versions would be deleted" in data("prune", "data", "--keep-last", "2").err
    done = data("prune", "data", "--keep-last", "2", "--yes", "--json").json
    assert (done["dry_run"], len(done["deleted"])) == (False, 2)
    assert [one["reasons"] for one in done["kept"]] == [["last"], ["ref main", "last"]]
    assert len(data.versions("data")) == 2
    assert len(files(data, "volumes")) - len(list(data.root.rglob("deleted/*"))) >= 3
    assert data("cat", "data", "/a").raw == b"three" * 1000


def test_prune_by_age(data: Cli) -> None:
    assert len(data("prune", "data", "--keep-within", "36h", "--json").json["kept"]) == 4
    assert len(data("prune", "data", "--keep-daily", "3", "--keep-weekly", "1", "--json").json["kept"]) <= 2


@pytest.mark.parametrize(
    "arguments", [(), ("--keep-last", "-1"), ("--keep-within", "soon"), ("--keep-within", "3"), ("--keep-last", "0")]
)
def test_prune_without_a_policy_is_a_mistake(data: Cli, arguments: tuple[str, ...]) -> None:
    assert "--keep-" in data("prune", "data", *arguments, "--yes", code=2).err
    assert len(data.versions("data")) == 4


def test_gc_marks_and_a_week_later_deletes(data: Cli) -> None:
    data("prune", "data", "--keep-last", "1", "--yes")
    before = files(data, "packs")
    done = data("gc", "--yes", "--json").json
    assert (done["deleted"]["objects"], done["marked"]["objects"], done["kept_deleted"]) == (0, 0, 3)
    age(data, "packs", "index", "volumes")
    assert data("gc").lines[2].startswith("would be marked")
    assert "--yes does it" in data("gc").err
    assert data("gc", "--json").json["dry_run"]
    assert not files(data, "gc/lists")
    marked = data("gc", f"file://{data.root}/store", "--yes", "--json").json["marked"]
    assert marked["objects"] >= 2
    assert marked["bytes"] > 0
    assert files(data, "packs") == before
    age(data, "gc/lists")
    assert data("gc", "--yes", "--grace", "4w", "--json").json["deleted"]["objects"] == 0
    assert data("gc", "--yes", "--json").json["deleted"] == marked
    assert len(files(data, "packs")) == 1
    data("verify", "data", "--deep")
    assert data("gc").lines[-1] == "in no version, and kept for now: 0 objects, 0 B"


def test_gc_refuses_what_it_cannot_read(data: Cli) -> None:
    record = files(data, "volumes")[-1]
    record.write_bytes(record.read_bytes() + b" ")
    done = data("gc", code=7)
    assert "nothing was deleted" in done.err
    assert data("gc", "--yes", "--json", code=7).err.startswith('{"error"')


def test_gc_of_what_is_no_store_leaves_nothing_behind(cli: Cli) -> None:
    (cli.root / "home" / "documents").mkdir()
    for where in ("home", "nowhere"):
        for options in ((), ("--yes",)):
            assert "there is no store at" in cli("gc", f"file://{cli.root}/{where}", *options, code=3).err
    assert [path.name for path in (cli.root / "home").rglob("*")] == ["documents"]
    assert not (cli.root / "nowhere").exists()


def test_gc_with_a_grace_time_that_is_too_short(data: Cli) -> None:
    data("gc", "--grace", "1h", code=2)
    data("gc", "--grace", "never", code=2)
    data("gc", "--abandoned", "6d", code=2)
