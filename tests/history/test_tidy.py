"""What killed processes leave goes by itself when nothing is lost by that, and stays when something is."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from flyteplugins_vol.history.local import WorkspaceDirectory
from flyteplugins_vol.history.tidy import tidy, tidy_around, tidy_daily
from flyteplugins_vol.io import RWVolume, Volume
from flyteplugins_vol.mount.leftovers import leftovers
from flyteplugins_vol.mount.workspace_lock import looking_at
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven

DAY = 86_400
NAME = "data-00c0ffee00c0ffee"
ID = "-00c0ffee00c0ffee-0badcafe"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def workspace(root: Path) -> Callable[..., Driven]:
    """Makes a workspace below the root, with one version and, if asked for, something that is in none."""

    def make(*, changed: bool, kind: str = "workspaces", name: str = NAME) -> Driven:
        (root / kind).mkdir(parents=True, exist_ok=True)
        driven = Driven.new(
            root,
            MemoryStore(f"memory://{uuid4().hex}"),
            meta_dir=str(root / kind / name),
            cache_dir=str(root / "cache"),
        )
        driven.create(b"a", b"one")
        driven.commit("one")
        if changed:
            driven.create(b"b", b"in no version")
            driven.workspace.housekeep()
        return driven

    return make


def in_days(root: Path, days: float) -> list[str]:
    return [os.path.relpath(path, root) for path in tidy(str(root), time.time() + days * DAY)]


@pytest.mark.parametrize("kind", ["workspaces", "unmounted"])
def test_a_workspace_that_ended_in_order_goes_after_a_week(workspace, root: Path, kind: str) -> None:
    workspace(changed=False, kind=kind).close(keep=True)
    assert in_days(root, 6.9) == []
    assert in_days(root, 7.1) == [f"{kind}/{NAME}"]
    assert in_days(root, 8) == []
    assert WorkspaceDirectory(str(root / kind / NAME)).state() is None


@pytest.mark.parametrize("name", [NAME, NAME + "~1"])
@pytest.mark.parametrize("kind", ["workspaces", "unmounted"])
def test_what_is_in_no_version_stays_and_is_shown(workspace, root: Path, kind: str, name: str) -> None:
    driven = workspace(changed=True, kind=kind, name=name)
    driven.close(keep=True)
    assert in_days(root, 10_000) == []
    (left,) = leftovers([str(root)])
    assert (left.path, left.staged, left.files) == (driven.spec.meta_dir, 13, 3)
    assert left.aside is (kind == "unmounted" or "~" in name)


def test_what_a_killed_writer_left_is_compared_with_its_version(workspace, root: Path) -> None:
    driven = workspace(changed=False)
    shutil.copytree(driven.spec.meta_dir, root / "workspaces" / "killed-after-its-commit")
    driven.create(b"b", b"later")
    driven.workspace.housekeep()
    shutil.copytree(driven.spec.meta_dir, root / "workspaces" / "killed-later")
    driven.close()
    assert [os.path.basename(left.path) for left in leftovers([str(root)])] == ["killed-later"]
    shutil.rmtree(root / "cache" / "index")
    assert [os.path.basename(left.path) for left in leftovers([str(root)])] == ["killed-later"], "needs no cache"
    state = root / "workspaces" / "killed-after-its-commit" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "index": ""}))
    assert len(leftovers([str(root)])) == 2, "nothing to compare with: it stays"


def test_a_workspace_that_somebody_looks_at_or_has_open_stays(workspace, root: Path) -> None:
    workspace(changed=False).close(keep=True)
    with looking_at(str(root / "workspaces" / NAME)) as nobody_has_it:
        assert nobody_has_it
        assert in_days(root, 100) == []
    assert in_days(root, 100) == ["workspaces/" + NAME]


def test_a_workspace_that_was_made_anew_this_moment_stays(
    workspace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock was removed by the last user, and whoever got that too late holds nothing."""
    workspace(changed=False).close(keep=True)
    path = root / "workspaces" / NAME

    def made_anew(fd: int, how: int) -> None:
        shutil.rmtree(path)
        path.mkdir()
        for name in ("lock", "index.db"):  # a mount that begins, and has no state yet
            (path / name).touch()
        fcntl.flock(fd, how)

    monkeypatch.setattr("flyteplugins_vol.history.tidy.fcntl", SimpleNamespace(**{**vars(fcntl), "flock": made_anew}))
    assert in_days(root, 100) == []
    assert sorted(os.listdir(path)) == ["index.db", "lock"]


