"""What goes wrong in tasks of Flyte 2, in local runs: nothing stays mounted, nothing half done is published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.io import Volume
from tests.conftest import fuse_mounts
from tests.integrations.conftest import sessions_in, versions_in

pytestmark = [pytest.mark.fuse, pytest.mark.filterwarnings("default")]

tasks: Any = pytest.importorskip("tests.integrations.flyte2.tasks", reason="needs the extra flyte")

Run = Callable[..., Any]


def test_a_body_that_raises_leaves_no_mount_and_publishes_nothing(run: Run, scratch: Path) -> None:
    with pytest.raises(Exception, match="as users do"):
        run(tasks.raises)
    assert fuse_mounts(scratch) == []
    assert [path.parts[-3].rpartition("-")[0] for path in versions_in(scratch)] == ["other"]
    with pytest.raises(Exception, match="as users do"):
        run(tasks.raises, publish=True)
    assert fuse_mounts(scratch) == []
    assert len(versions_in(scratch)) == 3  # what it committed before is there to stay


def test_a_body_that_raises_leaves_no_session_without_a_mount(run: Run, scratch: Path) -> None:
    with pytest.raises(Exception, match="as users do"):
        run(tasks.raises_unmounted)
    assert sessions_in(scratch) == []
    assert [path.parts[-3].rpartition("-")[0] for path in versions_in(scratch)] == ["other"]


def test_a_cancelled_task_leaves_no_mount(run: Run, scratch: Path) -> None:
    assert run(tasks.cancels) == "cancelled"
    assert fuse_mounts(scratch) == []
    assert versions_in(scratch) == []


@pytest.mark.logs_warnings
def test_a_volume_that_is_not_returned_is_dropped(run: Run, scratch: Path) -> None:
    assert run(tasks.parent_of_forgetful) == "forgot"
    assert versions_in(scratch) == []


@pytest.mark.logs_warnings
def test_eight_mounts_at_the_default_path(run: Run, scratch: Path) -> None:
    assert len(set(run(tasks.eight_at_once))) == 8


def test_wrong_types_returned(run: Run) -> None:
    with pytest.raises(Exception, match=r"a volume was expected, got int"):
        run(tasks.wrong)
    with pytest.raises(Exception, match="None"):
        run(tasks.wrong_none)


def test_a_locator_where_a_volume_was_deleted(run: Run, scratch: Path) -> None:
    vol = run(tasks.make)
    shutil.rmtree(versions_in(scratch)[0].parents[1])
    with pytest.raises(Exception, match="no version at"):
        run(tasks.read, vol.locator)  # read as it is passed
    with pytest.raises(Exception, match="no version at"):
        run(tasks.read, vol)  # read as it is mounted


def test_two_writers_of_one_volume(run: Run) -> None:
    vol = run(tasks.make)
    with pytest.raises(Exception, match="mounted"):
        run(tasks.two_writers, vol.locator, vol.store)


@pytest.mark.parametrize("name", ["commit_fails", "commit_fails_in_dataclass", "commit_fails_in_optional"])
def test_a_commit_that_fails_ends_the_task_with_our_message(run: Run, scratch: Path, name: str) -> None:
    with pytest.raises(Exception, match=r"(?i)not a directory"):
        run(getattr(tasks, name), str(scratch / "broken"))
    assert fuse_mounts(scratch) == []


def test_a_newer_version(run: Run, scratch: Path) -> None:
    import json

    from blake3 import blake3

    vol = run(tasks.make)
    path = versions_in(scratch)[0]
    body = json.loads(path.read_text())
    body["format_version"] = 99
    data = json.dumps(body).encode()
    path = path.with_name(f"00000001-{blake3(data).hexdigest()[:40]}.json")
    path.write_bytes(data)
    locator = f"{vol.locator.rpartition('/')[0]}/{path.name}"
    with pytest.raises(Exception, match="install a newer release"):
        run(tasks.read, locator)
    with pytest.raises(Exception, match="install a newer release"):
        run(tasks.read, {"locator": locator})


def test_no_rights_to_mount(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from flyteplugins_vol.mount import preflight

    monkeypatch.setattr(preflight.check_device, "__defaults__", ("/dev/no-such-device",))
    with pytest.raises(Exception, match=r"allow_fuse\(\)") as caught:
        run(tasks.make)
    assert "without a mount" in str(caught.value)


def test_the_store_of_a_task(run: Run, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tasks.where) == f"file://{scratch}/home/.local/share/flytevol"
    monkeypatch.setenv("FLYTE_VOL_STORE", "s3://bucket/mine")
    assert run(tasks.where) == "s3://bucket/mine"
    assert Volume.new("x", "s3://other").store == "s3://other"
