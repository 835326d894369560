"""Volumes to explore: a small one of some versions, and the means to open the explorer on anything."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("textual", reason="the explorer needs the extra tui")

from textual.pilot import Pilot

from flyteplugins_vol.explore.app import ExplorerApp
from flyteplugins_vol.explore.screens.browse import BrowseScreen
from flyteplugins_vol.explore.sources import Choice, Shown, resolve
from flyteplugins_vol.explore.versions import Versions
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.tags import set_tag
from flyteplugins_vol.model import ROOT_INO, AttrChange
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.open import open_store
from tests.driven import ME, Driven
from tests.explore.terminal import Terminal

PRODUCER = {"run": "rk7xv2", "action": "a0", "task": "train.epoch", "url": "https://flyte.example/runs/rk7xv2"}
ODD_NAME = b"caf\xe9 \x1b[31m.txt"


@pytest.fixture(scope="session", autouse=True)
def one_release() -> Iterator[None]:
    """Pictures of records are the same whether the package is installed, and in which release."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flyteplugins_vol.history.record._software", lambda: "flyteplugins-vol")
        yield


@dataclasses.dataclass
class World:
    """A store in a scratch directory, its volumes, and this machine's caches."""

    root: Path
    store: ObjectStore
    volumes: list[Driven]

    @property
    def url(self) -> str:
        return self.store.url

    def new(self, name: str = "cats") -> Driven:
        volume = Driven.new(
            self.root / f"volume-{len(self.volumes)}", self.store, volume_name=name, author="ada",
            produced_by=PRODUCER, cache_dir=str(self.root / "writer"),
        )  # fmt: skip
        self.volumes.append(volume)
        return volume

    def lose_blocks(self) -> None:
        """Both those in the store and those on this machine; indexes stay."""
        shutil.rmtree(self.root / "store" / "packs")
        shutil.rmtree(self.root / "cache" / "cache" / "blocks")

    def lose_store(self) -> None:
        os.rename(self.root / "store", self.root / "lost")

    def find_store(self) -> None:
        os.rename(self.root / "lost", self.root / "store")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FLYTE_VOL_STORE", f"file://{tmp_path}/store")
    store = open_store(f"file://{tmp_path}/store")
    world = World(tmp_path, store, [])
    yield world
    for volume in world.volumes:
        volume.close()
    store.close()


def put(volume: Driven, path: str | bytes, data: bytes = b"", *, mtime: int = 1_700_000_000) -> int:
    """Write a file, with the directories above it."""
    raw = path.encode() if isinstance(path, str) else path
    *above, name = raw.split(b"/")
    workspace = volume.workspace
    parent = ROOT_INO
    for part in above:
        found = workspace.lookup(parent, part)
        parent = found.ino if found is not None else workspace.mkdir(parent, part, 0o755, ME).ino
    found = workspace.lookup(parent, name)
    if found is None:
        ino = volume.create(name, data, parent)
    else:
        ino = found.ino
        workspace.setattr(ino, AttrChange(size=0), ME)
        workspace.write(ino, 0, data)
    workspace.setattr(ino, AttrChange(mtime=mtime * 10**9), ME)
    return ino


def commit(volume: Driven, message: str | None = None) -> VersionRecord:
    """The record as it is read from the store."""
    return VersionRecord.from_wire(volume.commit(message).to_wire())


def png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(header))


@dataclasses.dataclass
class Cats:
    """A volume of three versions."""

    world: World
    volume: Driven
    versions: list[VersionRecord]

    @property
    def locators(self) -> list[str]:
        return [str(version.locator) for version in self.versions]

    def tag(self, version: int, name: str) -> None:
        set_tag(self.world.store, self.versions[version].locator, name)


@pytest.fixture
def cats(world: World) -> Cats:
    volume = world.new()
    put(volume, "README.md", b"# Cats\n\nPictures of *cats*.\n")
    put(volume, "images/bengal/one.png", png(640, 480) + bytes(2000), mtime=1_700_000_100)
    put(volume, "images/bengal/two.png", png(64, 48), mtime=1_700_000_200)
    put(volume, "train.py", b"import flyte\n\nprint('hello')\n")
    first = commit(volume, "import the pictures")
    put(volume, "weights.bin", bytes(range(256)) * 40)
    second = commit(volume, "epoch 1")
    put(volume, b"odd/" + ODD_NAME, b"odd\n")
    put(volume, "train.py", b"import flyte\n\nprint('good bye')\n")
    volume.workspace.symlink(ROOT_INO, b"latest", b"weights.bin", ME)
    directory = volume.find(b"images/bengal")
    volume.workspace.unlink(directory.ino, b"two.png")
    third = commit(volume, "odd names")
    return Cats(world, volume, [first, second, third])


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is missing: install the package tmux")
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


@dataclasses.dataclass
class Driver:
    """The explorer, driven by keys."""

    app: ExplorerApp
    pilot: Pilot[object]

    @property
    def browse(self) -> BrowseScreen:
        assert self.app.browse is not None
        return self.app.browse

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def settle(self) -> None:
        """Until no worker runs and no message waits, some ticks in a row."""
        quiet = 0
        while quiet < 2:
            await self.pilot.pause()
            busy = any(worker.is_running and worker.group != "dialog" for worker in self.app.workers)
            quiet = 0 if busy else quiet + 1
            if quiet == 0:
                await self.pilot.pause(0.01)

    async def until(self, holds: Callable[[], object]) -> None:
        for _ in range(500):
            if holds():
                return
            await self.pilot.pause(0.01)
        raise AssertionError(f"it did not come to that:\n{self.text}")

    @property
    def text(self) -> str:
        """What the screen shows, without colours."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)

    @property
    def words(self) -> str:
        """The same in one line: where a message breaks is up to the lengths of paths in it."""
        return " ".join(re.sub(r"[│▌]", " ", self.text).split())


@contextlib.asynccontextmanager
async def exploring(
    target: str | None = None, *, store: str | None = None, from_file: str | Path | None = None,
    size: tuple[int, int] = (80, 24), source: Callable[..., Shown | Choice] | None = None,
) -> AsyncIterator[Driver]:  # fmt: skip
    """The explorer on a target, once its files are shown."""
    file = str(from_file) if from_file is not None else None
    app = ExplorerApp(source or (lambda note: resolve(target, store, file, note)))
    async with app.run_test(size=size, notifications=True) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: (app.browse is not None and app.browse.is_mounted) or not app.is_running)
        await driver.settle()
        yield driver


def still(text: str) -> str:
    """A screen without what differs from run to run: times, hashes, scratch directories."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", lambda m: "YYYY-MM-DD hh:mm:ss"[: len(m[0])], text)
    text = re.sub(r"(?<=│)\d\d$", "mm", text, flags=re.MULTILINE)  # of a time behind a dialog
    text = re.sub(r"(?<=v\d )[0-9a-f]{7}\b", "hhhhhhh", text)
    text = re.sub(r"(?<=v\d   )[0-9a-f]{7}\b", "hhhhhhh", text)
    text = re.sub(r" +\d+ (s|min)\b", lambda m: "now".rjust(len(m[0])), text)
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if (at := line.find("file://")) >= 0:  # a locator, wrapped over some lines
            lines[number : number + 4] = [line[:at].rstrip() for line in lines[number : number + 4]]
    return "\n".join(lines)


def index_of(world: World, record: VersionRecord) -> str:
    versions = Versions(world.url)
    try:
        return versions.index(record)
    finally:
        versions.close()
