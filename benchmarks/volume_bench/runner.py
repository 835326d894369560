"""Runs the cases, interleaved, so that a slow minute of the machine falls on every target alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console

from volume_bench.cases import Case, Metric, Sample, Scale
from volume_bench.measure import mark_processes, own_peak, reset_own_peak
from volume_bench.targets import Target


@dataclass
class Result:
    """All samples of one metric on one target, and the most memory that client and daemon had together."""

    metric: str
    about: Metric
    target: str
    samples: list[Sample] = field(default_factory=list)
    client_peak: int = 0
    daemon_peak: int = 0

    @property
    def median(self) -> float:
        return median(sample.value for sample in self.samples)

    @property
    def puts(self) -> int | None:
        return max((s.written.puts for s in self.samples if s.written), default=None)

    @property
    def sent(self) -> int | None:
        return max((s.written.bytes for s in self.samples if s.written), default=None)


def run_cases(
    screen: Console, cases: Sequence[Case], targets: Sequence[Target], scale: Scale, runs: int
) -> list[Result]:
    """Every case on every target, ``runs`` times over; the order of the targets alternates."""
    mark_processes()
    results: dict[tuple[str, str], Result] = {}
    with screen.status("") as status:
        for run in range(runs):
            for case in cases:
                for target in targets if run % 2 == 0 else reversed(targets):
                    if case.local or target.has_store:
                        status.update(f"run {run + 1} of {runs}: {case.name}, {target.name}")
                        _run(case, target, scale, results)
    order = [metric for case in cases for metric in case.metrics]
    return sorted(results.values(), key=lambda result: order.index(result.metric))


def _run(case: Case, target: Target, scale: Scale, results: dict[tuple[str, str], Result]) -> None:
    reset_own_peak()
    target.daemon_peak = 0
    samples = case.run(target, scale)
    for name, sample in samples.items():
        result = results.setdefault((name, target.name), Result(name, case.metrics[name], target.name))
        result.samples.append(sample)
        result.client_peak = max(result.client_peak, own_peak())
        result.daemon_peak = max(result.daemon_peak, target.daemon_peak)
