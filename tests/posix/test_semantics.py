"""What programs rely on without knowing it: run on a volume and on the machine's own file system alike."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.posix.conftest import AN_ORDINARY_USER, as_user, mounted_volume
from tests.posix.pair import fallocate

pytestmark = [pytest.mark.fuse, pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")]

USER = AN_ORDINARY_USER


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def python(script: str, *args: object, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, args)], **options)  # type: ignore[call-overload]


# --- modes and owners ----------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_new_files_have_their_mode_less_the_umask(place: Path, umask: int) -> None:
    os.umask(umask)
    os.close(os.open(place / "file", os.O_CREAT | os.O_RDWR, 0o6777))
    os.mkdir(place / "directory", 0o1777)
    os.mkfifo(place / "fifo", 0o666)
    os.symlink("x", place / "link")
    assert mode(place / "file") == 0o6777 & ~umask
    assert mode(place / "directory") == 0o1777 & ~umask
    assert mode(place / "fifo") == 0o666 & ~umask
    assert mode(place / "link") == 0o777


def test_a_setgid_directory_hands_its_group_down(place: Path) -> None:
    directory = place / "shared"
    directory.mkdir()
    os.chown(directory, -1, 4242)
    directory.chmod(0o2777)
    assert as_user((directory / "below").mkdir) == 0
    assert as_user((directory / "file").touch) == 0
    assert (directory / "below").stat().st_gid == (directory / "file").stat().st_gid == 4242
    assert mode(directory / "below") == 0o2755
    assert mode(directory / "file") == 0o644
    assert (directory / "file").stat().st_uid == USER


def test_a_group_that_one_is_not_in_costs_the_setgid_bit(place: Path) -> None:
    path = place / "file"
    path.touch()
    os.chown(path, USER, 4242)
    assert as_user(lambda: path.chmod(0o2755)) == 0
    assert mode(path) == 0o755
    assert as_user(lambda: path.chmod(0o2755), groups=(4242,)) == 0
    assert mode(path) == 0o2755


@pytest.mark.parametrize(
    ("before", "after"), [(0o4755, 0o755), (0o2755, 0o755), (0o6777, 0o777), (0o2745, 0o2745), (0o1777, 0o1777)]
)
@pytest.mark.parametrize("how", ["write", "truncate", "chown", "open"])
def test_a_change_by_an_ordinary_user_takes_setuid_and_setgid(place: Path, how: str, before: int, after: int) -> None:
    path = place / "file"
    path.write_bytes(b"data")
    os.chown(path, USER, USER)
    path.chmod(0o666 | before)
    before, after = before | 0o666, after | 0o666
    acts = {
        "write": lambda: _write(path),
        "truncate": lambda: os.truncate(path, 1),
        "chown": lambda: os.chown(path, -1, USER),
        "open": lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    }
    assert as_user(acts[how]) == 0
    assert mode(path) == after


def _write(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"x")
    os.close(fd)


def test_root_keeps_setuid_on_write(place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"data")
    path.chmod(0o6755)
    _write(path)
    assert mode(path) == 0o6755
    os.chown(path, USER, USER)  # but not on chown
    assert mode(path) == 0o755


def test_setuid_is_not_obeyed_but_kept(open_root: Path) -> None:
    assert os.statvfs(open_root).f_flag & os.ST_NOSUID


def test_the_sticky_bit_lets_owners_do(place: Path) -> None:
    (place / "mine").touch()
    os.chown(place / "mine", USER, USER)
    place.chmod(0o1777)
    assert as_user((place / "mine").unlink) == 0


def test_access_is_that_of_the_file(place: Path) -> None:
    path = place / "file"
    path.write_text("secret")
    os.chown(path, 0, 4242)
    path.chmod(0o640)
    assert as_user(path.read_text) != 0
    assert as_user(path.read_text, groups=(4242,)) == 0
    assert as_user(lambda: path.write_text(""), groups=(4242,)) != 0


# --- names and links -----------------------------------------------------------------------------------------------


def test_names_of_any_bytes(place: Path) -> None:
    names = [b"\xff\xfe not UTF-8", b"n" * 255, b" ", b"\n", b"-rf *", b"a\\b", "ü".encode() * 127, b"..."]
    root = os.fsencode(place)
    for name in names:
        with open(root + b"/" + name, "wb") as file:
            file.write(name)
    assert sorted(os.listdir(root)) == sorted(names)
    assert all(Path(os.fsdecode(root + b"/" + name)).read_bytes() == name for name in names)


def test_paths_deeper_than_one_call_can_name(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY)
    for _ in range(100):
        os.mkdir(b"d" * 200, dir_fd=fd)
        below = os.open(b"d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("bottom", os.O_CREAT | os.O_RDWR, dir_fd=fd))
    assert os.listdir(fd) == ["bottom"]
    os.close(fd)


def test_links_of_one_file(place: Path) -> None:
    path = place / "file"
    path.write_text("1")
    before = path.stat()
    for number in range(100):
        os.link(path, place / f"link{number}")
    after = path.stat()
    assert (after.st_nlink, after.st_ino, after.st_mtime_ns) == (101, before.st_ino, before.st_mtime_ns)
    assert after.st_ctime_ns > before.st_ctime_ns
    path.unlink()
    (place / "link7").write_text("2")
    assert (place / "link9").read_text() == "2"
    assert (place / "link9").stat().st_nlink == 100


def test_links_of_directories_count_their_subdirectories(place: Path) -> None:
    for number in range(5):
        (place / f"d{number}").mkdir()
    assert place.stat().st_nlink == 7
    (place / "d0").rename(place / "d1" / "moved")
    (place / "d2").rmdir()
    assert (place.stat().st_nlink, (place / "d1").stat().st_nlink) == (5, 3)


def test_an_exchange_changes_nothing_but_names(place: Path) -> None:
    (place / "file").write_text("file")
    (place / "directory").mkdir()
    (place / "directory" / "inside").touch()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, bytes(place / "file"), -100, bytes(place / "directory"), 2) == 0
    assert (place / "directory").read_text() == "file"
    assert (place / "file" / "inside").exists()


def test_a_directory_that_is_emptied_while_it_is_listed(place: Path) -> None:
    for number in range(3000):
        (place / f"{number:05}").touch()
    with os.scandir(place) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(place) == []


# --- times ---------------------------------------------------------------------------------------------------------


def test_times_are_kept_to_the_nanosecond(place: Path) -> None:
    path = place / "file"
    path.touch()
    for times in [(1, 2), (1_600_000_000_123_456_789, 1_700_000_000_987_654_321), (-1_000_000_001, 2**33 * 10**9 + 7)]:
        os.utime(path, ns=times)
        now = path.stat()
        assert (now.st_atime_ns, now.st_mtime_ns) == times


def test_what_changes_which_time(place: Path) -> None:
    path, other = place / "file", place / "other"
    path.write_text("data")

    def changed(act: object) -> str:
        """Letters of the file's times that moved, and p for the directory's mtime."""
        for each in (_either(path, other), place):
            os.utime(each, ns=(10**18, 10**18))
        before, above = _either(path, other).stat(), place.stat()
        time.sleep(0.02)  # the clock of the kernel's own times has ticks of up to 10 ms
        act()  # type: ignore[operator]
        after, above_after = _either(path, other).stat(), place.stat()
        found = "m" if after.st_mtime_ns != before.st_mtime_ns else ""
        found += "c" if after.st_ctime_ns != before.st_ctime_ns else ""
        return found + ("p" if above_after.st_mtime_ns != above.st_mtime_ns else "")

    assert changed(lambda: _write(path)) == "mc"
    assert changed(lambda: os.truncate(path, 1)) == "mc"
    assert changed(lambda: path.chmod(0o600)) == "c"
    assert changed(lambda: os.chown(path, 0, 0)) == "c"
    assert changed(lambda: os.link(path, place / "link")) == "cp"
    assert changed((place / "link").unlink) == "cp"
    assert changed(lambda: path.rename(other)) == "cp"
    assert changed(lambda: other.rename(path)) == "cp"
    assert changed(path.read_text) == ""
    assert changed(lambda: list(place.iterdir())) == ""


def _either(path: Path, other: Path) -> Path:
    return path if path.exists() else other


def test_atime_is_relatime(place: Path) -> None:
    path = place / "file"
    path.write_text("data")

    def read() -> int:
        """Past the kernel's cache, since a volume sees only what gets that far."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.read() == b"data"
            return os.fstat(file.fileno()).st_atime_ns

    os.utime(path, ns=(10**18, 10**18 + 1))
    first = read()
    assert first > 10**18 + 1
    time.sleep(0.02)
    assert read() == first  # newer than every change, and not a day old


