"""Numbers as people read them, and the table of a run on the screen."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from volume_bench.columns import FAST, LOCAL, PASSED, VOLUME
from volume_bench.goals import OBSTORE, Row
from volume_bench.measure import Traffic
from volume_bench.peer import PEER
from volume_bench.results import Report
from volume_bench.runner import Result

NOTHING = "–"


def as_table(report: Report) -> RenderableType:
    """Every metric with the values of all targets; of a volume also its shares, goals and requests."""
    peers = [name for name in report.targets if name.startswith(PEER)]
    shown = [name for name in (LOCAL, OBSTORE, *peers, VOLUME, FAST, PASSED) if name in report.targets]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for name in shown:
        table.add_column(name, justify="right")
    for heading in ("of local", "of obstore", f"of {PEER}", "PUTs", "sent", "GETs", "trips", "memory"):
        if not heading.endswith(PEER) or peers:
            table.add_column(heading, justify="right")
    table.add_column("goals")
    for row in report.rows:
        cells = [report.title(row), *(value(row.by_target.get(name)) for name in shown)]
        cells += [times(row.share(VOLUME, LOCAL)), times(row.share(VOLUME, OBSTORE))]
        if peers:
            cells.append(times(row.of_peer(VOLUME)))
        table.add_row(*cells, *_requests(row.by_target.get(VOLUME)), _goals(row))
    return Group(table)


CPU_HEADINGS = ("wall", "program", "daemon", "daemon, kernel", "others")


def as_cpu_table(report: Report) -> RenderableType:
    """Where the processors' time went, of every metric on every target."""
    table = Table(box=None, header_style="bold", pad_edge=False, title="Seconds, of them CPU")
    table.add_column("")
    table.add_column("on")
    for heading in CPU_HEADINGS:
        table.add_column(heading, justify="right")
    for row in report.rows:
        for name, result in row.by_target.items():
            if (cells := cpu_cells(result)) is not None:
                table.add_row(report.title(row, brief=True), name, *cells)
    return Group(table)


def cpu_cells(result: Result) -> list[str] | None:
    """What `CPU_HEADINGS` names, in seconds; None where it was not measured."""
    seconds, cpu = result.seconds, result.cpu
    if seconds is None or cpu is None:
        return None
    return [f"{amount:.2f}" for amount in (seconds, cpu.program, cpu.daemon, cpu.daemon_kernel, cpu.others)]


def _requests(result: Result | None) -> list[str]:
    traffic = result.traffic if result is not None else None
    memory = megabytes(result.client_peak + result.daemon_peak) if result is not None else NOTHING
    return [*requests(traffic), memory]


def requests(traffic: Traffic | None) -> list[str]:
    """PUTs, bytes sent, GETs and round trips."""
    if traffic is None:
        return [NOTHING] * 4
    return [f"{traffic.puts:,}", megabytes(traffic.sent), number(traffic.gets), number(traffic.trips)]


def _goals(row: Row) -> Text:
    told: list[Text] = []
    for name, prefix in ((VOLUME, ""), (FAST, "fast "), (PASSED, "passed ")):
        told += [Text(prefix + v.text, style="green" if v.met else "bold red") for v in row.verdicts(name)]
    return Text("; ").join(told)


def value(result: Result | None) -> str:
    """The median with its unit, in some three digits."""
    return NOTHING if result is None else quantity(result.median, result.about.unit)


def quantity(amount: float, unit: str) -> str:
    """An amount with its unit: short times in milliseconds, ``files/s`` as ``/s``."""
    if unit == "s":
        return f"{amount:.2f} s" if amount >= 0.1 else f"{amount * 1000:.1f} ms"
    if unit.endswith("B/s") or unit == "MB":
        return f"{amount:,.0f} {unit}"
    return f"{amount:,.0f}/s"


def times(share: float | None) -> str:
    if share is None:
        return NOTHING
    return f"{share:.2f}" if share < 3 else f"{share:.1f}" if share < 10 else f"{share:,.0f}"


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 100e6 else f"{size / 1e6:,.0f} MB"


def number(amount: int | None) -> str:
    return NOTHING if amount is None else f"{amount:,}"


def measured(amount: float | None, unit: str) -> str:
    """Some three digits of an amount of growth, with its unit."""
    if amount is None:
        return NOTHING
    digits = 0 if amount >= 100 else 1 if amount >= 10 else 2 if amount >= 1 else 3
    return f"{amount:,.{digits}f} {unit}"
