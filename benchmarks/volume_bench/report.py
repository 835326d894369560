"""Turns results into a table for people and JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from volume_bench.cases import Scale
from volume_bench.runner import Result

LOCAL = "local disk"
MOUNT_GROWTH_GOAL = 1.3
"""A mount must not take longer than this times as long when the version has many files."""
MEMORY_GOAL = 300_000_000


def as_table(results: Sequence[Result], scale: Scale) -> RenderableType:
    others = sorted({result.target for result in results} - {LOCAL})
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    table.add_column(LOCAL, justify="right")
    for name in others:
        for heading in (name, "ratio", "goal", "PUTs", "sent", "memory"):
            table.add_column(heading, justify="right")
    for metric in dict.fromkeys(result.metric for result in results):
        found = {result.target: result for result in results if result.metric == metric}
        about = next(iter(found.values())).about
        row = [about.title.format(**asdict(scale)), _value(found.get(LOCAL))]
        for name in others:
            row += _cells(found.get(name), found.get(LOCAL))
        table.add_row(*row)
    return Group(table, Text(), *(Text(line) for line in _closing(results, others)))


def _cells(result: Result | None, local: Result | None) -> list[RenderableType]:
    if result is None:
        return ["–"] * 6
    share = ratio(result, local)
    goals = []
    if (least := result.about.goal_ratio) is not None and share is not None:
        goals.append((f"≥ {least}", share >= least))
    if (most := result.about.goal_puts) is not None and result.puts is not None:
        goals.append((f"PUTs ≤ {most}", result.puts <= most))
    return [
        _value(result),
        "–" if share is None else f"{share:.2f}",
        Text(" ").join(Text(text, style="green" if met else "bold red") for text, met in goals),
        "–" if result.puts is None else f"{result.puts:,}",
        "–" if result.sent is None else f"{result.sent / 1e6:,.1f} MB",
        f"{(result.client_peak + result.daemon_peak) / 1e6:,.0f} MB",
    ]


def ratio(result: Result, local: Result | None) -> float | None:
    """How fast, as a share of the local disk: 1 is as fast, less is slower."""
    if local is None:
        return None
    if result.about.unit == "s":
        return local.median / result.median
    return result.median / local.median


def _value(result: Result | None) -> str:
    if result is None:
        return "–"
    number = f"{result.median:.3f}" if result.about.unit == "s" else f"{result.median:,.0f}"
    return f"{number} {result.about.unit}"


def _closing(results: Sequence[Result], others: Sequence[str]) -> list[str]:
    lines = []
    for name in others:
        if (growth := mount_growth(results, name)) is not None:
            lines.append(
                f"{name}: mounting many files takes {growth:.2f} times as long as 100 (goal ≤ {MOUNT_GROWTH_GOAL})"
            )
        most = max((r.client_peak + r.daemon_peak for r in results if r.target == name), default=0)
        lines.append(
            f"{name}: client and daemon together used {most / 1e6:,.0f} MB at most (goal < {MEMORY_GOAL / 1e6:,.0f} MB)"
        )
    return lines


def mount_growth(results: Sequence[Result], target: str) -> float | None:
    found = {result.metric: result for result in results if result.target == target}
    if "mount-100" not in found or "mount-many" not in found:
        return None
    return found["mount-many"].median / found["mount-100"].median


# --- JSON ------------------------------------------------------------------------------------------------------


def as_json(results: Sequence[Result], *, store: str, scale: Scale, runs: int) -> str:
    local = {result.metric: result for result in results if result.target == LOCAL}
    report = {
        "when": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        "machine": _machine(),
        "store": store,
        "scale": asdict(scale),
        "runs": runs,
        "results": [_plain(result, local.get(result.metric)) for result in results],
        "mount_growth": {name: mount_growth(results, name) for name in {r.target for r in results} - {LOCAL}},
    }
    return json.dumps(report, indent=2) + "\n"


def _plain(result: Result, local: Result | None) -> dict[str, Any]:
    return {
        "metric": result.metric,
        "target": result.target,
        "unit": result.about.unit,
        "median": result.median,
        "samples": [sample.value for sample in result.samples],
        "ratio": None if result.target == LOCAL else ratio(result, local),
        "puts": result.puts,
        "sent_bytes": result.sent,
        "client_peak_bytes": result.client_peak,
        "daemon_peak_bytes": result.daemon_peak,
    }


def _machine() -> dict[str, Any]:
    models = [line.split(":", 1)[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "cpu": models[0].strip() if models else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
