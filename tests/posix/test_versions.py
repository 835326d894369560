"""Files in use while versions are taken: a version is one moment of the tree, whatever goes on beside it."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flyteplugins_vol.io import ROVolume, RWVolume
from tests.posix.conftest import DRIVERS, mounted_volume

pytestmark = pytest.mark.fuse

Mounted = tuple[RWVolume, Path]


class Shown:
    """A version, mounted for reading in a ``with``."""

    def __init__(self, version: ROVolume, beside: Path) -> None:
        self._version = version
        self._at = beside.parent / "version"

    def __enter__(self) -> Path:
        return self._version.mount.sync(self._at, cache_dir=self._at.parent / "cache")

    def __exit__(self, *_: object) -> None:
        self._version.unmount.sync()


def test_a_tree_of_everything_comes_back_as_it_was(volume: Mounted) -> None:
    vol, root = volume
    bytes_name = os.fsencode(root) + b"/\xff\xfe"
    Path(os.fsdecode(bytes_name)).write_text("not UTF-8")
    (root / ("n" * 255)).write_text("long")
    (root / "link").symlink_to("nowhere")
    os.link(root / ("n" * 255), root / "second")
    os.mkfifo(root / "fifo")
    here = os.open(root, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    if os.geteuid() == 0:
        os.mknod(root / "device", stat.S_IFCHR | 0o640, os.makedev(240, 70_000))
        os.chown(root / "link", 1234, 5678, follow_symlinks=False)
        os.chown(root / "second", 2**31, 2**31 + 1)
    (root / "shared").mkdir()
    (root / "shared").chmod(0o3777)
    with (root / "sparse").open("wb") as file:
        file.seek(2 << 40)
        file.write(b"end")
    os.utime(root / "second", ns=(-5, 1_234_567_890_123_456_789))
    os.utime(root / "link", ns=(7, 8), follow_symlinks=False)

    def seen(top: Path) -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {}
        for path in [top, *top.rglob("*")]:
            s = path.lstat()
            own = (s.st_mode, s.st_nlink, s.st_uid, s.st_gid, s.st_rdev, s.st_size, s.st_blocks)
            times = (s.st_mtime_ns, s.st_ctime_ns)
            found[str(path.relative_to(top))] = (*own, *times, path.is_symlink() and os.readlink(path))
        return found

    before = seen(root)
    with Shown(vol.finalize.sync(), root) as version:
        after = seen(version)
        assert {name: (a, after.get(name)) for name, a in before.items() if a != after.get(name)} == {}
        assert (version / "second").stat().st_ino == (version / ("n" * 255)).stat().st_ino
        assert Path(os.fsdecode(os.fsencode(version) + b"/\xff\xfe")).read_text() == "not UTF-8"


def test_an_unlinked_file_that_is_open_outlives_commits_and_is_in_no_version(volume: Mounted) -> None:
    vol, root = volume
    with (root / "file").open("w+b", buffering=0) as file:
        file.write(b"before" * 100_000)
        (root / "file").unlink()
        first = vol.commit.sync()
        file.write(b"after")
        fork = vol.fork.sync("fork")
        second = vol.commit.sync()
        file.seek(0)
        assert file.read() == b"before" * 100_000 + b"after"
    for version in (first, second):
        with Shown(version, root) as shown:
            assert os.listdir(shown) == []
    places = {"cache_dir": root.parent / "cache", "meta_dir": root.parent / "fork-meta"}
    with fork.mounted(root.parent / "fork", **places) as path:
        assert os.listdir(path) == []


def test_after_a_killed_daemon_the_same_handle_mounts_at_the_same_path(volume: Mounted) -> None:
    vol, root = volume
    (root / "file").write_text("synced")
    with (root / "file").open("rb") as file:
        os.fsync(file.fileno())
    for _ in range(2):
        os.kill(vol.status()["pid"], signal.SIGKILL)
        while vol.mount_path is not None:
            time.sleep(0.01)
        places = {"cache_dir": root.parent / "cache", "meta_dir": root.parent / "meta"}
        assert vol.mount.sync(root, **places) == root
        assert (root / "file").read_text() == "synced"


@pytest.mark.parametrize("driver", DRIVERS)
def test_all_that_a_mount_offers_it_offers_after_a_commit(driver: str) -> None:
    with mounted_volume(driver, xattr=True) as (vol, root):
        (root / "file").write_bytes(b"data")
        for _ in range(2):
            os.setxattr(root / "file", "user.a", b"value")
            assert os.getxattr(root / "file", "user.a") == b"value"
            with (root / "file").open("r+b") as file:
                assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == os.fstat(file.fileno()).st_size
                assert os.access(root / "file", os.R_OK)
                file.write(b"more")
                os.fsync(file.fileno())
                vol.commit.sync()


def test_a_mapping_is_in_the_version_as_far_as_it_was_synced(volume: Mounted) -> None:
    vol, root = volume
    (root / "file").write_bytes(bytes(1 << 20))
    with (root / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[4096:4100] = b"sync"
        mapping.flush()
        first = vol.commit.sync()
        mapping[4096:4100] = b"late"
        mapping.flush()
    with Shown(first, root) as shown:
        assert (shown / "file").read_bytes()[4094:4102] == b"\0\0sync\0\0"
    with Shown(vol.commit.sync(), root) as shown:
        assert (shown / "file").read_bytes()[4094:4102] == b"\0\0late\0\0"


WRITER = """
import hashlib, os, sys
root, kind = sys.argv[1:]
number = 0
def put(path, size=30_000):
    body = (b"%d " % number * size)[:size + number % 5000]
    with open(path, "wb") as file:
        file.write(hashlib.sha256(body).digest() + body)
