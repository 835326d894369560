"""What differs between two versions of an index, against a comparison of all rows by hand."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import IndexDamagedError
from flyteplugins_vol.history.checkout import IndexCache
from flyteplugins_vol.index.changes import Changes
from flyteplugins_vol.model import ROOT_INO
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import ME, Driven

COLUMNS = "ino, mode, nlink, uid, gid, rdev, size, allocated, mtime, ctime, parent, target"


def facts(path: str) -> tuple[dict[int, Any], dict[tuple[int, bytes], int]]:
    """Everything about each inode, and the names."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as sql:
        inodes = {row[0]: [row[1:]] for row in sql.execute(f"SELECT {COLUMNS} FROM inode")}
        for ino, *extent in sql.execute(
            "SELECT ino, start, length, skip, hash FROM extent JOIN block ON id = block ORDER BY ino, start"
        ):
            inodes[ino].append(tuple(extent))
        return inodes, {(parent, name): ino for parent, name, ino in sql.execute("SELECT parent, name, ino FROM entry")}


def check(before: str, after: str) -> None:
    (old, old_names), (new, new_names) = facts(before), facts(after)

    def is_directory(inodes: dict[int, Any], ino: int) -> bool:
        return stat.S_ISDIR(inodes[ino][0][0])

    both = [ino for ino in sorted(old) if ino in new]
    differ = [ino for ino in both if old[ino] != new[ino]]
    directories = [ino for ino in differ if is_directory(old, ino) and is_directory(new, ino)]
    files = [ino for ino in differ if ino not in directories]
    gone = [ino for ino in sorted(old) if ino not in new]
    with closing(Changes(before, after)) as changes:
        assert list(changes.files) == files
        assert list(changes.directories) == directories
        assert list(changes.gone) == gone
        assert list(changes.came) == [ino for ino in sorted(new) if ino not in old]
        assert list(changes.gone_directories) == sorted(ino for ino in [*gone, *files] if is_directory(old, ino))
        names = {
            key
            for key in {**old_names, **new_names}
            if (old_names.get(key) != new_names.get(key) or new_names.get(key) in files)
            and key[0] in both
            and is_directory(new, key[0])
        }
        lost = set(changes.gone_directories)
        assert set(changes.gone_names()) == {key for key in old_names if key[0] in lost}
        told = list(changes.names())
        assert {key for key in told if key[0] in both and is_directory(new, key[0])} == names
        assert [key[0] for key in told] == sorted(key[0] for key in told)
        assert sorted(changes.root_names(ROOT_INO, ROOT_INO)) == sorted(
            name for names in (old_names, new_names) for parent, name in names if parent == ROOT_INO
        )


@pytest.mark.parametrize("seed", range(3))
def test_random_versions_of_one_line_and_of_two(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = MemoryStore(f"memory://{os.urandom(8).hex()}")
    line = Driven.new(tmp_path / "line", store)
    records = []
    lines = [line]
    try:
        for number in range(6):
            if number == 3:  # from here on two lines give the same numbers to other files
                lines.append(line.fork(str(records[-1].locator)))
            driven = lines[-1] if number % 2 else line
            for _ in range(30):
                change(driven, chance)
            records.append(driven.commit())
    finally:
        for driven in lines:
            driven.close()
    indexes = IndexCache(str(tmp_path / "indexes"))
    paths = [indexes.checkout(store, record)[0] for record in records]
    for before in paths:
        for after in chance.sample(paths, 3):
            check(before, after)


def change(driven: Driven, chance: random.Random) -> None:
    workspace = driven.session.workspace
    directories = [ROOT_INO]
    entries: list[tuple[int, bytes, Any]] = []
    for parent in directories:
        for name, inode in workspace.readdir(parent, None, 1000):
            entries.append((parent, name, inode))
            if inode.is_dir:
                directories.append(inode.ino)
    parent, name = chance.choice(directories), b"n%d" % chance.randrange(9)
    kind = chance.randrange(6)
    try:
        if kind == 0:
            workspace.mkdir(parent, name, 0o755, ME)
        elif kind == 1:
            made = workspace.mknod(parent, name, 0o100644, 0, ME)
            workspace.write(made.ino, chance.randrange(5000), chance.randbytes(chance.randrange(1, 9000)))
        elif kind == 2 and entries:
            there = chance.choice(entries)
            (workspace.rmdir if there[2].is_dir else workspace.unlink)(*there[:2])
        elif kind == 3 and entries:
            workspace.rename(*chance.choice(entries)[:2], parent, name, 0)
        elif kind == 4 and entries:
            workspace.link(chance.choice(entries)[2].ino, parent, name)
        elif entries:
            there = chance.choice(entries)[2]
            if there.is_file:
                workspace.write(there.ino, chance.randrange(9000), b"changed")
    except OSError:
        pass  # as it was


def test_an_index_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no database" * 1000)
    with pytest.raises(IndexDamagedError):
        Changes(str(tmp_path / "a"), str(tmp_path / "a"))
