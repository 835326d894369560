"""What `file://` promises beyond the suite: order on disk, rights, processes, file systems that lack something."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from flyteplugins_vol.errors import StoreAccessError, StoreError, StoreUnavailableError
from flyteplugins_vol.store.local import LocalStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(f"file://{root}", str(root))


@pytest.fixture
def steps(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to names and to the disk, in order."""
    found: list[str] = []

    def record(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            what = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else str(args[-1])
            found.append(f"{name} {'temporary' if what.endswith('.tmp') else os.path.relpath(what, root)}")
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "link", "rename", "unlink"):
        record(name)
    return found


def names_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_create_syncs_the_bytes_before_the_name_and_the_name_before_it_returns(
    store: LocalStore, steps: list[str]
) -> None:
    store.create("a/b/first", b"1")
    assert steps[:3] == ["fsync ..", "fsync .", "fsync a"]  # new directories, each into its parent
    assert steps[3:] == ["fsync temporary", "link a/b/first", "fsync a/b", "unlink temporary"]
    steps.clear()
    store.create("a/b/second", b"2")
    assert steps == ["fsync temporary", "link a/b/second", "fsync a/b", "unlink temporary"]


def test_replace_syncs_likewise(store: LocalStore, steps: list[str]) -> None:
    tag = store.replace("ref", b"1", None)
    steps.clear()
    assert store.replace("ref", b"2", tag)
    assert steps[:3] == ["fsync temporary", "rename ref", "fsync ."]


def test_delete_is_durable(store: LocalStore, steps: list[str]) -> None:
    store.create("a/b", b"1")
    steps.clear()
    store.delete("a/b")
    assert steps == ["unlink a/b", "fsync a"]


def test_tag_is_the_hash_of_the_content(store: LocalStore) -> None:
    assert store.replace("ref", b"data", None) == blake3(b"data").hexdigest()


def test_nothing_but_objects_is_listed(store: LocalStore, root: Path) -> None:
    tag = store.replace("a/ref", b"1", None)
    store.replace("a/ref", b"2", tag)
    (root / "a" / ".left.tmp").write_bytes(b"of a writer that was killed")
    (root / ".hidden").mkdir()
    (root / "not a key").write_bytes(b"somebody else's")
    assert [info.key for info in store.list("")] == ["a/ref"]
    assert store.list_dirs("") == ["a"]


@pytest.mark.parametrize("verb", ["create", "replace"])
@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StoreError), (errno.EIO, StoreUnavailableError), (errno.EACCES, StoreAccessError)],
)
def test_a_failed_write_leaves_nothing(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, verb: str, number: int, kind: type[StoreError]
) -> None:
    store.create("before", b"1")

    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(kind) as caught:
            store.create("o", b"data") if verb == "create" else store.replace("o", b"data", None)
    assert type(caught.value) is kind
    assert caught.value.hint
    assert store.url in caught.value.message
    assert store.get("o") is None
    assert [name for name in names_below(root) if name != ".lock"] == ["before"]


def test_a_new_store_is_private(store: LocalStore, root: Path) -> None:
    with umask(0o022):
        store.create("a/o", b"1")
        store.replace("ref", b"1", None)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert modes == {"store": 0o700, "a": 0o700, "o": 0o600, "ref": 0o600, ".lock": 0o600}


def test_rights_of_a_root_that_was_there_go_on_less_the_umask(store: LocalStore, root: Path) -> None:
    root.mkdir()
    root.chmod(0o775)
    with umask(0o007):
        store.replace("a/ref", b"1", None)
        store.delete("nothing")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*")}
    assert modes == {"a": 0o770, "ref": 0o660, ".lock": 0o660}


def test_a_file_system_without_modes_takes_writes_all_the_same(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "as FAT does")

    root.mkdir()
    root.chmod(0o775)
    monkeypatch.setattr("flyteplugins_vol.store.local._umask", 0o002)
    monkeypatch.setattr(os, "chmod", refuse)
    with umask(0o077):  # as a daemon's
        assert store.create("a/o", b"1")
        assert store.replace("ref", b"1", None)


def test_reading_makes_nothing(store: LocalStore, root: Path) -> None:
    assert store.get("a") is None
    assert list(store.list("")) == []
    assert store.list_dirs("") == []
    store.delete("a")
    assert not root.exists()


def test_a_file_system_without_hard_links_will_do(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert store.create("o", b"1") is True
    assert store.create("o", b"1") is True
    assert store.create("o", b"2") is False
    assert store.get("o") == b"1"


def test_directories_removed_by_others_are_made_again(store: LocalStore, root: Path) -> None:
    store.create("a/b/o", b"1")
    shutil.rmtree(root / "a")
    assert store.create("a/b/o", b"2") is True
    shutil.rmtree(root)
    assert store.replace("a/b/o", b"3", None)


def test_a_file_where_a_directory_must_be(store: LocalStore) -> None:
    store.create("a", b"1")
    with pytest.raises(StoreError, match="a/b"):
        store.create("a/b", b"2")
    assert store.get("a/b") is None


def test_root_that_is_a_file(store: LocalStore, root: Path) -> None:
    root.write_bytes(b"")
    with pytest.raises(StoreError):
        store.create("o", b"1")


APPEND = """
import sys
from flyteplugins_vol.store import open_store
store = open_store(sys.argv[1])
for turn in range(10):
    while True:
        data, tag = store.get_tagged("count")
        if store.replace("count", data + f"{sys.argv[2]}.{turn} ".encode(), tag):
            break
print(sum(store.create(f"packs/{number}", sys.argv[2].encode()) for number in range(20)))
"""


def test_processes_lose_no_update_and_one_creates(store: LocalStore) -> None:
    store.replace("count", b"", None)
    commands = [[sys.executable, "-c", APPEND, store.url, str(me)] for me in range(4)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    created = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(created) == 20
    written = (store.get("count") or b"").split()
    assert sorted(written) == sorted(b"%d.%d" % (me, turn) for me in range(4) for turn in range(10))
