"""As `test_crash_points`, with files that the kernel writes by itself: open over syncs, seals and commits."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.index.database import IndexDatabase
from flyteplugins_vol.model import ROOT_INO, AttrChange
from flyteplugins_vol.workspace import passthrough, workspace
from tests.driven import ME, Driven
from tests.programs import Program, closed, commit, opened, released
from tests.reliability.test_crash_points import ALL, MAIN, SEEDS, TODAY, Run, check_run, noise, recorded
from tests.workspace.test_model import LIMITS

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

PART = 64 << 10  # bytes of a log
OF_PASSTHROUGH = [
    (passthrough, "BLOCK_SIZE", 16 << 10), (passthrough, "SEGMENT", PART),
    (passthrough, "_TINY", 2 << 10), (passthrough, "_SMALL", 8 << 10),
]  # fmt: skip


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small logs, packs, windows and files."""
    of_workspace = [(workspace, "_WAL_LIMIT", 64 << 10), (workspace, "_BURY_AFTER", 0)]
    for module, name, value in [*LIMITS, *of_workspace, *OF_PASSTHROUGH]:
        assert hasattr(module, name)
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(IndexDatabase, "keep_room", lambda *_: True)  # the recorder's disk has no end


def committed(run: Run, volume: Driven) -> None:
    commit(volume)
    run.promise(volume)


def scenario(run: Run) -> None:
    volume = run.open(MAIN)
    large, writer = opened(volume, b"large")
    os.pwrite(writer.fd, noise(1, 100_000), 0)
    run.fsync(volume)  # of two parts, which are new
    small, other = opened(volume, b"small")
    os.pwrite(other.fd, noise(2, 1_000), 0)
    volume.workspace.housekeep()
    os.pwrite(other.fd, noise(3, 3_000), 500)
    run.fsync(volume)
    released(volume, small, other)  # copied, and its backing is the next one's
    again, other = opened(volume, b"again")
    os.pwrite(other.fd, noise(4, 20_000), 0)
    volume.seal()  # nothing of what is open
    run.fsync(volume)
    committed(run, volume)  # with two files open
    os.pwrite(writer.fd, noise(5, 5_000), 70_000)
    run.fsync(volume)  # all of it is staged again
    volume.workspace.rename(ROOT_INO, b"again", ROOT_INO, b"small", 0)
    run.fsync(volume)
    volume.workspace.setattr(large, AttrChange(size=30_000), ME)
    run.fsync(volume)
    os.pwrite(writer.fd, noise(6, 10_000), 150_000)
    run.fsync(volume)  # with a hole, and another first part
    volume.workspace.housekeep()
    run.fsync(volume)
    released(volume, again, other)
    volume.seal()
    run.fsync(volume)
    gone, third = opened(volume, b"gone")
    os.pwrite(third.fd, noise(7, 40_000), 0)
    run.fsync(volume)
    volume.workspace.unlink(ROOT_INO, b"gone")
    volume.workspace.forget(gone, 1)
    run.fsync(volume)
    committed(run, volume)
    closed(volume, gone, third)
    volume.workspace.housekeep()
    os.pwrite(writer.fd, noise(8, 4_000), 0)
    released(volume, large, writer)
    run.fsync(volume)
    _, writer = opened(volume, b"last")
    os.pwrite(writer.fd, noise(9, 70_000), 0)
    volume.reopen()  # with one that is open to the end
    run.fsync(volume)
    committed(run, volume)
    volume.close(keep=True)


def by_chance(run: Run, seed: int) -> None:
    rng = random.Random(seed)
    volume = run.open(MAIN)
    names: dict[bytes, int] = {}
    programs: dict[bytes, tuple[int, Program]] = {}

    def create() -> None:
        name = b"n%d" % rng.randrange(8)
        run.touched.add(name)
        if name in names:
            unlink(name)
        ino, program = opened(volume, name)
        names[name] = ino
        programs[name] = ino, program
        write(name)

    def write(name: bytes | None = None) -> None:
        name = name or (rng.choice(sorted(programs)) if programs else None)
        if name is not None:
            run.touched.add(name)
            data = rng.randbytes(rng.choice([1, 1_000, 5_000, 20_000, 70_000]))
            os.pwrite(programs[name][1].fd, data, rng.choice([0, 500, 16_384, PART - 100, 100_000]))

    def truncate() -> None:
        if names:
            name = rng.choice(sorted(names))
            run.touched.add(name)
            volume.workspace.setattr(names[name], AttrChange(size=rng.choice([0, 100, 20_000, PART, 150_000])), ME)

    def close() -> None:
        if programs:
            name = rng.choice(sorted(programs))
            run.touched.add(name)  # what it had since the last promise comes into the rows now
            released(volume, *programs.pop(name))

    def unlink(name: bytes | None = None) -> None:
        name = name or (rng.choice(sorted(names)) if names else None)
        if name is not None:
            run.touched.add(name)
            volume.workspace.unlink(ROOT_INO, name)
            volume.workspace.forget(names.pop(name), 1)
            if name in programs:
                closed(volume, *programs.pop(name))

    def tick() -> None:
        run.touched.update(programs)
        volume.workspace.housekeep()

    def resume() -> None:
        run.touched.update(programs)
        programs.clear()
        volume.reopen()

    steps: list[Callable[[], Any]] = [*[create] * 5, *[write] * 6, truncate, *[close] * 3, unlink]
    steps += [*[lambda: run.fsync(volume)] * 5, volume.seal, tick, lambda: committed(run, volume), resume]
    for _ in range(60):
        rng.choice(steps)()
    run.fsync(volume)
    programs.clear()
    volume.close(keep=True)


@pytest.mark.timeout(900 if ALL else 120)
def test_whatever_stops_it_nothing_promised_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with recorded(tmp_path, scenario) as run:
        said = check_run(run, tmp_path, TODAY)
    with capsys.disabled():
        print(f" {said}")


@pytest.mark.timeout(120 + 600 * SEEDS if ALL else 120)
def test_nor_in_a_scenario_by_chance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = 0 if ALL else random.Random(TODAY).randrange(1 << 30)
    for seed in range(first, first + SEEDS):
        directory = tmp_path / str(seed)
        directory.mkdir()
        with recorded(directory, lambda run, seed=seed: by_chance(run, seed)) as run:
            said = check_run(run, directory, f"seed {seed}")
        with capsys.disabled():
            print(f" seed {seed}: {said}")
        shutil.rmtree(directory)
