"""What mounts, commits and reads cost as files, bytes, depth, versions and forks become more."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from flyteplugins_vol.io import ROVolume, Volume
from volume_bench.bulk import BULK_SIZE, PER_DIRECTORY
from volume_bench.curve import Curve, Line, timed
from volume_bench.measure import Clock, peak_of_daemons
from volume_bench.targets import VolumeTarget
from volume_bench.work import MIB, PAGE, count, read_large, write_large

_RUNS = 3
_READS = 100


def by_files(volume: VolumeTarget, sizes: Sequence[int]) -> Curve:
    """Files of a version, up to a million."""
    curve = Curve("files", "Files of a volume", "files", {
        "mount": Line("mount, nothing cached", "s"),
        "traverse": Line("traverse and stat, first time", "files/s"),
        "stat": Line("stat of a random file, first time", "ms"),
        "ten": Line("commit after ten changed", "s"),
        "sent": Line("bytes that this commit sends", "MB"),
        "fork": Line("fork and publish", "s"),
        "memory": Line("memory of the daemon, mounted", "MB"),
        "seen": Line("memory of the daemon, all traversed", "MB"),
    })  # fmt: skip
    for files in sizes:
        _one_number_of_files(curve, volume, files)
    return curve


def _one_number_of_files(curve: Curve, volume: VolumeTarget, files: int) -> None:
    state = volume.prepared_bulk(files)
    some = [bulk_path(number) for number in random.Random(3).sample(range(files), _READS)]
    curve.add(files, mount=_cold(volume, state, os.listdir), fork=timed(_forked, volume, state, runs=_RUNS))
    volume.forget()
    with volume.opened(state) as path:
        curve.add(files, memory=peak_of_daemons() / 1e6, stat=timed(_stat, path, some) / _READS * 1000)
        curve.add(files, traverse=files / timed(count, path, BULK_SIZE), seen=peak_of_daemons() / 1e6)
    curve.add(files, **_ten_changed(volume, state, some[:10]))


def by_bytes(volume: VolumeTarget, sizes: Sequence[int]) -> Curve:
    """MiB of one file."""
    curve = Curve("bytes", "Bytes of a file", "MiB", {
        "write": Line("sequential write", "MB/s"),
        "commit": Line("commit of it", "MB/s"),
        "page": Line("commit after 4 KB in it changed", "s"),
        "sent": Line("bytes that this commit sends", "MB"),
        "first": Line("mount, and read its first 4 KB", "s"),
        "read": Line("sequential read, cold", "MB/s"),
        "random": Line("random read of 4 KB, cold", "ms"),
    })  # fmt: skip
    for size in sizes:
        _one_file(curve, volume, size)
    return curve


def _one_file(curve: Curve, volume: VolumeTarget, size: int) -> None:
    megabytes = size * MIB / 1e6
    with volume.empty() as path:
        file = path / "file"
        curve.add(size, write=megabytes / timed(write_large, file, size * MIB))
        curve.add(size, commit=megabytes / timed(volume.save))
        volume.traffic()
        with file.open("r+b") as opened:
            opened.seek(size * MIB // 2)
            opened.write(os.urandom(PAGE))
        clock = Clock()
        with clock.running():
            state = volume.save()
        curve.add(size, page=clock.seconds, sent=volume.traffic().sent / 1e6)
    curve.add(size, first=_cold(volume, state, lambda path: (path / "file").open("rb", 0).read(PAGE)))
    volume.forget()
    with volume.opened(state) as path:
        file = path / "file"
        curve.add(size, read=megabytes / timed(read_large, file))
    volume.forget()
    with volume.opened(state) as path, (path / "file").open("rb", 0) as opened:
        chance = random.Random(size)
        offsets = [chance.randrange(size * MIB // PAGE) * PAGE for _ in range(_READS)]
        descriptor = opened.fileno()
        curve.add(size, random=timed(lambda: [os.pread(descriptor, PAGE, at) for at in offsets]) / _READS * 1000)


def by_depth(volume: VolumeTarget, sizes: Sequence[int]) -> Curve:
    """Directories inside one another."""
    curve = Curve("depth", "Depth of directories", "directories deep", {
        "make": Line("make the directories", "ms"),
        "cold": Line("stat at the bottom, first time", "ms"),
        "warm": Line("the same again", "ms"),
        "rename": Line("rename of the topmost directory", "ms"),
        "commit": Line("commit after a change at the bottom", "s"),
    })  # fmt: skip
    for depth in sizes:
        _one_depth(curve, volume, depth)
    return curve


def _one_depth(curve: Curve, volume: VolumeTarget, depth: int) -> None:
    below = "/".join("d" * depth)
    with volume.empty() as path:
        file = path / below / "file"
        curve.add(depth, make=timed(_make_directories, path, depth) * 1000)
        file.write_bytes(b"1")
        volume.save()
        file.write_bytes(b"2")
        clock = Clock()
        with clock.running():
            state = volume.save()
        curve.add(depth, commit=clock.seconds)
    volume.forget()
    with volume.opened(state, writable=True) as path:
        file = path / below / "file"
        curve.add(depth, cold=timed(os.stat, file) * 1000, warm=timed(os.stat, file, runs=_READS) * 1000)
        curve.add(depth, rename=timed(os.rename, path / "d", path / "e") * 1000)


def by_versions(volume: VolumeTarget, sizes: Sequence[int]) -> Curve:
    """Versions of one volume: one file of a thousand changes before each."""
    curve = Curve("versions", "Versions of a volume", "versions", {
        "commit": Line("one more commit, one file changed", "s"),
        "sent": Line("bytes that it sends", "MB"),
        "mount": Line("mount of the last version, nothing cached", "s"),
        "first": Line("mount of the first version", "s"),
    })  # fmt: skip
    writer = Volume.new("versions", store=volume.store)
    with writer.batch_upload() as batch:
        for number in range(1000):
            batch.put_file(_bytes(number), f"/{number // 100:02}/{number:04}")
    first = str(writer.commit.sync("first").locator)
    volume.traffic()
    for number in range(2, max(sizes) + 1):
        writer.write_bytes.sync(f"/{number % 10:02}/{number * 7 % 1000:04}", os.urandom(1024))
        clock = Clock()
        with clock.running():
            version = writer.commit.sync(f"change {number}")
        if number in sizes:
            sent = version.stats["new_index_bytes"] + version.stats["new_pack_bytes"]
            state = str(version.locator)
            curve.add(number, commit=clock.seconds, sent=sent / 1e6)
            curve.add(number, mount=_cold(volume, state, os.listdir), first=_cold(volume, first, os.listdir))
    writer.abandon.sync()
    return curve


def by_forks(volume: VolumeTarget, sizes: Sequence[int]) -> Curve:
    """Forks of one version of ten thousand files, and forks of forks."""
    curve = Curve("forks", "Forks of a version", "forks", {
        "fork": Line("one more fork of the same version, published", "s"),
        "chain": Line("fork of the last fork, published", "s"),
        "mount": Line("mount of the last in the chain, nothing cached", "s"),
        "stored": Line("bytes stored for each fork", "KB"),
    })  # fmt: skip
    state = volume.prepared_bulk(10_000)
    last = state
    volume.traffic()
    for number in range(1, max(sizes) + 1):
        clock, chained = Clock(), Clock()
        with clock.running():
            volume.fork(state)()
        with chained.running():
            last = _locator(volume.fork(last)())
        if number in sizes:
            stored = volume.traffic().sent
            made = 2 * (number - max((size for size in sizes if size < number), default=0))
            curve.add(number, fork=clock.seconds, chain=chained.seconds, stored=stored / made / 1e3)
            curve.add(number, mount=_cold(volume, last, os.listdir))
            volume.traffic()
    return curve


def bulk_path(number: int) -> str:
    return f"part-{number // PER_DIRECTORY:05}/{number:08}.txt"


def _cold(volume: VolumeTarget, state: str, use: Callable[[Path], object]) -> float:
    """Seconds from a locator to a mount that was used, with nothing held locally: the median of three."""

    def once() -> float:
        volume.forget()
        clock = Clock()
        with clock.running():
            opened = volume.opened(state)
            path = opened.__enter__()
            use(path)
        opened.__exit__(None, None, None)
        return clock.seconds

    return sorted(once() for _ in range(_RUNS))[_RUNS // 2]


def _ten_changed(volume: VolumeTarget, state: str, paths: Sequence[str]) -> dict[str, float]:
    volume.forget()
    with volume.opened(state, writable=True) as root:
        for path in paths:
            (root / path).write_bytes(os.urandom(1024))
        volume.traffic()
        seconds = timed(volume.save)
        return {"ten": seconds, "sent": volume.traffic().sent / 1e6}


def _make_directories(path: Path, depth: int) -> None:
    """One by one: `os.makedirs` calls itself for each, and Python ends that at a thousand."""
    for _ in range(depth):
        path = path / "d"
        path.mkdir()


def _forked(volume: VolumeTarget, state: str) -> object:
    return volume.fork(state)()


def _stat(root: Path, paths: Sequence[str]) -> None:
    for path in paths:
        os.stat(f"{root}/{path}")


def _bytes(number: int) -> io.BytesIO:
    return io.BytesIO(number.to_bytes(8, "big") * 128)


def _locator(version: object) -> str:
    assert isinstance(version, ROVolume)
    assert version.locator is not None
    return version.locator
