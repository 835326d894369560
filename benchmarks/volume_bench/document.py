"""The generated parts of docs/performance.md: tables and plots between marks; the prose around them stays.

A part is what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from volume_bench.columns import FAST, LOCAL, PASSED, VOLUME
from volume_bench.curve import Curve
from volume_bench.goals import OBSTORE, Row
from volume_bench.peer import PEER
from volume_bench.plots import Dots, dot_plot, growth_plot
from volume_bench.report import CPU_HEADINGS, NOTHING, cpu_cells, measured, requests, times, value
from volume_bench.results import Report

# what the tables of the store are about; that of files has all that the local disk does, but for commits
STORE_METRICS = (
    "commit-large", "write-saved", "commit-small", "create-saved", "commit-ten", "commit-ten-many",
    "read-seq-cold", "small-cold",
    "mount-100", "mount-100-again", "mount-many", "mount-most", "fork", "fork-published",
)  # fmt: skip

_TELLING = 0.1  # seconds from which on the processors' times, which are counted in hundredths, say something


def rewrite(document: Path, parts: Mapping[str, str]) -> None:
    """Put parts in their places. A part that the document has no place for is a ValueError; others stay."""
    text = document.read_text()
    for name, part in parts.items():
        marks = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text, found = marks.subn(lambda match, part=part: f"{match[1]}{part.rstrip()}\n{match[2]}", text)
        if found != 1:
            raise ValueError(f"{document.name} has {found} places for {name}")
    document.write_text(text)


# --- files -----------------------------------------------------------------------------------------------------


def files_table(report: Report) -> str:
    """Every metric that the local disk has too."""
    peers = [name for name in report.targets if name.startswith(PEER)]
    head = ["", LOCAL, *peers, VOLUME, "of local", *([f"of {PEER}"] if peers else []), "goals"]
    lines = [_line(head), _rule(head)]
    for row in _file_rows(report):
        cells = [report.title(row), *(value(row.by_target.get(name)) for name in (LOCAL, *peers, VOLUME))]
        cells.append(times(row.share(VOLUME, LOCAL)))
        if peers:
            cells.append(times(row.of_peer(VOLUME)))
        lines.append(_line([*cells, _goals(row, VOLUME, without=OBSTORE)]))
    return "\n".join(lines)


def mode_table(report: Report, mode: str) -> str:
    """The volume in another mode, beside its default."""
    head = ["", "default", mode, "of default", "of local", "goals"]
    lines = [_line(head), _rule(head)]
    for row in report.rows:
        if mode in row.by_target:
            title = report.title(row, brief=True)
            cells = [title, value(row.by_target.get(VOLUME)), value(row.by_target[mode])]
            lines.append(
                _line([*cells, times(row.share(mode, VOLUME)), times(row.share(mode, LOCAL)), _goals(row, mode)])
            )
    return "\n".join(lines)


def files_plot(report: Report) -> str:
    """The volume and its peers as shares of the local disk."""
    rows: list[Dots] = []
    for row in _file_rows(report):
        shown = [VOLUME, *(name for name in report.targets if name.startswith(PEER))]
        shares = {name: row.share(name, LOCAL) for name in shown}
        rows.append(
            Dots(
                report.title(row, brief=True),
                {n: s for n, s in shares.items() if s is not None},
                row.about.goal.local,
            )
        )
    return dot_plot(rows, LOCAL)


def _file_rows(report: Report) -> list[Row]:
    store = [name for name in STORE_METRICS if "commit" in name or "saved" in name]
    return [row for row in report.rows if row.metric not in store and {LOCAL, VOLUME} <= row.by_target.keys()]


def memory_line(report: Report) -> str:
    """The daemon's memory with many files, and the most that client and daemon used."""
    lines = [
        f"- {report.title(row)}: {value(row.by_target.get(VOLUME))}"
        + (f"; in high-throughput mode {value(row.by_target[FAST])}" if FAST in row.by_target else "")
        + f" ({_goals(row, VOLUME)})"
        for row in report.rows
        if row.about.unit == "MB"
    ]
    own = [r for r in report.results if r.target == VOLUME and r.about.unit != "MB"]
    most = max((r.daemon_peak for r in own), default=0)
    return "\n".join([*lines, f"- Memory of the daemon, the most of all other cases: {most / 1e6:,.0f} MB"])


