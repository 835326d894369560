"""Makes tests/golden/v1: a tiny store with everything in it that format 1 can say, and what a reader must find there.

Run once, before the release that the format belongs to: ``python tests/golden/make.py tests/golden/v1``. The objects of
a released format are never made again, for every later release must read these very bytes: it overwrites nothing.

`expected.json` comes from what is written here, not from reading the store back.
"""

from __future__ import annotations

import json
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blake3 import blake3

from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.session import Session, open_session
from flyteplugins_vol.model import ROOT_INO, AttrChange, Caller, MountSpec
from flyteplugins_vol.workspace.workspace import Workspace

VOLUME, FORK = "00c0ffee00c0ffee", "0123456789abcdef"
OWNER = Caller(1000, 100, 0)
NOON = 1_700_000_000_123_456_789
MIB = 1 << 20


class Sketch:
    """A workspace, and beside it a plain account of what was done to it: path → what a reader must find there."""

    def __init__(self, workspace: Workspace, files: dict[bytes, dict[str, Any]]) -> None:
        self.workspace = workspace
        self.files = files

    def make(self, path: bytes, mode: int, *, rdev: int = 0, target: bytes | None = None) -> dict[str, Any]:
        parent, _, name = path.rpartition(b"/")
        above = self.files[parent]["ino"]
        if target is not None:
            inode = self.workspace.symlink(above, name, target, OWNER)
        elif stat.S_ISDIR(mode):
            inode = self.workspace.mkdir(above, name, mode & 0o7777, OWNER)
        else:
            inode = self.workspace.mknod(above, name, mode, rdev, OWNER)
        found = self.files[path] = {
            "ino": inode.ino, "mode": mode, "uid": OWNER.uid, "gid": OWNER.gid, "rdev": rdev, "mtime": NOON,
            "size": len(target or b""), "target": None if target is None else target.hex(), "data": [], "xattr": {},
        }  # fmt: skip
        return found

    def write(self, path: bytes, *pieces: tuple[int, bytes], size: int | None = None) -> None:
        """Write pieces into a file; ``size`` then cuts it off or makes it longer."""
        file = self.files[path]
        content = bytearray(file["size"])
        for offset, text in file["data"]:
            content[offset : offset + len(text) // 2] = bytes.fromhex(text)
        for offset, data in pieces:
            self.workspace.write(file["ino"], offset, data)
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data
        if size is not None:
            self.workspace.setattr(file["ino"], AttrChange(size=size), OWNER)
            content = content[:size] + bytes(max(0, size - len(content)))
        file["size"] = len(content)
        file["data"] = [[at, data.hex()] for at, data in _runs(bytes(content))]

    def grow(self, path: bytes, size: int) -> None:
        """Make an empty file a hole of any size."""
        self.workspace.setattr(self.files[path]["ino"], AttrChange(size=size), OWNER)
        self.files[path]["size"] = size

    def change(self, path: bytes, **changes: int) -> None:
        """uid, gid, mode (permission bits) or mtime."""
        file = self.files[path]
        self.workspace.setattr(file["ino"], AttrChange(**changes), OWNER)
        if "mode" in changes:
            changes["mode"] |= stat.S_IFMT(file["mode"])
        file.update(changes)

    def xattr(self, path: bytes, name: bytes, value: bytes) -> None:
        self.workspace.setxattr(self.files[path]["ino"], name, value)
        self.files[path]["xattr"][name.hex()] = value.hex()

    def link(self, path: bytes, new: bytes) -> None:
        parent, _, name = new.rpartition(b"/")
        self.workspace.link(self.files[path]["ino"], self.files[parent]["ino"], name)
        self.files[new] = self.files[path]

    def rename(self, old: bytes, new: bytes) -> None:
        (a, _, name), (b, _, new_name) = old.rpartition(b"/"), new.rpartition(b"/")
        self.workspace.rename(self.files[a]["ino"], name, self.files[b]["ino"], new_name)
        for path in [path for path in self.files if path == old or path.startswith(old + b"/")]:
            self.files[new + path[len(old) :]] = self.files.pop(path)

    def unlink(self, path: bytes) -> None:
        parent, _, name = path.rpartition(b"/")
        self.workspace.unlink(self.files[parent]["ino"], name)
        del self.files[path]

    def account(self) -> dict[str, Any]:
        """Path in hex → what is there. Times are set now, once nothing changes them any more."""
        for file in self.files.values():
            mtime = file["mtime"]
            self.workspace.setattr(file["ino"], AttrChange(atime=NOON, mtime=mtime, ctime=NOON + 1), OWNER)
        return {path.hex(): {**file, "nlink": self._nlink(path)} for path, file in sorted(self.files.items())}

    def _nlink(self, path: bytes) -> int:
        file = self.files[path]
        if not stat.S_ISDIR(file["mode"]):
            return sum(other is file for other in self.files.values())
        below = [p for p in self.files if p and p.rpartition(b"/")[0] == path]
        return 2 + sum(stat.S_ISDIR(self.files[p]["mode"]) for p in below)


def main(target: Path) -> None:
    if target.exists():
        raise SystemExit(f"{target} is there: golden objects are made once")
    store = target / "store"
    versions: dict[str, Any] = {}

    def published(name: str, record: VersionRecord, tree: dict[str, Any]) -> VersionRecord:
        parents = [parent.removeprefix(record.store_url + "/") for parent in record.parents]
        versions[name] = {
            "key": record.locator.key, "sequence": record.sequence, "message": record.message, "parents": parents,
            "tree": tree,
        }  # fmt: skip
        return record

    root: dict[str, Any] = {
        "ino": ROOT_INO, "mode": stat.S_IFDIR | 0o755, "uid": 0, "gid": 0, "rdev": 0, "mtime": NOON, "size": 0,
        "target": None, "data": [], "xattr": {},
    }  # fmt: skip
    with opened(store, volume_id=VOLUME) as (session, commit):
        sketch = Sketch(session.workspace, {b"": root})
        first(sketch)
        tree = sketch.account()
        one = published("first", commit("first: everything that format 1 can say"), tree)
        second(sketch)
        tree = sketch.account()
        two = published("second", commit(None), tree)
    with opened(store, volume_id=FORK, volume_name="golden.fork", base=str(two.locator)) as (session, commit):
        sketch = Sketch(session.workspace, sketch.files)
        fork(sketch)
        tree = sketch.account()
        published("fork", commit('Zweig, ветка, 分支 \u2028 "quoted" \\ \x01'), tree)
    assert one.locator != two.locator
    (store / ".lock").unlink()  # of the local store, not of the format
    text = json.dumps(versions, sort_keys=True, separators=(",", ":")).replace("},", "},\n")  # a line for each path
    (target / "expected.json").write_text(text + "\n")


def first(s: Sketch) -> None:
    s.change(b"", uid=0, gid=0)
    s.make(b"/docs", stat.S_IFDIR | 0o2755)
    s.make(b"/docs/hello.txt", stat.S_IFREG | 0o644)
    s.write(b"/docs/hello.txt", (0, b"All work and no play.\n" * 40))  # a compressed block
    s.make(b"/docs/same.txt", stat.S_IFREG | 0o600)
    s.write(b"/docs/same.txt", (0, b"All work and no play.\n" * 40))  # and no second one for equal content
    s.xattr(b"/docs/hello.txt", b"user.mime", b"text/plain")
    s.xattr(b"/docs/hello.txt", b"user.\xff", b"\0\xff")
    s.xattr(b"/docs", b"user.empty", b"")
    s.make(b"/plain.bin", stat.S_IFREG | 0o4751)
    s.write(b"/plain.bin", (0, noise(b"plain", 700)))  # a block that compression would not shrink
    s.make(b"/holes", stat.S_IFREG | 0o444)
    s.write(b"/holes", (5, b"begin"), (4 * MIB - 3, b"across"), (5 * MIB, noise(b"late", 50)), size=6 * MIB + 1)
    s.make(b"/empty", stat.S_IFREG | 0o644)
    s.make(b"/huge", stat.S_IFREG | 0o644)
    s.grow(b"/huge", 1 << 60)  # a hole from end to end; with it the sum of all sizes passes 2^53
    s.make(b"/link", stat.S_IFLNK | 0o777, target=b"docs/hello.txt")
    s.make(b"/dangling", stat.S_IFLNK | 0o777, target=b"\xfe/nowhere " + b"x" * 300)
    s.link(b"/plain.bin", b"/docs/hard")
    s.make(b"/tty", stat.S_IFCHR | 0o620, rdev=5 << 8 | 1)
    s.make(b"/nvme", stat.S_IFBLK | 0o660, rdev=259 << 8 | 300 & 0xFF | (300 & ~0xFF) << 12)
    s.make(b"/fifo", stat.S_IFIFO | 0o600)
    s.make(b"/socket", stat.S_IFSOCK | 0o600)
    s.make(b"/caf\xe9 \n\x01", stat.S_IFREG | 0o644)  # a name that is not UTF-8
    s.make(b"/" + b"n" * 255, stat.S_IFREG | 0o644)
    s.make(b"/docs/deep", stat.S_IFDIR | 0o3777)
    s.make(b"/docs/deep/\xf0\x9f\x90\x99", stat.S_IFREG | 0o644)
    s.change(b"/empty", mtime=-1, uid=4_294_967_294, gid=65_534)  # the last nanosecond of 1969
    s.change(b"/tty", mtime=-(1 << 63))
    s.change(b"/nvme", mtime=(1 << 63) - 1)
    s.make(b"/unlinked", stat.S_IFREG | 0o644)
    s.write(b"/unlinked", (0, b"open at the commit, without a name"))
    s.workspace.open(s.files[b"/unlinked"]["ino"], 2)
    s.unlink(b"/unlinked")  # an orphan, which no reader shows


def second(s: Sketch) -> None:
    """Names and attributes only: segments with block and pack rows stay where the first version put them."""
    s.rename(b"/docs/deep", b"/deeper")
    s.change(b"/plain.bin", mode=0o640)


def fork(s: Sketch) -> None:
    """Overwrites the middle of a block, cuts a file short, removes names; the orphan goes."""
    s.write(b"/docs/hello.txt", (100, b"CHANGED"))
    s.write(b"/holes", (2 * MIB, b"filled"), size=4 * MIB + 1)
    s.unlink(b"/docs/same.txt")
    s.unlink(b"/docs/hard")
    s.make(b"/new", stat.S_IFREG | 0o644)
    s.write(b"/new", (0, b"only here"))


@contextmanager
def opened(store: Path, **changes: Any) -> Any:
    with tempfile.TemporaryDirectory() as room:
        values: dict[str, Any] = {
            "volume_name": "golden", "store_url": f"file://{store.resolve()}", "mount_path": "/", "author": "Gödel",
            "resume": False, "meta_dir": f"{room}/meta", "cache_dir": f"{room}/cache",
            "produced_by": {"run": "r1", "attempt": 0, "ratio": 0.5, "nested": {"list": [None, True, -1]}},
        }  # fmt: skip
        session = open_session(MountSpec(**{**values, **changes}), _call, _ignore)
        yield session, lambda message: _commit(session, message)
        session.close(keep=False)


def _commit(session: Session, message: str | None) -> VersionRecord:
    return session.commit(message, _call, lambda: None, lambda: None, _ignore)


def _call(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


def _ignore(event: Any) -> None:
    return


def noise(seed: bytes, size: int) -> bytes:
    return blake3(seed).digest(length=size)


def _runs(content: bytes) -> list[tuple[int, bytes]]:
    """What is not a long run of zeros."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(content):
        if content[at : at + 64].strip(b"\0"):
            found.append((at, content[at : at + 64]))
            at += 64
        else:
            at += 64
            while content[at : at + MIB] == bytes(MIB):
                at += MIB
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
