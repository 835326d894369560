"""Files that the kernel writes to by itself. Here a test does, through the descriptor that the kernel would have."""

from __future__ import annotations

import errno
import mmap
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from flyteplugins_vol.history.local import WorkspaceDirectory
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.model import BLOCK_SIZE, ROOT_INO, AttrChange
from flyteplugins_vol.store.container import PACK, block_hash, build, encode, upload
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.workspace import kernel_files
from flyteplugins_vol.workspace import passthrough as passthrough_module
from flyteplugins_vol.workspace.ranges import SEEK_DATA
from flyteplugins_vol.workspace.sealing import SealedPack
from flyteplugins_vol.workspace.staging import SEGMENT
from tests.driven import ME, Driven
from tests.programs import Mapping, Program, closed, commit, opened, released

KEEP_SIZE, PUNCH_HOLE = 1, 2
PAGE = 4096


def noise(seed: int, size: int = 1000) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Driven]:
    volume = Driven.new(tmp_path, MemoryStore(f"memory://{uuid4().hex}"))
    yield volume
    volume.close()


def content(volume: Driven, record: VersionRecord, path: bytes) -> bytes:
    assert record.locator is not None
    reader = volume.at(str(record.locator))
    try:
        return reader.content(path)
    finally:
        reader.close()


def full(*_: object) -> None:
    """In the place of a system call on a full disk."""
    raise OSError(errno.ENOSPC, "no space left")


def staging_names(volume: Driven) -> list[str]:
    return sorted(os.listdir(os.path.join(volume.spec.meta_dir, "staging")))


# --- from open to close --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1000, BLOCK_SIZE - 1, BLOCK_SIZE, SEGMENT + 5000], ids=str)
def test_what_was_written_is_the_file_s_once_it_is_closed(volume: Driven, size: int) -> None:
    ino, program = opened(volume, b"file")
    data = noise(1, min(size, 100_000)) + bytes(max(0, size - 100_000))
    os.pwrite(program.fd, data, 0)
    released(volume, ino, program)
    inode = volume.workspace.getattr(ino)
    assert inode.size == size
    assert volume.read(ino) == data
    volume.check_staging()
    record = commit(volume)
    volume.check(record)
    assert content(volume, record, b"file") == data


def test_attributes_are_what_programs_see_while_it_is_open(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, bytes(10_000), 0)
    inode = volume.workspace.getattr(ino)
    shown = volume.workspace.passthrough.shown(inode)
    assert (shown.size, shown.allocated, shown.mtime) == (10_000, 12_288, os.fstat(program.fd).st_mtime_ns)
    assert inode.size == 0, "a version would have as much as it has bytes of"
    volume.workspace.passthrough.set_times(ino, None, 123)
    released(volume, ino, program)
    assert volume.workspace.getattr(ino).mtime == 123


def test_to_open_an_empty_file_changes_nothing(volume: Driven) -> None:
    ino = volume.create(b"file")
    volume.workspace.setattr(ino, AttrChange(mtime=123), ME)
    commit(volume)
    volume.workspace.open(ino, os.O_WRONLY)
    backing = volume.workspace.pass_through(ino, os.O_WRONLY)
    assert backing is not None
    program = Program(backing, os.O_WRONLY)
    passthrough = volume.workspace.passthrough
    assert passthrough.shown(volume.workspace.getattr(ino)).mtime == 123
    passthrough.catch_up()
    assert not volume.workspace.changed
    released(volume, ino, program, os.O_WRONLY)
    assert volume.workspace.getattr(ino).mtime == 123
    assert not volume.workspace.changed


def test_small_files_are_copied(volume: Driven) -> None:
    for number in range(100):
        ino, program = opened(volume, b"%d" % number)
        os.pwrite(program.fd, noise(number), 0)
        released(volume, ino, program)
    assert staging_names(volume) == ["00000000.log"]
    assert [volume.content(b"%d" % number) for number in range(100)] == [noise(number) for number in range(100)]


