from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from flyteplugins_vol.errors import MountPathError
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.mount.mount_paths import Claim, claim
from tests.mount.conftest import REPOSITORY


@pytest.fixture
def claims() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def take(claims: ExitStack, path: Path | None, home: Path, name: str = "data") -> Claim:
    taken = claim(None if path is None else str(path), volume_name=name, home=str(home))
    claims.callback(taken.release)
    return taken


def test_a_missing_path_is_made_and_removed_again(claims: ExitStack, tmp_path: Path) -> None:
    taken = take(claims, tmp_path / "a" / "b", tmp_path)
    assert (tmp_path / "a" / "b").is_dir()
    assert taken.is_held
    taken.release()
    taken.release()
    assert not (tmp_path / "a" / "b").exists()


def test_a_directory_that_took_the_place_of_the_claimed_one_stays(claims: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "a"
    first = take(claims, path, tmp_path)
    assert kernel_mounts.is_in_place(first.path, first.fd)
    assert kernel_mounts.is_in_place(first.path, None)
    path.rmdir()
    assert not kernel_mounts.is_in_place(first.path, first.fd)
    second = take(claims, path, tmp_path)
    assert not kernel_mounts.is_in_place(first.path, first.fd)
    with pytest.raises(OSError, match="Invalid argument"):
        kernel_mounts.unmount(first.path, claim=first.fd)
    first.release()
    assert not kernel_mounts.is_in_place(first.path, first.fd)
    assert path.is_dir()
    assert kernel_mounts.is_in_place(second.path, second.fd)
    second.release()
    assert not path.exists()


def test_a_path_that_was_there_stays(claims: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    take(claims, tmp_path / "a", tmp_path).release()
    assert (tmp_path / "a").is_dir()


def test_a_link_to_a_directory_is_followed(claims: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert take(claims, tmp_path / "link", tmp_path).path == str(tmp_path / "real")


def test_what_cannot_be_mounted_on(claims: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for path, reason in (("file", "not a directory"), ("file/below", "not a directory"), ("full", "not empty")):
        with pytest.raises(MountPathError, match=reason) as raised:
            take(claims, tmp_path / path, tmp_path)
        assert raised.value.hint
    assert (tmp_path / "full" / "file").exists()
    with pytest.raises(MountPathError, match="mount point already") as raised:
        take(claims, Path("/proc"), tmp_path)
    assert raised.value.hint.endswith("or unmount it: umount /proc")


def test_a_path_is_claimed_once(claims: ExitStack, tmp_path: Path) -> None:
    first = take(claims, tmp_path / "a", tmp_path)
    with pytest.raises(MountPathError, match="another process") as raised:
        take(claims, tmp_path / "a", tmp_path)
    assert raised.value.hint == "give another one, or wait for its end"
    first.release()
    take(claims, tmp_path / "a", tmp_path)


def test_default_paths(claims: ExitStack, tmp_path: Path) -> None:
    names = [Path(take(claims, None, tmp_path, "my data/x").path).name for _ in range(4)]
    assert names == [
        "flyte-volume",
        "flyte-volume-my-data-x",
        "flyte-volume-my-data-x-2",
        "flyte-volume-my-data-x-3",
    ]


def test_a_default_path_with_a_persons_files_is_an_error(claims: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "flyte-volume").mkdir()
    (tmp_path / "flyte-volume" / "thesis").touch()
    with pytest.raises(MountPathError, match="not empty"):
        take(claims, None, tmp_path)


def test_many_at_once_get_a_path_each(claims: ExitStack, tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda _: claim(None, volume_name="data", home=str(tmp_path)), range(64)))
    for one in taken:
        claims.callback(one.release)
    assert len({one.path for one in taken}) == 64


def test_claiming_and_releasing_at_once_never_gives_one_path_twice(tmp_path: Path) -> None:
    held: set[str] = set()

    def churn(_: int) -> None:
        for _ in range(50):
            try:
                taken = claim(str(tmp_path / "one"), volume_name="data", home=str(tmp_path))
            except MountPathError:
                continue
            assert taken.path not in held
            held.add(taken.path)
            held.discard(taken.path)
            taken.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(churn, range(8)))


def test_a_claim_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from flyteplugins_vol.mount.mount_paths import claim
claim({str(tmp_path / "a")!r}, volume_name="data", home="/")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    claim(str(tmp_path / "a"), volume_name="data", home="/").release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_path_that_this_user_may_not_write(tmp_path: Path) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY)!r})
from flyteplugins_vol.errors import MountPathError
from flyteplugins_vol.mount.mount_paths import claim
os.setresuid(1000, 1000, 1000)
for path in ("/mnt", "/root/below", "/below"):
    try:
        claim(path, volume_name="data", home="/")
    except MountPathError as error:
        print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 3, done.stderr


NAMES = ["plain", "with blank", "with\ttab\nand newline", "back\\slash", "ünïcode"]
"""Of directories. The others are lines and blanks to Python, and bytes to the kernel."""
NAMES += ["carriage\rreturn", "\x0bvertical\x0ctab\x1c", "no\u00a0break", "wide\u3000\u2028", "latin \udce4", " - "]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs")
def test_names_in_the_kernels_list_of_mounts(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir()
    assert kernel_mounts.mount_at(str(path)) is None
    subprocess.run(["mount", "-t", "tmpfs", "none", str(path)], check=True)
    try:
        found = kernel_mounts.mount_at(str(path))
        assert found is not None
        assert found.fstype == "tmpfs"
        assert not found.is_ours
        assert kernel_mounts.mounts_below(str(tmp_path)) == [found]
        kernel_mounts.unmount_by_force(str(path))  # not ours: stays
        assert kernel_mounts.mount_at(str(path)) is not None
    finally:
        kernel_mounts.unmount(str(path))
    assert kernel_mounts.mount_at(str(path)) is None
    with pytest.raises(OSError):
        kernel_mounts.unmount(str(path))


@pytest.mark.parametrize("path", ["/proc/nothing-here", "/proc/nothing-here/below"])
def test_where_no_directory_can_be_made_it_says_so(path: str) -> None:
    with pytest.raises(MountPathError, match="cannot be used"):
        claim(path, volume_name="data", home="/")
