"""Threads that a task of flytekit starts: their volumes are the task's, though they do not know of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import MountFailedError, VersionNotFoundError
from flyteplugins_vol.io import RWVolume, Volume
from tests.conftest import fuse_mounts
from tests.integrations.beyond_tasks import KEPT, LATE, Late
from tests.integrations.conftest import versions_in

pytest.importorskip("flytekit", reason="needs the extra flytekit, which is for Python below 3.13")
pytestmark = [pytest.mark.fuse, pytest.mark.filterwarnings("default")]

threads: Any = pytest.importorskip("tests.integrations.flytekit1.threads")


@pytest.fixture(autouse=True)
def nothing_kept(scratch: Path) -> Iterator[None]:
    yield
    KEPT.clear()
    LATE.clear()


def test_what_a_thread_mounts_may_be_returned() -> None:
    with threads.returns().mounted() as data:
        assert (data / "file").read_text() == "threads"


def test_versions_name_the_task() -> None:
    assert threads.commits().produced_by["task"] == "tests.integrations.flytekit1.threads.commits"


def test_a_task_that_raises_ends_them(scratch: Path) -> None:
    with pytest.raises(RuntimeError, match="as users do"):
        threads.raises()
    assert fuse_mounts(scratch) == []
    assert versions_in(scratch) == []
    (left,) = RWVolume.recoverable()  # in a local run the thread might have been somebody else's
    left.discard.sync()


@pytest.mark.logs_warnings
def test_so_does_one_that_forgets_them(scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert threads.forgets() == 2
    assert fuse_mounts(scratch) == []
    assert "its uncommitted changes are kept, as `flytevol recover` lists them" in caplog.text
    (left,) = RWVolume.recoverable()
    left.discard.sync()


@pytest.mark.logs_warnings
@pytest.mark.parametrize("fail", [False, True])
def test_a_mount_that_comes_when_its_task_is_over(scratch: Path, caplog: pytest.LogCaptureFixture, fail: bool) -> None:
    late = Late()
    LATE[:] = [late]
    if fail:
        with pytest.raises(RuntimeError, match="as users do"):
            threads.ends_too_early(fail=True)
    else:
        assert threads.ends_too_early(fail=False) == 2
    refusal = late.end()
    assert isinstance(refusal, MountFailedError)
    assert fuse_mounts(scratch) == []
    assert ("was neither returned nor finalized" in caplog.text) == (not fail)


# --- in containers -----------------------------------------------------------------------------------------------

from tests.integrations.flytekit1.test_pods import Pods
from tests.integrations.flytekit1.test_pods import pods as pods


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_in_a_container(pods: Pods) -> None:
    store = f"{pods.bucket}/data/p/d/volumes"
    assert pods.run(threads.stores) == f"{store} {store}"
    with pytest.raises(AssertionError, match=f"as users do with {store}"):
        pods.run(threads.raises)
    with pytest.raises(VersionNotFoundError):  # its mount commits by itself, and had to be dropped
        Volume.from_name.sync("threads", store)
