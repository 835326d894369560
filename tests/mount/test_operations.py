from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import PackDamagedError
from flyteplugins_vol.model import ROOT_INO, AttrChange, Caller, Inode
from flyteplugins_vol.mount.operations import Operations
from flyteplugins_vol.mount.scheduler import Scheduler, Task
from tests.mount.memory_workspace import MemoryFetcher, MemoryWorkspace

ME = Caller(1000, 1000)
SECRET = b".flytevol-0123-"


class RefusedError(Exception):
    """What this driver fails with."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.number = number


class Kernel:
    """A driver without a kernel: requests are coroutines, started from the test and answered in the owner's thread."""

    def __init__(self) -> None:
        self.workspace = MemoryWorkspace()
        self.fetcher = MemoryFetcher(self.workspace)
        self.scheduler = Scheduler()
        self.notices = 0
        self.ops = Operations(self.workspace, self.fetcher, self.scheduler, error=RefusedError, staged=self._notice)
        self.ops.secret = SECRET
        self._until_end: list[Task] = []
        self._thread = threading.Thread(target=lambda: self.scheduler.run(self.scheduler.wait_in(self._until_end)))
        self._thread.start()

    def start(self, request: Coroutine[Any, Any, Any]) -> Future[Any]:
        answer: Future[Any] = Future()

        async def run() -> None:
            try:
                answer.set_result(await request)
            except BaseException as error:
                answer.set_exception(error)

        self.scheduler.call(lambda: self.scheduler.spawn(run()))
        self.scheduler.call(int)  # it has run up to its end, or to where it parks
        return answer

    def ask(self, request: Coroutine[Any, Any, Any]) -> Any:
        return self.start(request).result(10)

    def refuses(self, request: Coroutine[Any, Any, Any], number: int) -> None:
        with pytest.raises(RefusedError) as refused:
            self.ask(request)
        assert refused.value.number == number

    def file(self, name: bytes, content: bytes = b"") -> Inode:
        inode = self.ask(self.ops.create(ROOT_INO, name, 0o644, os.O_RDWR, ME))
        if content:
            self.ask(self.ops.write(inode.ino, 0, content))
        return inode

    def close(self) -> None:
        self.scheduler.call(self.ops.close)
        self.scheduler.call(self.scheduler.abort_parked)
        self.scheduler.call(lambda: self.scheduler.wake_all(self._until_end))
        self._thread.join()

    def _notice(self) -> None:
        self.notices += 1


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


# --- names ---------------------------------------------------------------------------------------------------------


def test_what_a_lookup_tells_is_remembered_until_it_is_forgotten(kernel: Kernel) -> None:
    inode = kernel.file(b"a")
    assert kernel.ask(kernel.ops.lookup(ROOT_INO, b"a")) is inode
    assert kernel.workspace.known == {inode.ino: 2}
    kernel.ask(kernel.ops.forget(inode.ino, 2))
    assert kernel.workspace.known == {}


def test_an_absent_name_is_a_value(kernel: Kernel) -> None:
    assert kernel.ask(kernel.ops.lookup(ROOT_INO, b"none")) is None
    assert kernel.workspace.known == {}


def test_dot_of_a_file_finds_it_again(kernel: Kernel) -> None:
    inode = kernel.file(b"a")
    assert kernel.ask(kernel.ops.lookup(inode.ino, b".")) is inode


def test_a_secret_name_finds_an_inode_without_a_name(kernel: Kernel) -> None:
    inode = kernel.file(b"a")
    kernel.ask(kernel.ops.unlink(ROOT_INO, b"a"))
    assert kernel.ask(kernel.ops.lookup(ROOT_INO, SECRET + b"%d" % inode.ino)) is inode
    directory = kernel.ask(kernel.ops.mkdir(ROOT_INO, b"d", 0o755, ME))
    for parent, name in (
        (directory.ino, SECRET + b"%d" % inode.ino),  # not in the root
        (ROOT_INO, b".flytevol-4567-%d" % inode.ino),  # not the token
        (ROOT_INO, SECRET),
        (ROOT_INO, SECRET + b"-1"),
        (ROOT_INO, SECRET + "²".encode()),
    ):
        assert kernel.ask(kernel.ops.lookup(parent, name)) is None


