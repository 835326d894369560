"""How a cost grows: measurements at several sizes, as JSON and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from statistics import median
from typing import Any

from volume_bench.measure import Clock
from volume_bench.results import this_machine


@dataclass
class Line:
    """One quantity in the units that it is told in, at the sizes where it was measured."""

    title: str
    unit: str
    points: list[tuple[float, float]] = field(default_factory=lambda: [])


@dataclass
class Curve:
    """Quantities that depend on one size."""

    name: str
    title: str
    x: str  # what is counted on the axis
    lines: dict[str, Line]

    def add(self, size: float, /, **values: float) -> None:
        """Measured values at one size, by the names of their lines."""
        for name, value in values.items():
            self.lines[name].points.append((size, value))

    @property
    def sizes(self) -> list[float]:
        return sorted({size for line in self.lines.values() for size, _ in line.points})


def timed(work: Callable[..., object], *arguments: object, runs: int = 1) -> float:
    """Seconds of a call, the median of several."""
    found: list[float] = []
    for _ in range(runs):
        clock = Clock()
        with clock.running():
            work(*arguments)
        found.append(clock.seconds)
    return median(found)


def to_json(curves: Sequence[Curve]) -> str:
    plain = {
        "when": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        "machine": this_machine(),
        "curves": [asdict(curve) for curve in curves],
    }
    return json.dumps(plain, indent=2) + "\n"


def from_json(text: str) -> list[Curve]:
    """What `to_json` wrote."""
    return [_curve(entry) for entry in json.loads(text)["curves"]]


def _curve(plain: dict[str, Any]) -> Curve:
    lines = {
        name: Line(line["title"], line["unit"], [(x, y) for x, y in line["points"]])
        for name, line in plain["lines"].items()
    }
    return Curve(plain["name"], plain["title"], plain["x"], lines)
