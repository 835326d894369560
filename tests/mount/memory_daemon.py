"""A daemon whose session is in memory: ``python -m tests.mount.memory_daemon``, for tests of the mount alone.

``store_options`` of its spec say how it is to misbehave; every commit leaves ``commit-<n>.json`` in the meta directory,
the tree as a commit would publish it.
"""

from __future__ import annotations

import base64
import errno
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from flyteplugins_vol import errors
from flyteplugins_vol.model import ROOT_INO, MountSpec
from flyteplugins_vol.mount import ending
from flyteplugins_vol.mount.daemon import main
from tests.mount.memory_workspace import MemoryWorkspace, Missing


class MemoryRecord:
    def __init__(self, wire: dict[str, Any]) -> None:
        self._wire = wire

    def to_wire(self) -> dict[str, Any]:
        return self._wire


class GatedWorkspace(MemoryWorkspace):
    """Reads of files with the sticky bit miss until there is a file ``release`` in the root."""

    def read(self, ino: int, offset: int, size: int) -> bytes | Missing:
        if self._inode(ino).mode & stat.S_ISVTX and not self.is_released():
            return Missing(ino)
        return super().read(ino, offset, size)

    def write(self, ino: int, offset: int, data: Any) -> int:
        """No room while there is a file ``full`` in the root."""
        if b"full" in self.entries[ROOT_INO]:
            raise OSError(errno.ENOSPC, "as asked")
        return super().write(ino, offset, data)

    def is_released(self) -> bool:
        return b"release" in self.entries[ROOT_INO]

    def getxattr(self, ino: int, name: bytes) -> bytes:
        if name == b"user.bug":
            raise ZeroDivisionError("as asked")
        if name == b"user.huge":
            self.inodes[ino].size = 1 << 70
        return super().getxattr(ino, name)


class GatedFetcher:
    """Settles every fetch when the gate opens; a file ``break`` in the root makes them fail."""

    def __init__(self, workspace: GatedWorkspace, call: Callable[..., Any]) -> None:
        self._workspace = workspace
        self._call = call

    def fetch(self, miss: Any) -> Future[None]:
        future: Future[None] = Future()
        threading.Thread(target=self._settle, args=(future,), daemon=True).start()
        return future

    def _settle(self, future: Future[None]) -> None:
        while not self._call(self._workspace.is_released):
            if self._call(lambda: b"break" in self._workspace.entries[ROOT_INO]):
                future.set_exception(errors.PackDamagedError("pack abc is damaged"))
                return
            time.sleep(0.01)
        future.set_result(None)


class MemorySealer:
    """Has a pack's worth ripe for every 16 MiB staged."""

    def __init__(self, workspace: MemoryWorkspace, call: Callable[..., Any]) -> None:
        self._workspace = workspace
        self._call = call
        self.sealed = 0
        self.failures = 0

    def ready(self) -> bool:
        return self._workspace.staged >= 16 << 20

    def run_once(self, everything: bool) -> bool:
        return self._call(self._seal)

    def _seal(self) -> bool:
        if not self.ready():
            return False
        if self.failures:
            self.failures -= 1
            raise errors.StoreUnavailableError("as asked")
        self.sealed += 1
        self._workspace.staged = 0
        return True


class MemorySession:
    def __init__(
        self, spec: MountSpec, call: Callable[..., Any], progress: Callable[[Mapping[str, Any]], None]
    ) -> None:
        options = spec.store_options
        progress({"stage": "open"})
        if "fail-log" in options:
            logging.getLogger(__name__).info("a library says: %s", options["fail-log"])
        if "hurry" in options:
            ending.COMMIT_SECONDS, ending.GENTLE_SECONDS = 0.3, 0.6
        if "die" in options:
            os.abort()
        if "fail" in options:
            raise errors.from_wire({"kind": options["fail"], "message": "as asked", "hint": "do not ask"})
        if "slow-look" in options:
            _wait_when_looking_at(spec.mount_path, options["slow-look"])
        if "hang" in options:
            threading.Event().wait()
        self._disk_fails = "disk-fails" in options
        self._hang_in_commit = "hang-in-commit" in options
        self.workspace = GatedWorkspace(read_only=spec.read_only)
        self.workspace.limit = options.get("limit")
        self.fetcher = GatedFetcher(self.workspace, call)
        self.sealer = MemorySealer(self.workspace, call)
        self.sealer.failures = options.get("failures", 0)
        self._late = Path(spec.mount_path, "late") if "write-after-commit" in options else None
        self._keep_tree = "keep-tree" in options
        self._commits = 0
        self.resumed = "resumed" in options
        self._meta = Path(spec.meta_dir)

    def commit(
        self,
        message: str | None,
        call: Callable[..., Any],
        freeze: Callable[[], None],
        thaw: Callable[[], None],
        progress: Callable[[Mapping[str, Any]], None],
    ) -> MemoryRecord:
        progress({"stage": "flush"})
        if self._disk_fails:
            raise OSError(errno.EIO, "as asked")
        if message == "fail late":
            freeze()
            thaw()
            raise errors.StoreUnavailableError("as asked")
        if message == "fail":
            raise errors.CommitError("as asked", hint="do not ask")
        freeze()
        progress({"stage": "frozen"})
        if self._hang_in_commit:
            time.sleep(3600)
        tree, contents = call(lambda: (self.workspace.tree(), self._contents()))
        thaw()
        self._commits += 1
        wire = {"number": self._commits, "message": message, "tree": _named(tree), "contents": contents}
        (self._meta / f"commit-{self._commits}.json").write_text(json.dumps(wire))
        if self._late is not None:  # as a program would that is quicker than the end of the mount
            late, self._late = self._late, None
            late.write_text("late")
        return MemoryRecord({"number": self._commits, "message": message, "files": len(tree)})

    def follow_evictions(self) -> None:
        pass

    def let_go(self) -> None:
        pass

    def written_bytes(self) -> int:
        return sum(len(data) for data in self.workspace.content.values())

    def status(self) -> dict[str, Any]:
        return {"commits": self._commits, "sealed": self.sealer.sealed, "housekept": self.workspace.housekept}

    def close(self, keep: bool) -> None:
        if self._keep_tree:
            (self._meta / "tree").write_text(str(_named(self.workspace.tree())))
        (self._meta / "closed").write_text(f"keep={keep}")

    def abandon(self) -> None:
        (self._meta / "closed").write_text("abandoned")

    def remove(self) -> None:
        """Nothing: tests look at what is left."""

    def _contents(self) -> dict[int, str]:
        """Also of what has no name any more."""
        workspace = self.workspace
        return {ino: base64.b64encode(data).decode() for ino, data in workspace.content.items() if len(data) < 1 << 20}


def _wait_when_looking_at(path: str, seconds: float) -> None:
    """The mount is there for all to see, and the daemon is not ready: it does not come back from its own first look."""
    stat_of = os.stat

    def look(at: Any, **options: Any) -> os.stat_result:
        if at == path:
            time.sleep(seconds)
        return stat_of(at, **options)

    os.stat = look


def _named(tree: Mapping[bytes, bytes | None]) -> dict[str, str | None]:
    return {
        os.fsdecode(path): None if data is None else base64.b64encode(data[: 1 << 20]).decode()
        for path, data in tree.items()
    }


if __name__ == "__main__":
    main(MemorySession)
