"""Versions of many files: what a mount, a small commit and a fork cost, and the memory of the daemon."""

from __future__ import annotations

import os

from volume_bench.bulk import BULK_SIZE
from volume_bench.case import Goal, Metric, Sample, Samples, Scale, case
from volume_bench.cpu import CpuClock
from volume_bench.measure import peak_of_daemons
from volume_bench.targets import Target
from volume_bench.work import count, rewrite_ten, write_small


@case(
    {"commit-ten-many": Metric(
        "Commit after 10 of {changed:,} files changed", "s", Goal(most=0.3, trips=4, puts=4, sent=2_000_000)
    )},
    local=False, peer=False, store=True,
)  # fmt: skip
def commit_ten_of_many(target: Target, scale: Scale) -> Samples:
    state = target.prepared_bulk(scale.changed)
    target.forget()
    clock = CpuClock()
    with target.opened(state, writable=True) as path:
        rewrite_ten(path)
        target.traffic()
        with clock.running():
            target.save()
        traffic = target.traffic()
    return {"commit-ten-many": Sample.duration(clock, traffic)}


@case({
    "mount-100": Metric("Mount a version of 100 files", "s", Goal(most=0.4)),
    "mount-100-again": Metric("The same on a machine that has the program in its page cache", "s", Goal(most=0.4)),
}, local=False, store=True)  # fmt: skip
def mount_few(target: Target, scale: Scale) -> Samples:
    state = target.prepared("100 files", lambda path: write_small(path / "small", 100))
    return {
        "mount-100": mounting(target, state),
        "mount-100-again": mounting(target, state, drop_pages=False),
    }


@case(
    {"mount-many": Metric("Mount a version of {many:,} files", "s", Goal(most=0.5))},
    local=False,
    peer=False,
    store=True,
)
def mount_many(target: Target, scale: Scale) -> Samples:
    return {"mount-many": mounting(target, target.prepared_bulk(scale.many))}


@case(
    {"mount-most": Metric("Mount a version of {most:,} files", "s", Goal(most=2.0))},
    local=False,
    peer=False,
    store=True,
)
def mount_most(target: Target, scale: Scale) -> Samples:
    return {"mount-most": mounting(target, target.prepared_bulk(scale.most))}


def mounting(target: Target, state: str, *, drop_pages: bool = True) -> Sample:
    """Seconds from a locator to the first answer of the mount, with nothing held locally.

    Without ``drop_pages`` the kernel still has the files of Python and of the package.
    """
    target.forget_held()
    if drop_pages:
        target.forget_pages()
    target.traffic()
    clock = CpuClock()
    with clock.running():
        opened = target.opened(state)
        path = opened.__enter__()
        os.listdir(path)
    traffic = target.traffic()
    opened.__exit__(None, None, None)
    return Sample.duration(clock, traffic)


@case({
    "fork": Metric("Fork a version of {files:,} files", "s"),
    "fork-published": Metric("The same, and publish the fork's first version", "s", Goal(most=0.05, trips=1, puts=1)),
}, local=False, peer=False, store=True)  # fmt: skip
def fork(target: Target, scale: Scale) -> Samples:
    state = target.prepared("small", lambda path: write_small(path / "small", scale.files))
    target.traffic()
    clock = CpuClock()
    with clock.running():
        publish = target.fork(state)
    samples: Samples = {"fork": Sample.duration(clock)}
    with clock.running():
        publish()
    return samples | {"fork-published": Sample.duration(clock, target.traffic())}


@case({
    "memory-mounted": Metric("Memory of the daemon, {most:,} files mounted", "MB", Goal(most=250)),
    "memory-seen": Metric(
        "The same, after a traversal of all", "MB", Goal(most=250), Goal(),
        brief="Memory of the daemon, {most:,} files traversed",
    ),
}, local=False, peer=False, most_runs=1)  # fmt: skip
def memory(target: Target, scale: Scale) -> Samples:
    state = target.prepared_bulk(scale.most)
    target.forget()
    with target.opened(state) as path:
        os.listdir(path)
        mounted = peak_of_daemons()
        found = count(path, BULK_SIZE)
        assert found == scale.most, f"{found} files instead of {scale.most}"
        seen = peak_of_daemons()
    return {"memory-mounted": Sample(mounted / 1e6), "memory-seen": Sample(seen / 1e6)}
