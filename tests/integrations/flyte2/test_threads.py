"""Threads that a task of Flyte 2 starts: their volumes are the task's, though they do not know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import MountFailedError, VersionNotFoundError
from flyteplugins_vol.io import RWVolume, Volume
from tests.conftest import fuse_mounts
from tests.integrations.beyond_tasks import KEPT, LATE, Late
from tests.integrations.conftest import sessions_in, versions_in

pytestmark = [pytest.mark.fuse, pytest.mark.filterwarnings("default")]

threads: Any = pytest.importorskip("tests.integrations.flyte2.threads", reason="needs the extra flyte")

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def nothing_kept(scratch: Path) -> Iterator[None]:
    yield
    KEPT.clear()
    threads.MEANWHILE.clear()
    LATE.clear()


def test_the_store_is_the_tasks(run: Run) -> None:
    import flyte

    runs = flyte.with_runcontext(mode="local", raw_data_path="s3://bucket/raw/ab")
    assert runs.run(threads.stores).outputs()[0] == ["s3://bucket/volumes"] * 2


def test_what_a_thread_mounts_may_be_returned(run: Run) -> None:
    with run(threads.returns).mounted() as data:
        assert (data / "file").read_text() == "threads"


def test_versions_name_the_task(run: Run) -> None:
    assert run(threads.commits).produced_by["task"] == "threads.commits"


def test_a_task_that_raises_ends_them(run: Run, scratch: Path) -> None:
    with pytest.raises(Exception, match="as users do"):
        run(threads.raises)
    assert fuse_mounts(scratch) == []
    assert versions_in(scratch) == []
    (left,) = RWVolume.recoverable()  # in a local run the thread might have been somebody else's
    left.discard.sync()


def test_also_of_what_is_awaited_in_a_thread(run: Run, scratch: Path) -> None:
    with pytest.raises(Exception, match="as users do"):
        run(threads.awaits)
    assert fuse_mounts(scratch) == []


def test_a_reader_leaves_nothing(run: Run, scratch: Path) -> None:
    base = Volume.new("base").finalize.sync()
    with pytest.raises(Exception, match="as users do"):
        run(threads.raises_with_a_reader, base)
    assert fuse_mounts(scratch) == []
    assert RWVolume.recoverable() == []


def test_what_was_written_without_a_mount_stays_with_its_handle(run: Run, scratch: Path) -> None:
    with pytest.raises(Exception, match="as users do"):
        run(threads.raises_unmounted)
    (vol,) = KEPT
    assert vol.read_bytes.sync("file") == b"text"
    vol.abandon.sync()
    assert sessions_in(scratch) == []


@pytest.mark.logs_warnings
def test_a_thread_of_one_of_two_tasks(run: Run, scratch: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The child returned it, and its parent has it: that it ended with the child would have been too early."""
    with run(threads.parent).mounted() as data:
        assert (data / "file").read_text() == "threads"
    assert "does not know of which task it is (threads.parent, threads.child)" in caplog.text
    assert "asyncio.to_thread" in caplog.text


@pytest.mark.logs_warnings
def test_a_thread_of_a_child_that_failed(run: Run, scratch: Path) -> None:
    """Its parent returned: what is nobody's handle any more is let go, as `scratch` waits for."""
    assert run(threads.parent_of_a_failure) == "went on"
    assert versions_in(scratch) == []


def test_a_thread_older_than_the_task_is_not_of_it(run: Run, scratch: Path) -> None:
    script = threads.Script()
    threads.MEANWHILE.append(script.mount)
    with pytest.raises(Exception, match="as users do"):
        run(threads.fails_meanwhile)
    path = script.volume.mount_path
    assert path is not None
    assert (path / "file").read_text() == "script"
    script.volume.finalize.sync()


@pytest.mark.parametrize("writable", [False, True])
def test_a_mount_that_comes_when_its_task_has_failed(run: Run, scratch: Path, writable: bool) -> None:
    base = None if writable else Volume.new("base").finalize.sync()
    late = Late()
    LATE[:] = [late]
    with pytest.raises(Exception, match="as users do"):
        run(threads.ends_too_early, base, fail=True)
    refusal = late.end()
    assert isinstance(refusal, MountFailedError)
    assert "before the end of the task" in str(refusal)
    assert fuse_mounts(scratch) == []


@pytest.mark.logs_warnings
@pytest.mark.parametrize("writable", [False, True])
def test_a_mount_that_comes_when_its_task_has_returned(run: Run, scratch: Path, writable: bool) -> None:
    """It may be a result that is being converted: it goes with its handle, as `scratch` waits for."""
    base = None if writable else Volume.new("base").finalize.sync()
    late = Late()
    LATE[:] = [late]
    run(threads.ends_too_early, base, fail=False)
    assert isinstance(late.end(), Path)


# --- in containers -----------------------------------------------------------------------------------------------

from tests.integrations.flyte2.pods import Pods, PodError
from tests.integrations.flyte2.test_pods import pods as pods


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_in_a_container(pods: Pods) -> None:
    store = f"{pods.bucket}/raw/org/flyte-project/development/volumes"
    assert await pods.run(threads.stores) == [store] * 2
    with pytest.raises(PodError, match=f"as users do with {store}"):
        await pods.run(threads.raises)
    with pytest.raises(VersionNotFoundError):  # its mount commits by itself, and had to be dropped
        await Volume.from_name("threads", store)
