"""A sound volume, and what a stranger makes of its index."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from flyteplugins_vol.history.record import VersionRecord, load_record, parse_locator
from flyteplugins_vol.history.segments import checkout_segments, publish_segments
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.open import open_store
from tests.driven import ME, Driven


@dataclass
class Victim:
    """A store with one small volume. Its index: 1 the root, 2 /dir, 3 /dir/sub, 4 /dir/file, 5 /link, 6 /other."""

    directory: Path
    store: ObjectStore
    record: VersionRecord

    def index(self) -> Path:
        """A copy of its index file."""
        path = self.directory / "tampered.db"
        checkout_segments(self.store, self.record.index, str(path))
        return path

    def tampered(self, *statements: str) -> Path:
        path = self.index()
        alter(path, *statements)
        return path

    def publish(self, index: Path) -> str:
        """The locator of a version with that index. Whoever may write to a store can make one."""
        segments = publish_segments(self.store, str(index), None).segments
        record = replace(self.record, index=segments.map)
        object.__setattr__(record, "as_read", None)
        assert self.store.create(record.locator.key, record.encode())
        assert load_record(self.store, record.locator).index == segments.map
        return str(record.locator)


def alter(path: Path, *statements: str) -> None:
    """Change an index by SQL, past the rules of its tables: values of any type, rows that are not unique."""
    sql = sqlite3.connect(path, isolation_level=None)
    sql.execute("PRAGMA journal_mode=DELETE")
    sql.execute("PRAGMA writable_schema=ON")
    whole = sql.execute("SELECT sql, name FROM sqlite_schema").fetchall()
    sql.execute("UPDATE sqlite_schema SET sql = replace(replace(sql, ' STRICT, WITHOUT', ' WITHOUT'), ' STRICT', '')")
    sql.close()
    sql = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        sql.execute(statement)
    sql.execute("PRAGMA writable_schema=ON")
    sql.executemany("UPDATE sqlite_schema SET sql = ? WHERE name = ? AND sql IS NOT NULL", whole)
    sql.close()


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of a store with the volume, and the key of its version."""
    directory = tmp_path_factory.mktemp("sound")
    with open_store(f"file://{directory}/store") as store:
        driven = Driven.new(directory, store)
        verbs = driven.workspace
        parent = verbs.mkdir(1, b"dir", 0o755, ME).ino
        verbs.mkdir(parent, b"sub", 0o755, ME)
        driven.create(b"file", b"content of the file", parent)
        verbs.symlink(1, b"link", b"dir/file", ME)
        driven.create(b"other", b"another file, of other content")
        verbs.setxattr(4, b"user.x", b"value", 0)
        record = driven.commit("one")
        driven.close()
    return directory / "store", record.locator.key


@pytest.fixture
def victim(tmp_path: Path, sound: tuple[Path, str]) -> Iterator[Victim]:
    shutil.copytree(sound[0], tmp_path / "store")
    with open_store(f"file://{tmp_path}/store") as store:
        yield Victim(tmp_path, store, load_record(store, parse_locator(f"{store.url}/{sound[1]}")))


@pytest.fixture
def opened(victim: Victim) -> Iterator[Callable[[str], Driven]]:
    """Opens a version read-only, as a mount does."""
    made: list[Driven] = []

    def open_version(locator: str) -> Driven:
        made.append(Driven.new(victim.directory, victim.store, base=locator, read_only=True))
        return made[-1]

    yield open_version
    for driven in made:
        driven.close()
