"""The real workspace in step with the model: every verb, seals that are half done, failing stores, kills, old versions.

The limits of the engine (window, pack, log file, caches) are made small, so that a few kilobytes cross all of them.
``HYPOTHESIS_PROFILE=long`` looks for hours where the default looks for seconds.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.history import segments
from flyteplugins_vol.index import blocks, inodes, windows
from flyteplugins_vol.model import ROOT_INO, AttrChange, Inode
from flyteplugins_vol.store.container import block_hash
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.workspace import data, sealing, staging, workspace
from flyteplugins_vol.workspace.sealing import SealJob, read_pieces
from tests.driven import ME, Driven
from tests.workspace.model import Model, Node

KB = 1024
WINDOW = 16 * KB
LIMITS: list[tuple[Any, str, int]] = [
    (data, "BLOCK_SIZE", WINDOW),
    (windows, "BLOCK_SIZE", WINDOW),
    (data, "PACK_TARGET", 4 * WINDOW),
    (sealing, "PACK_TARGET", 4 * WINDOW),
    (data, "PACK_BLOCKS", 6),
    (data, "_LINE", 4 * KB),
    (staging, "SEGMENT", 64 * KB),
    (sealing, "SEGMENT", 64 * KB),
    (segments, "_MAX_OBJECTS", 4),
    (segments, "_FOLD", 2),
    (workspace, "_DIRTY_LIMIT", 12),
    (inodes, "_KEEP", 4),
    (windows, "_KEEP", 4),
    (blocks, "_KEEP", 4),
]

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
PROFILE = settings(
    max_examples=3000 if LONG else 60,
    stateful_step_count=80 if LONG else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    # making a failure small takes minutes of commits and kills: only where there is time
    phases=tuple(Phase) if LONG else (Phase.explicit, Phase.reuse, Phase.generate),
    print_blob=True,
)

NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff\n", b"n" * 255])
ANY_NAME = st.one_of(NAMES, st.just(b"n" * 256))
PICK = st.integers(0, 1 << 20)
OFFSETS = st.one_of(
    st.integers(0, 5 * WINDOW),
    st.builds(lambda n, d: max(0, n * WINDOW + d), st.integers(0, 4), st.integers(-2, 2)),
)
SIZES = st.one_of(st.integers(0, 40), st.integers(0, 2 * WINDOW + 2), st.just(WINDOW))
XATTRS = st.sampled_from([b"user.a", b"user.b"])
BUSY = st.integers(0, 1 << 32)  # what happens just before: see `busy`


@dataclass(eq=False)
class Sealing:
    """A seal that is half done."""

    job: SealJob
    plains: list[bytes] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    fresh: list[int] = field(default_factory=list)


class WorkspaceMachine(RuleBasedStateMachine):
    # What is drawn never depends on what came of it (no bundles, no preconditions): uploads run in threads, so which of
    # them meets a failing store is chance, and Hypothesis wants a second run to draw what the first one drew.

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="model-"))
        self.store = Faulty(MemoryStore(f"memory://{uuid4().hex}"))
        self.driven = Driven.new(self.directory, self.store, window=WINDOW, cache_size=1 << 30)
        root = self.ws.getattr(ROOT_INO)
        self.model = Model(Node(ROOT_INO, root.mode, root.uid, root.gid, parent=ROOT_INO))
        self.watch_commits()
        self.snapshots: dict[str, Model] = {}
        self.last: str | None = None
        self.jobs: list[Sealing] = []

    def teardown(self) -> None:
        if hasattr(self, "driven"):
            self.driven.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def ws(self) -> workspace.Workspace:
        return self.driven.workspace

    # -- names -----------------------------------------------------------------------------------------------------

    @rule(where=PICK, name=ANY_NAME, kind=st.sampled_from(["file", "file", "file", "fifo"]))
    def mknod(self, where: int, name: bytes, kind: str) -> None:
        mode = 0o666 | (stat.S_IFREG if kind == "file" else stat.S_IFIFO)
        parent = self.directory_at(where)
        self.make(parent, name, lambda: self.ws.mknod(parent, name, mode, 7, ME), mode & ~ME.umask, rdev=7)

    @rule(where=PICK, name=NAMES)
    def mkdir(self, where: int, name: bytes) -> None:
        parent = self.directory_at(where)
        self.make(parent, name, lambda: self.ws.mkdir(parent, name, 0o777, ME), stat.S_IFDIR | 0o755)

    @rule(where=PICK, name=NAMES, content=st.sampled_from([b"a", b"../b", b"t" * 4095]))
    def symlink(self, where: int, name: bytes, content: bytes) -> None:
        parent = self.directory_at(where)
        made = lambda: self.ws.symlink(parent, name, content, ME)  # noqa: E731
        self.make(parent, name, made, stat.S_IFLNK | 0o777, target=content)

    def make(self, parent: int, name: bytes, real: Callable[[], Inode], mode: int, **more: Any) -> None:
        inode = self.both(lambda: self.model.check_new(parent, name), real)
        if inode is not None:
            self.model.add(parent, name, Node(inode.ino, mode, ME.uid, ME.gid, **more))

    @rule(where=PICK, content=st.sampled_from([None, None, b"t"]))
    def make_unnamed(self, where: int, content: bytes | None) -> None:
        parent = self.directory_at(where)
        inode = self.both(
            lambda: self.model.check_living(parent), lambda: self.ws.make_unnamed(parent, 0o666, ME, content)
        )
        if inode is not None:
            mode = stat.S_IFLNK | 0o777 if content is not None else stat.S_IFREG | (0o666 & ~ME.umask)
            self.model.add_unnamed(parent, Node(inode.ino, mode, ME.uid, ME.gid, target=content))

    @rule(what=PICK, where=PICK, name=ANY_NAME, replace=st.booleans(), anything=st.booleans())
    def give_name(self, what: int, where: int, name: bytes, replace: bool, anything: bool) -> None:
        nameless = self.one_of(what, lambda node: not self.model.nlink(node.ino))
        ino, parent = self.node_at(what) if anything or nameless is None else nameless, self.directory_at(where)
        self.both(
            lambda: self.model.give_name(ino, parent, name, replace),
            lambda: self.ws.give_name(ino, parent, name, replace),
        )

    @rule(what=PICK, where=PICK, name=ANY_NAME)
    def link(self, what: int, where: int, name: bytes) -> None:
        ino, parent = self.node_at(what), self.directory_at(where)
        self.both(lambda: self.model.link(ino, parent, name), lambda: self.ws.link(ino, parent, name))

    @rule(where=PICK, name=NAMES)
    def unlink(self, where: int, name: bytes) -> None:
        parent = self.directory_at(where)
        self.both(lambda: self.model.unlink(parent, name), lambda: self.ws.unlink(parent, name))

    @rule(where=PICK, name=NAMES)
    def rmdir(self, where: int, name: bytes) -> None:
        parent = self.directory_at(where)
        self.both(lambda: self.model.rmdir(parent, name), lambda: self.ws.rmdir(parent, name))

    @rule(where=PICK, name=NAMES, to=PICK, new=ANY_NAME, flags=st.sampled_from([0, 0, 1, 2, 2, 3, 4]))
    def rename(self, where: int, name: bytes, to: int, new: bytes, flags: int) -> None:
        parent, new_parent = self.directory_at(where), self.directory_at(to)
        self.both(
            lambda: self.model.rename(parent, name, new_parent, new, flags),
            lambda: self.ws.rename(parent, name, new_parent, new, flags),
        )

    @rule(where=PICK, name=st.one_of(ANY_NAME, st.sampled_from([b".", b".."])))
    def lookup(self, where: int, name: bytes) -> None:
        parent = self.directory_at(where)
        if name == b".." and not self.model.nlink(parent):
            return  # its parent may be gone
        expected = self.attempt(lambda: self.model.lookup(parent, name))
        found = self.attempt(lambda: self.ws.lookup(parent, name))
        assert (found.ino if isinstance(found, Inode) else found) == expected

    @rule(where=PICK, page=st.integers(1, 3))
    def readdir(self, where: int, page: int) -> None:
        ino = self.directory_at(where)
        after = b""
        while True:
            expected = self.model.readdir(ino, after, page)
            found = self.ws.readdir(ino, after or None, page)
            assert [(name, inode.ino) for name, inode in found] == expected
            assert all(self.attributes(inode) == self.model_attributes(inode.ino) for _, inode in found)
            if not found:
                return
            after = found[-1][0]

    # -- content ---------------------------------------------------------------------------------------------------

    @rule(what=PICK, offset=OFFSETS, size=SIZES, seed=st.integers(0, 5))
    def write(self, what: int, offset: int, size: int, seed: int) -> None:
        ino = self.file_at(what)
        if ino is not None:
            content = random.Random(seed).randbytes(size)  # few seeds, so that blocks repeat
            assert self.ws.write(ino, offset, content) == size
            self.model.write(ino, offset, content)

    @rule(what=PICK, size=st.one_of(OFFSETS, st.just(0)))
    def truncate(self, what: int, size: int) -> None:
        ino = self.file_at(what)
        if ino is not None:
            self.ws.setattr(ino, AttrChange(size=size), ME)
            self.model.truncate(ino, size)
            if ME.uid:
                self.model.lose_privileges(ino)

    @rule(what=PICK, offset=OFFSETS, size=SIZES)
    def read(self, what: int, offset: int, size: int) -> None:
        ino = self.file_at(what)
        if ino is not None:
            assert self.driven.read(ino, offset, size) == self.model.read(ino, offset, size)

    @rule(
        what=PICK,
        changes=st.fixed_dictionaries(
            {}, optional={"mode": st.sampled_from([0o600, 0o2775, 0o4711]), "uid": st.just(5), "gid": st.just(6),
                          "mtime": st.integers(-(10**12), 10**18), "ctime": st.integers(0, 10**18)},
        ),
    )  # fmt: skip
    def setattr(self, what: int, changes: dict[str, int]) -> None:
        ino = self.node_at(what)
        self.ws.setattr(ino, AttrChange(**changes), ME)
        self.model.set_attributes(ino, changes)

    @rule(what=PICK, name=XATTRS, value=st.binary(max_size=3), flags=st.sampled_from([0, 0, 1, 2]))
    def setxattr(self, what: int, name: bytes, value: bytes, flags: int) -> None:
        ino = self.node_at(what)
        set_ = lambda: self.ws.setxattr(ino, name, value, flags)  # noqa: E731
        self.both(lambda: self.model.set_xattr(ino, name, value, flags), set_)
        self.model.nodes[ino].times.pop("ctime", None)

    @rule(what=PICK, name=XATTRS)
    def removexattr(self, what: int, name: bytes) -> None:
        ino = self.node_at(what)
        self.both(lambda: self.model.remove_xattr(ino, name), lambda: self.ws.removexattr(ino, name))
        self.model.nodes[ino].times.pop("ctime", None)

    # -- use -------------------------------------------------------------------------------------------------------

    @rule(what=PICK, flags=st.sampled_from([os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC]))
    def open(self, what: int, flags: int) -> None:
        ino = self.file_at(what)
        if ino is not None:
            self.ws.open(ino, flags)
            self.model.open(ino)
            if flags & os.O_TRUNC:
                self.model.truncate(ino, 0)

    @rule(what=PICK)
    def release(self, what: int) -> None:
        opened = sorted(ino for ino, n in self.model.opens.items() if n)
        if opened:
            ino = opened[what % len(opened)]
            self.ws.release(ino, os.O_RDONLY)
            self.model.release(ino)
            self.check_gone(ino)

    @rule(what=PICK)
    def remember(self, what: int) -> None:
        ino = self.node_at(what)
        self.ws.remember(ino)
        self.model.remember(ino)

    @rule(what=PICK)
    def forget(self, what: int) -> None:
        known = sorted(ino for ino, n in self.model.known.items() if n)
        if known:
            ino = known[what % len(known)]
            n = self.model.known[ino]
            self.ws.forget(ino, n)
            self.model.forget(ino, n)
            self.check_gone(ino)

    def check_gone(self, ino: int) -> None:
        if ino not in self.model.nodes:
            with pytest.raises(OSError, match="No such file"):
                self.ws.getattr(ino)

    # -- many verbs in one step ------------------------------------------------------------------------------------

    def busy(self, seed: int) -> None:
        """Some verbs by chance, so that what a rule is about meets a tree that is worth it; 0 is none."""
        rng = random.Random(seed)
        for _ in range(rng.randrange(16) if seed else 0):
            where, what, name = rng.getrandbits(20), rng.getrandbits(20), rng.choice([b"a", b"b", b"c", b"d"])
            offset, size = rng.randrange(5 * WINDOW), rng.choice([1, 40, 3000, WINDOW, 2 * WINDOW])
            verb = rng.choice(_BUSY)
            if verb == "write":
                self.write(what, rng.choice([0, offset, offset // WINDOW * WINDOW]), size, rng.randrange(6))
            elif verb == "truncate":
                self.truncate(what, rng.choice([0, offset]))
            elif verb == "rename":
                self.rename(where, name, what, rng.choice([b"a", b"b", b"c", b"d"]), rng.choice([0, 0, 1, 2]))
            elif verb == "link":
                self.link(what, where, name)
            elif verb == "make_unnamed":
                self.make_unnamed(where, rng.choice([None, None, b"t"]))
            elif verb == "give_name":
                self.give_name(what, where, name, rng.random() < 0.5, anything=False)
            elif verb == "setxattr":
                self.setxattr(what, b"user.a", b"%d" % size, 0)
            elif verb == "open":
                self.open(what, os.O_RDWR)
            elif verb == "read":
                self.read(what, offset, size)
            elif verb in ("release", "remember", "forget"):
                getattr(self, verb)(what)
            elif verb == "mknod":
                self.mknod(where, name, "file")
            else:
                getattr(self, verb)(where, name)

    # -- sealing, in steps with writes between them ----------------------------------------------------------------

    @rule(everything=st.booleans(), busy=BUSY)
    def begin_seal(self, everything: bool, busy: int) -> None:
        self.busy(busy)
        self.begin_one(everything)

    def begin_one(self, everything: bool) -> Sealing | None:
        job = self.ws.next_seal(everything)
        if job is None:
            return None
        self.jobs.append(Sealing(job))
        return self.jobs[-1]

    @rule(which=PICK, busy=BUSY)
    def hash_pieces(self, which: int, busy: int) -> None:
        self.busy(busy)
        if self.jobs:
            self.hash_one(self.jobs[which % len(self.jobs)])

    def hash_one(self, half: Sealing) -> None:
        if not half.plains:
            half.plains = read_pieces(half.job)
            half.hashes = [block_hash(plain) for plain in half.plains]
            half.fresh = self.ws.settle_known(half.job, half.hashes)

    @rule(which=PICK, fails=st.booleans(), busy=BUSY)
    def end_seal(self, which: int, fails: bool, busy: int) -> None:
        self.busy(busy)
        if self.jobs:
            self.end_one(self.jobs[which % len(self.jobs)], fails)

    def end_one(self, half: Sealing, fails: bool) -> None:
        self.hash_one(half)
        self.jobs.remove(half)
        if fails:
            self.ws.abandon_seal(half.job)
            return
        sealer, sealed = self.driven.session.sealer, None
        if half.fresh:
            sealed = sealer._put(*sealer._pack(half.plains, half.hashes, half.fresh))
        self.ws.settle_pack(half.job, sealed)

    @rule(fails=st.booleans(), busy=BUSY, beside=BUSY, later=BUSY)
    def seal_beside_writers(self, fails: bool, busy: int, beside: int, later: int) -> None:
        """All of a seal, with others at work between any two of its steps."""
        self.busy(busy)
        half = self.begin_one(True)
        if half is not None:
            self.busy(beside)
            self.hash_one(half)
            self.busy(later)
            self.end_one(half, fails)
            self.compare()

    @rule(everything=st.booleans(), busy=BUSY)
    def seal(self, everything: bool, busy: int) -> None:
        self.busy(busy)
        self.driven.seal(everything=everything)

    # -- durability ------------------------------------------------------------------------------------------------

    @rule(busy=BUSY)
    def sync(self, busy: int) -> None:
        self.busy(busy)
        for fd in self.ws.begin_sync():
            os.fdatasync(fd)

    @rule(busy=BUSY)
    def housekeep(self, busy: int) -> None:
        self.busy(busy)
        self.ws.housekeep()

    @rule(busy=BUSY)
    def fsck(self, busy: int) -> None:
        self.busy(busy)
        self.driven.check()

    @rule(busy=BUSY)
    def reopen(self, busy: int) -> None:
        self.busy(busy)
        self.jobs.clear()
        self.driven.reopen()
        self.restarted(self.model)

    @rule(busy=BUSY)
    def kill(self, busy: int) -> None:
        self.busy(busy)
        self.jobs.clear()
        survives = self.synced
        self.driven.kill()
        self.restarted(survives)

    def restarted(self, model: Model) -> None:
        self.model = model.snapshot()
        self.model.restarted()
        self.watch_commits()
        self.compare()

    def watch_commits(self) -> None:
        """What a kill leaves is what the model was when SQLite last committed, whoever asked for that."""
        self.synced = self.model.snapshot()
        database: Any = self.ws.index.db
        for name in ("commit", "checkpoint"):
            setattr(database, name, partial(self.committed, getattr(database, name)))

    def committed(self, commit: Callable[[], None]) -> None:
        commit()
        self.synced = self.model.snapshot()

    # -- versions --------------------------------------------------------------------------------------------------

    @rule(message=st.sampled_from([None, "message"]), busy=BUSY)
    def commit(self, message: str | None, busy: int) -> None:
        self.busy(busy)
        self.end_jobs()
        record = self.driven.commit(message)
        if str(record.locator) not in self.snapshots:
            self.driven.check(record)
        self.last = str(record.locator)
        self.snapshots[self.last] = self.model.snapshot()
        assert record.stats["files"] == len(self.model.tree().keys() | {b""}) - self.further_names()

    def further_names(self) -> int:
        return sum(
            self.model.nlink(n.ino) - 1
            for n in self.model.nodes.values()
            if self.model.nlink(n.ino) > 1 and not n.is_dir
        )

    @rule(skip=st.integers(0, 6), after=st.booleans(), again=st.booleans(), busy=BUSY)
    def commit_beside_a_failing_store(self, skip: int, after: bool, again: bool, busy: int) -> None:
        self.busy(busy)
        self.end_jobs()
        self.store.fail(skip=skip, after=after)
        try:
            record = self.driven.commit("failing")
        except VolumeError:
            self.last = None  # the ref may name what this commit made; only this workspace can tell, by its writer id
        else:
            self.snapshots[str(record.locator)] = self.model.snapshot()
            self.last = str(record.locator)
        self.store.clear()
        if again:
            self.commit(None, 0)

    @rule(which=PICK, own_cache=st.booleans(), busy=BUSY)
    def check_out(self, which: int, own_cache: bool, busy: int) -> None:
        """An earlier version, by this machine or by another one, is what it was."""
        self.busy(busy)
        if not self.snapshots:
            return
        locator = list(self.snapshots)[which % len(self.snapshots)]
        changes = {} if own_cache else {"cache_dir": str(self.directory / f"cache-{uuid4().hex[:8]}")}
        other = self.driven.at(locator, **changes)
        try:
            self.same(other.tree(), self.snapshots[locator].tree())
        finally:
            other.close()

    @rule(which=PICK, fork=st.booleans(), busy=BUSY)
    def abandon_and_go_on_from(self, which: int, fork: bool, busy: int) -> None:
        """Drop what is not committed; go on from the last version, or fork any other."""
        self.busy(busy)
        if not self.snapshots:
            return
        if fork or self.last is None:
            locator = list(self.snapshots)[which % len(self.snapshots)]
            other = self.driven.fork(locator)
            self.last = None
        else:
            locator = self.last
            other = self.driven.fork(locator, volume_id=self.driven.spec.volume_id)
        self.driven.close()
        self.driven = other
        self.jobs.clear()
        self.restarted(self.snapshots[locator])

    def end_jobs(self) -> None:
        for half in self.jobs:
            self.ws.abandon_seal(half.job)
        self.jobs.clear()

    # -- comparing -------------------------------------------------------------------------------------------------

    @invariant()
    def staging_is_accounted_for(self) -> None:
        if hasattr(self, "driven"):
            self.driven.check_staging()

    @rule()
    def compare(self) -> None:
        self.same(self.driven.tree(), self.model.tree())
        for ino in self.model.nodes:
            assert self.attributes(self.ws.getattr(ino)) == self.model_attributes(ino)
            self.same({b"": self.driven.describe(self.ws.getattr(ino))}, {b"": self.model.describe(ino)})
        assert self.ws.status()["files"] == sum(self.model.nlink(ino) > 0 for ino in self.model.nodes)

    @staticmethod
    def same(found: dict[bytes, Any], expected: dict[bytes, Any]) -> None:
        assert found.keys() == expected.keys()
        for path, value in expected.items():
            if found[path] != value:  # kept short: a difference of kilobytes is hard to read
                shown = [(a, b) for a, b in zip(found[path], value, strict=True) if a != b]
                raise AssertionError(f"{path!r}: {[_brief(a, b) for a, b in shown]}")

    def attributes(self, inode: Inode) -> dict[str, Any]:
        times = {name: getattr(inode, name) for name in self.model.nodes[inode.ino].times}
        size = 0 if inode.is_dir else inode.size
        return {"mode": inode.mode, "nlink": inode.nlink, "size": size, "uid": inode.uid, "gid": inode.gid, **times}

    def model_attributes(self, ino: int) -> dict[str, Any]:
        node = self.model.nodes[ino]
        return {
            "mode": node.mode, "nlink": self.model.nlink(ino), "size": self.model.size(ino),
            "uid": node.uid, "gid": node.gid, **node.times,
        }  # fmt: skip

    def both(self, model: Callable[[], Any], real: Callable[[], Any]) -> Any:
        """Do it in both; the same errno or none. Returns the real one's result, None after an error."""
        expected, found = self.attempt(model), self.attempt(real)
        failed = isinstance(expected, str) or isinstance(found, str)
        assert not failed or expected == found, f"model: {expected}, workspace: {found}"
        return None if failed else found

    @staticmethod
    def attempt(verb: Callable[[], Any]) -> Any:
        try:
            return verb()
        except OSError as error:
            return f"errno {error.errno}"

    def node_at(self, pick: int) -> int:
        return sorted(self.model.nodes)[pick % len(self.model.nodes)]

    def directory_at(self, pick: int) -> int:
        return self.one_of(pick, lambda node: node.is_dir) or ROOT_INO

    def file_at(self, pick: int) -> int | None:
        return self.one_of(pick, lambda node: node.is_file)

    def one_of(self, pick: int, wanted: Callable[[Node], bool]) -> int | None:
        found = sorted(ino for ino, node in self.model.nodes.items() if wanted(node))
        return found[pick % len(found)] if found else None


_BUSY = (
    *["mknod"] * 4, *["mkdir"] * 2, *["write"] * 8, *["truncate"] * 2, *["rename"] * 3, "link", "unlink", "rmdir",
    "make_unnamed", "give_name", "give_name", "setxattr", "open", "release", "remember", "forget", "read",
)  # fmt: skip


def _brief(a: Any, b: Any) -> Any:
    if isinstance(a, bytes) and isinstance(b, bytes):
        at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        return f"bytes differ at {at}: {a[at : at + 8]!r} and {b[at : at + 8]!r}, {len(a)} and {len(b)} long"
    return a, b


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in LIMITS:
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, value)


@pytest.mark.timeout(0 if LONG else 120)
def test_the_workspace_is_the_model() -> None:
    run_state_machine_as_test(WorkspaceMachine, settings=PROFILE)
