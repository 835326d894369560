"""Two places that must behave alike: a mounted volume, and a directory of the machine's own file system."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from flyteplugins_vol.config import DRIVER_VARIABLE
from flyteplugins_vol.io import RWVolume, Volume
from flyteplugins_vol.mount.wire_passthrough import may_pass_through

AN_ORDINARY_USER = 1000

ALL = ["wire"]
if find_spec("pyfuse3"):
    ALL.append("pyfuse3")
if may_pass_through() and tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 9):
    ALL.append("passthrough")
DRIVERS = tuple(filter(None, os.environ.get("POSIX_DRIVERS", "").split(","))) or tuple(ALL)
"""Ways to the kernel that these tests run over; those that only need some volume take the first.

The drivers by name, and the wire driver with passthrough.
"""


@contextlib.contextmanager
def driven_by(driver: str) -> Iterator[None]:
    """Mounts that begin inside use this driver; that they use passthrough is up to their options."""
    driver = "wire" if driver == "passthrough" else driver
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DRIVER_VARIABLE, driver)
        yield


@contextlib.contextmanager
def mounted_volume(
    driver: str = DRIVERS[0], *, staging: Path | None = None, **options: object
) -> Iterator[tuple[RWVolume, Path]]:
    """A fresh volume in a directory that every user may enter; abandoned at the end."""
    if driver == "passthrough":
        options["passthrough"] = True
    base = Path(tempfile.mkdtemp(prefix="flytevol-posix-", dir=os.environ.get("POSIX_TMP")))
    base.chmod(0o755)
    volume = Volume.new("posix", f"file://{base}/store")
    try:
        with driven_by(driver):
            root = volume.mount.sync(
                base / "mnt", cache_dir=base / "cache", meta_dir=staging or base / "meta", **options
            )
        yield volume, root
    finally:
        if volume.mount_path is not None:
            volume.abandon.sync()
        shutil.rmtree(base)


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """The name of a driver."""
    return request.param


@pytest.fixture(scope="module")
def open_roots() -> Iterator[Callable[[str], Path]]:
    """By driver: the root of a volume that all users may enter, with extended attributes. One mount for a module."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    roots: dict[str, Path] = {}
    with contextlib.ExitStack() as stack:

        def open_root_of(driver: str) -> Path:
            if driver not in roots:
                _, roots[driver] = stack.enter_context(mounted_volume(driver, allow_other=True, xattr=True))
                roots[driver].chmod(0o777)
            return roots[driver]

        yield open_root_of


@pytest.fixture
def open_root(open_roots: Callable[[str], Path], driver: str) -> Path:
    return open_roots(driver)


@pytest.fixture
def on_volume(open_root: Path) -> Iterator[Path]:
    """An empty directory on the volume, in which every user may write."""
    yield from _scratch(open_root)


@pytest.fixture
def volume() -> Iterator[tuple[RWVolume, Path]]:
    """A volume of one's own, with default options."""
    with mounted_volume() as mounted:
        yield mounted


@pytest.fixture(params=[*DRIVERS, "local"])
def place(request: pytest.FixtureRequest, open_roots: Callable[[str], Path]) -> Iterator[Path]:
    """An empty directory in which every user may write: on a volume over each driver, and on the local disk."""
    if request.param == "local":
        yield request.getfixturevalue("local")
    else:
        yield from _scratch(open_roots(request.param))


@pytest.fixture
def local() -> Iterator[Path]:
    """The same as `on_volume` on the machine's own disk."""
    base = Path(tempfile.mkdtemp(prefix="flytevol-local-"))
    base.chmod(0o755)
    try:
        yield from _scratch(base)
    finally:
        shutil.rmtree(base)


def _scratch(root: Path) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(dir=root))
    place.chmod(0o777)
    yield place
    shutil.rmtree(place)


def errno_of(act: Callable[[], object]) -> int:
    """The errno with which it fails; 0 if it does not."""
    try:
        act()
    except OSError as error:
        return error.errno or -1
    return 0


def as_user(act: Callable[[], object], uid: int = AN_ORDINARY_USER, groups: tuple[int, ...] = ()) -> int:
    """The errno with which it fails for an ordinary user, in a process of its own; 0 if it does not."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            os.setgroups(groups)
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            status = errno_of(act)
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)
