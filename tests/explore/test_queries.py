"""Questions to an index, against the same questions to the workspace that made it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flyteplugins_vol.errors import IndexDamagedError, NewerFormatError, UsageError
from flyteplugins_vol.explore.connection import InterruptedQueryError
from flyteplugins_vol.explore.queries import PAGE, IndexReader, Sort
from flyteplugins_vol.model import ROOT_INO
from tests.explore.conftest import ODD_NAME, Cats, World, index_of, put


@pytest.fixture
async def reader(cats: Cats) -> AsyncIterator[IndexReader]:
    reader = await IndexReader.open(index_of(cats.world, cats.versions[2]))
    yield reader
    await reader.close()


async def names(reader: IndexReader, sort: Sort = Sort.NAME) -> list[bytes]:
    return [entry.name for entry in await reader.page(ROOT_INO, 0, sort)]


async def test_a_directory_in_each_order(reader: IndexReader) -> None:
    assert await names(reader) == [b"README.md", b"images", b"latest", b"odd", b"train.py", b"weights.bin"]
    # by what is below: weights 10,240 > images 2,033 > train.py 32 > README 28 > latest 11 > odd 4
    assert await names(reader, Sort.SIZE) == [b"weights.bin", b"images", b"train.py", b"README.md", b"latest", b"odd"]
    images = (await reader.walk((b"images", b"bengal")))[1]
    assert [entry.name for entry in await reader.page(images.ino, 0, Sort.TIME)] == [b"one.png"]
    assert await reader.count(ROOT_INO) == 6
    for sort in Sort:
        found = [await reader.position(ROOT_INO, name, sort) for name in await names(reader, sort)]
        assert found == list(range(6))
        assert await reader.position(ROOT_INO, b"nothing", sort) is None


async def test_what_is_below_a_directory(reader: IndexReader) -> None:
    images = await reader.entry(ROOT_INO, b"images")
    assert images is not None
    assert images.is_dir
    usage = await reader.usage([ROOT_INO, images.ino, 12345])
    assert usage[images.ino] == (1, 2000 + 33)
    assert usage[ROOT_INO] == (6, 28 + 2033 + 4 + 32 + 10240)
    assert usage[12345] == (0, 0)
    assert await reader.totals() == (9, 28 + 2033 + 4 + 32 + 10240)


async def test_pages_of_a_great_directory(world: World) -> None:
    volume = world.new()
    expected = sorted(b"%d" % number for number in range(3 * PAGE + 5))
    for name in expected:
        volume.create(name)
    reader = await IndexReader.open(index_of(world, volume.commit()))
    try:
        for number in (2, 0, 3, 1, 2):
            page = [entry.name for entry in await reader.page(ROOT_INO, number)]
            assert page == expected[number * PAGE : (number + 1) * PAGE]
        assert await reader.page(ROOT_INO, 9) == []
        assert [e.name for e in await reader.page(ROOT_INO, 2, Sort.SIZE)] == expected[2 * PAGE : 3 * PAGE]
    finally:
        await reader.close()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("png", [b"one.png"]),
        ("PNG", []),
        ("readme", [b"README.md"]),
        ("README", [b"README.md"]),
        ("*.py", [b"train.py"]),
        ("t?ain.*", [b"train.py"]),
        ("[rR]EAD*", [b"README.md"]),
        ("100%", []),
        ("caf", [ODD_NAME]),
        ("", []),
    ],
)
async def test_search(reader: IndexReader, pattern: str, found: list[bytes]) -> None:
    assert [item.name for item in await reader.search(pattern)] == found


async def test_search_goes_on_page_by_page(reader: IndexReader) -> None:
    everything = await reader.search("*")
    pages, after = [], None
    while page := await reader.search("*", after, 2):
        pages += page
        after = page[-1]
    assert pages == everything
    assert len(everything) == 9
    paths = await reader.paths({item.parent for item in everything})
    assert {paths[item.parent] for item in everything} == {b"/", b"/images", b"/images/bengal", b"/odd"}


async def test_facts_about_a_file(reader: IndexReader) -> None:
    weights = await reader.entry(ROOT_INO, b"weights.bin")
    assert weights is not None
    facts = await reader.facts(weights.ino)
    assert (facts.extents, facts.blocks, facts.packs, facts.staged) == (1, 1, 1, 0)


async def test_names_that_are_no_text(reader: IndexReader) -> None:
    walked = await reader.walk((b"odd", ODD_NAME))
    assert [entry.name for entry in walked] == [b"odd", ODD_NAME]
    assert await reader.walk((b"odd", b"other")) == walked[:1]


async def test_a_closed_reader_answers_nobody(cats: Cats) -> None:
    reader = await IndexReader.open(index_of(cats.world, cats.versions[0]))
    await reader.close()
    await reader.close()
    with pytest.raises(InterruptedQueryError):
        await reader.count(ROOT_INO)


async def test_files_with_two_names_and_sparse_giants(world: World) -> None:
    volume = world.new()
    ino = put(volume, "a/file", b"12345")
    volume.workspace.link(ino, ROOT_INO, b"again")
    for name in (b"huge", b"huger"):
        volume.workspace.write(volume.create(name), (1 << 62) + (1 << 61), b"end")
    reader = await IndexReader.open(index_of(world, volume.commit()))
    try:
        usage = (await reader.usage([ROOT_INO]))[ROOT_INO]
        assert usage.files == 4
        assert usage.bytes == pytest.approx(3 * (1 << 62), rel=1e-9)  # more than SQLite's integers hold
    finally:
        await reader.close()


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def content(path: str) -> bytes:
    return Path(path).read_bytes()


async def test_what_is_no_index(tmp_path: Path, cats: Cats) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        await IndexReader.open(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="is a directory"):
        await IndexReader.open(str(tmp_path))
    with pytest.raises(IndexDamagedError, match="no SQLite database"):
        await IndexReader.open(write(tmp_path / "text.db", b"hello"))
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE t (a)")
    foreign.close()
    with pytest.raises(IndexDamagedError, match="not an index of a volume"):
        await IndexReader.open(str(tmp_path / "foreign.db"))
    newer = write(tmp_path / "newer.db", content(index_of(cats.world, cats.versions[0])))
    db = sqlite3.connect(newer)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(NewerFormatError, match="format 99"):
        await IndexReader.open(newer)


async def test_a_damaged_page_is_an_error_of_ours(cats: Cats, tmp_path: Path) -> None:
    data = bytearray(content(index_of(cats.world, cats.versions[2])))
    data[4096:] = b"\xff" * (len(data) - 4096)
    damaged = write(tmp_path / "damaged.db", bytes(data))
    with pytest.raises(IndexDamagedError):
        reader = await IndexReader.open(damaged)
        try:
            await reader.count(ROOT_INO)
        finally:
            await reader.close()
