"""Real mounts of a workspace in memory: what the kernel and programs see."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from flyteplugins_vol.mount.client import MountClient
from tests.mount.conftest import DRIVERS, Mount

pytestmark = pytest.mark.fuse


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def client(mount: Mount) -> MountClient:
    return mount()


@pytest.fixture
def root(client: MountClient) -> Path:
    return client.mount_path


def requests(client: MountClient) -> dict[str, int]:
    return client.status()["requests"]


def test_a_mount_says_what_it_is(root: Path) -> None:
    line = next(line for line in Path("/proc/self/mounts").read_text().splitlines() if f" {root} " in line)
    source, _, fstype, options, *_ = line.split()
    assert (source, fstype) == ("flytevol", "fuse.flytevol")
    assert {"nosuid", "nodev"} <= set(options.split(","))
    assert ("default_permissions" in options) == (os.geteuid() != 0)


def test_what_is_written_is_read(root: Path) -> None:
    data = os.urandom(3_000_001)
    (root / "file").write_bytes(data)
    assert (root / "file").read_bytes() == data
    with (root / "file").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"patched")
        file.truncate(2_000_000)
    expected = (data[:1_000_000] + b"patched" + data[1_000_007:])[:2_000_000]
    assert (root / "file").read_bytes() == expected


def test_a_write_only_file_takes_parts_of_pages(root: Path) -> None:
    (root / "file").write_bytes(b"a" * 10_000)
    fd = os.open(root / "file", os.O_WRONLY)  # the kernel reads the page that it fills in part
    os.pwrite(fd, b"b", 5_000)
    os.close(fd)
    assert (root / "file").read_bytes() == b"a" * 5_000 + b"b" + b"a" * 4_999


def test_appends_of_several_writers_do_not_overwrite_one_another(root: Path) -> None:
    def append(writer: int) -> None:
        with (root / "log").open("ab", buffering=0) as file:
            for _ in range(200):
                file.write(b"%d" % writer * 100 + b"\n")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(4)))
    lines = (root / "log").read_bytes().splitlines()
    assert sorted(lines) == sorted(b"%d" % writer * 100 for writer in range(4) for _ in range(200))


def test_o_trunc_and_o_excl(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    with pytest.raises(FileExistsError):
        os.open(root / "file", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    os.close(os.open(root / "file", os.O_RDWR | os.O_TRUNC))
    assert (root / "file").read_bytes() == b""


def test_an_unlinked_file_lives_while_it_is_open(client: MountClient, root: Path) -> None:
    with (root / "file").open("w+b") as file:
        file.write(b"before")
        (root / "file").unlink()
        file.write(b" after")
        file.seek(0)
        assert file.read() == b"before after"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert list(root.iterdir()) == []


def test_names_links_and_special_files(root: Path) -> None:
    (root / "dir").mkdir()
    (root / "dir" / "file").write_text("x")
    os.link(root / "dir" / "file", root / "hard")
    os.symlink("dir/file", root / "soft")
    os.mkfifo(root / "fifo", 0o640)
    name = os.fsdecode(b"\xff\xfe not utf-8 \n")
    (root / name).write_text("y")
    assert (root / "hard").stat().st_nlink == 2
    assert os.readlink(root / "soft") == "dir/file"
    assert (root / "soft").read_text() == "x"
    assert stat.filemode((root / "fifo").stat().st_mode) == "prw-r-----"
    assert sorted(os.listdir(root)) == sorted(["dir", "hard", "soft", "fifo", name])
    os.rename(root / "dir", root / "moved")
    assert (root / "moved" / "file").read_text() == "x"
    with pytest.raises(OSError) as raised:
        os.rmdir(root / "moved")
    assert raised.value.errno == errno.ENOTEMPTY
    with pytest.raises(OSError) as raised:
        (root / ("n" * 256)).touch()
    assert raised.value.errno == errno.ENAMETOOLONG


def test_attributes(root: Path) -> None:
    file = root / "file"
    file.write_bytes(bytes(5_000))
    os.chmod(file, 0o640)
    os.utime(file, ns=(1_000_000_001, 2_000_000_002))
    found = file.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_size, found.st_blocks) == (0o640, 5_000, 10)
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    assert root.stat().st_size == 4096
    sizes = os.statvfs(root)
    assert sizes.f_namemax == 255
    assert sizes.f_blocks > sizes.f_bfree > 0


def test_access_of_root_is_as_on_a_local_disk(root: Path) -> None:
    file = root / "file"
    file.write_bytes(b"")
    assert os.access(file, os.R_OK | os.W_OK)
    assert not os.access(file, os.X_OK)
    file.chmod(0o755)
    assert os.access(file, os.X_OK)


def test_a_listing_is_complete_and_can_go_back(root: Path) -> None:
    names = {f"file-{number:04d}" for number in range(3_000)}
    for name in names:
        os.close(os.open(root / name, os.O_CREAT | os.O_WRONLY))
    assert set(os.listdir(root)) == names
    script = """
