"""A workspace that has not committed for days sees to it that nothing it names was deleted meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flyteplugins_vol.errors import ObjectMissingError
from flyteplugins_vol.history import commit as commit_module
from flyteplugins_vol.history.marks import create_list, write_marks
from flyteplugins_vol.history.session import Session, open_session
from flyteplugins_vol.model import Caller, MountSpec
from flyteplugins_vol.store.fetch import Miss
from flyteplugins_vol.store.local import LocalStore

ME = Caller(0, 0, 0o022)


class Driver:
    """A session without a mount."""

    def __init__(self, root: Path, **spec) -> None:
        self._lock = threading.RLock()
        fields = {"meta_dir": str(root / "meta"), "cache_dir": str(root / "cache"), "mount_path": "", **spec}
        self.session: Session = open_session(
            MountSpec(volume_id="0123456789abcdef", volume_name="v", store_url=f"file://{root}/store", **fields),
            self.call,
            lambda event: None,
        )
        self.workspace = self.session.workspace

    def call(self, fn, *args):
        with self._lock:
            return fn(*args)

    def write(self, name: bytes, data: bytes) -> None:
        inode = self.workspace.lookup(1, name) or self.workspace.mknod(1, name, 0o100644, 0, ME)
        self.workspace.write(inode.ino, 0, data)

    def read(self, name: bytes) -> bytes:
        inode = self.workspace.lookup(1, name)
        assert inode is not None
        while isinstance(data := self.workspace.read(inode.ino, 0, inode.size), Miss):
            self.session.fetcher.fetch(data).result()
        return data

    def commit(self, message: str):
        nothing = lambda *_: None  # noqa: E731
        return self.session.commit(message, self.call, nothing, nothing, nothing)


def test_packs_that_no_version_names_are_stored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(tmp_path)
    driver.write(b"old", b"in the first version" * 100)
    driver.commit("one")
    before = _packs(tmp_path)
    driver.write(b"new", b"uploaded, then left alone for days" * 100)
    assert driver.session.sealer.run_once(True)
    (left,) = _packs(tmp_path) - before
    monkeypatch.setattr(commit_module, "_TRUSTED", -1.0)
    version = driver.commit("two")
    driver.session.close(keep=False)

    (again,) = _packs(tmp_path) - before - {left}
    left.unlink()  # as a deleter may
    reader = Driver(tmp_path, base=str(version.locator), read_only=True, cache_dir=str(tmp_path / "cold"))
    assert reader.read(b"new") == b"uploaded, then left alone for days" * 100
    assert reader.read(b"old") == b"in the first version" * 100
    assert again.name != left.name
    reader.session.close(keep=False)


def test_a_base_that_is_gone_is_not_relied_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it named may be about to go as well: the index is stored anew, and what was marked for deletion."""
    driver = Driver(tmp_path)
    for number in range(1500):  # an index of many segments, of which the next one shares most
        driver.write(b"%d" % number, b"")
    driver.write(b"old", b"x" * 1000)
    base = driver.commit("one")
    before = _packs(tmp_path)
    driver.write(b"new", b"y" * 1000)
    monkeypatch.setattr(commit_module, "_TRUSTED", -1.0)
    (tmp_path / "store" / base.locator.key).unlink()
    with LocalStore(f"file://{tmp_path}/store", str(tmp_path / "store")) as store:
        keys = [f"packs/{path.parent.name}/{path.name}" for path in before]
        assert write_marks(store, [create_list(store, keys)], None)
    version = driver.commit("two")
    driver.session.close(keep=False)
    for path in before:
        path.unlink()  # as the collection does that marked it
    for item in base.index.objects:
        (tmp_path / "store" / "index" / item.name[:2] / item.name).unlink()
    reader = Driver(tmp_path, base=str(version.locator), read_only=True, cache_dir=str(tmp_path / "cold"))
    assert (reader.read(b"old"), reader.read(b"new")) == (b"x" * 1000, b"y" * 1000)
    reader.session.close(keep=False)


def test_what_is_gone_with_its_base_stops_the_commit_and_keeps_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(tmp_path)
    driver.write(b"old", b"x")
    base = driver.commit("one")
    driver.write(b"new", b"y")
    monkeypatch.setattr(commit_module, "_TRUSTED", -1.0)
    record, (pack,) = tmp_path / "store" / base.locator.key, _packs(tmp_path)
    record.unlink()
    content = pack.read_bytes()
    pack.unlink()
    with LocalStore(f"file://{tmp_path}/store", str(tmp_path / "store")) as store:
        key = f"packs/{pack.parent.name}/{pack.name}"
        assert write_marks(store, [create_list(store, [key])], None)
    for _ in range(2):
        with pytest.raises(ObjectMissingError, match=pack.name) as caught:
            driver.commit("two")
        assert "copy the files" in caught.value.hint
    assert driver.read(b"new") == b"y"
    pack.write_bytes(content)
    assert driver.commit("two").sequence == 2
    driver.session.close(keep=False)


def _packs(root: Path) -> set[Path]:
    return {path for path in (root / "store" / "packs").rglob("*") if path.is_file()}