def test_the_local_disk_s_limit_is_the_file_s_as_long_as_it_is_open(volume: Driven) -> None:
    largest = (1 << 63) - 1
    ino, program = opened(volume, b"file")
    with pytest.raises(OSError, match="File too large") as refused:
        volume.workspace.setattr(ino, AttrChange(size=largest), ME)
    assert refused.value.filename is None, "it is the answer to a program"
    volume.workspace.release(ino, os.O_RDWR)  # a moment before the kernel lets go
    assert ino in volume.workspace.passthrough.live
    os.close(program.__dict__.pop("fd"))
    volume.workspace.settle(ino)
    assert volume.workspace.setattr(ino, AttrChange(size=largest), ME).size == largest


def test_a_large_file_is_not_copied_and_its_space_goes_part_by_part(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    for part in range(3):
        os.pwrite(program.fd, noise(part, 1 << 20), part * SEGMENT)
    number = os.fstat(program.fd).st_ino
    released(volume, ino, program)
    names = staging_names(volume)
    assert [name.partition("+")[2] for name in names] == ["0.log", "1.log", "2.log"]
    assert {os.stat(os.path.join(volume.spec.meta_dir, "staging", name)).st_ino for name in names} == {number}
    volume.workspace.setattr(ino, AttrChange(size=SEGMENT), ME)
    volume.workspace.housekeep()
    volume.workspace.bury(volume.workspace.begin_burial())
    assert staging_names(volume) == names[:1]
    commit(volume)
    assert staging_names(volume) == []


def test_holes_stay_holes(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, PAGE), 1 << 40)
    released(volume, ino, program)
    inode = volume.workspace.getattr(ino)
    assert (inode.size, inode.allocated) == ((1 << 40) + PAGE, PAGE)
    assert volume.workspace.lseek(ino, 0, SEEK_DATA) == 1 << 40
    record = commit(volume)
    volume.check(record)


def test_one_that_nobody_has_any_name_for_is_gone_when_it_is_closed(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, 2 << 20), 0)
    volume.workspace.passthrough.catch_up()
    volume.workspace.unlink(ROOT_INO, b"file")
    volume.workspace.forget(ino, 1)
    closed(volume, ino, program)
    assert not volume.workspace.passthrough.live
    assert volume.workspace.staged_bytes == 0
    volume.workspace.housekeep()
    volume.check_staging()


def test_who_comes_later_reads_and_writes_the_same_file(volume: Driven) -> None:
    ino, program = opened(volume, b"file", os.O_WRONLY)
    volume.workspace.open(ino, os.O_RDONLY)
    assert volume.workspace.pass_through(ino, os.O_RDONLY) is program.backing
    reader = Program(program.backing, os.O_RDONLY)
    os.pwrite(program.fd, b"more", 0)
    closed(volume, ino, program, os.O_WRONLY)
    assert ino in volume.workspace.passthrough.live
    assert os.pread(reader.fd, 10, 0) == b"more"
    released(volume, ino, reader, os.O_RDONLY)
    assert volume.content(b"file") == b"more"


@pytest.mark.parametrize("why", ["has bytes", "is open", "only read", "is a fifo", "syncs"])
def test_other_files_come_here(volume: Driven, why: str) -> None:
    ino = volume.create(b"file", b"bytes" if why == "has bytes" else b"")
    if why == "is a fifo":
        ino = volume.workspace.mknod(ROOT_INO, b"fifo", stat.S_IFIFO | 0o644, 0, ME).ino
    if why == "is open":
        volume.workspace.open(ino, os.O_RDONLY)
    flags = {"only read": os.O_RDONLY, "syncs": os.O_RDWR | os.O_DSYNC}.get(why, os.O_RDWR)
    volume.workspace.open(ino, flags)
    assert volume.workspace.pass_through(ino, flags) is None