import ctypes, sys
class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("len", ctypes.c_uint16),
                ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256)]
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.telldir.restype = ctypes.c_long
stream = ctypes.c_void_p(libc.opendir(sys.argv[1].encode()))
seen = []
while True:
    place = libc.telldir(stream)
    entry = libc.readdir(stream)
    if not entry:
        break
    seen.append((place, entry.contents.name))
assert [name for _, name in seen[:2]] == [b".", b".."], seen[:2]
for index in (0, 1, 2, 3, 1500, 10, len(seen) - 1):
    libc.seekdir(stream, ctypes.c_long(seen[index][0]))
    assert libc.readdir(stream).contents.name == seen[index][1], index
libc.closedir(stream)
"""
    subprocess.run([sys.executable, "-c", script, str(root)], check=True, timeout=60)


def test_removing_while_listing_removes_all(root: Path) -> None:
    for number in range(2_000):
        os.close(os.open(root / f"{number}", os.O_CREAT | os.O_WRONLY))
    with os.scandir(root) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(root) == []


def test_extended_attributes_only_when_asked_for(mount: Mount, client: MountClient, tmp_path: Path) -> None:
    (client.mount_path / "file").touch()
    with pytest.raises(OSError) as raised:
        os.setxattr(client.mount_path / "file", "user.a", b"1")
    assert raised.value.errno == errno.ENOTSUP
    other = mount(xattr=True, mount_path=str(tmp_path / "other"), meta_dir=str(tmp_path / "other-meta"))
    file = other.mount_path / "file"
    file.touch()
    os.setxattr(file, "user.a", b"1")
    with pytest.raises(FileExistsError):
        os.setxattr(file, "user.a", b"2", os.XATTR_CREATE)
    assert os.listxattr(file) == ["user.a"]
    assert os.getxattr(file, "user.a") == b"1"
    os.removexattr(file, "user.a")
    with pytest.raises(OSError) as raised:
        os.getxattr(file, "user.a")
    assert raised.value.errno == errno.ENODATA


def test_a_bug_in_the_file_system_is_one_eio(mount: Mount) -> None:
    client = mount(xattr=True)
    file = client.mount_path / "file"
    file.touch()
    with pytest.raises(OSError) as raised:
        os.getxattr(file, "user.bug")
    assert raised.value.errno == errno.EIO
    file.write_text("lives on")
    assert file.read_text() == "lives on"
    assert "ZeroDivisionError: as asked" in Path(client.spec.log_path or "").read_text()


def test_attributes_that_do_not_fit_are_one_eio(mount: Mount) -> None:
    root = mount(xattr=True, attr_cache=0.0).mount_path
    (root / "file").touch()
    (root / "other").touch()
    with pytest.raises(OSError) as raised:
        os.getxattr(root / "file", "user.huge")
    with pytest.raises(OSError) as raised:
        os.stat(root / "file")
    assert raised.value.errno == errno.EIO
    assert (root / "other").stat().st_size == 0


def test_a_read_only_mount_refuses_changes(mount: Mount) -> None:
    root = mount(read_only=True).mount_path
    for change in (root.joinpath("file").touch, root.joinpath("dir").mkdir, lambda: root.chmod(0o700)):
        with pytest.raises(OSError) as raised:
            change()
        assert raised.value.errno == errno.EROFS


# --- requests that wait --------------------------------------------------------------------------------------------


def wait_for_requests(client: MountClient, verb: str, count: int) -> None:
    while requests(client).get(verb, 0) < count:
        threading.Event().wait(0.01)


def test_reads_that_wait_for_the_store_hold_nobody_up(client: MountClient, root: Path) -> None:
    many = 10  # the kernel itself lets at most 12 such reads out at once, which libfuse leaves as it is
    for number in range(many):
        (root / f"slow-{number}").write_bytes(b"%d" % number)
        (root / f"slow-{number}").chmod(0o1644)

    def read(number: int) -> bytes:
        fd = os.open(root / f"slow-{number}", os.O_RDONLY | os.O_DIRECT)  # past the kernel's cache
        try:
            return os.pread(fd, 4096, 0)
        finally:
            os.close(fd)

    with ThreadPoolExecutor(many) as pool:
        answers = [pool.submit(read, number) for number in range(many)]
        try:
            wait_for_requests(client, "read", many)
            (root / "fast").write_bytes(b"fast")
            assert (root / "fast").read_bytes() == b"fast"
            assert not any(answer.done() for answer in answers)
        finally:
            (root / "release").touch()
        assert [answer.result(30) for answer in answers] == [b"%d" % number for number in range(many)]


def test_a_read_error_is_eio_on_that_file_only(client: MountClient, root: Path) -> None:
    (root / "good").write_bytes(b"good")
    (root / "bad").write_bytes(b"bad")
    (root / "bad").chmod(0o1644)
    (root / "break").touch()
    fd = os.open(root / "bad", os.O_RDONLY | os.O_DIRECT)
    with pytest.raises(OSError) as raised:
        os.pread(fd, 4096, 0)
    os.close(fd)
    assert raised.value.errno == errno.EIO
    assert (root / "good").read_bytes() == b"good"
    assert "pack-damaged: pack abc is damaged" in Path(client.spec.log_path or "").read_text()


def test_abandon_frees_a_program_that_waits(client: MountClient, root: Path) -> None:
    (root / "slow").write_bytes(b"slow")
    (root / "slow").chmod(0o1644)
    fd = os.open(root / "slow", os.O_RDONLY | os.O_DIRECT)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(os.pread, fd, 4096, 0)
        wait_for_requests(client, "read", 1)
        client.abandon()
        with pytest.raises(OSError) as raised:
            answer.result(30)
        assert raised.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        with suppress(OSError):
            os.close(fd)


@pytest.mark.parametrize("failures", [0, 3])
def test_a_writer_faster_than_the_store_waits_for_it(mount: Mount, failures: int) -> None:
    client = mount(store_options={"limit": 20 << 20, "failures": failures})
    data = os.urandom(1 << 20)
    with (client.mount_path / "big").open("wb", buffering=0) as file:
        for _ in range(70):
            file.write(data)
    assert (client.mount_path / "big").stat().st_size == 70 << 20
    assert client.status()["sealed"] >= 3


# --- requests that are not made ------------------------------------------------------------------------------------


def counted(client: MountClient, before: dict[str, int]) -> dict[str, int]:
    now = requests(client)
    return {verb: count - before.get(verb, 0) for verb, count in now.items() if count != before.get(verb, 0)}


@pytest.fixture
def warm(client: MountClient, root: Path) -> MountClient:
    """A mount that has refused FLUSH and GETXATTR once, which it does only once."""
    (root / "warm").write_bytes(b"x")
    return client


def test_the_requests_of_a_small_file(warm: MountClient, root: Path, driver: str) -> None:
    directory = root / "dir"
    directory.mkdir()
    before = requests(warm)
    for number in range(100):
        fd = os.open(directory / f"{number}", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(fd, b"x" * 1024)
        os.close(fd)
    if driver == "pyfuse3":  # RELEASE is sent when the file is closed, and nobody waits for it
        wait_for_requests(warm, "release", before["release"] + 100)
    made = ("mknod",) if driver == "wire" else ("create", "release")
    assert counted(warm, before) == dict.fromkeys(("lookup", *made, "write", "setattr"), 100)


def test_the_requests_of_reading_a_file_again(warm: MountClient, root: Path, driver: str) -> None:
    (root / "file").write_bytes(b"x" * 1024)
    os.stat(root / "file")
    before = requests(warm)
    for _ in range(100):
        fd = os.open(root / "file", os.O_RDONLY)
        assert len(os.read(fd, 4096)) == 1024
        os.close(fd)
    if driver == "wire":
        assert counted(warm, before) == {}
        return
    wait_for_requests(warm, "release", before["release"] + 100)
    assert counted(warm, before) == {"open": 100, "release": 100}


def test_stat_after_a_listing_needs_no_request(warm: MountClient, root: Path) -> None:
    for number in range(1000):
        os.mkdir(root / f"{number}")
    with os.scandir(root) as entries:
        for _ in entries:
            pass
    before = requests(warm)
    for number in range(1000):
        os.stat(root / f"{number}")
    assert counted(warm, before) == {}


def test_an_absent_name_is_asked_for_once(warm: MountClient, root: Path) -> None:
    before = requests(warm)
    for _ in range(10):
        assert not (root / "absent").exists()
    assert counted(warm, before) == {"lookup": 1}


def test_names_and_attributes_are_asked_for_again_when_the_mount_wants_it(mount: Mount) -> None:
    client = mount(attr_cache=0.0, entry_cache=0.0)
    (client.mount_path / "file").touch()
    before = requests(client)
    for _ in range(10):
        os.stat(client.mount_path / "file")
    assert counted(client, before)["lookup"] == 10
