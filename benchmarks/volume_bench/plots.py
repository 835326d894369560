"""Plots as SVG, written by hand: small, the same from the same numbers, readable on white and on black."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from volume_bench.curve import Curve, Line

COLOURS = ("#2f6fde", "#8a63d2", "#d9822b", "#b5493b")
_STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#333}.s{font-size:11px;fill:#666}.b{font-weight:600}"
    ".g{stroke:#ddd}.l{fill:none;stroke-width:1.8}.bg{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.s{fill:#aaa}.g{stroke:#444}.bg{fill:#16181d}}</style>"
)


@dataclass(frozen=True)
class Dots:
    """One row of `dot_plot`: shares of a yardstick by series, and the least that is wanted of the first."""

    title: str
    shares: dict[str, float]
    goal: float | None = None


def dot_plot(rows: Sequence[Dots], yardstick: str) -> str:
    """A row for each metric, a dot for each series, on a logarithmic axis where 1 is the yardstick."""
    names = list(dict.fromkeys(name for row in rows for name in row.shares))
    shares = [share for row in rows for share in row.shares.values()] + [1.0]
    low, high = math.floor(math.log10(min(shares)) * 2) / 2, math.ceil(math.log10(max(shares)) * 2 + 0.2) / 2
    left, right, top, step = 300, 860, 52, 22

    def x(share: float) -> float:
        return left + (math.log10(share) - low) / (high - low) * (right - left)

    bottom = top + step * len(rows)
    parts = [_legend(names, left)]
    marks = [times * 10.0**power for power in range(math.ceil(low), math.floor(high) + 1) for times in (1, 3)]
    parts += [_vertical(x(mark), top - 8, bottom, mark) for mark in marks if math.log10(mark) <= high]
    for number, row in enumerate(rows):
        y = top + step * number + step / 2
        parts.append(f'<text x="{left - 12}" y="{y + 4:.0f}" text-anchor="end">{escape(row.title)}</text>')
        parts.append(f'<path class="g" d="M{left} {y:.0f}H{right}"/>')
        if row.goal is not None:
            parts.append(f'<path d="M{x(row.goal):.1f} {y - 8:.0f}v16" stroke="#3a9b52" stroke-width="3"/>')
        for name in reversed(names):
            if name in row.shares:
                colour = COLOURS[names.index(name) % len(COLOURS)]
                parts.append(f'<circle cx="{x(row.shares[name]):.1f}" cy="{y:.0f}" r="5" fill="{colour}"/>')
    note = f"speed as a share of the {yardstick} in the same run; green: the goal"
    parts.append(f'<text class="s" x="{left}" y="{bottom + 34}">{escape(note)}</text>')
    return _svg(right + 30, bottom + 46, parts)


def growth_plot(curve: Curve) -> str:
    """A panel for each line of a curve, both axes logarithmic."""
    columns, width, height = 4, 236, 160
    lines = [line for line in curve.lines.values() if line.points]
    parts = [_panel(line, 12 + width * (n % columns), 8 + height * (n // columns)) for n, line in enumerate(lines)]
    rows = -(-len(lines) // columns)
    parts.append(f'<text class="s" x="12" y="{height * rows + 18}">across: {escape(curve.x)}</text>')
    return _svg(width * min(columns, len(lines)) + 12, height * rows + 28, parts)


def _panel(line: Line, left: float, top: float) -> str:
    width, height = 150.0, 78.0
    x0, y0 = left + 44, top + 42
    xs = [math.log10(max(x, 1e-9)) for x, _ in line.points]
    ys = [math.log10(max(y, 1e-9)) for _, y in line.points]
    # at least a decade, so that what stays the same looks like it
    low, high = math.floor(min(ys) * 2) / 2, max(math.ceil(max(ys) * 2) / 2, math.floor(min(ys) * 2) / 2 + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / ((xs[-1] - xs[0]) or 1) * width
        return x0 + across, y0 + height - (y - low) / (high - low) * height

    points = [at(x, y) for x, y in zip(xs, ys, strict=True)]
    parts = [
        f'<text class="b" x="{left}" y="{top + 14}">{escape(_short(line.title))}</text>',
        f'<text class="s" x="{left}" y="{top + 30}">{escape(line.unit)}</text>',
    ]
    for power in range(math.ceil(low), math.floor(high) + 1):
        y = at(xs[0], power)[1]
        parts.append(f'<path class="g" d="M{x0:.0f} {y:.0f}h{width:.0f}"/>')
        parts.append(f'<text class="s" x="{x0 - 5:.0f}" y="{y + 4:.0f}" text-anchor="end">{_tick(10.0**power)}</text>')
    for (x, _), (across, _) in zip(line.points, points, strict=True):
        parts.append(
            f'<text class="s" x="{across:.0f}" y="{y0 + height + 16:.0f}" text-anchor="middle">{_tick(x)}</text>'
        )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline class="l" stroke="{COLOURS[0]}" points="{path}"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[0]}"/>' for x, y in points]
    return "".join(parts)


def _short(title: str) -> str:
    return title if len(title) <= 34 else title[:33].rstrip(" ,") + "…"


def _tick(amount: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if amount >= size:
            return f"{amount / size:g}{unit}"
    return f"{amount:g}"


def _legend(names: Sequence[str], left: float) -> str:
    parts: list[str] = []
    for number, name in enumerate(names):
        x = left + 140 * number
        parts.append(f'<circle cx="{x + 5:.0f}" cy="16" r="5" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 16:.0f}" y="20">{escape(name)}</text>')
    return "".join(parts)


def _vertical(x: float, top: float, bottom: float, share: float) -> str:
    style = 'stroke="#888" stroke-width="1.5"' if share == 1 else 'class="g"'
    return (
        f'<path {style} d="M{x:.1f} {top:.0f}V{bottom:.0f}"/>'
        f'<text class="s" x="{x:.1f}" y="{bottom + 16:.0f}" text-anchor="middle">{share:g}</text>'
    )


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">'
    return head + _STYLE + '<rect class="bg" width="100%" height="100%"/>' + "\n".join(parts) + "</svg>\n"