def test_what_was_set_aside_by_half_stays(workspace, root: Path) -> None:
    """The state is moved first, so its directory looks empty until somebody comes by the other."""
    driven = workspace(changed=True)
    driven.close(keep=True)
    aside = root / "workspaces" / f"{NAME}~1"
    aside.mkdir()
    shutil.move(root / "workspaces" / NAME / "state.json", aside)
    with looking_at(str(root / "workspaces" / NAME)):  # so that nobody does
        assert in_days(root, 100) == []
    assert in_days(root, 100) == []
    (left,) = leftovers([str(root)])
    assert (left.path, left.staged) == (str(aside), 13)


def test_a_link_is_not_followed(workspace, root: Path, tmp_path: Path) -> None:
    workspace(changed=False).close(keep=True)
    shutil.move(root / "workspaces" / NAME, tmp_path / "elsewhere")
    (root / "workspaces" / NAME).symlink_to(tmp_path / "elsewhere")
    assert in_days(root, 100) == []
    assert (tmp_path / "elsewhere" / "index.db").exists()


def test_directories_of_mounts_whose_daemon_is_gone(root: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name, pid in ((f"live{ID}", os.getpid()), (f"dead{ID}", gone.pid)):
        (root / "mounts" / name / "control").mkdir(parents=True)
        (root / "mounts" / name / "control" / f"{pid}.sock").touch()
    (root / "mounts" / f"never-mounted{ID}").mkdir()
    assert in_days(root, 6.9) == []
    assert in_days(root, 7.1) == [f"mounts/dead{ID}", f"mounts/never-mounted{ID}"]


def test_indexes_that_were_not_checked_out_to_their_end(root: Path) -> None:
    for name in ("new-abc_1234", "other"):
        (root / "cache" / "index" / name).mkdir(parents=True)
    assert in_days(root, 0.9) == []
    assert in_days(root, 1.1) == ["cache/index/new-abc_1234"]


def test_what_is_somebody_elses_is_left_alone(root: Path, tmp_path: Path) -> None:
    """A cache directory may be given that holds other things, under names of ours."""
    kept: list[Path] = []
    for kind in ("workspaces", "unmounted", "mounts", "cache/index"):
        for name, file in (("project", "index.db"), (NAME, "thesis.tex"), (f"other{ID}", ".git"), ("new-project", "x")):
            kept.append(root / kind / name / file)
            kept[-1].parent.mkdir(parents=True)
            kept[-1].write_text("precious")
    assert in_days(root, 10_000) == []
    assert all(path.read_text() == "precious" for path in kept)
    assert not list(root.rglob("lock"))
    shutil.move(root, tmp_path / "moved")
    (root / "unmounted").parent.mkdir()
    (tmp_path / "moved" / "mounts" / f"ours{ID}").mkdir()
    (root / "mounts").symlink_to(tmp_path / "moved" / "mounts")
    if os.geteuid() == 0:
        os.lchown(root / "mounts", 1234, 1234)
        assert in_days(root, 10_000) == []


def test_once_a_day_and_only_where_mounts_have_their_directories(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr("flyteplugins_vol.history.tidy.tidy", done.append)
    tidy_around(str(tmp_path / "some" / "meta"))
    assert not done
    assert not list(tmp_path.iterdir())
    tidy_around(str(root / "workspaces" / NAME))
    tidy_daily(str(root))
    assert done == [str(root)]
    os.utime(root / "cache" / "tidied", (0, 0))
    tidy_daily(str(root))
    assert done == [str(root)] * 2


SCRIPT = """
import os, signal, sys
from flyteplugins_vol.io import Volume
volume = Volume.from_name.sync("data", sys.argv[1])
volume.write_bytes.sync("b", b"in no version")
volume._access.writer.call(volume._access.writer.workspace.housekeep)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_wrote_without_a_mount_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "cache"))
    store = f"file://{tmp_path}/store"
    first = Volume.new("data", store)
    first.write_bytes.sync("a", b"one")
    first.finalize.sync()
    for _ in range(2):
        subprocess.run([sys.executable, "-c", SCRIPT, store], check=False)
    kept, dropped = RWVolume.recoverable()
    assert kept.left.aside
    assert kept.left.staged == 13
    dropped.discard.sync()
    assert not os.path.exists(dropped.path)
    version = kept.commit.sync("found again")
    assert version.read_bytes.sync("b") == b"in no version"
    version.close.sync()
    assert RWVolume.recoverable() == []
    assert os.listdir(tmp_path / "cache" / "unmounted") == []
