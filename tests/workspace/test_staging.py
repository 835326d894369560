"""Staging: positions are used once, bytes are there until they are freed, a full disk is survived."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.model import AttrChange
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.workspace import staging as staging_module
from flyteplugins_vol.workspace.staging import Staging
from tests.driven import ME, Driven

SMALL = 10_000


@pytest.fixture(autouse=True)
def small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging_module, "SEGMENT", SMALL)


def noise(seed: int, size: int = 1000) -> bytes:
    return random.Random(seed).randbytes(size)


def logs(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def buried(staging: Staging) -> None:
    staging.bury(staging.dead())


def test_what_is_appended_can_be_read(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    positions = [staging.append(noise(i)) for i in range(30)]
    assert [staging.read(pos, 1000) for pos in positions] == [noise(i) for i in range(30)]
    assert len(set(positions)) == 30
    assert staging.live == 30_000
    assert all(pos // SMALL == (pos + 999) // SMALL for pos in positions), "nothing crosses a log file"


def test_what_is_gathered_is_written_once_there_is_room_though_somebody_keeps_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = Staging(str(tmp_path))
    pos = staging.append(noise(1))

    def nearly_full(fd: int, data: bytes | bytearray | memoryview, at: int) -> int:
        if at % SMALL:
            raise OSError(errno.ENOSPC, "no space left on device")
        return os.pwrite(fd, memoryview(data)[:300], at)

    with monkeypatch.context() as patch:
        patch.setattr(staging_module, "pwrite", nearly_full)
        with pytest.raises(OSError, match="no space") as kept:
            staging.write_out()
    staging.append(noise(2))
    staging.write_out()
    assert staging.read(pos, 2000) == noise(1) + noise(2)
    assert kept.value.errno == errno.ENOSPC


def test_positions_are_never_used_twice(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    used: set[int] = set()
    for i in range(100):
        size = random.Random(i).randrange(1, 3000)
        pos = staging.append(bytes(size))
        assert not used & set(range(pos, pos + size))
        used |= set(range(pos, pos + size))
        staging.free(pos, size)
        buried(staging)
        if i % 30 == 29:
            staging.close()
            staging = Staging.resume(str(tmp_path), [])
            used.clear()  # rows of an index that was durable name none of them any more
    assert staging.live == 0


def test_a_log_file_is_deleted_when_all_of_it_is_free_and_buried(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    positions = [staging.append(noise(i)) for i in range(20)]
    assert len(logs(tmp_path)) == 3
    for pos in positions[:9]:
        staging.free(pos, 1000)
    assert len(logs(tmp_path)) == 3, "rows of the index may still name it"
    buried(staging)
    assert len(logs(tmp_path)) == 2
    assert staging.read(positions[-1], 1000) == noise(19)


def test_the_present_log_file_goes_only_when_nothing_in_it_is_needed_and_it_is_worth_it(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    first, second = staging.append(noise(1)), staging.append(noise(2))
    staging.free(first, 1000)
    staging.retire()
    assert not staging.dead()
    staging.free(second, 1000)
    staging.retire(least=2001)
    assert not staging.dead()
    staging.retire(least=2000)
    buried(staging)
    assert logs(tmp_path) == []
    assert staging.append(noise(3)) > second


def test_a_reader_keeps_what_is_freed_meanwhile(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    positions = [staging.append(noise(i)) for i in range(20)]
    reader = staging.reader(positions)
    for pos in positions:
        staging.free(pos, 1000)
    buried(staging)
    staging.close()
    assert [reader.read(pos, 1000) for pos in positions] == [noise(i) for i in range(20)]
    before = len(os.listdir("/proc/self/fd"))
    del reader
    assert len(os.listdir("/proc/self/fd")) < before, "descriptors go with the last reader"


def test_resuming_keeps_what_the_index_needs_and_deletes_the_rest(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    positions = [staging.append(noise(i)) for i in range(40)]
    staging.close()
    needed = [(positions[3], 1000), (positions[4], 500), (positions[25], 1000)]
    again = Staging.resume(str(tmp_path), needed)
    assert again.live == 2500
    assert len(logs(tmp_path)) == 2
    assert again.read(positions[4], 500) == noise(4)[:500]
    assert again.append(b"x") > positions[-1]
    again.free(*needed[0])
    again.free(*needed[1])
    buried(again)
    assert again.live == 1001
    assert len(logs(tmp_path)) == 2


def test_descriptors_to_sync_are_those_written_since_the_last_time(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    assert staging.unsynced() == []
    staging.append(noise(1))
    assert len(staging.unsynced()) == 1
    assert staging.unsynced() == []
    for i in range(12):
        staging.append(noise(i))
    assert len(staging.unsynced()) == 2


@pytest.mark.parametrize("partial", [0, 400])
def test_a_full_disk_leaves_nothing_half_accounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: int
) -> None:
    monkeypatch.setattr(staging_module, "_SMALL", 0)
    staging = Staging(str(tmp_path))
    first = staging.append(noise(1))
    real = os.pwrite
    calls: list[int] = []

    def full(fd: int, data: bytes, at: int) -> int:
        calls.append(at)
        if partial and len(calls) == 1:
            return real(fd, data[:partial], at)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(staging_module, "pwrite", full)
    with pytest.raises(OSError, match="full"):
        staging.append(noise(2))
    monkeypatch.setattr(staging_module, "pwrite", real)
    assert staging.live == 1000
    second = staging.append(noise(3))
    assert (staging.read(first, 1000), staging.read(second, 1000)) == (noise(1), noise(3))


@pytest.mark.parametrize("partial", [0, 1400])
def test_what_is_gathered_waits_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: int
) -> None:
    staging = Staging(str(tmp_path))
    positions = [staging.append(noise(i)) for i in range(3)]
    real = os.pwrite
    room = partial

    def full(fd: int, data: bytes, at: int) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "full")
        room, taken = 0, room
        return real(fd, bytes(data)[:taken], at)

    monkeypatch.setattr(staging_module, "pwrite", full)
    for use in (staging.write_out, lambda: staging.read(positions[0], 1000), lambda: staging.reader(positions)):
        with pytest.raises(OSError, match="full"):
            use()
    positions.append(staging.append(noise(3)))
    assert staging.live == 4000
    monkeypatch.setattr(staging_module, "pwrite", real)
    reader = staging.reader(positions)
    assert [reader.read(pos, 1000) for pos in positions] == [noise(i) for i in range(4)]


def test_small_appends_reach_the_log_file_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging_module, "SEGMENT", 64 << 20)
    sizes: list[int] = []
    real = os.pwrite
    monkeypatch.setattr(staging_module, "pwrite", lambda fd, data, at: sizes.append(len(data)) or real(fd, data, at))
    staging = Staging(str(tmp_path))
    content = [noise(i, 4096) for i in range(100)]
    positions = [staging.append(data) for data in content[:99]]
    assert sizes == [256 << 10]
    large = staging.append(noise(7, 100_000))
    positions.append(staging.append(content[99]))
    assert sizes == [256 << 10, 35 * 4096, 100_000], "in the order in which they came"
    assert [staging.read(pos, 4096) for pos in positions] == content
    assert staging.read(large, 100_000) == noise(7, 100_000)
    assert len(sizes) == 4


def test_no_row_is_committed_before_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a kill would leave rows that name bytes which nobody has."""
    volume = Driven.new(tmp_path, MemoryStore(f"memory://{uuid4().hex}"))
    kept = volume.create(b"kept", noise(1))
    volume.workspace.housekeep()
    volume.create(b"refused", noise(2))
    real = os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(staging_module, "pwrite", full)
    for use in (volume.workspace.housekeep, volume.workspace.begin_sync):
        with pytest.raises(OSError, match="full"):
            use()
    monkeypatch.setattr(staging_module, "pwrite", real)
    volume.kill()
    assert sorted(volume.tree()) == [b"kept"]
    assert volume.read(kept) == noise(1)
    volume.create(b"later", noise(3))
    monkeypatch.setattr(staging_module, "pwrite", full)
    with pytest.raises(OSError, match="full"):
        volume.workspace.housekeep()
    monkeypatch.setattr(staging_module, "pwrite", real)
    volume.workspace.housekeep()
    volume.kill()
    assert sorted(volume.tree()) == [b"kept", b"later"]
    volume.close()


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(staging_module, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:77], at))
    staging = Staging(str(tmp_path))
    assert staging.read(staging.append(noise(1)), 1000) == noise(1)


