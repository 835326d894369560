"""Runs the cases, interleaved, so that a slow minute of the machine falls on every subject alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from statistics import median

from rich.console import Console

from volume_bench.case import Case, Metric, Sample, Scale
from volume_bench.cpu import CpuTime
from volume_bench.inputs import InputMissingError
from volume_bench.measure import Traffic, mark_processes, own_peak, reset_own_peak
from volume_bench.targets import Subject


@dataclass
class Result:
    """All samples of one metric on one subject, and the most memory that client and daemon had together."""

    metric: str
    about: Metric
    target: str
    samples: list[Sample] = field(default_factory=lambda: [])
    client_peak: int = 0
    daemon_peak: int = 0

    @property
    def median(self) -> float:
        return median(sample.value for sample in self.samples)

    @property
    def traffic(self) -> Traffic | None:
        """The busiest of all runs."""
        seen = [sample.traffic for sample in self.samples if sample.traffic is not None]
        return max(seen, key=lambda traffic: (traffic.puts, traffic.gets or 0, traffic.sent), default=None)

    @property
    def seconds(self) -> float | None:
        """The median of how long it took; None of what is not a time."""
        seen = [sample.seconds for sample in self.samples if sample.seconds is not None]
        return median(seen) if seen else None

    @property
    def cpu(self) -> CpuTime | None:
        """The median of all runs, each part by itself."""
        seen = [astuple(sample.cpu) for sample in self.samples if sample.cpu is not None]
        return CpuTime(*(median(part) for part in zip(*seen, strict=True))) if seen else None

    @property
    def packs(self) -> int | None:
        return self.samples[0].packs


def run_cases(
    screen: Console, cases: Sequence[Case], subjects: Sequence[Subject], scale: Scale, runs: int
) -> list[Result]:
    """Every case on every subject, ``runs`` times over or as often as it may be; the order of subjects alternates.

    A case whose inputs are missing is left out, with a word to the screen.
    """
    mark_processes()
    results: dict[tuple[str, str], Result] = {}
    left = list(cases)
    with screen.status("") as status:
        for run in range(runs):
            for case in list(left):
                for subject in subjects if run % 2 == 0 else reversed(subjects):
                    if run >= subject.runs(case, runs):
                        continue
                    status.update(f"run {run + 1} of {runs}: {case.name}, {subject.name}")
                    try:
                        _run(case, subject, scale, results)
                    except InputMissingError as missing:
                        screen.print(f"[yellow]{case.name} is left out: {missing}[/]")
                        left.remove(case)
                        break
    order = [metric for case in cases for metric in case.metrics]
    return sorted(results.values(), key=lambda result: order.index(result.metric))


def _run(case: Case, subject: Subject, scale: Scale, results: dict[tuple[str, str], Result]) -> None:
    reset_own_peak()
    subject.daemon_peak = 0
    for name, sample in (subject.samples(case, scale) or {}).items():
        result = results.setdefault((name, subject.name), Result(name, case.metrics[name], subject.name))
        result.samples.append(sample)
        result.client_peak = max(result.client_peak, own_peak())
        result.daemon_peak = max(result.daemon_peak, subject.daemon_peak)
