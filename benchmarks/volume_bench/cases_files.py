"""Files: written, committed, looked at and read, beside the local disk; what crosses to the store, beside obstore."""

from __future__ import annotations

import os
import random
import subprocess

from volume_bench.case import Goal, Metric, Sample, Samples, Scale, case
from volume_bench.cpu import CpuClock
from volume_bench.direct import DirectTarget
from volume_bench.measure import Traffic
from volume_bench.targets import Target
from volume_bench.work import (
    PAGE,
    SMALL,
    count,
    entries,
    read_large,
    read_small,
    rewrite_ten,
    write_large,
    write_small,
)

RANDOM_READS = 4_000
RANDOM_WRITES = 10_000


def _put_large(direct: DirectTarget, scale: Scale) -> Samples:
    return {"commit-large": Sample.rate(scale.bytes / 1e6, direct.putting(scale.bytes))}


def _get_large(direct: DirectTarget, scale: Scale) -> Samples:
    state = direct.volume.prepared("large", lambda path: write_large(path / "large", scale.bytes))
    return {"read-seq-cold": Sample.rate(scale.bytes / 1e6, direct.getting(state))}


# --- writing ---------------------------------------------------------------------------------------------------


@case({
    "write-seq": Metric(
        "Sequential write, 1 MiB at a time", "MB/s", Goal(local=0.5, peer=2), passed_goal=Goal(local=0.8, peer=3)
    ),
    "commit-large": Metric(
        "Commit of {bytes} right after writing it", "MB/s", Goal(store=0.9), passed_goal=Goal(), beside_peer=False
    ),
    "write-saved": Metric("Write {bytes} and commit", "MB/s", passed_goal=Goal()),
}, store=True, direct=_put_large)  # fmt: skip
def large_file(target: Target, scale: Scale) -> Samples:
    writing, saving = CpuClock(), CpuClock()
    with target.empty() as path:
        target.traffic()
        with writing.running():
            write_large(path / "large", scale.bytes)
        with saving.running():
            target.save()
        traffic = target.traffic()
    return {
        "write-seq": Sample.rate(scale.bytes / 1e6, writing),
        "commit-large": Sample.rate(scale.bytes / 1e6, saving, traffic),
        "write-saved": Sample(scale.bytes / (writing.seconds + saving.seconds) / 1e6, traffic),
    }


@case({
    "create": Metric(
        "Create {files:,} files of 1 KB", "files/s", Goal(local=0.5, peer=10), Goal(local=0.7, default=1.5), Goal()
    ),
    "commit-small": Metric(
        "Commit of {files:,} new files of 1 KB", "s", Goal(most=1.0, trips=5, puts=6), beside_peer=False
    ),
    "create-saved": Metric("Create and commit them", "files/s"),
    "commit-ten": Metric("Commit after ten of them changed", "s", Goal(puts=4), beside_peer=False),
    "remove": Metric("rm -r of them", "files/s", Goal(local=0.3, peer=5)),
}, store=True)  # fmt: skip
def small_files(target: Target, scale: Scale) -> Samples:
    creating, saving, saving_ten, removing = CpuClock(), CpuClock(), CpuClock(), CpuClock()
    with target.empty() as path:
        target.traffic()
        with creating.running():
            write_small(path / "small", scale.files)
        with saving.running():
            target.save()
        traffic = target.traffic()
        rewrite_ten(path / "small")
        with saving_ten.running():
            target.save()
        traffic_ten = target.traffic()
        with removing.running():
            subprocess.run(["rm", "-r", str(path / "small")], check=True)
    return {
        "create": Sample.rate(scale.files, creating),
        "commit-small": Sample.duration(saving, traffic),
        "create-saved": Sample(scale.files / (creating.seconds + saving.seconds), traffic),
        "commit-ten": Sample.duration(saving_ten, traffic_ten),
        "remove": Sample.rate(scale.files, removing),
    }


