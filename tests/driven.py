"""A volume driven without a mount: verbs called as the kernel thread would, on a real store and real SQLite."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flyteplugins_vol.history import session as session_module
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.session import Session, open_session
from flyteplugins_vol.model import ROOT_INO, Caller, Inode, MountSpec
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.fetch import Miss
from flyteplugins_vol.workspace.workspace import Workspace
from tests.fsck import check_index

ME = Caller(1000, 1000, 0o022)
Tree = dict[bytes, Any]


class Driven:
    """One session and the means to drive, kill, reopen and fork it. ``store`` is what its sessions use."""

    def __init__(self, directory: Path, store: ObjectStore, spec: MountSpec, *, window: int = 4 << 20) -> None:
        self.directory = directory
        self.store = store
        self.spec = spec
        self.window = window
        self.lock = threading.RLock()
        self.session: Session
        self.opened = False
        self.open()

    @classmethod
    def new(cls, directory: Path, store: ObjectStore, **spec: Any) -> Driven:
        window = spec.pop("window", 4 << 20)
        values: dict[str, Any] = {
            "volume_id": uuid4().hex[:16], "volume_name": "test", "store_url": store.url, "mount_path": "/nowhere",
            "meta_dir": str(directory / "meta"), "cache_dir": str(directory / "cache"), "upload_delay": 0.0,
            "lease_seconds": 0.0,
        }  # fmt: skip
        return cls(directory, store, MountSpec(**{**values, **spec}), window=window)

    # -- life ------------------------------------------------------------------------------------------------------

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        with self.lock:
            return fn(*args)

    def open(self, **changes: Any) -> None:
        self.spec = replace(self.spec, **changes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(session_module, "open_store", lambda url, options=None: _Unclosed(self.store))
            self.session = open_session(self.spec, self.call, _ignore)
        self.opened = True

    def close(self, *, keep: bool = False) -> None:
        if self.opened:
            self.opened = False
            self.session.close(keep)

    def reopen(self) -> None:
        self.close(keep=True)
        self.open()

    def kill(self) -> None:
        """Go on from what a process that was killed here would have left on disk."""
        copy = self.directory / f"killed-{uuid4().hex[:8]}"
        shutil.copytree(self.spec.meta_dir, copy)
        before = self.spec.meta_dir
        self.close(keep=True)
        shutil.rmtree(before)
        self.open(meta_dir=str(copy))

    def fork(self, base: str, **changes: Any) -> Driven:
        """A second volume from that version, beside this one."""
        name = uuid4().hex[:16]
        values = {"base": base, "volume_id": name, "meta_dir": str(self.directory / f"meta-{name}"), **changes}
        return Driven(self.directory, self.store, replace(self.spec, **values), window=self.window)

    def at(self, base: str, **changes: Any) -> Driven:
        """That version, read-only."""
        return self.fork(base, read_only=True, **changes)

    def commit(self, message: str | None = None) -> VersionRecord:
        return self.session.commit(message, self.call, _nothing, _nothing, _ignore)

    def seal(self, *, everything: bool = True) -> bool:
        return self.session.sealer.run_once(everything)

    # -- files -----------------------------------------------------------------------------------------------------

    @property
    def workspace(self) -> Workspace:
        return self.session.workspace

    def create(self, name: bytes, data: bytes = b"", parent: int = ROOT_INO) -> int:
        ino = self.workspace.mknod(parent, name, 0o100644, 0, ME).ino
        if data:
            assert self.workspace.write(ino, 0, data) == len(data)
        return ino

    def find(self, path: bytes) -> Inode:
        inode = self.workspace.getattr(ROOT_INO)
        for name in path.strip(b"/").split(b"/"):
            found = self.workspace.lookup(inode.ino, name)
            assert found is not None, path
            inode = found
        return inode

    def read(self, ino: int, offset: int = 0, size: int | None = None, *, tries: int = 50) -> bytes:
        """Read, bringing in what misses; ``tries`` bounds how often one read may miss."""
        size = self.workspace.getattr(ino).size if size is None else size
        for _ in range(tries):
            found = self.workspace.read(ino, offset, size)
            if not isinstance(found, Miss):
                return found
            self.session.fetcher.fetch(found).result(30)
        raise AssertionError(f"still missing after {tries} tries")

    def content(self, path: bytes) -> bytes:
        return self.read(self.find(path).ino)

    def tree(self, ino: int = ROOT_INO) -> Tree:
        """Everything below a directory that outlives a commit, by path: see `describe`."""
        found: Tree = {}
        for name, inode in self.workspace.readdir(ino, None, 1 << 30):
            found[name] = self.describe(inode)
            if inode.is_dir:
                found.update({name + b"/" + path: value for path, value in self.tree(inode.ino).items()})
        return found

    def describe(self, inode: Inode) -> tuple[Any, ...]:
        """Inode number, mode, links, owner, device, size, content or target, and extended attributes."""
        content = self.read(inode.ino) if inode.is_file else inode.target
        xattrs = {name: self.workspace.getxattr(inode.ino, name) for name in self.workspace.listxattr(inode.ino)}
        return (
            inode.ino, stat.S_IFMT(inode.mode), inode.mode & 0o7777, inode.nlink, inode.uid, inode.gid, inode.rdev,
            inode.size if not inode.is_dir else 0, content, xattrs,
        )  # fmt: skip

    # -- soundness -------------------------------------------------------------------------------------------------

    def check_staging(self) -> None:
        """Staged bytes are those that extents name, and each staged window waits for its seal or is in one."""
        workspace: Any = self.workspace
        data = workspace._data
        staged = 0
        for file in workspace.index.windows._files.values():
            for window in file.values():
                found = sum(end - start for start, end, _, _ in window.staged())
                staged += found
                assert not found or window in data._dirty or window.sealing, "a staged window that nobody will seal"
        assert workspace._staging.live == staged
        assert all(window.staged() or window.sealing for window in data._dirty), "nothing to seal in a dirty window"

    def check(self, record: VersionRecord | None = None) -> None:
        """The index on disk is sound: that of a published version, or this workspace's own as committed to SQLite."""
        if record is None:
            self.workspace.housekeep()
            copy = self.directory / "check.db"  # the file itself is locked
            for suffix in ("", "-wal"):
                source = self.spec.meta_dir + "/index.db" + suffix
                if os.path.exists(source):
                    shutil.copyfile(source, f"{copy}{suffix}")
            problems = check_index(str(copy), published=False, window=self.window, store=_bare(self.store))
            for suffix in ("", "-wal", "-shm"):
                Path(f"{copy}{suffix}").unlink(missing_ok=True)
        else:
            path = os.path.join(self.spec.cache_dir, "index", f"{record.locator.hash}.db")
            problems = check_index(path, window=self.window, store=_bare(self.store))
        assert not problems, "\n".join(problems)


def _bare(store: ObjectStore) -> ObjectStore:
    """Below all wrappers: a check is not counted and meets no faults."""
    while (inner := getattr(store, "inner", None)) is not None:
        store = inner
    return store


def _Unclosed(store: ObjectStore) -> ObjectStore:  # noqa: N802
    """A store outlives the session that uses it."""
    from flyteplugins_vol.store.wrapper import Wrapper

    wrapper = Wrapper(store)
    wrapper.close = _nothing
    return wrapper


def _nothing() -> None:
    return


def _ignore(event: Any) -> None:
    return
