"""What is measured: each case is a function of a target and a scale, and returns one sample for each metric."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from volume_bench.measure import Clock, Written
from volume_bench.targets import Target

MIB = 1 << 20
PAGE = 4096
SMALL = 1024
PER_DIRECTORY = 100
RANDOM_READS = 4_000
RANDOM_WRITES = 20_000


@dataclass(frozen=True)
class Scale:
    """How much of it: bytes of the large file, number of small files, number of files in the volume to mount."""

    bytes: int = 512 << 20
    files: int = 10_000
    many: int = 50_000


@dataclass(frozen=True)
class Metric:
    """One line of the table. A unit of ``s`` is a duration (less is better), any other a rate (more is better)."""

    title: str
    unit: str
    goal_ratio: float | None = None  # least speed as a share of the local disk's
    goal_puts: int | None = None  # most objects written


@dataclass(frozen=True)
class Sample:
    value: float
    written: Written | None = None


Samples = dict[str, Sample]


@dataclass(frozen=True)
class Case:
    name: str
    metrics: dict[str, Metric]
    run: Callable[[Target, Scale], Samples]
    local: bool = True  # False: the local disk has nothing to compare with

    def matches(self, name: str) -> bool:
        return name == self.name or name in self.metrics


CASES: list[Case] = []


def case(metrics: dict[str, Metric], *, local: bool = True) -> Callable[[Callable[[Target, Scale], Samples]], Case]:
    def register(run: Callable[[Target, Scale], Samples]) -> Case:
        CASES.append(Case(run.__name__.replace("_", "-"), metrics, run, local))
        return CASES[-1]

    return register


# --- writing ---------------------------------------------------------------------------------------------------


@case({
    "write-seq": Metric("Sequential write, 1 MiB at a time", "MB/s", goal_ratio=0.25),
    "commit-large": Metric("Commit of that file", "MB/s"),
})  # fmt: skip
def large_file(target: Target, scale: Scale) -> Samples:
    writing, saving = Clock(), Clock()
    with target.empty() as path:
        target.written()
        with writing.running():
            write_large(path / "large", scale.bytes)
        with saving.running():
            target.save()
        written = target.written()
    return {
        "write-seq": Sample(scale.bytes / writing.seconds / 1e6),
        "commit-large": Sample(scale.bytes / saving.seconds / 1e6, written),
    }


@case({
    "create": Metric("Create small files (1 KB)", "files/s", goal_ratio=0.2),
    "commit-small": Metric("Commit of those", "s", goal_puts=10),
    "commit-ten": Metric("Commit after a change of ten of them", "s", goal_puts=4),
    "remove": Metric("rm -r of all", "files/s"),
})  # fmt: skip
def small_files(target: Target, scale: Scale) -> Samples:
    creating, saving, saving_ten, removing = Clock(), Clock(), Clock(), Clock()
    with target.empty() as path:
        target.written()
        with creating.running():
            write_small(path / "small", scale.files)
        with saving.running():
            target.save()
        written = target.written()
        for file in sorted(entries(path / "small"))[5 :: scale.files // 10][:10]:
            Path(file).write_bytes(os.urandom(SMALL))
        with saving_ten.running():
            target.save()
        written_ten = target.written()
        with removing.running():
            subprocess.run(["rm", "-r", str(path / "small")], check=True)
    return {
        "create": Sample(scale.files / creating.seconds),
        "commit-small": Sample(saving.seconds, written),
        "commit-ten": Sample(saving_ten.seconds, written_ten),
        "remove": Sample(scale.files / removing.seconds),
    }


@case({"write-rand": Metric("Random 4 KB writes in a large file", "writes/s")})
def random_writes(target: Target, scale: Scale) -> Samples:
    state = target.prepared("large", lambda path: write_large(path / "large", scale.bytes))
    target.forget()
    clock = Clock()
    chance = random.Random(7)
    page = chance.randbytes(PAGE)
    with target.opened(state, writable=True) as path, clock.running(), (path / "large").open("r+b", 0) as file:
        for _ in range(RANDOM_WRITES):
            os.pwrite(file.fileno(), page, chance.randrange(scale.bytes // PAGE) * PAGE)
    return {"write-rand": Sample(RANDOM_WRITES / clock.seconds)}


# --- mounting and looking --------------------------------------------------------------------------------------


@case({"mount-100": Metric("Mount a version of 100 files", "s")}, local=False)
def mount_few(target: Target, scale: Scale) -> Samples:
    return {"mount-100": Sample(mounting(target, 100))}


@case({"mount-many": Metric("Mount a version of {many:,} files", "s")}, local=False)
def mount_many(target: Target, scale: Scale) -> Samples:
    return {"mount-many": Sample(mounting(target, scale.many))}


def mounting(target: Target, files: int) -> float:
    """Seconds from a locator to the first answer of the mount, with nothing held locally."""
    state = target.prepared(f"{files} files", lambda path: write_small(path / "small", files))
    target.forget()
    clock = Clock()
    with clock.running():
        opened = target.opened(state)
        path = opened.__enter__()
        os.listdir(path)
    opened.__exit__(None, None, None)
    return clock.seconds


@case({
    "fork": Metric("Fork a version of {files:,} files", "s", goal_puts=1),
    "fork-published": Metric("The same, and publish the fork's first version", "s"),
}, local=False)  # fmt: skip
def fork(target: Target, scale: Scale) -> Samples:
    state = target.prepared(f"{scale.files} files", lambda path: write_small(path / "small", scale.files))
    target.written()
    clock = Clock()
    with clock.running():
        publish = target.fork(state)
    samples: Samples = {"fork": Sample(clock.seconds, target.written())}
    with clock.running():
        publish()
    return samples | {"fork-published": Sample(clock.seconds, target.written())}


@case({
    "stat-cold": Metric("Traverse and stat, right after the mount", "files/s"),
    "stat-warm": Metric("The same again", "files/s", goal_ratio=0.4),
    "small-cold": Metric("Read all small files, cold", "files/s"),
    "small-warm": Metric("The same again", "files/s"),
})  # fmt: skip
def looking(target: Target, scale: Scale) -> Samples:
    state = target.prepared(f"{scale.files} files", lambda path: write_small(path / "small", scale.files))
    clocks = {name: Clock() for name in ("stat-cold", "stat-warm", "small-cold", "small-warm")}
    target.forget()
    with target.opened(state) as path:
        for name in ("stat-cold", "stat-warm"):
            with clocks[name].running():
                found = sum(1 for _ in entries(path))
            assert found == scale.files, f"{found} files instead of {scale.files}"
        files = sorted(entries(path))
        for name in ("small-cold", "small-warm"):
            with clocks[name].running():
                for file in files:
                    read_small(file)
    return {name: Sample(scale.files / clock.seconds) for name, clock in clocks.items()}


# --- reading ---------------------------------------------------------------------------------------------------


@case({
    "read-seq-cold": Metric("Sequential read, cold", "MB/s"),
    "read-seq-disk": Metric("The same from the local cache", "MB/s"),
    "read-seq-warm": Metric("The same from the page cache", "MB/s"),
})  # fmt: skip
def reading(target: Target, scale: Scale) -> Samples:
    state = target.prepared("large", lambda path: write_large(path / "large", scale.bytes))
    target.forget()
    clocks = {name: Clock() for name in ("read-seq-cold", "read-seq-disk", "read-seq-warm")}
    with target.opened(state) as path:
        for name, clock in clocks.items():
            if name == "read-seq-disk":
                target.forget_pages()
            with clock.running():
                read_large(path / "large")
    return {name: Sample(scale.bytes / clock.seconds / 1e6) for name, clock in clocks.items()}


@case({
    "read-rand-cold": Metric("Random 4 KB reads, cold", "reads/s"),
    "read-rand-warm": Metric("The same again", "reads/s"),
})  # fmt: skip
def random_reads(target: Target, scale: Scale) -> Samples:
    state = target.prepared("large", lambda path: write_large(path / "large", scale.bytes))
    target.forget()
    chance = random.Random(11)
    offsets = [chance.randrange(scale.bytes // PAGE) * PAGE for _ in range(RANDOM_READS)]
    clocks = {name: Clock() for name in ("read-rand-cold", "read-rand-warm")}
    with target.opened(state) as path, (path / "large").open("rb", 0) as file:
        for clock in clocks.values():
            with clock.running():
                for offset in offsets:
                    assert len(os.pread(file.fileno(), PAGE, offset)) == PAGE
    return {name: Sample(RANDOM_READS / clock.seconds) for name, clock in clocks.items()}


# --- the work itself -------------------------------------------------------------------------------------------


def write_large(path: Path, size: int) -> None:
    """Bytes that neither compress nor repeat, here or in an earlier run: each MiB of the noise gets its number."""
    noise = bytearray(os.urandom(4 * MIB))
    pieces = [memoryview(noise)[at : at + MIB] for at in range(0, len(noise), MIB)]
    with path.open("wb", buffering=0) as file:
        for number in range(size // MIB):
            piece = pieces[number % len(pieces)]
            piece[:8] = number.to_bytes(8, "big")
            file.write(piece)


def read_large(path: Path) -> None:
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def write_small(path: Path, files: int) -> None:
    """Files of 1 KB, no two of them equal, here or in an earlier run; 100 to a directory."""
    noise = os.urandom(64 * SMALL)
    path.mkdir()
    for number in range(files):
        directory = f"{path}/{number // PER_DIRECTORY:05}"
        if number % PER_DIRECTORY == 0:
            os.mkdir(directory)
        at = number % (63 * SMALL)
        descriptor = os.open(f"{directory}/{number:07}.txt", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, number.to_bytes(8, "big") + noise[at : at + SMALL - 8])
        os.close(descriptor)


def read_small(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    assert len(os.read(descriptor, 2 * SMALL)) == SMALL
    os.close(descriptor)


def entries(path: Path | str) -> Iterator[str]:
    """Every file below ``path``, each stat'ed, as `find -size` would do it."""
    with os.scandir(path) as directory:
        for entry in directory:
            if entry.is_dir(follow_symlinks=False):
                yield from entries(entry.path)
            else:
                assert entry.stat(follow_symlinks=False).st_size == SMALL
                yield entry.path