def test_only_so_many_at_once_and_then_they_come_here(volume: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flyteplugins_vol.workspace.passthrough._MOST", 2)
    first, program = opened(volume, b"1")
    opened(volume, b"2")
    third = volume.create(b"3")
    volume.workspace.open(third, os.O_WRONLY)
    assert volume.workspace.pass_through(third, os.O_WRONLY) is None
    released(volume, first, program)
    opened(volume, b"4")


def test_what_the_kernel_has_forgotten_is_not_remembered_for_it(volume: Driven) -> None:
    for number in range(10):
        ino, program = opened(volume, b"%d" % number)
        os.pwrite(program.fd, b"x", 0)
        released(volume, ino, program)
        assert volume.workspace.passthrough.ended == {ino}
        volume.workspace.forget(ino, 1)
        assert not volume.workspace.passthrough.ended


def test_half_of_the_descriptors_are_for_others(volume: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file needs one until it is sealed, and programs write faster than a store takes it."""
    monkeypatch.setattr(kernel_files, "descriptors", lambda: 4)
    for name in (b"1", b"2"):
        ino, program = opened(volume, name)
        os.pwrite(program.fd, noise(1, 2 << 20), 0)
        released(volume, ino, program)
    third = volume.create(b"3")
    volume.workspace.open(third, os.O_WRONLY)
    assert volume.workspace.pass_through(third, os.O_WRONLY) is None
    commit(volume)
    opened(volume, b"4")


def test_parts_of_a_file_share_its_descriptor_also_when_it_is_resumed(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    for part in range(20):
        os.pwrite(program.fd, b"x", part * SEGMENT)
    before = len(os.listdir("/proc/self/fd"))
    volume.workspace.passthrough.catch_up()
    assert len(os.listdir("/proc/self/fd")) == before
    released(volume, ino, program)
    del program
    volume.reopen()
    staging = os.path.join(volume.spec.meta_dir, "staging")
    files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert len([path for path in files if path.startswith(staging)]) == 1
    assert volume.read(ino, 19 * SEGMENT, 1) == b"x"


# --- mappings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [PAGE, 3 << 20], ids=str)
def test_what_is_stored_through_a_mapping_that_outlives_its_descriptor_is_the_file_s(volume: Driven, size: int) -> None:
    ino, program = opened(volume, b"file")
    os.ftruncate(program.fd, size)
    mapping = Mapping(program, size)
    closed(volume, ino, program)
    mapping.write(b"first")
    other, another = opened(volume, b"other")  # which takes what is free
    os.pwrite(another.fd, bytes(size), 0)
    first = commit(volume)
    mapping.write(b"after")
    volume.create(b"more")
    second = commit(volume)
    mapping.write(b"again")
    mapping.close()
    volume.workspace.housekeep()
    assert ino not in volume.workspace.passthrough.live
    released(volume, other, another)
    third = commit(volume)
    found = [content(volume, record, b"file")[:6] for record in (first, second, third)]
    assert found == [b"first\0", b"after\0", b"again\0"]
    assert content(volume, third, b"other") == bytes(size)


@pytest.mark.parametrize("size", [PAGE, 3 << 20], ids=str)
def test_who_has_a_file_mapped_to_read_it_goes_on_to_read_that_file(volume: Driven, size: int) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, size), 0)
    mapping = Mapping(program, size, mmap.PROT_READ)
    closed(volume, ino, program)
    other, another = opened(volume, b"other")
    os.pwrite(another.fd, bytes(size), 0)
    commit(volume)
    assert mapping.read(size) == noise(1, size)
    assert ino in volume.workspace.passthrough.live, "whoever opens it is to share it with the mapping"
    mapping.close()
    volume.workspace.housekeep()
    released(volume, other, another)
    assert not volume.workspace.passthrough.live
    assert volume.content(b"file") == noise(1, size)


def test_nothing_is_taken_over_while_a_version_is_made(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    os.ftruncate(program.fd, 3 << 20)
    mapping = Mapping(program, 3 << 20)
    closed(volume, ino, program)
    passthrough = volume.workspace.passthrough
    volume.workspace.begin_sync()

    def freeze() -> None:
        passthrough.freeze()
        mapping.write(b"later")
        mapping.close()

    def thaw() -> None:
        opened(volume, b"other")  # an open looks whether others have ended
        assert ino in passthrough.live
        passthrough.thaw()

    volume.session.commit(None, volume.call, freeze, thaw, lambda _: None)
    volume.workspace.settle(ino)
    assert ino not in passthrough.live
    assert volume.read(ino, 0, 5) == b"later"
    volume.check_staging()


def test_one_that_is_mapped_and_has_no_name_any_more_is_no_other_s(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, PAGE), 0)
    mapping = Mapping(program, PAGE)
    volume.workspace.unlink(ROOT_INO, b"file")
    volume.workspace.forget(ino, 1)
    closed(volume, ino, program)
    assert ino not in volume.workspace.passthrough.live
    other, another = opened(volume, b"other")
    os.pwrite(another.fd, bytes(PAGE), 0)
    mapping.write(b"mine")
    assert mapping.read(PAGE) == b"mine" + noise(1, PAGE)[4:]
    mapping.close()
    released(volume, other, another)
    assert volume.content(b"other") == bytes(PAGE)


def test_a_disk_that_can_do_all_that_is_needed_lacks_nothing(volume: Driven) -> None:
    assert volume.workspace.passthrough.lacks() is None
    assert staging_names(volume) == []


def test_a_disk_without_hard_links_is_not_for_this(volume: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert volume.workspace.passthrough.lacks() == "has no hard links"
    assert staging_names(volume) == []


# --- versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 3 << 20], ids=str)
def test_a_version_has_what_was_written_before_and_the_next_one_the_rest(volume: Driven, size: int) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, size), 0)
    first = commit(volume)
    os.pwrite(program.fd, b"changed", 10)
    os.pwrite(program.fd, b"appended", size)
    second = commit(volume)
    released(volume, ino, program)
    third = commit(volume)
    before, after = noise(1, size), bytearray(noise(1, size) + b"appended")
    after[10:17] = b"changed"
    assert content(volume, first, b"file") == before
    assert content(volume, second, b"file") == content(volume, third, b"file") == after
    for record in (first, second, third):
        volume.check(record)
    volume.check_staging()


def test_a_store_through_a_mapping_that_no_time_tells_of_is_in_the_next_version(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, 3 << 20), 0)
    commit(volume)
    told = os.fstat(program.fd)
    os.pwrite(program.fd, b"stored", 0)
    os.utime(program.fd, ns=(told.st_atime_ns, told.st_mtime_ns))
    (volume.workspace.passthrough.live[ino]).seen = program.backing.status()  # as if the kernel had not said a word
    volume.create(b"other")
    assert content(volume, commit(volume), b"file")[:6] == b"stored"


def test_bytes_that_may_still_change_are_sealed_by_a_commit_only(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, 20 << 20), 0)
    volume.workspace.passthrough.catch_up()
    assert not volume.seal()
    released(volume, ino, program)
    assert volume.seal()
    assert volume.read(ino) == noise(1, 20 << 20)


@pytest.mark.parametrize("closes", [False, True], ids=["open", "closed"])
def test_a_seal_that_a_commit_left_behind_takes_nothing_from_a_file(volume: Driven, closes: bool) -> None:
    """It has read bytes that were there at that time. They are not what the file has now."""
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, 3 << 20), 0)
    passthrough = volume.workspace.passthrough
    passthrough.freeze()
    job = volume.workspace.next_seal(True)
    assert job is not None
    passthrough.thaw()  # the commit gave up
    os.pwrite(program.fd, b"newer", 0)
    if closes:
        released(volume, ino, program)
    volume.workspace.begin_sync()
    old, digest = noise(1, 3 << 20), block_hash(noise(1, 3 << 20))
    assert volume.workspace.settle_known(job, [digest]) == [0]
    pack = build(PACK, [(digest, len(old), *encode(old))])
    upload(volume.store, PACK, pack)
    volume.workspace.settle_pack(job, SealedPack(pack.name, len(pack.data), pack.entries, {0: 0}))
    assert volume.read(ino, 0, 3 << 20) == b"newer" + noise(1, 3 << 20)[5:]
    volume.check_staging()
    volume.kill()
    assert volume.content(b"file") == b"newer" + noise(1, 3 << 20)[5:]


def test_room_is_not_waited_for_where_waiting_makes_none(tmp_path: Path) -> None:
    volume = Driven.new(tmp_path, MemoryStore(f"memory://{uuid4().hex}"))
    workspace: Any = volume.workspace
    workspace._staging_limit = 1 << 20
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, 5 << 20), 0)
    workspace.passthrough.catch_up()
    assert workspace.room()
    released(volume, ino, program)
    assert not workspace.room()
    volume.close()


# --- kills ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1000, 3 << 20, SEGMENT + 1000], ids=str)
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_what_was_synced_is_there_after_a_kill(volume: Driven, size: int, closed: bool) -> None:
    ino, program = opened(volume, b"file")
    data = noise(1, min(size, 1 << 20)) + bytes(max(0, size - (1 << 20)))
    os.pwrite(program.fd, data, 0)
    if closed:
        released(volume, ino, program)
    for fd in volume.workspace.begin_sync():
        os.fdatasync(fd)
    volume.kill()
    assert volume.content(b"file") == data
    assert not [name for name in staging_names(volume) if name.endswith(".open")]
    volume.check_staging()
    record = commit(volume)
    volume.check(record)
    assert content(volume, record, b"file") == data


@pytest.mark.parametrize("size", [PAGE, 3 << 20], ids=str)
def test_a_sync_takes_what_was_stored_through_a_mapping_after_a_version_had_the_page(volume: Driven, size: int) -> None:
    """The page was dirty then, so no time tells of it; and the version's block is not what was synced."""
    _, program = opened(volume, b"file")
    os.ftruncate(program.fd, size)
    mapping = Mapping(program, size)
    mapping.write(b"first")
    os.utime(program.fd, ns=(1, 1))  # long ago, so it tells of everything else
    assert content(volume, commit(volume), b"file")[:5] == b"first"
    mapping.write(b"later")
    assert os.fstat(program.fd).st_mtime_ns == 1
    for fd in volume.workspace.begin_sync():
        os.fdatasync(fd)
    passthrough = volume.workspace.passthrough
    passthrough.catch_up(syncing=True)
    if size > PAGE:  # a small one is copied, and not synced itself
        assert all(backing.exact for backing in passthrough.live.values()), "nothing is dirty, so times tell now"
    mapping.close()
    volume.kill()
    assert volume.content(b"file")[:5] == b"later"


def test_a_sync_takes_what_was_written_while_the_one_before_looked(
    volume: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same tick of the file system's clock; and the look took longer than a tick."""
    _, program = opened(volume, b"file")
    os.pwrite(program.fd, b"first", 0)
    told = os.fstat(program.fd)
    now = told.st_mtime_ns + 1_000_000
    monkeypatch.setattr(passthrough_module, "time", SimpleNamespace(time_ns=lambda: now))

    def slow(fd: int, size: int, offset: int) -> bytes:
        nonlocal now
        found = os.pread(fd, size, offset)
        os.pwrite(program.fd, b"later", 0)
        os.utime(program.fd, ns=(told.st_atime_ns, told.st_mtime_ns))
        now += 1_000_000_000
        return found

    with monkeypatch.context() as patch:
        patch.setattr(passthrough_module, "pread", slow)
        volume.workspace.begin_sync()
    for fd in volume.workspace.begin_sync():
        os.fdatasync(fd)
    volume.kill()
    assert volume.content(b"file") == b"later"


def test_a_sync_names_only_what_was_written_since(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, 3 << 20), 0)
    os.utime(program.fd, ns=(1, 1))  # long ago: a time of just now may not tell of the next write
    assert program.backing.fd in volume.workspace.begin_sync()
    assert program.backing.fd not in volume.workspace.begin_sync()
    os.pwrite(program.fd, b"x", 0)
    assert program.backing.fd in volume.workspace.begin_sync()
    released(volume, ino, program)
    number = os.stat(program.backing.fd).st_ino
    synced = [os.stat(fd).st_ino for fd in volume.workspace.begin_sync()]
    assert number in synced, "closed since then, and it is to be synced as others are"


def test_the_end_of_a_mount_keeps_what_is_open(volume: Driven) -> None:
    _, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, 3 << 20), 0)
    volume.reopen()
    assert volume.content(b"file") == noise(1, 3 << 20)


