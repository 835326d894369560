"""How a result stands: beside its yardsticks, and to its goals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from volume_bench.case import Goal
from volume_bench.columns import LOCAL, VOLUME
from volume_bench.direct import DirectTarget
from volume_bench.peer import PEER
from volume_bench.runner import Result

OBSTORE = DirectTarget.name


@dataclass(frozen=True)
class Verdict:
    """One goal, in a few words, and whether it is met."""

    text: str
    met: bool


class Row:
    """All results of one metric in one run."""

    def __init__(self, results: Sequence[Result], latency: float = 0.0) -> None:
        """``latency``: seconds that were added to each request to the store."""
        self.metric = results[0].metric
        self.about = results[0].about
        self.by_target = {result.target: result for result in results}
        self._latency = latency

    def share(self, target: str, yardstick: str) -> float | None:
        """How fast, as a share of a yardstick: 1 is as fast, less is slower; of memory, how little."""
        one, other = self.by_target.get(target), self.by_target.get(yardstick)
        if one is None or other is None:
            return None
        return other.median / one.median if self.about.less_is_better else one.median / other.median

    def of_peer(self, target: str) -> float | None:
        """How many times as fast as the fastest peer; None where that would say nothing."""
        if not self.about.beside_peer:
            return None
        shares = [self.share(target, name) for name in self.by_target if name.startswith(PEER)]
        return min((share for share in shares if share is not None), default=None)

    def verdicts(self, target: str) -> list[Verdict]:
        """Every goal of a volume, as far as there is something to compare it with."""
        goal = self.about.goal_in(target)
        result = self.by_target.get(target)
        if goal is None or result is None:
            return []
        return [*self._shares(goal, target), *self._duration(goal, result), *_requests(goal, result)]

    def _shares(self, goal: Goal, target: str) -> Iterator[Verdict]:
        for least, yardstick in ((goal.local, LOCAL), (goal.store, OBSTORE), (goal.default, VOLUME)):
            share = self.share(target, yardstick)
            if least is not None and share is not None:
                yield Verdict(f"≥ {least} of {'default' if yardstick == VOLUME else yardstick}", share >= least)
        times = self.of_peer(target)
        if goal.peer is not None and times is not None:
            yield Verdict(f"≥ {goal.peer:g} × {PEER}", times >= goal.peer)

    def _duration(self, goal: Goal, result: Result) -> Iterator[Verdict]:
        if goal.most is None:
            return
        counted = result.traffic.trips if result.traffic is not None else None
        trips = goal.trips if goal.trips is not None else counted or 0
        limit = goal.most + trips * self._latency
        unit = self.about.unit
        also = f" + {trips} × {self._latency * 1000:g} ms" if self._latency and trips else ""
        yield Verdict(f"≤ {goal.most:g} {unit}{also}", result.median <= limit)


def _requests(goal: Goal, result: Result) -> Iterator[Verdict]:
    traffic = result.traffic
    if traffic is None:
        return
    if goal.puts is not None:
        yield Verdict(f"≤ {goal.puts} PUT{'s' if goal.puts > 1 else ''}", traffic.puts <= goal.puts)
    if goal.sent is not None:
        yield Verdict(f"≤ {goal.sent / 1e6:g} MB", traffic.sent <= goal.sent)
    if goal.gets_per_pack is not None and traffic.gets is not None and result.packs:
        most = int(goal.gets_per_pack * result.packs)
        yield Verdict(f"≤ {most} GETs", traffic.gets <= most)


def rows_of(results: Sequence[Result], latency: float) -> list[Row]:
    """One row for each metric, in the order of the results."""
    return [
        Row([result for result in results if result.metric == metric], latency)
        for metric in dict.fromkeys(result.metric for result in results)
    ]
