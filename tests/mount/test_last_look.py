"""The last commit of a mount has what the kernel wrote by itself until it was cut off; here all is one process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from flyteplugins_vol.history.session import open_session
from flyteplugins_vol.io import Volume
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import kernel_mounts
from flyteplugins_vol.mount.commits import Commits
from flyteplugins_vol.mount.kernel_thread import KernelThread
from flyteplugins_vol.mount.threads import done, in_thread
from flyteplugins_vol.mount.uploads import Uploader
from tests.posix.conftest import ALL

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif("passthrough" not in ALL, reason="needs CAP_SYS_ADMIN, and Linux 6.9"),
]


def nothing(*_: object) -> None:
    return


async def commit_what_there_is(commits: Commits) -> None:
    await commits.commit_rest()


async def commit_if_it_changed(commits: Commits) -> None:
    await commits.commit_changes("the end", is_last=True)


@pytest.mark.parametrize("commit_last", [commit_what_there_is, commit_if_it_changed])
def test_what_came_last_is_in_the_last_version(tmp_path: Path, commit_last: Callable[[Commits], object]) -> None:
    (tmp_path / "mnt").mkdir()
    spec = MountSpec(
        volume_id=uuid4().hex[:16], volume_name="test", store_url=f"file://{tmp_path}/store",
        mount_path=str(tmp_path / "mnt"), meta_dir=str(tmp_path / "meta"), cache_dir=str(tmp_path / "cache"),
        passthrough=True, lease_seconds=0.0,
    )  # fmt: skip
    kernel = KernelThread(spec, open_session, progress=nothing, staged=nothing, announce=nothing)

    async def run() -> str:
        kernel.start()
        await done(kernel.mounted)
        session = kernel.mounted.result()
        commits = Commits(kernel, session, Uploader(session.sealer, 1))
        fd = await in_thread(os.open, tmp_path / "mnt" / "file", os.O_WRONLY | os.O_CREAT)
        try:
            assert kernel.passes
            await in_thread(os.write, fd, b"one,")
            await commits.commit(None, nothing)
            await in_thread(os.write, fd, b"two")  # of which nobody is told
            await in_thread(kernel.stop)
            await done(kernel.ended)
            await commit_last(commits)
            locator = str(session.base.locator)
        finally:
            with suppress(OSError):
                os.close(fd)
            await in_thread(kernel.finish, lambda session: session.close(False))
            kernel_mounts.unmount_by_force(spec.mount_path, spec.claim)
        return locator

    locator = trio.run(run)
    assert Volume.from_locator.sync(locator).read_bytes.sync("file") == b"one,two"
