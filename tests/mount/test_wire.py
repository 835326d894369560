"""What only the wire driver does: the protocol itself, requests that are interrupted, its commit barrier."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from flyteplugins_vol.model import ROOT_INO, MountSpec
from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.operations import Operations
from flyteplugins_vol.mount.scheduler import Scheduler
from flyteplugins_vol.mount.wire_barrier import FIRST, SECOND, WireBarrier
from flyteplugins_vol.mount.wire_driver import WireDriver, _UnmountedError
from flyteplugins_vol.mount.wire_protocol import Init, Op
from tests.mount.conftest import Mount
from tests.mount.memory_workspace import MemoryWorkspace

# --- a kernel of our own: requests as bytes, over a pair of sockets -------------------------------------------------


class Device:
    """The kernel's end of the connection. Packets keep their bounds, as on the device."""

    def __init__(self, spec: MountSpec) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(10)
        self.workspace = MemoryWorkspace()
        scheduler = Scheduler()
        self.operations = Operations(self.workspace, None, scheduler, error=WireDriver.error)  # type: ignore[arg-type]
        self.driver = WireDriver(self.operations, scheduler, spec)
        os.set_blocking(theirs.fileno(), False)
        self.driver._fd = theirs.fileno()
        self._theirs = theirs
        self._scheduler = scheduler
        self._thread = threading.Thread(target=lambda: scheduler.run(self.driver.serve()))
        self._thread.start()
        self._unique = 0

    def tell(self, op: int, body: bytes = b"", *, ino: int = ROOT_INO, pid: int = 1) -> int:
        self._unique += 2
        header = wire.IN_HEADER.pack(wire.IN_HEADER.size + len(body), op, self._unique, ino, 0, 0, pid, 0, 0)
        self._socket.send(header + body)
        return self._unique

    def answer(self) -> tuple[int, int, bytes]:
        """Its request's number, the errno (0 if none) and the body of the next answer."""
        unique = 0
        while not unique:  # what the file system says unasked
            data = self._socket.recv(1 << 21)
            length, error, unique = wire.OUT_HEADER.unpack_from(data)
            assert length == len(data)
        return unique, -error, data[wire.OUT_HEADER.size :]

    def ask(self, op: int, body: bytes = b"", *, ino: int = ROOT_INO) -> tuple[int, bytes]:
        asked = self.tell(op, body, ino=ino)
        unique, error, answer = self.answer()
        assert unique == asked
        return error, answer

    def close(self) -> None:
        self._scheduler.call(self.driver.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.operations.close()
        self._theirs.close()
        self._socket.close()


@pytest.fixture
def device(spec: MountSpec) -> Iterator[Device]:
    device = Device(spec)
    yield device
    device.close()


def init(device: Device, major: int, minor: int, offered: int = 0xFFFFFFFF) -> tuple[int, ...]:
    error, answer = device.ask(
        Op.INIT, wire.INIT_IN.pack(major, minor, 131072, offered & 0xFFFFFFFF) + bytes(48), ino=0
    )
    assert error == 0
    return wire.INIT_OUT.unpack(answer)


@pytest.mark.parametrize("minor", [31, 38, 45, 99])
def test_kernels_of_all_ages_are_answered_in_their_version(device: Device, minor: int) -> None:
    answer = init(device, 7, minor)
    assert answer[:2] == (7, min(minor, wire.LAST_MINOR))
    assert answer[3] & Init.WRITEBACK_CACHE
    assert 0 <= (1 << 20) - answer[6] <= mmap.PAGESIZE, "what a pipe takes beside a header"


def test_only_what_the_kernel_offers_is_agreed_on(device: Device) -> None:
    assert init(device, 7, 45, Init.ASYNC_READ | Init.BIG_WRITES)[3] == Init.ASYNC_READ | Init.BIG_WRITES


def test_a_kernel_of_a_later_major_version_is_told_ours(device: Device) -> None:
    assert init(device, 8, 3)[:2] == (7, wire.LAST_MINOR)


@pytest.mark.logs_warnings
def test_a_kernel_that_is_too_old_is_refused(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    error, _ = device.ask(Op.INIT, wire.INIT_IN.pack(7, 30, 131072, 0), ino=0)
    assert error == errno.EPROTO
    assert "FUSE 7.30" in caplog.text
    assert "Linux 5.4" in caplog.text


@pytest.mark.parametrize("op", [Op.OPEN, Op.CREATE, Op.OPENDIR, Op.FLUSH, Op.GETXATTR, 4095])
def test_what_is_refused_once_and_for_all(device: Device, op: int) -> None:
    assert device.ask(op, bytes(16)) == (errno.ENOSYS, b"")


@pytest.mark.logs_warnings
@pytest.mark.parametrize("op", sorted(Op, key=int), ids=lambda op: op.name)
@pytest.mark.parametrize("body", [b"", b"\0", b"\xff" * 7, b"\xff" * 200], ids=["none", "nul", "short", "long"])
def test_a_request_that_makes_no_sense_does_not_end_the_mount(device: Device, op: Op, body: bytes) -> None:
    device.tell(op, body)
    asked = device.tell(Op.GETATTR, bytes(16))
    answers = {unique: (error, answer) for unique, error, answer in [device.answer()]}
    if asked not in answers:  # forgets have no answer, and some requests wait
        answers |= {unique: (error, answer) for unique, error, answer in [device.answer()]}
    error, answer = answers[asked]
    assert (error, len(answer)) == (0, wire.ATTR_OUT.size)


@pytest.mark.logs_warnings
@pytest.mark.parametrize("ino", [FIRST, SECOND, SECOND + 1, (1 << 64) - 1])
@pytest.mark.parametrize("op", [Op.GETATTR, Op.WRITE, Op.READ, Op.FSYNC, Op.LOOKUP])
def test_nor_does_one_that_no_canary_gets(device: Device, op: Op, ino: int) -> None:
    device.ask(op, b"", ino=ino)
    assert device.ask(Op.GETATTR, bytes(16))[0] == 0


def test_a_write_that_waits_has_its_own_bytes(device: Device) -> None:
    """The buffer is the next request's while the write waits."""
    error, entry = device.ask(Op.MKNOD, wire.MKNOD_IN.pack(0o100644, 0, 0, 0) + b"a\0")
    assert error == 0
    (ino,) = wire.U64.unpack_from(entry)
    device._scheduler.call(device.operations.freeze)
    waits = device.tell(Op.WRITE, wire.WRITE_IN.pack(0, 0, 5, 0, 0, 0, 0) + b"first", ino=ino)
    device.ask(Op.LOOKUP, b"x" * 200 + b"\0")
    device._scheduler.call(device.operations.thaw)
    unique, error, _ = device.answer()
    assert (unique, error) == (waits, 0)
    assert bytes(device.workspace.content[ino]) == b"first"


def test_an_interrupt_lets_go_of_who_is_killed_and_of_nobody_else(device: Device) -> None:
    device._scheduler.call(device.operations.freeze)
    living = device.tell(Op.MKDIR, wire.MKDIR_IN.pack(0o755, 0) + b"d\0", pid=os.getpid())
    device.tell(Op.INTERRUPT, wire.U64.pack(living))
    gone = device.tell(Op.MKDIR, wire.MKDIR_IN.pack(0o755, 0) + b"e\0", pid=(1 << 22) + 1)
    device.tell(Op.INTERRUPT, wire.U64.pack(gone))
    assert device.answer()[:2] == (gone, errno.EINTR)
    device._scheduler.call(device.operations.thaw)
    assert device.answer()[:2] == (living, 0)
    assert b"e" not in device.workspace.entries[ROOT_INO]


def test_who_serves_is_the_current_task_again_after_the_connection_has_ended(spec: MountSpec) -> None:
    """It waits on, for the end of the mount, and must not do so in the place of the request answered last."""
    scheduler, (ours, theirs) = Scheduler(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    operations = Operations(MemoryWorkspace(), None, scheduler, error=WireDriver.error)  # type: ignore[arg-type]
    driver = WireDriver(operations, scheduler, spec)
    driver._fd = theirs.fileno()
    receive, seen = driver._receive, []

    def unmounted_after_one() -> int:
        driver._receive = gone  # type: ignore[method-assign]
        return receive()

    def gone() -> int:
        raise _UnmountedError

    async def main() -> None:
        await driver.serve()
        seen.append(scheduler.current)

    driver._receive = unmounted_after_one  # type: ignore[method-assign]
    ours.send(wire.IN_HEADER.pack(wire.IN_HEADER.size, Op.STATFS, 2, ROOT_INO, 0, 0, 1, 0, 0))
    task = main()
    scheduler.run(task)
    assert seen == [task]
    operations.close()
    ours.close()
    theirs.close()


# --- the real kernel ------------------------------------------------------------------------------------------------

fuse = pytest.mark.fuse


@fuse
def test_a_program_that_is_killed_while_it_waits_is_gone_at_once(mount: Mount) -> None:
    client = mount()
    (client.mount_path / "slow").write_bytes(b"slow")
    (client.mount_path / "slow").chmod(0o1644)
    script = f"import os; os.pread(os.open({str(client.mount_path / 'slow')!r}, os.O_RDONLY | os.O_DIRECT), 4096, 0)"
    program = subprocess.Popen([sys.executable, "-c", script])
    try:
        while "read" not in client.status()["requests"]:
            time.sleep(0.01)
        program.send_signal(signal.SIGKILL)
        assert program.wait(10) == -signal.SIGKILL
    finally:
        (client.mount_path / "release").touch()
        program.wait(30)


@fuse
def test_a_commit_waits_for_writes_that_have_no_room_yet(mount: Mount) -> None:
    client = mount(store_options={"limit": 20 << 20})
    with (client.mount_path / "big").open("wb", buffering=0) as file:
        for _ in range(40):
            file.write(os.urandom(1 << 20))
        client.commit()
    assert client.status()["requests"]["write"] >= 40


@fuse
def test_the_canaries_are_no_part_of_the_volume(mount: Mount) -> None:
    client = mount()
    (client.mount_path / "file").write_bytes(b"x")
    files = client.status().get("files")
    client.commit()
    assert os.listdir(client.mount_path) == ["file"]
    assert client.status().get("files") == files


@pytest.mark.logs_warnings
def test_without_a_syncfs_that_writes_every_file_is_written_back(device: Device) -> None:
    written: list[int] = []
    device.workspace.known = {2: 1, 3: 1, 5: 1}
    device.workspace.known_inodes = lambda: list(device.workspace.known)  # type: ignore[attr-defined]
    barrier = WireBarrier("/nowhere", device.driver._canaries, written.append, device.operations)
    barrier._flush_all = lambda: False  # type: ignore[method-assign]
    barrier.flush()
    assert written == [2, 3, 5]


def test_the_canaries_come_in_order(device: Device) -> None:
    canaries = device.driver._canaries
    names = [canaries.secret + which for which in (b"first", b"second")]
    for name, ino in zip(names, (FIRST, SECOND), strict=True):
        error, entry = device.ask(Op.LOOKUP, name + b"\0")
        assert (error, wire.U64.unpack_from(entry)[0]) == (0, ino)
    one = wire.WRITE_IN.pack(0, 0, 1, 0, 0, 0, 0) + b"x"
    device.ask(Op.WRITE, one, ino=SECOND)
    assert canaries.first_at_second == 0
    device.ask(Op.WRITE, one, ino=FIRST)
    device.ask(Op.WRITE, one, ino=SECOND)
    assert canaries.first_at_second == 1
    assert device.ask(Op.FSYNC, bytes(16), ino=SECOND) == (0, b"")
    # A page that the kernel has dropped is read again before a part of it is written: ENOSYS would fail the commit.
    assert device.ask(Op.READ, wire.READ_IN.pack(0, 0, 4096), ino=SECOND) == (0, b"\0")
    assert device.ask(Op.READ, wire.READ_IN.pack(0, 4096, 4096), ino=SECOND) == (0, b"")
    device.tell(Op.FORGET, wire.U64.pack(1), ino=FIRST)
    assert device.ask(Op.LOOKUP, b".flytevol-guess-first\0")[1][:8] == bytes(8)  # no inode: no such name
