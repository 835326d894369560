"""What a case is: a function of a target and a scale that returns one sample for each of its metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volume_bench.columns import FAST, PASSED, VOLUME
from volume_bench.cpu import CpuClock, CpuTime
from volume_bench.measure import Traffic

if TYPE_CHECKING:
    from volume_bench.direct import DirectTarget
    from volume_bench.targets import Target


@dataclass(frozen=True)
class Scale:
    """How much of it: bytes of the large file, and numbers of files."""

    bytes: int = 512 << 20
    files: int = 10_000  # of 1 KB, written and read one by one
    many: int = 50_000  # of a version to mount
    most: int = 1_000_000  # of another one
    changed: int = 100_000  # of a version in which ten change


@dataclass(frozen=True)
class Goal:
    """What a metric should come to. A share is of the speed of a yardstick in the same run."""

    local: float | None = None  # least share of the local disk
    store: float | None = None  # least share of obstore moving the same objects
    peer: float | None = None  # how many times as fast as the fastest peer
    default: float | None = None  # how many times as fast as the volume in its default mode
    most: float | None = None  # most of the metric's own unit, which is one of which less is better
    trips: int | None = None  # round trips allowed beside ``most``; None: as many as were counted
    puts: int | None = None  # most objects written
    sent: int | None = None  # most bytes written
    gets_per_pack: float | None = None  # most GETs for each pack of the version


@dataclass(frozen=True)
class Metric:
    """One line of a table. Of the units ``s`` and ``MB`` less is better, any other is a rate: more is better."""

    title: str
    unit: str
    goal: Goal = Goal()
    fast_goal: Goal | None = None  # of the volume in high-throughput mode; None: it is not measured there
    passed_goal: Goal | None = None  # the same, mounted with passthrough
    beside_peer: bool = True  # False: a peer does this work at another time, so that the two do not compare
    brief: str = ""  # the title away from its table, where "the same again" says nothing

    def goal_in(self, mode: str) -> Goal | None:
        """Of the volume in this mode, by its name among the columns; None: it is not measured there."""
        return {VOLUME: self.goal, FAST: self.fast_goal, PASSED: self.passed_goal}.get(mode)

    @property
    def less_is_better(self) -> bool:
        return self.unit in ("s", "MB")


@dataclass(frozen=True)
class Sample:
    value: float
    traffic: Traffic | None = None
    packs: int | None = None  # of the version that was read
    seconds: float | None = None  # that it took
    cpu: CpuTime | None = None  # used meanwhile

    @classmethod
    def rate(cls, amount: float, clock: CpuClock, traffic: Traffic | None = None, packs: int | None = None) -> Sample:
        """So much in the time of the clock."""
        return cls(amount / clock.seconds, traffic, packs, clock.seconds, clock.cpu)

    @classmethod
    def duration(cls, clock: CpuClock, traffic: Traffic | None = None) -> Sample:
        return cls(clock.seconds, traffic, seconds=clock.seconds, cpu=clock.cpu)


Samples = dict[str, Sample]
Run = Callable[["Target", Scale], Samples]


@dataclass(frozen=True)
class Case:
    name: str
    metrics: dict[str, Metric]
    run: Run
    local: bool = True  # whether the local disk has something to compare with
    peer: bool = True  # whether other file systems run it
    store: bool = False  # whether it is about the store: one of the second table
    most_runs: int | None = None  # of a case that takes long, or whose numbers do not scatter
    direct: Callable[[DirectTarget, Scale], Samples] | None = None  # the same bytes by obstore alone

    def matches(self, name: str) -> bool:
        return name == self.name or name in self.metrics


CASES: list[Case] = []


def case(
    metrics: dict[str, Metric],
    *,
    local: bool = True,
    peer: bool = True,
    store: bool = False,
    most_runs: int | None = None,
    direct: Callable[[DirectTarget, Scale], Samples] | None = None,
) -> Callable[[Run], Case]:
    """Enter a function among the `CASES`, under its own name."""

    def register(run: Run) -> Case:
        name = run.__name__.replace("_", "-")
        CASES.append(Case(name, metrics, run, local, peer, store, most_runs, direct))
        return CASES[-1]

    return register
