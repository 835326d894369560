"""Verbs at their edges: what the model machine does not reach, or what should be readable as a sentence."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flyteplugins_vol.index import windows
from flyteplugins_vol.model import AttrChange, Caller
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import ME, Driven

MB = 1 << 20


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Driven]:
    driven = Driven.new(tmp_path, MemoryStore(f"memory://{uuid4().hex}"))
    yield driven
    driven.close()


def refuses(number: int, verb: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(OSError) as caught:
        verb(*args)
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]


def test_names_that_cannot_be(volume: Driven) -> None:
    w = volume.workspace
    for name, number in (
        (b"", errno.ENOENT),
        (b"a/b", errno.EINVAL),
        (b"\0", errno.EINVAL),
        (b"x" * 256, errno.ENAMETOOLONG),
    ):
        refuses(number, w.mknod, 1, name, 0o644, 0, ME)
        refuses(number, w.mkdir, 1, name, 0o755, ME)
        refuses(number, w.symlink, 1, name, b"t", ME)
    for name in (b".", b".."):
        refuses(errno.EEXIST, w.mkdir, 1, name, 0o755, ME)
    refuses(errno.EINVAL, w.rmdir, 1, b".")
    refuses(errno.ENOTEMPTY, w.rmdir, 1, b"..")
    assert volume.tree() == {}


def test_symlinks(volume: Driven) -> None:
    w = volume.workspace
    assert w.readlink(w.symlink(1, b"s", b"x" * 4095, ME).ino) == b"x" * 4095
    refuses(errno.ENAMETOOLONG, w.symlink, 1, b"l", b"x" * 4096, ME)
    refuses(errno.ENOENT, w.symlink, 1, b"l", b"", ME)
    refuses(errno.EINVAL, w.readlink, 1)


def test_what_has_no_name_is_in_no_directory_until_it_gets_one(volume: Driven) -> None:
    w = volume.workspace
    kept = w.mknod(1, b"kept", 0o644, 0, ME)
    w.write(kept.ino, 0, b"old")
    directory = w.mkdir(1, b"d", 0o755, ME)
    one, link, gone = w.make_unnamed(1, 0o600, ME), w.make_unnamed(1, 0, ME, b"t"), w.make_unnamed(1, 0o600, ME)
    for inode in (one, gone):
        w.write(inode.ino, 0, b"new bytes")
    assert (w.index.files, w.index.bytes, set(volume.tree())) == (3, 3, {b"kept", b"d"})
    refuses(errno.EEXIST, w.give_name, one.ino, 1, b"kept", False)
    refuses(errno.EISDIR, w.give_name, one.ino, 1, b"d", True)
    refuses(errno.EINVAL, w.give_name, kept.ino, 1, b"other", True)
    refuses(errno.ENOENT, w.link, one.ino, 1, b"other")
    w.give_name(one.ino, 1, b"kept", True)
    w.give_name(link.ino, directory.ino, b"link", False)
    for inode in (one, link, gone):
        w.release(inode.ino, os.O_WRONLY)
    assert (w.index.files, w.index.bytes, set(volume.tree())) == (4, 9, {b"kept", b"d", b"d/link"})
    refuses(errno.ENOENT, w.getattr, gone.ino)
    refuses(errno.ENOENT, w.getattr, kept.ino)
    w.unlink(directory.ino, b"link")
    w.remember(directory.ino)
    w.rmdir(1, b"d")
    refuses(errno.ENOENT, w.make_unnamed, directory.ino, 0o600, ME)


def test_directories_are_not_read_written_or_truncated(volume: Driven) -> None:
    w = volume.workspace
    refuses(errno.EISDIR, w.read, 1, 0, 10)
    refuses(errno.EISDIR, w.write, 1, 0, b"x")
    refuses(errno.EISDIR, w.setattr, 1, AttrChange(size=0), ME)
    refuses(errno.EISDIR, w.open, 1, os.O_WRONLY | os.O_TRUNC)
    refuses(errno.EPERM, w.link, 1, 1, b"x")


def test_special_files(volume: Driven) -> None:
    w = volume.workspace
    inode = w.mknod(1, b"dev", stat.S_IFCHR | 0o600, 0x501, ME)
    assert (inode.rdev, stat.S_ISCHR(inode.mode), inode.size) == (0x501, True, 0)
    refuses(errno.EINVAL, w.write, inode.ino, 0, b"x")
    refuses(errno.EINVAL, w.setattr, inode.ino, AttrChange(size=5), ME)


def test_what_is_not_there(volume: Driven) -> None:
    w = volume.workspace
    for verb, args in (
        (w.getattr, (99,)), (w.read, (99, 0, 1)), (w.write, (99, 0, b"x")), (w.setattr, (99, AttrChange(), ME)),
        (w.readdir, (99, None, 1)), (w.lookup, (99, b"x")), (w.unlink, (1, b"x")), (w.rmdir, (1, b"x")),
        (w.rename, (1, b"x", 1, b"y", 0)), (w.link, (99, 1, b"x")), (w.mkdir, (99, b"x", 0o755, ME)),
    ):  # fmt: skip
        refuses(errno.ENOENT, verb, *args)
    refuses(errno.ENODATA, w.getxattr, 1, b"user.x")
    refuses(errno.ENODATA, w.removexattr, 1, b"user.x")
    assert w.lookup(1, b"x") is None


def test_sizes_at_their_limit(volume: Driven) -> None:
    w = volume.workspace
    ino = volume.create(b"f")
    largest = (1 << 63) - 1
    w.setattr(ino, AttrChange(size=largest), ME)
    w.write(ino, largest - 3, b"end")
    assert w.read(ino, largest - 4, 100) == b"\0end"
    refuses(errno.EFBIG, w.write, ino, largest - 3, b"over")
    refuses(errno.EFBIG, w.setattr, ino, AttrChange(size=1 << 63), ME)
    refuses(errno.EINVAL, w.setattr, ino, AttrChange(size=-1), ME)
    assert w.getattr(ino).allocated == 3
    record = volume.commit()
    volume.check(record)
    assert volume.read(ino, largest - 4, 100) == b"\0end"


def test_the_set_group_id_bit_of_a_directory_is_handed_down(volume: Driven) -> None:
    w = volume.workspace
    parent = w.mkdir(1, b"d", 0o2775, Caller(1, 50, 0)).ino
    w.setattr(parent, AttrChange(mode=0o2775), ME)
    assert w.mkdir(parent, b"d", 0o755, ME).mode & 0o7777 == 0o2755
    file = w.mknod(parent, b"f", 0o644, 0, ME)
    assert (file.gid, file.mode & 0o7777) == (50, 0o644)


def test_a_file_lives_on_while_it_is_open_or_known(volume: Driven) -> None:
    w = volume.workspace
    ino = volume.create(b"f", b"content")
    w.open(ino, os.O_RDWR)
    w.remember(ino, 2)
    w.unlink(1, b"f")
    w.write(ino, 7, b" more")
    assert (volume.read(ino), w.getattr(ino).nlink) == (b"content more", 0)
    refuses(errno.ENOENT, w.link, ino, 1, b"again")
    w.release(ino, os.O_RDWR)
    w.forget(ino, 1)
    assert volume.read(ino) == b"content more"
    w.forget(ino, 1)
    refuses(errno.ENOENT, w.getattr, ino)
    assert w.staged_bytes == 0
    volume.check()


def test_a_directory_that_is_open_lives_on_empty_and_takes_no_names(volume: Driven) -> None:
    w = volume.workspace
    ino = w.mkdir(1, b"d", 0o755, ME).ino
    w.open(ino, os.O_RDONLY)
    w.rmdir(1, b"d")
    assert w.readdir(ino, None, 10) == []
    refuses(errno.ENOENT, w.mkdir, ino, b"x", 0o755, ME)
    refuses(errno.ENOENT, w.rename, ino, b"x", 1, b"y", 0)
    w.release(ino, os.O_RDONLY)
    refuses(errno.ENOENT, w.getattr, ino)


def test_who_has_a_file_open_for_writing_is_known(volume: Driven) -> None:
    w = volume.workspace
    a, b = volume.create(b"a"), volume.create(b"b")
    w.open(a, os.O_RDONLY)
    w.open(b, os.O_RDWR)
    w.open(b, os.O_WRONLY)
    assert w.writers() == [b]
    w.release(b, os.O_RDWR)
    assert w.writers() == [b]
    w.release(b, os.O_WRONLY)
    assert w.writers() == []


def test_extended_attributes_at_their_limits(volume: Driven) -> None:
    w = volume.workspace
    w.setxattr(1, b"user." + b"n" * 250, b"v" * 65536)
    refuses(errno.ERANGE, w.setxattr, 1, b"user." + b"n" * 251, b"")
    refuses(errno.E2BIG, w.setxattr, 1, b"user.v", b"v" * 65537)
    for name in (b"security.capability", b"system.posix_acl_access", b"trusted.x", b"x"):
        refuses(errno.EOPNOTSUPP, w.setxattr, 1, name, b"v")
    refuses(errno.ENOENT, w.setxattr, 99, b"user.x", b"v")
    assert w.listxattr(1) == [b"user." + b"n" * 250]
    volume.check()


def test_times(volume: Driven) -> None:
    w = volume.workspace
    ino = volume.create(b"f", b"x")
    before = w.getattr(ino).ctime
    w.setattr(ino, AttrChange(mtime=-5, atime=7), ME)
    inode = w.getattr(ino)
    assert (inode.mtime, inode.atime) == (-5, 7)
    assert inode.ctime >= before
    w.read(ino, 0, 1)
    assert w.getattr(ino).atime > 7, "relatime: the first read after a change"
    noted = w.getattr(ino).atime
    w.read(ino, 0, 1)
    assert w.getattr(ino).atime == noted
    parent = w.getattr(1).mtime
    w.write(ino, 0, b"y")
    assert w.getattr(1).mtime == parent
    assert w.getattr(ino).mtime > 0


def test_a_read_only_workspace_refuses_every_change(volume: Driven) -> None:
    ino = volume.create(b"f", b"content")
    other = volume.at(str(volume.commit().locator))
    w = other.workspace
    for verb, args in (
        (w.mknod, (1, b"x", 0o644, 0, ME)), (w.mkdir, (1, b"x", 0o755, ME)), (w.symlink, (1, b"x", b"t", ME)),
        (w.link, (ino, 1, b"x")), (w.unlink, (1, b"f")), (w.rmdir, (1, b"f")), (w.rename, (1, b"f", 1, b"g", 0)),
        (w.write, (ino, 0, b"x")), (w.setattr, (ino, AttrChange(size=0), ME)), (w.open, (ino, os.O_WRONLY)),
        (w.open, (ino, os.O_RDONLY | os.O_TRUNC)), (w.setxattr, (1, b"user.x", b"")), (w.removexattr, (1, b"user.x")),
    ):  # fmt: skip
        refuses(errno.EROFS, verb, *args)
    w.open(ino, os.O_RDONLY)
    assert other.read(ino) == b"content"
    w.release(ino, os.O_RDONLY)
    w.remember(ino)
    w.forget(ino, 1)
    w.housekeep()
    assert w.begin_sync() == []
    assert not w.dirty
    with pytest.raises(RuntimeError):
        other.commit()
    other.close()


def test_a_page_of_a_directory_begins_after_the_last_name(volume: Driven) -> None:
    names = sorted(os.urandom(8).hex().encode() for _ in range(50))
    for name in reversed(names):
        volume.create(name)
    found: list[bytes] = []
    while page := volume.workspace.readdir(1, found[-1] if found else None, 7):
        volume.workspace.unlink(1, page[0][0])  # what is removed meanwhile moves nothing
        found += [name for name, _ in page]
    assert found == names


def test_memory_for_windows_is_bounded_also_while_only_reading(volume: Driven, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_KEEP", 10)
    ino = volume.create(b"f", b"x")
    volume.workspace.setattr(ino, AttrChange(size=1 << 40), ME)
    other = volume.at(str(volume.commit().locator))
    for i in range(100):
        assert other.read(ino, i * 4 * MB, 10) == (b"x" if i == 0 else b"\0") + bytes(9)
    table: Any = other.workspace.index.windows
    assert sum(map(len, table._files.values())) <= 12
    other.close()


def test_statfs_counts_what_is_there(volume: Driven) -> None:
    before = volume.workspace.statfs()
    volume.create(b"f", bytes(MB))
    after = volume.workspace.statfs()
    assert before.free - after.free == MB // after.block_size
    assert after.files - after.free_files == before.files - before.free_files + 1


@pytest.mark.parametrize("size", [4 * MB - 1, 4 * MB, 4 * MB + 1, 9 * MB])
def test_writes_and_reads_over_window_borders(volume: Driven, size: int) -> None:
    """With the real window of 4 MiB, staged, sealed, and read back by somebody else with a cache of 1 MiB."""
    content = os.urandom(size)
    ino = volume.create(b"f", content)
    volume.workspace.write(ino, 4 * MB - 5, b"0123456789")
    expected = content[: 4 * MB - 5] + b"0123456789" + content[4 * MB + 5 :]
    assert volume.read(ino) == expected
    record = volume.commit()
    volume.check(record)
    assert volume.read(ino) == expected
    other = volume.at(str(record.locator), cache_dir=str(volume.directory / "small"), cache_size=MB)
    assert other.read(ino) == expected
    parts = [other.read(ino, at, 100_000) for at in range(0, len(expected), 100_000)]
    assert b"".join(parts) == expected
    other.close()