@case(
    {
        "write-rand": Metric(
            "Random 4 KB writes in a file of {bytes}", "writes/s", Goal(local=0.3, peer=10), passed_goal=Goal()
        )
    }
)
def random_writes(target: Target, scale: Scale) -> Samples:
    state = target.prepared("large", lambda path: write_large(path / "large", scale.bytes))
    target.forget()
    clock = CpuClock()
    chance = random.Random(7)
    page = chance.randbytes(PAGE)
    with target.opened(state, writable=True) as path, clock.running(), (path / "large").open("r+b", 0) as file:
        for _ in range(RANDOM_WRITES):
            os.pwrite(file.fileno(), page, chance.randrange(scale.bytes // PAGE) * PAGE)
    return {"write-rand": Sample.rate(RANDOM_WRITES, clock)}


# --- looking ---------------------------------------------------------------------------------------------------


@case({
    "stat-cold": Metric(
        "Traverse and stat {files:,} files, right after the mount", "files/s",
        Goal(local=0.3, peer=4), Goal(local=0.3, default=1.5), brief="Traverse and stat, first time",
    ),
    "stat-warm": Metric(
        "The same again", "files/s", Goal(local=0.6, peer=4), Goal(local=0.6), brief="Traverse and stat, again"
    ),
    "small-cold": Metric("Read {files:,} files of 1 KB, cold", "files/s", Goal(peer=10, gets_per_pack=2)),
    "small-warm": Metric("The same again", "files/s", Goal(local=0.5, peer=10), brief="Read small files, again"),
}, store=True)  # fmt: skip
def looking(target: Target, scale: Scale) -> Samples:
    state = target.prepared("small", lambda path: write_small(path / "small", scale.files))
    clocks = {name: CpuClock() for name in ("stat-cold", "stat-warm", "small-cold", "small-warm")}
    traffic: dict[str, Traffic | None] = {}
    target.forget()
    with target.opened(state) as path:
        for name in ("stat-cold", "stat-warm"):
            with clocks[name].running():
                found = count(path, SMALL)
            assert found == scale.files, f"{found} files instead of {scale.files}"
        files = sorted(file for file, _ in entries(path))
        target.traffic()
        for name in ("small-cold", "small-warm"):
            with clocks[name].running():
                for file in files:
                    read_small(file)
            traffic[name] = target.traffic()
    packs = target.packs(state)
    return {name: Sample.rate(scale.files, clock, traffic.get(name), packs) for name, clock in clocks.items()}


# --- reading ---------------------------------------------------------------------------------------------------


@case({
    "read-seq-cold": Metric("Sequential read of {bytes}, cold", "MB/s", Goal(store=0.9)),
    "read-seq-disk": Metric("The same from the local cache", "MB/s", brief="Sequential read, local cache"),
    "read-seq-warm": Metric("The same from the page cache", "MB/s", brief="Sequential read, page cache"),
}, store=True, direct=_get_large)  # fmt: skip
def reading(target: Target, scale: Scale) -> Samples:
    state = target.prepared("large", lambda path: write_large(path / "large", scale.bytes))
    target.forget()
    clocks = {name: CpuClock() for name in ("read-seq-cold", "read-seq-disk", "read-seq-warm")}
    traffic: dict[str, Traffic | None] = {}
    with target.opened(state) as path:
        for name, clock in clocks.items():
            if name == "read-seq-disk":
                target.forget_pages()
            target.traffic()
            with clock.running():
                read_large(path / "large")
            traffic[name] = target.traffic()
    return {name: Sample.rate(scale.bytes / 1e6, clock, traffic[name]) for name, clock in clocks.items()}


@case({
    "read-rand-cold": Metric("Random 4 KB reads in it, cold", "reads/s"),
    "read-rand-warm": Metric("The same again", "reads/s", Goal(local=0.8, peer=2), brief="Random 4 KB reads, again"),
})  # fmt: skip
def random_reads(target: Target, scale: Scale) -> Samples:
    state = target.prepared("large", lambda path: write_large(path / "large", scale.bytes))
    target.forget()
    chance = random.Random(11)
    offsets = [chance.randrange(scale.bytes // PAGE) * PAGE for _ in range(RANDOM_READS)]
    clocks = {name: CpuClock() for name in ("read-rand-cold", "read-rand-warm")}
    with target.opened(state) as path, (path / "large").open("rb", 0) as file:
        for clock in clocks.values():
            with clock.running():
                for offset in offsets:
                    assert len(os.pread(file.fileno(), PAGE, offset)) == PAGE
    return {name: Sample.rate(RANDOM_READS, clock) for name, clock in clocks.items()}
