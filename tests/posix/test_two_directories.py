"""A mounted volume and a directory of the local disk, driven in step by hypothesis: every call has the same result.

Results and errnos are compared after each step; names, attributes, content and which names are one file at the end, and
whenever the volume has been committed, forked, remounted or killed. Content is also read again through each open file.

``HYPOTHESIS_PROFILE=long`` looks for hours where the default looks for seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import mmap
import os
import random
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from flyteplugins_vol.errors import VolumeBusyError
from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from tests.posix.conftest import AN_ORDINARY_USER, DRIVERS, driven_by
from tests.posix.pair import (
    EXPLICIT,
    MIB,
    Described,
    Failed,
    Pair,
    Side,
    acting_as,
    attributes,
    below,
    content,
    describe,
    fallocate,
    renameat2,
    same,
)

pytestmark = [pytest.mark.fuse, pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")]

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
PROFILE = settings(
    max_examples=2000 if LONG else 12,
    stateful_step_count=100 if LONG else 50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    # making a failure small takes minutes of mounts and kills: only where there is time
    phases=tuple(Phase) if LONG else (Phase.explicit, Phase.reuse, Phase.generate),
    print_blob=True,
)
USER = AN_ORDINARY_USER
GROUP = 4242
MOST_OPEN = 8

# Options of the mount, and whether ordinary users act as well as root: without `allow_other` only root may come in.
KINDS: dict[str, tuple[dict[str, Any], bool]] = {
    "of one's own": ({}, False),
    "of everybody's": ({"allow_other": True, "xattr": True}, True),
    "without writeback": ({"writeback": False, "allow_other": True}, True),
    "with nothing cached": ({"attr_cache": 0.0, "entry_cache": 0.0, "dir_entry_cache": 0.0, "xattr": True}, False),
}


class World:
    """One volume and one local directory, for many examples: each has a directory of its own in both."""

    def __init__(self, driver: str, options: dict[str, Any], *, is_for_all: bool) -> None:
        self.driver = driver
        self.options = options
        self.is_for_all = is_for_all
        self.base = Path(tempfile.mkdtemp(prefix="flytevol-pair-"))
        self.base.chmod(0o755)
        (self.base / "local").mkdir()
        self._numbers = itertools.count(1)
        self.volume: RWVolume = Volume.new("pair", f"file://{self.base}/store")
        self.root = self.mount(self.volume, "mnt", **options)

    def mount(self, volume: Volume, where: str, **options: Any) -> Path:
        """Mount it; its daemon may have been killed a moment ago."""
        places: dict[str, Any] = {"cache_dir": self.base / "cache"}
        if isinstance(volume, RWVolume):
            places["meta_dir"] = self.base / f"{where}-meta"
            places["passthrough"] = self.driver == "passthrough"
        else:
            options.pop("writeback", None)
        deadline = time.monotonic() + 30
        while True:
            try:
                with driven_by(self.driver):
                    return volume.mount.sync(self.base / where, **places, **options)
            except VolumeBusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def new_pair(self) -> Pair:
        if self.volume.mount_path is None:
            self.root = self.mount(self.volume, "mnt", **self.options)
        name = f"case-{next(self._numbers)}"
        sides = [Side(bytes(place / name)) for place in (self.root, self.base / "local")]
        for side in sides:
            os.mkdir(side.root)
            os.chmod(side.root, 0o777)
        return Pair(*sides)

    def end(self) -> None:
        if self.volume.mount_path is not None:
            self.volume.abandon.sync()
        shutil.rmtree(self.base)


# --- what is drawn -------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([b"a", b"b", b"c", b"d", b"\xff\n", b"n" * 255])
# How it is chosen, and what of: most are of something that is there, or beside it. See `path`.
PLACES = st.tuples(st.integers(0, 9), st.integers(0, 1 << 20), NAMES)
ODD = [b"n" * 256, b"a/.", b"a/..", b".", b"a/", b"b/../a", b"a//b", b"nothing/at/all"]
PICK = st.integers(0, 1 << 20)
WHO = st.sampled_from([0, 0, 0, USER])
MODES = st.sampled_from([0o644, 0o600, 0o755, 0o777, 0, 0o2755, 0o4711, 0o1777, 0o2777, 0o444, 0o6777])
NEAR = st.one_of(st.integers(0, 20_000), st.sampled_from([0, 1, 4095, 4096, 4097, 8192, 16384]))
FAR = st.builds(lambda n, d: n * 4 * MIB + d, st.integers(1, 3), st.sampled_from([-9000, -4096, -1, 0, 1, 4096]))
OFFSETS = st.one_of(NEAR, NEAR, NEAR, FAR)
SIZES = st.one_of(st.integers(0, 100), st.sampled_from([1, 512, 4096, 10_000, 70_000]))
TARGETS = st.one_of(
    st.sampled_from([b"a", b"b", b"../a", b"b/c", b".", b"a/"]),
    st.builds(bytes.zfill, st.just(b""), st.sampled_from([0, 4095, 4096])),
)
TIMES = st.sampled_from([0, 1, -5, 10**9 + 1, 10**18 + 123_456_789, EXPLICIT - 1])
XATTRS = st.sampled_from(["user.a", "user.b", "user." + "n" * 250, "user.", "trusted"])
SEED = st.integers(0, 1 << 30)
RARELY = st.integers(0, 7)

_WAYS = [os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR]
_MORE = [0, 0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_CREAT | os.O_TRUNC]
_ODD = [0, 0, 0, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY, os.O_DIRECT, os.O_SYNC]
FLAGS = st.builds(lambda *parts: parts[0] | parts[1] | parts[2], *map(st.sampled_from, (_WAYS, _MORE, _ODD)))


Place = tuple[int, int, bytes]


def some_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Machine(RuleBasedStateMachine):
    world: ClassVar[World]

    @initialize()
    def begin(self) -> None:
        self.pair = self.world.new_pair()
        self.direct: set[int] = set()
        self.numbers = itertools.count(1)
        self.versions: list[tuple[ROVolume, Described]] = []
        os.umask(0o022)
        self.furnish()

    def furnish(self) -> None:
        """Something to begin with: an empty tree has little to get wrong."""
        for name in (b"a", b"b", b"a/c"):
            self.pair.both(lambda side, name=name: os.mkdir(side.path(name)))
        for seed, name in enumerate([b"c", b"a/a", b"a/c/b", b"b/d"]):
            self.pair.both(lambda side, name=name, seed=seed: _write(side.path(name), some_bytes(seed, seed * 7000)))
        self.pair.both(lambda side: os.link(side.path(b"c"), side.path(b"b/c")))
        self.pair.both(lambda side: os.symlink(b"a", side.path(b"d")))
        for name in (b"c", b"a/c/b"):
            self.open_path(name, os.O_RDWR)

    def path(self, at: Place) -> bytes:
        """Something that is there; a name in a directory that is there; or an odd path."""
        kind, pick, name = at
        if kind == 9:
            return ODD[pick % len(ODD)]
        there = list(below(self.pair.local.root))
        if kind < 5 and len(there) > 1:
            return there[1 + pick % (len(there) - 1)][0]
        directories = [path for path, is_dir in there if is_dir]
        return os.path.join(directories[pick % len(directories)], name)

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        try:
            if self.world.volume.mount_path is not None:
                self.compare()
        finally:
            self.pair.close()
            for side in (self.pair.volume, self.pair.local):
                with contextlib.suppress(OSError):
                    for path, is_dir in below(side.root):
                        if is_dir:
                            os.chmod(side.path(path), 0o700)
                    shutil.rmtree(side.root)

    def act(self, who: int, do: Callable[[Side], Any]) -> Any:
        if not self.world.is_for_all:
            who = os.geteuid()
        with acting_as(who, who, [GROUP] if who else []):
            return self.pair.both(do)

    # -- names -----------------------------------------------------------------------------------------------------

    @rule(at=PLACES, flags=FLAGS, mode=MODES, who=WHO)
    def open(self, at: Place, flags: int, mode: int, who: int) -> None:
        path = self.path(at)
        if not self.is_device(path) and len(self.pair.local.fds) < MOST_OPEN:
            self.open_path(path, flags, mode, who)

    def open_path(self, path: bytes, flags: int, mode: int = 0, who: int = 0) -> None:
        number = next(self.numbers)

        def do(side: Side) -> None:
            side.fds[number] = os.open(side.path(path), flags | os.O_NONBLOCK, mode)

        self.act(who, do)
        if number in self.pair.local.fds and flags & os.O_DIRECT:
            self.direct.add(number)

    @rule(at=PLACES, mode=MODES, who=WHO)
    def mkdir(self, at: Place, mode: int, who: int) -> None:
        path = self.path(at)
        self.act(who, lambda side: os.mkdir(side.path(path), mode))

    @rule(
        at=PLACES, mode=MODES, who=WHO, kind=st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFREG])
    )
    def mknod(self, at: Place, mode: int, who: int, kind: int) -> None:
        path = self.path(at)
        self.act(who, lambda side: os.mknod(side.path(path), kind | mode, os.makedev(240, 70_000)))

    @rule(at=PLACES, leads_to=TARGETS, who=WHO)
    def symlink(self, at: Place, leads_to: bytes, who: int) -> None:
        path = self.path(at)
        self.act(who, lambda side: os.symlink(leads_to, side.path(path)))

    @rule(old=PLACES, new=PLACES, who=WHO, follow=st.booleans())
    def link(self, old: Place, new: Place, who: int, follow: bool) -> None:
        source, target = self.path(old), self.path(new)
        self.act(who, lambda side: os.link(side.path(source), side.path(target), follow_symlinks=follow))

    @rule(at=PLACES, who=WHO)
    def unlink(self, at: Place, who: int) -> None:
        path = self.path(at)
        self.act(who, lambda side: os.unlink(side.path(path)))

    @rule(at=PLACES, who=WHO)
    def rmdir(self, at: Place, who: int) -> None:
        path = self.path(at)
        self.act(who, lambda side: os.rmdir(side.path(path)))

    @rule(old=PLACES, new=PLACES, flags=st.sampled_from([0, 0, 0, 1, 2, 3]), who=WHO)
    def rename(self, old: Place, new: Place, flags: int, who: int) -> None:
        source, target = self.path(old), self.path(new)
        self.act(who, lambda side: renameat2(side.path(source), side.path(target), flags))

    # -- attributes ------------------------------------------------------------------------------------------------

    @rule(at=PLACES, who=WHO, follow=st.booleans())
    def look(self, at: Place, who: int, follow: bool) -> None:
        path = self.path(at)
        self.act(who, lambda side: attributes(os.stat(side.path(path), follow_symlinks=follow)))
        for mode in (os.R_OK, os.W_OK, os.X_OK):
            self.act(who, lambda side, mode=mode: os.access(side.path(path), mode, effective_ids=True))

    @rule(at=PLACES, mode=MODES, who=WHO)
    def chmod(self, at: Place, mode: int, who: int) -> None:
        path = self.path(at)
        self.act(who, lambda side: os.chmod(side.path(path), mode))

    @rule(
        at=PLACES, uid=st.sampled_from([-1, 0, USER, 2**31]), gid=st.sampled_from([-1, 0, USER, GROUP]), who=WHO,
        follow=st.booleans(),
    )  # fmt: skip
    def chown(self, at: Place, uid: int, gid: int, who: int, follow: bool) -> None:
        path = self.path(at)
        self.act(who, lambda side: os.chown(side.path(path), uid, gid, follow_symlinks=follow))

    @rule(at=PLACES, atime=TIMES, mtime=TIMES, who=WHO, follow=st.booleans())
    def utime(self, at: Place, atime: int, mtime: int, who: int, follow: bool) -> None:
        path = self.path(at)
        self.flush_maps()

        def do(side: Side) -> tuple[int, int]:
            os.utime(side.path(path), ns=(atime, mtime), follow_symlinks=follow)
            now = os.stat(side.path(path), follow_symlinks=follow)
            return now.st_atime_ns, now.st_mtime_ns

        self.act(who, do)

    @rule()
    def make_all_old(self) -> None:
        """So that what moves an mtime is seen, and what does not."""
        self.flush_maps()
        for side in (self.pair.volume, self.pair.local):
            for path in describe(side.root, xattrs=False):
                with contextlib.suppress(PermissionError):
                    os.utime(side.path(path), ns=(10**18, 10**18), follow_symlinks=False)

    @rule(at=PLACES)
    def readlink(self, at: Place) -> None:
        path = self.path(at)
        self.act(0, lambda side: os.readlink(side.path(path)))

    @rule(at=PLACES, who=WHO)
    def listdir(self, at: Place, who: int) -> None:
        path = self.path(at)
        self.act(who, lambda side: sorted(os.listdir(side.path(path))))

    @precondition(lambda self: self.world.options.get("xattr"))
    @rule(
        at=PLACES, name=XATTRS, size=st.sampled_from([0, 1, 100]), flags=st.integers(0, 2), who=WHO,
        what=st.sampled_from(["set", "get", "list", "remove"]),
    )  # fmt: skip
    def xattr(self, at: Place, name: str, size: int, flags: int, who: int, what: str) -> None:
        path = self.path(at)
        acts: dict[str, Callable[[bytes], Any]] = {
            "set": lambda full: os.setxattr(full, name, bytes(size), flags),
            "get": lambda full: os.getxattr(full, name),
            "list": lambda full: sorted(name for name in os.listxattr(full) if name.startswith("user.")),
            "remove": lambda full: os.removexattr(full, name),
        }
        self.act(who, lambda side: acts[what](side.path(path)))

    # -- content ---------------------------------------------------------------------------------------------------

    @rule(what=PICK)
    def close(self, what: int) -> None:
        number = self.one_of(self.pair.local.fds, what)
        self.direct.discard(number)
        self.pair.both(lambda side: os.close(side.fds.pop(number)) if number else None)

    @rule(what=PICK, offset=OFFSETS, size=SIZES, seed=SEED, who=WHO)
    def pwrite(self, what: int, offset: int, size: int, seed: int, who: int) -> None:
        number = self.one_of(self.pair.local.fds, what)
        if not number:
            return
        if number in self.direct:
            self.write_directly(number, offset // 4096 * 4096, seed)
        else:
            data = some_bytes(seed, size)
            self.act(who, lambda side: os.pwrite(side.fds[number], data, offset))

    def write_directly(self, number: int, offset: int, seed: int) -> None:
        """ext4 wants memory, offset and size in whole blocks."""
        buffer = mmap.mmap(-1, 8192)
        buffer[:] = some_bytes(seed, 8192)
        self.act(0, lambda side: os.pwritev(side.fds[number], [buffer], offset))

    @rule(what=PICK, offset=OFFSETS, size=SIZES)
    def pread(self, what: int, offset: int, size: int) -> None:
        number = self.one_of(self.pair.local.fds, what)
        if not number:
            return
        if number not in self.direct:
            self.pair.both(lambda side: os.pread(side.fds[number], size, offset))
            return

        def directly(side: Side) -> bytes:
            buffer = mmap.mmap(-1, 8192)
            return buffer[: os.preadv(side.fds[number], [buffer], offset // 4096 * 4096)]

        self.pair.both(directly)

    @rule(what=PICK, size=SIZES, seed=SEED, reads=st.booleans(), times=st.integers(1, 4))
    def go_on(self, what: int, size: int, seed: int, reads: bool, times: int) -> None:
        """Read or write where the last one ended; with O_APPEND, where the file ends."""
        number = self.one_of(self.pair.local.fds, what)
        if not number or number in self.direct or not self.is_file(number):
            return
        data = some_bytes(seed, size)
        for _ in range(times):
            self.pair.both(lambda side: os.read(side.fds[number], size) if reads else os.write(side.fds[number], data))
            self.pair.both(lambda side: os.lseek(side.fds[number], 0, os.SEEK_CUR))

    @rule(
        what=PICK, offset=st.one_of(OFFSETS, st.just(-1)), how=st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])
    )
    def seek(self, what: int, offset: int, how: int) -> None:
        number = self.one_of(self.pair.local.fds, what)
        if number and self.is_file(number):
            self.pair.both(lambda side: os.lseek(side.fds[number], offset, how))

    @rule(what=PICK, size=st.one_of(OFFSETS, st.sampled_from([-1, 1 << 40])))
    def ftruncate(self, what: int, size: int) -> None:
        number = self.one_of(self.pair.local.fds, what)
        if number:
            self.pair.both(lambda side: os.ftruncate(side.fds[number], size))

    @rule(at=PLACES, size=st.one_of(OFFSETS, st.sampled_from([-1, 1 << 40])), who=WHO)
    def truncate(self, at: Place, size: int, who: int) -> None:
        """To another size: ext4 moves mtime if it is the same, a kernel that owns a volume's times does not."""
        path = self.path(at)
        with contextlib.suppress(OSError):
            size += size == os.stat(self.pair.local.path(path)).st_size
        self.act(who, lambda side: os.truncate(side.path(path), size))

    @rule(what=PICK)
    def fstat(self, what: int) -> None:
        number = self.one_of(self.pair.local.fds, what)
        if number:
            self.pair.both(lambda side: attributes(os.fstat(side.fds[number])))

    @rule(what=PICK, only_data=st.booleans())
    def fsync(self, what: int, only_data: bool) -> None:
        number = self.one_of(self.pair.local.fds, what)
        if number:
            self.pair.both(lambda side: (os.fdatasync if only_data else os.fsync)(side.fds[number]))

    @rule(a=PICK, b=PICK, source=NEAR, into=OFFSETS, size=SIZES, whole=st.booleans())
    def copy(self, a: int, b: int, source: int, into: int, size: int, whole: bool) -> None:
        """copy_file_range, or sendfile to where the other one stands."""
        one, two = self.one_of(self.pair.local.fds, a), self.one_of(self.pair.local.fds, b)
        if not one or not self.is_file(one) or not self.is_file(two) or {one, two} & self.direct:
            return
        if whole:
            self.pair.both(lambda side: os.sendfile(side.fds[two], side.fds[one], source, size))
        else:
            self.pair.both(lambda side: os.copy_file_range(side.fds[one], side.fds[two], size, source, into))

    @rule(
        what=PICK, mode=st.sampled_from([0, 1, 2, 3, 8, 16, 17, 32]), offset=OFFSETS, size=SIZES, blocks=st.booleans()
    )
    def fallocate(self, what: int, mode: int, offset: int, size: int, blocks: bool) -> None:
        number = self.one_of(self.pair.local.fds, what)
        if (
            number and self.is_file(number) and self.world.driver == "wire"
        ):  # the kernel moves mtime before it is refused
            if blocks:
                offset, size = offset // 4096 * 4096, -(-size // 4096) * 4096
            self.pair.if_offered(lambda side: fallocate(side.fds[number], mode, offset, size))

    @rule(what=PICK)
    def find_holes(self, what: int) -> None:
        """Where the holes are is each file system's own business; that they are zeros is not."""
        number = self.one_of(self.pair.local.fds, what)
        if not number or not self.is_file(number) or number in self.direct:
            return
        fd = self.pair.volume.fds[number]
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY or os.fstat(fd).st_size > 16 * MIB:
            return
        before = os.lseek(fd, 0, os.SEEK_CUR)
        at = 0
        while at < os.fstat(fd).st_size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                assert Failed("ENXIO") == Failed(_name(error))
                data = os.fstat(fd).st_size
            assert data >= at
            assert not os.pread(fd, data - at, at).strip(b"\0"), "a hole with something in it"
            at = data if data == os.fstat(fd).st_size else os.lseek(fd, data, os.SEEK_HOLE)
            assert at > data or at == os.fstat(fd).st_size
        os.lseek(fd, before, os.SEEK_SET)

    @rule(what=PICK, how=st.sampled_from([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN]))
    def flock(self, what: int, how: int) -> None:
        number = self.one_of(self.pair.local.fds, what)
        if number:
            self.pair.both(lambda side: fcntl.flock(side.fds[number], how | fcntl.LOCK_NB))

    # -- mappings --------------------------------------------------------------------------------------------------

    @rule(what=PICK, shared=st.booleans())
    def map(self, what: int, shared: bool) -> None:
        number = self.one_of(self.pair.local.fds, what)
        if not number or number in self.direct or not self.is_file(number) or len(self.pair.local.maps) >= 3:
            return
        size = min(os.fstat(self.pair.local.fds[number]).st_size, 64 << 10)
        if size == 0:
            return
        key = next(self.numbers)
        flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE

        def do(side: Side) -> None:
            side.maps[key] = mmap.mmap(side.fds[number], size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)

        self.pair.both(do)

    @rule(what=PICK, offset=NEAR, size=st.integers(1, 9000), seed=SEED, flush=st.booleans(), reads=st.booleans())
    def use_map(self, what: int, offset: int, size: int, seed: int, flush: bool, reads: bool) -> None:
        key = self.one_of(self.pair.local.maps, what)
        if not key:
            return
        sizes = {mapping[key].size() for mapping in (self.pair.volume.maps, self.pair.local.maps)}
        assert len(sizes) == 1, f"mapped files of {sizes} bytes"
        end = min(*sizes, len(self.pair.local.maps[key]), offset + size)  # beyond the end of the file waits SIGBUS
        if end <= offset:
            return
        data = some_bytes(seed, end - offset)

        def do(side: Side) -> bytes:
            if not reads:
                side.maps[key][offset:end] = data
                if flush or not self.world.options.get("writeback", True):  # there, mtime moves with the flush
                    side.maps[key].flush()
            return side.maps[key][offset:end]

        self.pair.both(do)

    @rule(what=PICK)
    def unmap(self, what: int) -> None:
        key = self.one_of(self.pair.local.maps, what)
        if key:
            self.pair.both(lambda side: side.maps.pop(key).close())

    def flush_maps(self) -> None:
        """Only the first store into a clean page moves mtime, and when pages are cleaned is nobody's promise."""
        for key in self.pair.local.maps:
            self.pair.both(lambda side, key=key: side.maps[key].flush())

    # -- versions --------------------------------------------------------------------------------------------------

    @rule(rarely=RARELY)
    def commit(self, rarely: int) -> None:
        if rarely == 3:
            version = self.world.volume.commit.sync()
            self.versions.append((version, self.compare()))

    @precondition(lambda self: self.versions)
    @rule(rarely=RARELY, which=PICK, fork=st.booleans())
    def look_at_a_version(self, rarely: int, which: int, fork: bool) -> None:
        """An earlier version is what the local directory was; a fork of it can be changed, and nothing else changes."""
        if rarely != 3:
            return
        version, expected = self.versions[which % len(self.versions)]
        volume = version.fork.sync("fork") if fork else version
        options = {**self.world.options, "allow_other": False}
        if not fork:
            options.pop("writeback", None)
        root = self.world.mount(volume, f"other-{next(self.numbers)}", **options)
        try:
            place = os.path.join(bytes(root), os.path.basename(self.pair.volume.root))
            same(describe(place, xattrs=self.xattrs), expected)
            if fork:
                shutil.rmtree(place)
        finally:
            volume.abandon.sync()
        self.compare()

    @rule(rarely=RARELY, killed=st.booleans())
    def remount(self, rarely: int, killed: bool) -> None:
        """As a version that somebody else mounts, or as what a killed daemon left after an fsync."""
        if rarely != 3:
            return
        world = self.world
        self.flush_maps()
        before = self.compare()
        self.pair.close()
        self.direct.clear()
        if killed:
            _fsync(world.root)
            os.kill(world.volume.status()["pid"], signal.SIGKILL)
            while world.volume.mount_path is not None:
                time.sleep(0.01)
        else:
            self.versions.clear()
            version = world.volume.finalize.sync()
            world.volume = version.fork.sync("pair")
        world.root = world.mount(world.volume, "mnt", **world.options)
        same(describe(self.pair.volume.root, xattrs=self.xattrs), before)

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def xattrs(self) -> bool:
        return bool(self.world.options.get("xattr"))

    def compare(self) -> Described:
        """All of both; what is open, too."""
        for number in self.pair.local.fds:
            self.pair.both(lambda side, number=number: attributes(os.fstat(side.fds[number])))
            if number not in self.direct and self.is_file(number):
                size = os.fstat(self.pair.local.fds[number]).st_size
                self.pair.both(lambda side, number=number, size=size: content(side.fds[number], size))
        ours, theirs = (describe(side.root, xattrs=self.xattrs) for side in (self.pair.volume, self.pair.local))
        same(ours, theirs)
        return theirs

    def is_file(self, number: int) -> bool:
        return stat.S_ISREG(os.fstat(self.pair.local.fds[number]).st_mode)

    def is_device(self, path: bytes) -> bool:
        """A device cannot be opened on a volume: mounts are nodev."""
        try:
            return stat.S_ISCHR(os.stat(self.pair.local.path(path)).st_mode)
        except OSError:
            return False

    @staticmethod
    def one_of(open_: dict[int, Any], pick: int) -> int:
        """A number, or 0."""
        return sorted(open_)[pick % len(open_)] if open_ else 0


def _write(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _name(error: OSError) -> str:
    import errno

    return errno.errorcode[error.errno or 0]


def _fsync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    driver, kind = request.param
    options, is_for_all = KINDS[kind]
    if is_for_all and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    umask = os.umask(0o022)
    world = World(driver, options, is_for_all=is_for_all)
    try:
        yield world
    finally:
        world.end()
        os.umask(umask)


@pytest.mark.slow
@pytest.mark.timeout(0 if LONG else 120)
@pytest.mark.parametrize(
    "world", list(itertools.product(DRIVERS if LONG else DRIVERS[:1], KINDS)), indirect=True, ids=" ".join
)
def test_a_volume_is_as_a_local_directory(world: World) -> None:
    machine = type("TwoDirectories", (Machine,), {"world": world})
    run_state_machine_as_test(machine, settings=PROFILE)