def test_what_cannot_be_taken_over_in_the_end_is_left_as_a_file(
    volume: Driven, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, 3 << 20), 0)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        volume.close(keep=True)
    assert f"inode-{ino}.left" in caplog.text
    caplog.clear()
    volume.open()
    left = os.path.join(volume.spec.meta_dir, "staging", f"inode-{ino}.left")
    with open(left, "rb") as file:
        assert file.read() == noise(1, 3 << 20)


def test_a_time_to_come_is_not_when_it_was_set(volume: Driven) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, b"x", 0)
    to_come = 4_000_000_000 * 10**9
    volume.workspace.setattr(ino, AttrChange(mtime=to_come), ME)
    volume.workspace.passthrough.set_times(ino, None, to_come)
    inode = volume.workspace.getattr(ino)
    shown = volume.workspace.passthrough.shown(inode)
    assert shown.mtime == to_come > shown.ctime
    released(volume, ino, program)
    assert volume.workspace.getattr(ino).ctime < to_come


@pytest.mark.parametrize("more", [True, False], ids=["more", "nothing more"])
def test_a_workspace_that_ends_with_more_than_its_version_has_says_so(volume: Driven, more: bool) -> None:
    _, program = opened(volume, b"file")
    os.pwrite(program.fd, b"one", 0)
    commit(volume)
    if more:
        os.pwrite(program.fd, b"two", 3)
    else:
        volume.workspace.passthrough.live[volume.find(b"file").ino].writes = False
    volume.close(keep=True)
    state = WorkspaceDirectory(volume.spec.meta_dir).state()
    assert state is not None
    assert state.clean is not more