# --- content -------------------------------------------------------------------------------------------------------


def test_shared_mappings_of_two_processes(place: Path) -> None:
    path = place / "file"
    path.write_bytes(bytes(1 << 20))
    child = "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); m[70000:70005] = b'child'"
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        shared[:6] = b"parent"
        assert python(child, path).wait() == 0
        assert shared[70000:70005] == b"child"
        shared.flush()
        assert os.pread(file.fileno(), 6, 0) == b"parent"
    data = path.read_bytes()
    assert (data[:6], data[70000:70005], len(data)) == (b"parent", b"child", 1 << 20)


def test_private_mappings_stay_private(place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"original" * 1000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as private:
        private[:7] = b"private"
        assert private[:7] == b"private"
    assert path.read_bytes() == b"original" * 1000


def test_a_mapping_outlives_descriptor_and_name(place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"data" * 5000)
    with path.open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    path.unlink()
    mapping[:4] = b"more"
    mapping.flush()
    assert mapping[:8] == b"moredata"
    mapping.close()


def test_appends_of_several_processes_are_whole(place: Path) -> None:
    script = """
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
for number in range(200):
    os.write(fd, (sys.argv[2] * 500).encode() + b"\\n")
"""
    children = [python(script, place / "log", letter) for letter in "abcd"]
    assert [child.wait() for child in children] == [0] * 4
    lines = (place / "log").read_bytes().splitlines()
    assert sorted(lines) == sorted(letter * 500 for letter in (b"a", b"b", b"c", b"d") for _ in range(200))


def test_direct_and_cached_access_see_each_other(place: Path) -> None:
    path = place / "file"
    buffer = mmap.mmap(-1, 1 << 16)
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    try:
        buffer[:] = b"d" * (1 << 16)
        assert os.writev(fd, [buffer]) == 1 << 16
        assert path.read_bytes() == b"d" * (1 << 16)
        with path.open("r+b") as cached:
            cached.write(b"c" * 4096)
        assert os.preadv(fd, [buffer], 0) == 1 << 16
        assert buffer[:4100] == b"c" * 4096 + b"d" * 4
        assert os.preadv(fd, [buffer], 1 << 16) == 0
    finally:
        os.close(fd)


def test_direct_access_needs_no_alignment_on_a_volume(on_volume: Path, driver: str) -> None:
    if driver == "passthrough":  # a new file is the local disk's as long as it is open, and that has its own rules
        (on_volume / "file").write_bytes(b"\0")
    fd = os.open(on_volume / "file", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    assert os.pwrite(fd, b"abc", 1) == 3
    assert os.pread(fd, 10, 0) == b"\0abc"
    os.close(fd)


def test_two_tebibytes_with_holes(place: Path) -> None:
    path = place / "file"
    with path.open("wb") as file:
        for offset in (0, 1 << 32, 1 << 40, (2 << 40) - 5):
            file.seek(offset)
            file.write(b"x" * 5)
        os.fsync(file.fileno())
    found = path.stat()
    assert found.st_size == 2 << 40
    assert found.st_blocks * 512 < 1 << 20
    with path.open("rb") as file:
        file.seek((1 << 40) - 5)
        assert file.read(15) == bytes(5) + b"x" * 5 + bytes(5)
    os.truncate(path, (1 << 40) + 2)
    os.truncate(path, 1 << 41)
    with path.open("rb") as file:
        file.seek(1 << 40)
        assert file.read(5) == b"xx\0\0\0"


def test_seeking_for_data_and_holes(place: Path) -> None:
    """A file without an answer to SEEK_HOLE is data to its end, and POSIX allows both."""
    path = place / "file"
    path.write_bytes(b"data")
    with path.open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 4
        with pytest.raises(OSError, match="No such device or address"):
            os.lseek(file.fileno(), 4, os.SEEK_DATA)


@pytest.mark.parametrize("how", ["write", "mapping"])
def test_what_was_just_written_is_no_hole(place: Path, how: str) -> None:
    """It may be in the kernel's cache only; `cp` of a database that is in use asks, and copies what is no hole."""
    with (place / "file").open("w+b", buffering=0) as file:
        file.truncate(1 << 20)
        if how == "write":
            os.pwrite(file.fileno(), b"written", 40_960)
        else:
            mapping = mmap.mmap(file.fileno(), 0)
            mapping[40_960:40_967] = b"written"
        with (place / "file").open("rb") as other:
            begin = os.lseek(other.fileno(), 0, os.SEEK_DATA)
            assert begin <= 40_960 < os.lseek(other.fileno(), begin, os.SEEK_HOLE)
    assert (place / "file").read_bytes()[40_960:40_967] == b"written"


def test_sparse_files_are_copied_with_their_holes(place: Path) -> None:
    with (place / "file").open("wb") as file:
        file.truncate(64 << 20)
        for offset in (0, 5 << 20, 30 << 20):
            file.seek(offset)
            file.write(b"x" * 5000)
    for copy in ("sparse=auto", "sparse=always", "reflink=auto"):
        subprocess.run(["cp", f"--{copy}", place / "file", place / copy], check=True)
        assert (place / copy).stat().st_blocks * 512 < 1 << 20
        subprocess.run(["cmp", place / "file", place / copy], check=True)


KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


@pytest.mark.parametrize(
    ("mode", "offset", "size", "after"),
    [
        (0, 5, 3, b"0123456789"),
        (0, 8, 6, b"0123456789" + bytes(4)),
        (KEEP_SIZE, 8, 6, b"0123456789"),
        (PUNCH_HOLE | KEEP_SIZE, 2, 3, b"01\0\0\x0056789"),
        (PUNCH_HOLE | KEEP_SIZE, 8, 99, b"01234567\0\0"),
        (ZERO_RANGE, 0, 4, bytes(4) + b"456789"),
        (ZERO_RANGE, 8, 6, b"01234567" + bytes(6)),
        (ZERO_RANGE | KEEP_SIZE, 8, 6, b"01234567\0\0"),
    ],
)
def test_fallocate(place: Path, mode: int, offset: int, size: int, after: bytes) -> None:
    path = place / "file"
    with path.open("w+b", buffering=0) as file:
        file.write(b"0123456789")
        try:
            fallocate(file.fileno(), mode, offset, size)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                pytest.skip("this driver does not offer it")
            raise
        assert os.pread(file.fileno(), 99, 0) == after
    assert path.read_bytes() == after


def test_a_punched_hole_gives_its_space_back(place: Path) -> None:
    path = place / "file"
    with path.open("w+b", buffering=0) as file:
        file.write(b"x" * (10 << 20))
        os.fsync(file.fileno())
        try:
            fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, 1 << 20, 8 << 20)
        except OSError as error:
            assert error.errno == errno.EOPNOTSUPP
            pytest.skip("this driver does not offer it")
        assert os.fstat(file.fileno()).st_blocks * 512 <= (2 << 20) + 65_536
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 1 << 20
        assert os.lseek(file.fileno(), 1 << 20, os.SEEK_DATA) == 9 << 20
    assert path.read_bytes() == b"x" * (1 << 20) + bytes(8 << 20) + b"x" * (1 << 20)


def test_copies_within_the_kernel(place: Path) -> None:
    """copy_file_range, of what is not synced as well, onto itself, over the end, and between file systems."""
    source, copy = place / "source", place / "copy"
    data = os.urandom(100_000) * 60
    with source.open("w+b", buffering=0) as a, copy.open("w+b", buffering=0) as b:
        a.write(data)
        assert os.copy_file_range(a.fileno(), b.fileno(), len(data) + 5, 0, 7) == len(data)
        b.write(b"changed")
        assert os.copy_file_range(b.fileno(), b.fileno(), 7, 0, 100) == 7
        os.pwrite(a.fileno(), b"later", 0)
        assert os.copy_file_range(a.fileno(), b.fileno(), 5, len(data)) == 0
        with pytest.raises(OSError, match="Invalid argument"):
            os.copy_file_range(b.fileno(), b.fileno(), 50, 0, 20)
    assert source.read_bytes() == b"later" + data[5:]
    assert copy.read_bytes() == b"changed" + data[:93] + b"changed" + data[100:]


def test_an_unlinked_file_can_be_written_and_read(place: Path) -> None:
    with (place / "file").open("w+b", buffering=0) as file:
        (place / "file").unlink()
        file.write(b"data" * 1000)
        file.seek(0)
        assert file.read() == b"data" * 1000
        assert os.fstat(file.fileno()).st_nlink == 0
    assert os.listdir(place) == []


def test_a_file_that_was_replaced_is_still_the_old_one(place: Path) -> None:
    (place / "file").write_text("old")
    with (place / "file").open() as old:
        (place / "new").write_text("new")
        (place / "new").rename(place / "file")
        assert (old.read(), (place / "file").read_text()) == ("old", "new")


# --- the rest ------------------------------------------------------------------------------------------------------


def test_statfs(place: Path) -> None:
    sizes = os.statvfs(place)
    assert sizes.f_bsize == 4096
    assert sizes.f_namemax == 255
    assert 0 < sizes.f_bavail <= sizes.f_bfree <= sizes.f_blocks
    assert 0 < sizes.f_ffree <= sizes.f_files


def test_locks_between_processes_end_with_their_owner(place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"0123456789")
    holder = python(
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX, 4, 2); print(flush=True);"
        "sys.stdin.read()",
        path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder, path.open("r+b") as file:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 2, 0)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 4, 6)
        holder.kill()
        fcntl.lockf(file, fcntl.LOCK_EX)  # waits until the other is gone


