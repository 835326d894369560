"""The progress bar: where it is drawn, and what it makes of what methods tell."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from flyteplugins_vol.io import ProgressBar, Retention, RWVolume
from tests.io.conftest import World, committed


def terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=120, color_system=None)


def seen(console: Console) -> str:
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


METHODS: dict[str, tuple[Callable[[World, RWVolume, ProgressBar], Any], str]] = {
    "commit": (lambda world, volume, bar: volume.commit.sync("m", progress=bar), "publishing the version"),
    "finalize": (lambda world, volume, bar: asyncio.run(volume.finalize("m", progress=bar)), "publishing the version"),
    "download": (lambda world, volume, bar: volume.download.sync("a", world.path("a"), progress=bar), "2.9/5.9 KiB"),
    "copy": (
        lambda world, volume, bar: volume.log.sync()[0].copy_to.sync(f"{world.store}-2", progress=bar),
        "publishing the version",
    ),
    "verify": (lambda world, volume, bar: volume.verify.sync(deep=True, progress=bar), "a title"),
    "prune": (lambda world, volume, bar: volume.prune.sync(Retention(last=1), progress=bar), "1/1"),
    "space": (lambda world, volume, bar: volume.space.sync(progress=bar), "2/2"),
}


@pytest.mark.parametrize("name", METHODS)
def test_what_takes_a_progress_moves_it(world: World, name: str) -> None:
    volume = committed(world, "one", "two")
    volume.write_bytes.sync("a", bytes(3000))
    console = terminal()
    call, text = METHODS[name]
    with ProgressBar("a title", 6000, console=console) as bar:
        call(world, volume, bar)
    assert text in seen(console)
    assert bar.bytes == (3000 if name == "download" else 0)


def test_uploads_and_what_is_left_out(world: World) -> None:
    local = world.path("local")
    local.mkdir()
    (local / "file").write_bytes(bytes(5000))
    os.mkfifo(local / "fifo")
    with ProgressBar("putting", console=terminal()) as bar:
        volume = world.new()
        with volume.batch_upload(progress=bar) as batch:
            batch.put_directory(local, "d")
        volume.commit.sync(progress=bar)
    assert (bar.bytes, bar.skipped, bar.first_skipped) == (5000, 1, str(local / "fifo"))


@pytest.mark.parametrize("quiet", [False, True])
def test_it_is_silent_where_nobody_looks(world: World, quiet: bool) -> None:
    console = terminal() if quiet else Console(file=StringIO())
    volume = committed(world, "one")
    with ProgressBar("getting", console=console, quiet=quiet) as bar:
        volume.download.sync("a", world.path("a"), progress=bar)
    assert (seen(console), bar.bytes) == ("", 3)


def test_it_ends_with_an_error(world: World) -> None:
    console = terminal()
    with pytest.raises(FileNotFoundError), ProgressBar("getting", console=console) as bar:
        committed(world, "one").download.sync("nowhere", world.path("a"), progress=bar)
    assert seen(console).endswith("\x1b[2K"), "the line is gone"


@pytest.mark.fuse
def test_a_mount_s_commit_moves_it(world: World) -> None:
    volume = world.new()
    (volume.mount.sync() / "a").write_bytes(bytes(range(256)) * 4000)
    console = terminal()
    with ProgressBar("publishing", console=console) as bar:
        volume.commit.sync(progress=bar)
    assert "publishing the version" in seen(console)


def test_rich_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, flyteplugins_vol.io as io; io.ProgressBar('x'); assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
