"""The same for somebody who is not root: fusermount3 mounts, and the kernel checks permissions."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.conftest import MEMORY_DAEMON, REPOSITORY

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else"),
]

USER = 1000
BEGIN = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from pathlib import Path
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.mount.client import MountClient
from tests.mount.conftest import committed
base = sys.argv[1]
def spawn(**changes):
    places = [f"{{base}}/{{name}}" for name in ("mnt", "meta", "cache")]
    spec = MountSpec("0123456789abcdef", "test", "memory://test", *places, **changes)
    return MountClient.spawn(spec, daemon={MEMORY_DAEMON!r})
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory of the user's, below such as everybody may pass."""
    for directory in (tmp_path, *tmp_path.parents):
        mode = stat.S_IMODE(directory.stat().st_mode)
        if mode & 0o001:
            break
        directory.chmod(mode | 0o055)
    base = tmp_path / "user"
    base.mkdir()
    os.chown(base, USER, USER)
    return base


def run(base: Path, script: str) -> None:
    """Run the script as the user, in a mount namespace of its own: with Python, the repository and the FUSE device."""
    lines = [*_open_up([sys.base_prefix, sys.prefix, str(REPOSITORY)]), *_device_for_everybody()]
    user = f"setpriv --reuid={USER} --regid={USER} --clear-groups --"
    lines.append(shlex.join([*user.split(), sys.executable, "-c", BEGIN + script, str(base)]))
    command = ["unshare", "-m", "--propagation", "slave", "sh", "-ec", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def _open_up(paths: list[str]) -> Iterator[str]:
    """Shell lines that put an open directory in the place of a closed one (/root) above any of these paths."""
    closed = {parent for path in paths for parent in Path(path).parents if not parent.stat().st_mode & 0o001}
    tops = {directory for directory in closed if not closed & set(directory.parents)}
    for top in tops:
        inside = sorted(path for path in set(paths) if top in Path(path).parents)
        yield "stash=$(mktemp -d /tmp/stash-XXXXXX) && mount -t tmpfs none $stash"
        for number, path in enumerate(inside):
            yield f"mkdir $stash/{number} && mount --bind {shlex.quote(path)} $stash/{number}"
        yield f"mount -t tmpfs -o mode=755 none {shlex.quote(str(top))}"
        for number, path in enumerate(inside):
            yield f"mkdir -p {shlex.quote(path)} && mount --bind $stash/{number} {shlex.quote(path)}"
        yield "umount -l $stash && rmdir $stash"


def _device_for_everybody() -> Iterator[str]:
    """Shell lines that put one in the place of ``/dev/fuse``, which some machines keep for root."""
    number = os.stat("/dev/fuse").st_rdev
    yield "devices=$(mktemp -d /tmp/devices-XXXXXX) && mount -t tmpfs -o mode=755 none $devices"
    yield f"mknod -m 666 $devices/fuse c {os.major(number)} {os.minor(number)}"
    yield "mount --bind $devices/fuse /dev/fuse && umount -l $devices && rmdir $devices"


def test_from_spawn_to_unmount(base: Path) -> None:
    run(
        base,
        """
client = spawn()
root = client.mount_path
assert root.stat().st_uid == 1000
(root / "file").write_text("hello")
with (root / "open").open("wb", buffering=0) as file:
    file.write(b"dirty")
    client.commit()
assert sorted(committed(client)["tree"]) == ["file", "open"]
assert committed(client)["tree"]["open"] == "ZGlydHk="
line = next(line for line in open("/proc/self/mounts") if f" {root} " in line)
assert "default_permissions" in line and "nosuid" in line and "nodev" in line and "allow_other" not in line
client.unmount()
assert not root.exists()
assert kernel_mounts.mount_at(str(root)) is None
""",
    )


def test_without_the_right_to_passthrough_the_mount_is_as_without_it(base: Path) -> None:
    run(
        base,
        """
client = spawn(passthrough=True)
(client.mount_path / "file").write_text("hello")
assert (client.mount_path / "file").read_text() == "hello"
status = client.status()
assert not status["passthrough"]
assert "no passthrough: it needs CAP_SYS_ADMIN" in open(status["log_path"]).read()
client.unmount()
""",
    )


def test_permissions_are_checked(base: Path) -> None:
    run(
        base,
        """
client = spawn()
secret = client.mount_path / "secret"
secret.write_text("x")
secret.chmod(0)
for forbidden in (secret.read_text, lambda: secret.write_text("y")):
    try:
        forbidden()
        raise SystemExit("was allowed")
    except PermissionError:
        pass
assert not os.access(secret, os.R_OK)
fd = os.open(client.mount_path / "mine", os.O_CREAT | os.O_WRONLY, 0)
os.write(fd, b"dirty")
client.commit()  # the barrier may open it neither way
os.close(fd)
assert committed(client)["tree"]["mine"] == "ZGlydHk="
client.unmount()
""",
    )


def test_a_mount_in_use_is_detached(base: Path) -> None:
    run(
        base,
        """
client = spawn()
file = (client.mount_path / "file").open("wb", buffering=0)
file.write(b"dirty")
client.unmount()
assert kernel_mounts.mount_at(str(client.mount_path)) is None
assert not client.mount_path.exists()
""",
    )


def test_what_a_killed_daemon_left_is_taken_away(base: Path) -> None:
    run(
        base,
        """
import signal
client = spawn()
os.kill(client.status()["pid"], signal.SIGKILL)
client.unmount()
assert kernel_mounts.mount_at(str(client.mount_path)) is None
client = spawn()
os.kill(client.status()["pid"], signal.SIGKILL)
while client.is_alive:
    pass
client._place.release()
second = spawn()
(second.mount_path / "file").write_text("works")
second.unmount()
""",
    )


def test_allow_other_is_roots_to_allow(base: Path) -> None:
    run(
        base,
        """
from flyteplugins_vol.errors import FusermountError
try:
    spawn(allow_other=True)
    raise SystemExit("was allowed")
except FusermountError as error:
    assert "user_allow_other" in error.hint
assert not os.path.exists(base + "/mnt")
""",
    )


def test_others_are_let_in_by_root(base: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from flyteplugins_vol.model import MountSpec
    from flyteplugins_vol.mount.client import MountClient

    spec = MountSpec("0123", "test", "memory://test", str(tmp_path / "m"), str(tmp_path / "meta"), str(tmp_path / "c"))
    client = MountClient.spawn(replace(spec, allow_other=True), daemon=MEMORY_DAEMON)
    try:
        (client.mount_path / "open").write_text("x")
        (client.mount_path / "secret").write_text("x")
        (client.mount_path / "secret").chmod(0o600)
        run(
            base,
            f"""
root = Path({str(client.mount_path)!r})
assert (root / "open").read_text() == "x"
for forbidden in ((root / "secret").read_text, (root / "new").touch):
    try:
        forbidden()
        raise SystemExit("was allowed")
    except PermissionError:
        pass
""",
        )
    finally:
        client.abandon()