def test_sockets_connect(place: Path) -> None:
    here = os.open(place, os.O_RDONLY)  # a path below /proc, since a socket's has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(f"/proc/self/fd/{here}/socket")
        listener.listen()
        client.connect(f"/proc/self/fd/{here}/socket")
        server, _ = listener.accept()
        client.sendall(b"through")
        assert server.recv(10) == b"through"
        server.close()
    os.close(here)
    assert stat.S_ISSOCK((place / "socket").stat().st_mode)


def test_fifos_carry_data(place: Path) -> None:
    os.mkfifo(place / "fifo")
    writer = python("import sys; open(sys.argv[1], 'w').write('through')", place / "fifo")
    assert (place / "fifo").read_text() == "through"
    assert writer.wait() == 0


def test_flocks_are_seen_by_other_processes(place: Path) -> None:
    path = place / "file"
    path.touch()
    script = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert python(script, path, stderr=subprocess.DEVNULL).wait() != 0
        fcntl.flock(file, fcntl.LOCK_UN)
        assert python(script, path).wait() == 0


def test_programs_run(place: Path) -> None:
    script = place / "script"
    script.write_text("#!/bin/sh\necho ran $1\n")
    script.chmod(0o755)
    assert subprocess.run([script, "well"], capture_output=True, check=True).stdout == b"ran well\n"


def test_as_many_open_files_as_a_process_may_have(place: Path) -> None:
    most = min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)
    files = [(place / f"{number}").open("w+") for number in range(most)]
    for number, file in enumerate(files):
        file.write(str(number))
    for file in files:
        file.close()
    assert all((place / f"{number}").read_text() == str(number) for number in range(most))


def test_without_allow_other_nobody_else_comes_in() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    with mounted_volume() as (_, root):
        root.chmod(0o777)
        assert as_user(lambda: os.listdir(root)) == errno.EACCES
        assert as_user(root.stat) == errno.EACCES