def test_without_room_for_its_name_a_file_stays_open_until_there_is(
    volume: Driven, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ino, program = opened(volume, b"file")
    os.pwrite(program.fd, noise(1, 3 << 20), 0)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        closed(volume, ino, program)
        assert ino in volume.workspace.passthrough.live
        with pytest.raises(OSError, match="no space"):
            volume.workspace.begin_sync()
    assert "not taken over yet" in caplog.text
    caplog.clear()
    volume.workspace.housekeep()
    assert not volume.workspace.passthrough.live
    assert volume.content(b"file") == noise(1, 3 << 20)


# --- everything at once --------------------------------------------------------------------------------------------

OFFSETS = st.sampled_from([0, 1, PAGE, BLOCK_SIZE - 1, BLOCK_SIZE, SEGMENT - PAGE, SEGMENT, 2 * SEGMENT + 12345])
SIZES = st.sampled_from([1, 1000, PAGE, 200_000, BLOCK_SIZE + 10])


class Machine(RuleBasedStateMachine):
    """Programs that write to files that are open, commits, syncs and kills, against bytes in memory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        directory = directory / uuid4().hex
        directory.mkdir()
        self.volume = Driven.new(directory, MemoryStore(f"memory://{uuid4().hex}"))
        self.model: dict[bytes, bytearray] = {}
        self.open: dict[bytes, tuple[int, Program]] = {}
        self.mapped: dict[bytes, Mapping] = {}  # of files that are not open any more
        self.seed = 0

    def teardown(self) -> None:
        self.volume.close()
        for mapping in self.mapped.values():
            mapping.close()

    @rule(name=st.sampled_from([b"a", b"b"]))
    def create(self, name: bytes) -> None:
        if name not in self.model:
            self.open[name] = opened(self.volume, name)
            self.model[name] = bytearray()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), offset=OFFSETS, size=SIZES)
    def write(self, data: st.DataObject, offset: int, size: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        self.seed += 1
        written = noise(self.seed, size)
        os.pwrite(self.open[name][1].fd, written, offset)
        file = self.model[name]
        file.extend(bytes(max(0, offset + size - len(file))))
        file[offset : offset + size] = written

    @precondition(lambda self: self.model)
    @rule(data=st.data(), size=OFFSETS)
    def truncate(self, data: st.DataObject, size: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        self.volume.workspace.setattr(self.volume.find(name).ino, AttrChange(size=size), ME)
        file = self.model[name]
        del file[size:]
        file.extend(bytes(size - len(file)))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), offset=OFFSETS, size=SIZES)
    def punch(self, data: st.DataObject, offset: int, size: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        self.volume.workspace.passthrough.allocate(self.open[name][0], offset, size, KEEP_SIZE | PUNCH_HOLE)
        file = self.model[name]
        end = min(len(file), offset + size)
        file[offset:end] = bytes(max(0, end - offset))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def close_one(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        released(self.volume, *self.open.pop(name))
        assert self.volume.content(name) == self.model[name]

    @precondition(lambda self: self.open)
    @rule(data=st.data(), offset=OFFSETS, stays=st.booleans())
    def store_through_a_mapping(self, data: st.DataObject, offset: int, stays: bool) -> None:
        """Of one that is open, and which ``stays`` when it is closed."""
        name = data.draw(st.sampled_from(sorted(self.open)))
        file = self.model[name]
        if not file:
            return
        ino, program = self.open[name]
        mapping = Mapping(program, len(file))
        self.store(name, mapping, offset)
        if stays:
            del self.open[name]
            closed(self.volume, ino, program)
            self.mapped[name] = mapping
        else:
            mapping.close()

    def store(self, name: bytes, mapping: Mapping, offset: int) -> None:
        self.seed += 1
        file = self.model[name]
        offset = min(offset, len(file) - 1)
        stored = noise(self.seed, min(1000, len(file) - offset))
        mapping.write(stored, offset)
        file[offset : offset + len(stored)] = stored

    @precondition(lambda self: self.mapped)
    @rule(data=st.data(), offset=OFFSETS, ends=st.booleans())
    def store_after_the_close(self, data: st.DataObject, offset: int, ends: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.mapped)))
        mapping = self.mapped[name]
        if len(self.model[name]) >= mapping.size:  # else it was cut off since
            self.store(name, mapping, offset)
        if ends:
            del self.mapped[name]
            mapping.close()
            self.volume.workspace.housekeep()
            assert self.volume.content(name) == self.model[name]

    @rule()
    def tick(self) -> None:
        self.volume.workspace.housekeep()

    @rule()
    def seal(self) -> None:
        self.volume.seal()

    @rule()
    def commit(self) -> None:
        record = commit(self.volume)
        self.volume.check(record)
        for name, expected in self.model.items():
            assert content(self.volume, record, name) == expected

    @rule()
    def sync_and_be_killed(self) -> None:
        for fd in self.volume.workspace.begin_sync():
            os.fdatasync(fd)
        self.open.clear()
        for mapping in self.mapped.values():
            mapping.close()
        self.mapped.clear()
        self.volume.kill()
        for name, expected in self.model.items():
            assert self.volume.content(name) == expected

    @invariant()
    def staging_is_accounted_for(self) -> None:
        self.volume.check_staging()


def test_a_machine_of_programs_commits_and_kills(tmp_path: Path) -> None:
    run_state_machine_as_test(
        lambda: Machine(tmp_path),
        settings=settings(
            max_examples=int(os.environ.get("PASSTHROUGH_EXAMPLES", "12")), stateful_step_count=20, deadline=None
        ),
    )