# -- a whole volume on a disk that fills up ----------------------------------------------------------------------------


def fill_up(write: Callable[[int], int]) -> int:
    """Call until the disk is full; how often that went well."""
    for i in range(10_000):
        try:
            write(i)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            return i
    raise AssertionError("it never became full")


@pytest.fixture
def on_a_tiny_disk(tiny_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    monkeypatch.setattr(staging_module, "SEGMENT", 64 << 20)
    store = MemoryStore(f"memory://{uuid4().hex}")
    volume = Driven.new(tmp_path, store, meta_dir=str(tiny_disk / "meta"))
    yield volume
    with suppress(OSError, sqlite3.Error):
        volume.close()


def test_writes_get_enospc_and_all_that_was_taken_can_be_committed(on_a_tiny_disk: Driven) -> None:
    volume = on_a_tiny_disk
    ino = volume.workspace.mknod(1, b"f", 0o644, 0, ME).ino
    written = fill_up(lambda i: volume.workspace.write(ino, i * 10_000, noise(i, 10_000)))
    assert volume.workspace.getattr(ino).size == written * 10_000
    volume.check_staging()
    record = volume.commit()
    volume.check(record)
    assert volume.read(ino) == b"".join(noise(i, 10_000) for i in range(written))


def test_a_write_over_a_window_border_is_short_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging_module, "SEGMENT", 64 << 20)
    volume = Driven.new(tmp_path, MemoryStore(f"memory://{uuid4().hex}"))
    monkeypatch.setattr(staging_module, "_SMALL", 0)
    border = 4 << 20
    ino = volume.workspace.mknod(1, b"f", 0o644, 0, ME).ino
    real = os.pwrite

    def small_disk(fd: int, data: bytes, at: int) -> int:
        if at + len(data) > 1500:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data, at)

    monkeypatch.setattr(staging_module, "pwrite", small_disk)
    assert volume.workspace.write(ino, border - 1000, noise(1, 2000)) == 1000
    inode = volume.workspace.getattr(ino)
    assert (inode.size, inode.allocated) == (border, 1000)
    with pytest.raises(OSError, match="full"):
        volume.workspace.write(ino, border - 1000, noise(2, 2000))
    monkeypatch.setattr(staging_module, "pwrite", real)
    volume.workspace.setattr(ino, AttrChange(size=border + 10), ME)
    assert volume.read(ino, border - 1000, 2000) == noise(1, 1000) + bytes(10)
    volume.check_staging()
    volume.check(volume.commit())
    volume.close()


@pytest.mark.logs_warnings
def test_names_on_a_full_disk_are_refused_or_kept_but_never_half(on_a_tiny_disk: Driven, tiny_disk: Path) -> None:
    """SQLite without room: whatever is answered with success is there after a restart once it was synced."""
    volume = on_a_tiny_disk
    volume.create(b"kept", noise(1))
    volume.workspace.begin_sync()
    before = volume.tree()
    ballast = tiny_disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        fill_up(lambda i: file.write(bytes(1000)))
    try:
        for i in range(3000):
            volume.workspace.mkdir(1, b"%05d" % i, 0o755, ME)
            if i % 100 == 0:
                volume.workspace.begin_sync()
                before = volume.tree()
    except OSError as error:
        assert error.errno in (errno.ENOSPC, errno.EIO)
    else:
        pytest.fail("the disk is full")
    with pytest.raises(OSError):
        volume.workspace.mkdir(1, b"after", 0o755, ME)
        volume.workspace.begin_sync()
    ballast.unlink()
    volume.kill()
    assert volume.tree() == before
    volume.check()
    volume.close()
