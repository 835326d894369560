"""Large writes through a pipe: every byte arrives, in its place, whatever comes in between or goes wrong."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flyteplugins_vol.mount import wire_pipe
from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.wire_pipe import LARGE, WritePipe
from flyteplugins_vol.mount.wire_protocol import Op
from flyteplugins_vol.workspace import piped as piped_module
from flyteplugins_vol.workspace.piped import Piped
from tests.mount.conftest import Mount

MIB = 1 << 20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@contextmanager
def filled(data: bytes) -> Iterator[Piped]:
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, max(len(data), 4096))
    os.write(into, data)
    try:
        yield Piped(out, len(data))
    finally:
        os.close(out)
        os.close(into)


# --- bytes in a pipe ------------------------------------------------------------------------------------------------


def test_bytes_in_a_pipe_are_taken_in_their_order(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    with filled(noise(100_000)) as data:
        assert len(data) == 100_000
        data[0:30_000].move_to(fd, 5)
        data[30_000:100_000].move_to(fd, 70_000)
    assert os.pread(fd, 30_000, 5) + os.pread(fd, 70_000, 70_000) == noise(100_000)
    os.close(fd)


@pytest.mark.parametrize("after", [0, 1])
def test_a_file_system_that_takes_no_pages_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    real, calls = os.splice, 0

    def splice(source: int, target: int, count: int, *, offset_dst: int) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(errno.EINVAL, "no splice")
        return real(source, target, count // 2, offset_dst=offset_dst)

    monkeypatch.setattr(os, "splice", splice)
    monkeypatch.setattr(piped_module, "pwrite", lambda fd, data, at: os.pwrite(fd, bytes(data)[:777], at))
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    with filled(noise(50_000)) as data:
        data.move_to(fd, 3)
    assert os.pread(fd, 60_000, 3) == noise(50_000)
    os.close(fd)


def test_an_error_of_the_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(noise(5000)) as data, pytest.raises(OSError, match="No space") as caught:
        fd = os.open("/dev/full", os.O_WRONLY)
        try:
            data.move_to(fd, 0)
        finally:
            os.close(fd)
    assert caught.value.errno == errno.ENOSPC


# --- requests -------------------------------------------------------------------------------------------------------


def request(op: int, data: bytes, *, ino: int = 7, offset: int = 0) -> bytes:
    body = (wire.WRITE_IN.pack(0, offset, len(data), 0, 0, 0, 0) if op == Op.WRITE else b"") + data
    return wire.IN_HEADER.pack(wire.IN_HEADER.size + len(body), op, 2, ino, 0, 0, 1, 0, 0) + body


@pytest.mark.parametrize(
    ("op", "size", "ino", "stays"),
    [
        (Op.WRITE, MIB - 4096, 7, True),
        (Op.WRITE, LARGE, 7, True),
        (Op.WRITE, LARGE - 100, 7, False),
        (Op.WRITE, LARGE, wire_pipe.FIRST, False),
        (Op.SETXATTR, LARGE, 7, False),
        (Op.GETATTR, 16, 7, False),
        (Op.DESTROY, 0, 7, False),
    ],
)
def test_only_the_data_of_large_writes_stay_in_the_pipe(op: int, size: int, ino: int, stays: bool) -> None:
    pipe = WritePipe.opened()
    assert pipe is not None
    whole = request(op, noise(size), ino=ino)
    source, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, MIB)
    view = memoryview(bytearray(wire.BUFFER_SIZE))
    for _ in range(2):  # it is empty again afterwards
        os.write(into, whole)
        found, data = pipe.receive(source, view)
        assert found == len(whole)
        if stays:
            assert data is not None
            assert len(data) == size
            head = len(whole) - size
            assert bytes(view[:head]) == whole[:head]
            pipe.read(view, head, found)
        else:
            assert data is None
        assert bytes(view[:found]) == whole
    for fd in (source, into):
        os.close(fd)
    pipe.close()


def test_a_pipe_that_became_smaller_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = WritePipe.opened()
    assert pipe is not None
    assert pipe.pages >= MIB // mmap.PAGESIZE - 1
    monkeypatch.setattr(wire_pipe, "_SIZES", (1 << 16,))
    assert pipe.renewed() is None


def test_without_rights_to_a_pipe_of_that_size_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(wire_pipe, "_SIZES", (1 << 30,))
    assert WritePipe.opened() is None
    assert len(os.listdir("/proc/self/fd")) == before


# --- mounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.fuse
def test_streams_and_everything_else_between_them(mount: Mount) -> None:
    """Two streams and small files at the same time; every request is complete, and none is taken for another."""
    client = mount()
    root = client.mount_path
    content = {f"large-{number}": noise(24 * MIB + 4711 * number, number) for number in range(2)}

    def stream(name: str) -> None:
        data = memoryview(content[name])
        with (root / name).open("wb", buffering=0) as file:
            at = 0
            while at < len(data):
                at += file.write(data[at : at + 1_000_003])

    threads = [threading.Thread(target=stream, args=(name,)) for name in content]
    for thread in threads:
        thread.start()
    small = {f"small-{number}": noise(100 + number, number) for number in range(200)}
    for name, data in small.items():
        (root / name).write_bytes(data)
        assert name in os.listdir(root)
    for thread in threads:
        thread.join()
    client.commit()
    for name, data in (content | small).items():
        with (root / name).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.read() == data, name