# --- the store -------------------------------------------------------------------------------------------------


def store_table(reports: Sequence[Report]) -> str:
    """A group of columns for each store."""
    lines: list[str] = []
    for report in reports:
        peers = [name for name in report.targets if name.startswith(PEER)]
        head = [f"**{report.store}**", VOLUME, OBSTORE, "of it", *([f"of {PEER}"] if peers else [])]
        head += ["PUTs", "sent", "GETs", "trips", "goals"]
        lines += ["", _line(head), _rule(head)]
        for row in report.rows:
            if row.metric not in STORE_METRICS or VOLUME not in row.by_target:
                continue
            cells = [report.title(row), value(row.by_target.get(VOLUME)), value(row.by_target.get(OBSTORE))]
            cells.append(times(row.share(VOLUME, OBSTORE)))
            if peers:
                cells.append(times(row.of_peer(VOLUME)))
            lines.append(_line([*cells, *requests(row.by_target[VOLUME].traffic), _goals(row, VOLUME)]))
    return "\n".join(lines).strip()


# --- processors ------------------------------------------------------------------------------------------------


def cpu_table(reports: Sequence[Report]) -> str:
    """Where the processors' time goes, of whatever takes long enough to tell: a group of lines for each store."""
    lines: list[str] = []
    for report in reports:
        head = [f"**{report.store}**", "on", *CPU_HEADINGS]
        lines += ["", _line(head), _rule(head)]
        for row in report.rows:
            volume = row.by_target.get(VOLUME)
            if volume is None or (volume.seconds or 0) < _TELLING:
                continue
            for name, result in row.by_target.items():
                if name not in (FAST, PASSED) and (cells := cpu_cells(result)) is not None:
                    lines.append(_line([report.title(row, brief=True), name, *cells]))
    return "\n".join(lines).strip()


# --- growth ----------------------------------------------------------------------------------------------------


def growth_part(curves: Sequence[Curve], images: Path, link: str) -> tuple[str, dict[Path, str]]:
    """Tables with links to their plots, and the plots by file."""
    lines: list[str] = []
    plots: dict[Path, str] = {}
    for curve in curves:
        file = images / f"growth-{curve.name}.svg"
        plots[file] = growth_plot(curve)
        head = [curve.x, *(f"{size:,.0f}" for size in curve.sizes)]
        lines += [f"### {curve.title}", "", _line(head), _rule(head)]
        for line in curve.lines.values():
            found = dict(line.points)
            lines.append(_line([line.title, *(measured(found.get(size), line.unit) for size in curve.sizes)]))
        lines += ["", f"![{curve.title}]({link}/{file.name})", ""]
    return "\n".join(lines), plots


# --- words -----------------------------------------------------------------------------------------------------


def conditions(reports: Sequence[Report]) -> str:
    """Where and when, in a sentence."""
    machine = reports[0].machine
    runs = sorted({report.runs for report in reports})
    return (
        f"Measured on {reports[0].when[:10]}: {machine['cpu']}, {machine['cpus']} CPUs, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}, Python {machine['python']}; "
        f"median of {' or '.join(map(str, runs))} runs, all columns of a table in the same run, by turns."
    )


def _goals(row: Row, target: str, *, without: str | None = None) -> str:
    """``without``: a yardstick that has no column here."""
    told = [verdict for verdict in row.verdicts(target) if without is None or without not in verdict.text]
    return ", ".join(verdict.text if verdict.met else f"**missed: {verdict.text}**" for verdict in told) or NOTHING


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(head: Sequence[str]) -> str:
    """Numbers to the right; words, such as the goals, to the left."""
    return "|" + "|".join("---" if name in (head[0], "goals", "on") else "---:" for name in head) + "|"
