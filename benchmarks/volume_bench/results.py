"""What a run leaves: JSON for programs, and for the tables and plots that are made from it later."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from volume_bench.case import Sample, Scale
from volume_bench.cases import CASES
from volume_bench.cpu import CpuTime
from volume_bench.goals import Row, rows_of
from volume_bench.measure import Traffic
from volume_bench.runner import Result
from volume_bench.work import MIB


@dataclass(frozen=True)
class Report:
    """One run. ``store``: in words, without a path. ``latency``: seconds added to each of its requests."""

    store: str
    latency: float
    scale: Scale
    runs: int
    results: Sequence[Result]
    when: str
    machine: Mapping[str, Any]

    @classmethod
    def now(cls, store: str, latency: float, scale: Scale, runs: int, results: Sequence[Result]) -> Report:
        """Of what has just been measured here."""
        when = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        return cls(store, latency, scale, runs, results, when, this_machine())

    @property
    def rows(self) -> list[Row]:
        return rows_of(self.results, self.latency)

    def title(self, row: Row, *, brief: bool = False) -> str:
        """The metric's title, with the sizes of this run. ``brief``: as it is called away from its table."""
        title = row.about.brief if brief and row.about.brief else row.about.title
        return title.format(**{**asdict(self.scale), "bytes": f"{self.scale.bytes // MIB} MB"})

    @property
    def targets(self) -> list[str]:
        return list(dict.fromkeys(result.target for result in self.results))

    def to_json(self) -> str:
        plain = {
            "when": self.when,
            "machine": dict(self.machine),
            "store": self.store,
            "latency": self.latency,
            "scale": asdict(self.scale),
            "runs": self.runs,
            "results": [_plain(row, result) for row in self.rows for result in row.by_target.values()],
        }
        return json.dumps(plain, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """What `to_json` wrote, as far as its metrics still exist."""
        plain = json.loads(text)
        metrics = {name: metric for case in CASES for name, metric in case.metrics.items()}
        results = [
            Result(
                entry["metric"], metrics[entry["metric"]], entry["target"], [_sample(s) for s in entry["samples"]],
                entry["client_peak_bytes"], entry["daemon_peak_bytes"],
            )
            for entry in plain["results"]
            if entry["metric"] in metrics
        ]  # fmt: skip
        scale = Scale(**plain["scale"])
        return cls(plain["store"], plain["latency"], scale, plain["runs"], results, plain["when"], plain["machine"])


def load(path: Path) -> Report:
    return Report.from_json(path.read_text())


def _plain(row: Row, result: Result) -> dict[str, Any]:
    return {
        "metric": result.metric,
        "target": result.target,
        "unit": result.about.unit,
        "median": result.median,
        "samples": [asdict(sample) for sample in result.samples],
        "client_peak_bytes": result.client_peak,
        "daemon_peak_bytes": result.daemon_peak,
        "shares": {name: row.share(result.target, name) for name in row.by_target if name != result.target},
        "goals": [asdict(verdict) for verdict in row.verdicts(result.target)],
    }


def _sample(plain: Mapping[str, Any]) -> Sample:
    traffic = plain["traffic"]
    cpu = plain.get("cpu")
    return Sample(
        plain["value"], Traffic(**traffic) if traffic is not None else None, plain["packs"],
        plain.get("seconds"), CpuTime(**cpu) if cpu is not None else None,
    )  # fmt: skip


def this_machine() -> dict[str, Any]:
    """Its processors, memory, kernel and Python."""
    models = [line.split(":", 1)[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "cpu": models[0].strip() if models else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
