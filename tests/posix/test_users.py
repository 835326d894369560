"""Who owns what: mounts of an ordinary user's, and versions that go from one user to another."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from flyteplugins_vol.io import Volume
from tests.mount.test_ordinary_user import USER, base, run

__all__ = ["base"]

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else"),
]

MOUNT = """
from flyteplugins_vol.io import Volume
volume = Volume.new("mine", f"file://{base}/store")
places = {"cache_dir": base + "/cache", "meta_dir": base + "/meta"}
root = volume.mount.sync(base + "/mnt", xattr=True, **places)
"""

TRY_ALL = """
import contextlib, errno, stat

def what_happens(place):
    \"\"\"Results and errnos of what an ordinary user does, and tries, in a directory.\"\"\"
    found = {}
    def do(name, act):
        try:
            result = act()
        except OSError as error:
            result = errno.errorcode[error.errno]
        found[name] = result
    def mode(name):
        status = (place / name).lstat()
        return oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink
    for umask in (0, 0o022, 0o077, 0o777):
        os.umask(umask)
        do(f"create {umask:o}", lambda: os.close(os.open(place / f"f{umask:o}", os.O_CREAT | os.O_RDWR, 0o6777)))
        do(f"mkdir {umask:o}", lambda: os.mkdir(place / f"d{umask:o}", 0o1777))
        do(f"modes {umask:o}", lambda: (mode(f"f{umask:o}"), mode(f"d{umask:o}")))
        do(f"enter {umask:o}", lambda: (place / f"d{umask:o}" / "x").touch())
        do(f"read {umask:o}", lambda: (place / f"f{umask:o}").read_bytes())
    os.umask(0o022)
    (place / "a").write_bytes(b"data")
    do("give away", lambda: os.chown(place / "a", 0, -1))
    do("to a group that one is not in", lambda: os.chown(place / "a", -1, 0))
    do("to oneself", lambda: os.chown(place / "a", os.getuid(), os.getgid()))
    do("setgid", lambda: (os.chmod(place / "a", 0o2755), mode("a")))
    do("written", lambda: ((place / "a").open("r+b").write(b"x"), mode("a")))
    do("device", lambda: os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3)))
    do("fifo", lambda: (os.mkfifo(place / "fifo"), mode("fifo")))
    do("link", lambda: (os.link(place / "a", place / "b"), mode("b")))
    do("rename", lambda: (os.rename(place / "a", place / "c"), mode("c")))
    do("no more", lambda: os.chmod(place / "c", 0))
    do("read", lambda: (place / "c").read_bytes())
    do("write", lambda: (place / "c").write_bytes(b""))
    do("times", lambda: (os.utime(place / "c", ns=(1, 2)), (place / "c").stat().st_mtime_ns))
    do("attribute", lambda: os.setxattr(place / "c", "user.a", b"1"))
    do("unlink", lambda: os.unlink(place / "c"))
    do("sticky", lambda: (os.chmod(place / "d22", 0o3777), mode("d22")))
    do("handed down", lambda: ((place / "d22" / "below").mkdir(), mode("d22/below")))
    do("list", lambda: sorted(os.listdir(place)))
    return found
"""


def test_an_ordinary_users_mount_is_as_a_local_directory(base: Path) -> None:
    run(
        base,
        MOUNT
        + TRY_ALL
        + """
local = Path(base, "local")
local.mkdir()
ours, theirs = what_happens(root), what_happens(local)
assert ours == theirs, {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
assert ours["give away"] == "EPERM" and ours["read 777"] == "EACCES" and "setgid" in ours
volume.abandon.sync()
""",
    )


@pytest.mark.slow
def test_what_belongs_to_whom_is_kept_when_versions_go_from_user_to_user(base: Path) -> None:
    run(
        base,
        MOUNT
        + """
os.umask(0o027)
(root / "mine").write_text("the user's")
(root / "directory").mkdir()
(root / "private").touch(0o600)
Path(base, "locator").write_text(volume.finalize.sync().locator)
""",
    )
    mine = {"mine": (USER, USER, 0o640), "directory": (USER, USER, 0o750), "private": (USER, USER, 0o600)}
    version = Volume.from_locator.sync((base / "locator").read_text())
    volume = version.fork.sync("roots")
    with volume.mounted(base.parent / "mnt", cache_dir=base.parent / "c", meta_dir=base.parent / "m") as root:
        assert owners(root) == mine
        (root / "secret").touch(0o600)
        (root / "secret").write_text("root's")
        (root / "group").write_text("a group's")
        os.chown(root / "group", 4242, 4243)
    (base / "locator").write_text(str(volume.finalize.sync().locator))
    subprocess.run(["chown", "-R", f"{USER}:{USER}", base / "store"], check=True)  # the objects, not what they hold
    run(
        base,
        """
from flyteplugins_vol.io import Volume
version = Volume.from_locator.sync(Path(base, "locator").read_text())
places = {"cache_dir": base + "/cache2", "meta_dir": base + "/meta2"}
volume = version.fork.sync("again")
with volume.mounted(base + "/mnt", **places) as root:
    assert root.joinpath("secret").stat().st_uid == 0
    assert (root.joinpath("group").stat().st_uid, root.joinpath("group").stat().st_gid) == (4242, 4243)
    assert (root / "group").read_text() == "a group's"
    for forbidden in ((root / "secret").read_text, lambda: (root / "group").write_text("x"),
                      lambda: (root / "secret").chmod(0o666), lambda: os.chown(root / "group", 1000, -1)):
        try:
            forbidden()
            raise SystemExit("was allowed")
        except PermissionError:
            pass
    (root / "mine").write_text("changed")
    (root / "secret").rename(root / "renamed")
Path(base, "locator").write_text(volume.finalize.sync().locator)
""",
    )
    version = Volume.from_locator.sync((base / "locator").read_text())
    with version.mounted(base.parent / "mnt", cache_dir=base.parent / "c") as root:
        expected = {**mine, "renamed": (0, 0, 0o600), "group": (4242, 4243, 0o644)}
        assert owners(root) == expected
        assert (root / "renamed").read_text() == "root's"
        assert (root / "mine").read_text() == "changed"


def owners(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {path.name: path.stat() for path in root.iterdir()}
    return {name: (status.st_uid, status.st_gid, status.st_mode & 0o7777) for name, status in found.items()}