def test_create_opens_what_is_there_unless_it_must_be_new(kernel: Kernel) -> None:
    inode = kernel.file(b"a", b"content")
    assert kernel.ask(kernel.ops.create(ROOT_INO, b"a", 0o644, os.O_RDWR, ME)) is inode
    assert inode.size == 7
    kernel.ask(kernel.ops.create(ROOT_INO, b"a", 0o644, os.O_RDWR | os.O_TRUNC, ME))
    assert inode.size == 0
    kernel.refuses(kernel.ops.create(ROOT_INO, b"a", 0o644, os.O_RDWR | os.O_EXCL, ME), errno.EEXIST)


def test_requests_are_counted_by_kind(kernel: Kernel) -> None:
    inode = kernel.file(b"a", b"x")
    kernel.ask(kernel.ops.getattr(inode.ino))
    assert kernel.ops.counts == {"create": 1, "write": 1, "getattr": 1}
    assert kernel.ops.changes == 2


def test_a_change_counts_when_it_begins(kernel: Kernel) -> None:
    """One that waits for the end of a commit is not in that version."""
    inode = kernel.file(b"a", b"x")
    before = kernel.ops.changes
    kernel.scheduler.call(kernel.ops.freeze)
    waiting = (kernel.ops.mkdir(ROOT_INO, b"d", 0o755, ME), kernel.ops.write(inode.ino, 0, b"y"))
    answers = [kernel.start(request) for request in waiting]
    assert kernel.ops.counts["mkdir"] == 1
    assert kernel.ops.changes == before
    kernel.scheduler.call(kernel.ops.thaw)
    for answer in answers:
        answer.result(10)
    assert kernel.ops.changes == before + 2
    kernel.ask(kernel.ops.forget(inode.ino, 1))
    assert kernel.ops.changes == before + 2


# --- errors --------------------------------------------------------------------------------------------------------


def test_a_verbs_errno_is_the_answer(kernel: Kernel) -> None:
    kernel.file(b"a")
    kernel.refuses(kernel.ops.mkdir(ROOT_INO, b"a", 0o755, ME), errno.EEXIST)
    kernel.refuses(kernel.ops.unlink(ROOT_INO, b"b"), errno.ENOENT)