while True:
    if kind == "replace":      # a reader finds an old one or a new one, whole
        put(f"{root}/.state"); os.rename(f"{root}/.state", f"{root}/state")
    elif kind == "order":      # the second of a pair is begun when the first is closed
        put(f"{root}/first-{number}"); put(f"{root}/second-{number}")
        if number >= 50:
            os.unlink(f"{root}/second-{number - 50}"); os.unlink(f"{root}/first-{number - 50}")
    elif kind == "pair":       # renamed together into a directory that is renamed into place
        os.mkdir(f"{root}/new"); put(f"{root}/new/a"); put(f"{root}/new/b")
        os.rename(f"{root}/new", f"{root}/pair-{number}")
    elif kind == "append":     # synced lines are there, and none is torn but the last
        with open(f"{root}/log", "ab", buffering=0) as log:
            log.write(b"%d\\n" % number); os.fsync(log.fileno())
    number += 1
    print(number, flush=True)
"""


def test_versions_taken_beside_writers_that_never_stop(volume: Mounted) -> None:
    vol, root = volume
    kinds = ["replace", "order", "pair", "append"]
    for kind in kinds:
        (root / kind).mkdir()
    outputs = {kind: root.parent / f"{kind}.out" for kind in kinds}
    writers: list[subprocess.Popen[bytes]] = []
    try:
        for kind in kinds:
            with outputs[kind].open("wb") as output:
                writers.append(subprocess.Popen([sys.executable, "-c", WRITER, root / kind, kind], stdout=output))
        taken: list[tuple[dict[str, int], ROVolume]] = []
        for _ in range(6):
            time.sleep(0.4)
            done = {kind: _lines(outputs[kind]) for kind in kinds}  # all that is closed before the commit begins
            taken.append((done, vol.commit.sync()))
        assert all(writer.poll() is None for writer in writers)
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    assert taken[0][0]["order"] < taken[-1][0]["order"]
    for done, version in taken:
        with Shown(version, root) as shown:
            _check(shown, done)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _check(shown: Path, done: dict[str, int]) -> None:
    if done["replace"]:
        assert _number(shown / "replace" / "state") >= done["replace"] - 1
    firsts = {path.name.partition("-")[2] for path in (shown / "order").glob("first-*")}
    seconds = {path.name.partition("-")[2] for path in (shown / "order").glob("second-*")}
    assert seconds <= firsts
    assert len(firsts - seconds) <= 2
    for number in seconds:
        assert _number(shown / "order" / f"first-{number}") == int(number)
    numbers = sorted(map(int, seconds))
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert numbers[-1] >= done["order"] - 1  # the last that was closed
    torn = {number for number in numbers if not _is_whole(shown / "order" / f"second-{number}")}
    assert torn <= {numbers[-1]}  # that one may be open still
    pairs = list((shown / "pair").glob("pair-*"))
    assert len(pairs) >= done["pair"]
    for pair in pairs[-20:]:
        assert _number(pair / "a") == _number(pair / "b") == int(pair.name.partition("-")[2])
    lines = (shown / "append" / "log").read_bytes().splitlines()
    assert len(lines) >= done["append"]
    assert [int(line) for line in lines[: done["append"]]] == list(range(done["append"]))


def _is_whole(path: Path) -> bool:
    data = path.read_bytes()
    return hashlib.sha256(data[32:]).digest() == data[:32]


def _number(path: Path) -> int:
    """Which one it is, after a look at its hash."""
    data = path.read_bytes()
    assert hashlib.sha256(data[32:]).digest() == data[:32], f"{path.name} is torn ({len(data)} bytes)"
    return int(data[32:].split(b" ", 1)[0])


MILLION = 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_directory_of_a_million_listed_while_it_changes() -> None:
    count = MILLION
    with mounted_volume() as (vol, root):
        (root / "file").touch()
        (root / "big").mkdir()
        _fill_with_links(vol, count)
        vol.mount.sync(root, cache_dir=root.parent / "cache", meta_dir=root.parent / "meta")
        directory = os.open(root / "big", os.O_RDONLY)
        stays = {f"{number:07}" for number in range(0, count, 2)}
        seen: list[str] = []
        with os.scandir(directory) as entries:
            for position, entry in enumerate(entries):
                seen.append(entry.name)
                if position % 100 == 0:  # odd ones go, before and behind; others come
                    for odd in (position // 100 * 2 + 1, count - 1 - position // 100 * 2):
                        os.unlink(f"{odd:07}", dir_fd=directory)
                    os.link(root / "file", f"{position:07}-new", dst_dir_fd=directory)
        assert len(seen) == len(set(seen))
        assert stays <= set(seen)
        assert (root / "file").stat().st_nlink == len(os.listdir(directory)) + 1
        os.close(directory)
        with Shown(vol.finalize.sync(), root) as shown:
            assert sum(name in stays for name in os.listdir(shown / "big")) == len(stays)


def _fill_with_links(vol: RWVolume, count: int) -> None:
    """Unmount, and add names of ``file`` to ``big`` where the workspace is kept: link(2) would take two minutes."""
    assert vol._mounting is not None
    index = Path(vol._mounting.client.spec.meta_dir, "index.db")
    vol._mounting.end(keep=True)
    with contextlib.closing(sqlite3.connect(index)) as db, db:
        inos = dict(db.execute("SELECT name, ino FROM entry").fetchall())
        db.execute(
            """INSERT INTO entry WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)
 SELECT ?, CAST(printf('%07d', i) AS BLOB), ? FROM n""",
            (count, inos[b"big"], inos[b"file"]),
        )
        db.execute("UPDATE inode SET nlink = nlink + ? WHERE ino = ?", (count, inos[b"file"]))