@pytest.mark.logs_warnings
def test_a_bug_is_eio_with_a_traceback_and_the_next_request_is_served(
    kernel: Kernel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = kernel.file(b"a")

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(kernel.workspace, "read", broken)
    kernel.refuses(kernel.ops.read(inode.ino, 0, 10), errno.EIO)
    assert "ZeroDivisionError" in caplog.text
    assert f"read of inode {inode.ino} (/inode-{inode.ino})" in caplog.text
    assert kernel.ask(kernel.ops.getattr(inode.ino)) is inode


# --- parking -------------------------------------------------------------------------------------------------------


def test_a_read_that_misses_waits_for_the_fetch_and_others_go_on(kernel: Kernel) -> None:
    inode = kernel.file(b"a", b"content")
    kernel.workspace.absent.add(inode.ino)
    read = kernel.start(kernel.ops.read(inode.ino, 0, 100))
    assert kernel.ask(kernel.ops.getattr(inode.ino)) is inode
    assert not read.done()
    kernel.workspace.absent.clear()
    kernel.fetcher.futures[0].set_result(None)
    assert read.result(10) == b"content"


def test_a_second_miss_is_fetched_too(kernel: Kernel) -> None:
    inode = kernel.file(b"a", b"content")
    kernel.workspace.absent.add(inode.ino)
    read = kernel.start(kernel.ops.read(inode.ino, 0, 100))
    kernel.fetcher.futures[0].set_result(None)  # evicted again before it was read
    kernel.scheduler.call(int)
    kernel.scheduler.call(int)
    assert len(kernel.fetcher.futures) == 2
    kernel.workspace.absent.clear()
    kernel.fetcher.futures[1].set_result(None)
    assert read.result(10) == b"content"


@pytest.mark.logs_warnings
def test_a_failed_fetch_is_eio_of_that_read_with_the_reason_in_the_log(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    inode = kernel.file(b"a", b"content")
    kernel.workspace.absent.add(inode.ino)
    kernel.fetcher.error = PackDamagedError("pack abc is damaged")
    kernel.refuses(kernel.ops.read(inode.ino, 0, 100), errno.EIO)
    assert "pack-damaged: pack abc is damaged" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.logs_warnings
def test_a_read_that_never_stops_missing_ends(kernel: Kernel) -> None:
    inode = kernel.file(b"a", b"content")
    kernel.workspace.absent.add(inode.ino)
    done: Future[None] = Future()
    done.set_result(None)
    kernel.fetcher.fetch = lambda miss: done
    kernel.refuses(kernel.ops.read(inode.ino, 0, 100), errno.EIO)


def test_a_write_without_room_waits_until_there_is_some(kernel: Kernel) -> None:
    inode = kernel.file(b"a")
    kernel.workspace.limit = 10
    kernel.ask(kernel.ops.write(inode.ino, 0, bytes(10)))
    writes = [kernel.start(kernel.ops.write(inode.ino, 10 + i, b"x")) for i in range(3)]
    assert not any(write.done() for write in writes)
    assert kernel.ask(kernel.ops.getattr(inode.ino)).size == 10

    def sealed() -> None:
        kernel.workspace.staged = 0

    kernel.scheduler.call(sealed)  # as an upload would: whatever others do here may have made room
    assert [write.result(10) for write in writes] == [1, 1, 1]


def test_while_frozen_changes_wait_and_answers_do_not(kernel: Kernel) -> None:
    inode = kernel.file(b"a", b"content")
    ops = kernel.ops
    kernel.scheduler.call(ops.freeze)
    changes: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: ops.write(inode.ino, 0, b"C"),
        lambda: ops.setattr(inode.ino, AttrChange(mode=0o600), ME),
        lambda: ops.create(ROOT_INO, b"b", 0o644, os.O_RDWR, ME),
        lambda: ops.mknod(ROOT_INO, b"fifo", stat.S_IFIFO | 0o644, 0, ME),
        lambda: ops.mkdir(ROOT_INO, b"d", 0o755, ME),
        lambda: ops.symlink(ROOT_INO, b"s", b"a", ME),
        lambda: ops.link(inode.ino, ROOT_INO, b"l"),
        lambda: ops.rename(ROOT_INO, b"l", ROOT_INO, b"m", 0),
        lambda: ops.unlink(ROOT_INO, b"m"),
        lambda: ops.rmdir(ROOT_INO, b"d"),
        lambda: ops.setxattr(inode.ino, b"user.x", b"1", 0),
        lambda: ops.removexattr(inode.ino, b"user.x"),
        lambda: ops.release(inode.ino, os.O_RDWR),
        lambda: ops.forget(inode.ino, 1),
    ]
    answers = [kernel.start(change()) for change in changes]
    before = kernel.workspace.tree()
    assert before == {b"a": b"content"}
    assert kernel.ask(ops.read(inode.ino, 0, 10)) == b"content"
    assert kernel.ask(ops.lookup(ROOT_INO, b"a")) is inode
    assert not any(answer.done() for answer in answers)
    kernel.scheduler.call(ops.thaw)
    for answer in answers:  # in the order in which they came
        answer.result(10)
    assert kernel.workspace.tree() == {b"a": b"Content", b"b": b"", b"fifo": None, b"s": None}


def test_housekeeping_comes_with_the_tick_but_not_while_frozen(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel.file(b"a", b"x")
    kernel.scheduler.call(kernel.ops.freeze)
    kernel.scheduler.call(kernel.ops._tick)
    assert kernel.workspace.housekept == 0
    kernel.scheduler.call(kernel.ops.thaw)
    kernel.scheduler.call(kernel.ops._tick)
    assert kernel.workspace.housekept == 1
    assert kernel.notices == 2


@pytest.mark.logs_warnings
def test_failed_housekeeping_is_logged_and_nothing_else(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise OSError(errno.ENOSPC, "full", "/meta/index.db")

    monkeypatch.setattr(kernel.workspace, "housekeep", fails)
    kernel.scheduler.call(kernel.ops._tick)
    assert kernel.ask(kernel.ops.getattr(ROOT_INO)).is_dir


def test_the_uploader_hears_of_every_packs_worth(kernel: Kernel) -> None:
    inode = kernel.file(b"a")
    for number in range(32):
        kernel.ask(kernel.ops.write(inode.ino, number << 20, bytes(1 << 20)))
    assert kernel.notices == 2


# --- fsync ---------------------------------------------------------------------------------------------------------


class Disk:
    """fdatasync that the test lets through, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.synced: list[int] = []
        self.error: OSError | None = None
        monkeypatch.setattr(os, "fdatasync", self._fdatasync)

    def _fdatasync(self, fd: int) -> None:
        self.entered.release()
        self.gate.acquire()
        if self.error is not None:
            raise self.error
        self.synced.append(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, kernel: Kernel, tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    fd = os.open(tmp_path / "staging", os.O_RDWR | os.O_CREAT)
    kernel.workspace.sync_fds = [fd]
    yield disk
    disk.gate.release(1000)
    os.close(fd)


def test_fsync_waits_for_the_disk_and_others_go_on(kernel: Kernel, disk: Disk) -> None:
    sync = kernel.start(kernel.ops.fsync(ROOT_INO))
    assert disk.entered.acquire(timeout=10)
    assert kernel.ask(kernel.ops.getattr(ROOT_INO)).is_dir
    assert not sync.done()
    disk.gate.release()
    sync.result(10)


def test_fsyncs_that_come_while_one_is_under_way_share_the_next(kernel: Kernel, disk: Disk) -> None:
    first = kernel.start(kernel.ops.fsync(ROOT_INO))
    assert disk.entered.acquire(timeout=10)
    later = [kernel.start(kernel.ops.fsync(ROOT_INO)) for _ in range(20)]
    disk.gate.release()
    first.result(10)
    assert disk.entered.acquire(timeout=10)
    assert not any(sync.done() for sync in later), "the first sync began before these came"
    disk.gate.release()
    for sync in later:
        sync.result(10)
    assert kernel.workspace.syncs == 2


def test_a_program_that_is_killed_in_its_fsync_harms_nobody_elses(kernel: Kernel, disk: Disk) -> None:
    tasks: list[Task] = []

    async def sync_and_say_who() -> None:
        assert kernel.scheduler.current is not None
        tasks.append(kernel.scheduler.current)
        await kernel.ops.fsync(ROOT_INO)

    killed = kernel.start(sync_and_say_who())
    assert disk.entered.acquire(timeout=10)
    other = kernel.start(kernel.ops.fsync(ROOT_INO))
    kernel.scheduler.call(kernel.scheduler.interrupt, tasks[0])
    with pytest.raises(RefusedError) as refused:
        killed.result(10)
    assert refused.value.number == errno.EINTR
    disk.gate.release(10)
    other.result(10)
    kernel.ask(kernel.ops.fsync(ROOT_INO))
    assert len(disk.synced) == 3


@pytest.mark.logs_warnings
def test_after_a_lost_write_no_fsync_succeeds(kernel: Kernel, disk: Disk) -> None:
    disk.error = OSError(errno.EIO, "lost")
    disk.gate.release(10)
    kernel.refuses(kernel.ops.fsync(ROOT_INO), errno.EIO)
    disk.error = None
    kernel.refuses(kernel.ops.fsync(ROOT_INO), errno.EIO)


# --- listings ------------------------------------------------------------------------------------------------------


def listing(kernel: Kernel, handle: int, cookie: int, room: int) -> list[tuple[bytes, int]]:
    """Names and cookies of one reply that has room for so many entries."""
    found: list[tuple[bytes, int]] = []

    def emit(name: bytes, inode: Inode, after: int) -> bool:
        if len(found) == room:
            return False
        found.append((name, after))
        return True

    kernel.ask(kernel.ops.readdir(handle, cookie, emit))
    return found


def whole(kernel: Kernel, handle: int, room: int) -> list[bytes]:
    names: list[bytes] = []
    cookie = 0
    while found := listing(kernel, handle, cookie, room):
        names += [name for name, _ in found]
        cookie = found[-1][1]
    return names


@pytest.mark.parametrize("room", [1, 2, 3, 26, 27, 1000])
def test_a_listing_has_every_entry_once_whatever_fits_in_a_reply(kernel: Kernel, room: int) -> None:
    names = sorted(b"%d" % number for number in range(100))
    for name in names:
        kernel.file(name)
    known = dict(kernel.workspace.known)
    handle = ROOT_INO
    assert whole(kernel, handle, room) == [b".", b"..", *names]
    assert kernel.workspace.known == {ino: count + 1 for ino, count in known.items()}, "all known but the dots"


def test_entries_that_come_and_go_do_not_disturb_the_others(kernel: Kernel) -> None:
    for name in (b"b", b"d", b"f", b"h"):
        kernel.file(name)
    handle = ROOT_INO
    first = listing(kernel, handle, 0, 4)
    assert [name for name, _ in first] == [b".", b"..", b"b", b"d"]
    kernel.ask(kernel.ops.unlink(ROOT_INO, b"d"))
    kernel.file(b"c")
    kernel.file(b"g")
    assert [name for name, _ in listing(kernel, handle, first[-1][1], 10)] == [b"f", b"g", b"h"]
    assert [name for name, _ in listing(kernel, handle, first[2][1], 10)] == [b"c", b"f", b"g", b"h"]
    assert whole(kernel, handle, 10) == [b".", b"..", b"b", b"c", b"f", b"g", b"h"]


def test_a_removed_directory_lists_its_dots(kernel: Kernel) -> None:
    parent = kernel.ask(kernel.ops.mkdir(ROOT_INO, b"p", 0o755, ME))
    child = kernel.ask(kernel.ops.mkdir(parent.ino, b"c", 0o755, ME))
    handle = child.ino
    kernel.ask(kernel.ops.rmdir(parent.ino, b"c"))
    kernel.ask(kernel.ops.rmdir(ROOT_INO, b"p"))
    kernel.ask(kernel.ops.forget(parent.ino, 1))
    assert whole(kernel, handle, 10) == [b".", b".."]


def test_access_lets_root_do_all_but_execute_what_nobody_may(kernel: Kernel) -> None:
    root = Caller(0, 0)
    inode = kernel.file(b"a")
    ask: Callable[[int, int], Awaitable[bool]] = lambda ino, mask: kernel.ops.access(ino, mask, root)  # noqa: E731
    assert kernel.ask(ask(inode.ino, os.R_OK | os.W_OK))
    assert not kernel.ask(ask(inode.ino, os.X_OK))
    assert kernel.ask(ask(ROOT_INO, os.X_OK))
    kernel.ask(kernel.ops.setattr(inode.ino, AttrChange(mode=0o001), root))
    assert kernel.ask(ask(inode.ino, os.X_OK))
