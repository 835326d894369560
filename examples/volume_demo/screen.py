"""What the demo shows while it runs, and the table at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from volume_demo.basics import Tree, size
from volume_demo.stores import Ledger


@dataclass
class Step:
    """One step of the story; its block fills it in."""

    number: int
    title: str
    screen: Console
    ledger: Ledger
    done: bool = False
    lines: list[str] = field(default_factory=list)
    moved: Tree | None = None
    seconds: float = 0.0
    puts: list[int] = field(default_factory=list)
    held: tuple[int, int] = (0, 0)  # objects and bytes in the store afterwards

    def say(self, line: str) -> None:
        """A line for under the step's time. What takes time to find out is said after the block."""
        if self.done:
            self.screen.print(indented(line))
        else:
            self.lines.append(line)

    def end(self, seconds: float) -> None:
        self.done = True
        self.seconds = seconds
        self.puts = self.ledger.look()
        self.held = (len(self.ledger.objects), self.ledger.bytes)
        self.screen.print(indented(f"{seconds:.2f} s{self.pace}", "green"))
        for line in self.lines:
            self.say(line)

    @property
    def written(self) -> str:
        """What the step wrote to the store; known after its block."""
        return f"{len(self.puts):,} {'object' if len(self.puts) == 1 else 'objects'}, {size(sum(self.puts))}"

    @property
    def pace(self) -> str:
        if self.moved is None:
            return ""
        rate = f", {self.moved.bytes / self.seconds / 1e6:,.0f} MB/s"
        return rate + (f", {self.moved.files / self.seconds:,.0f} files/s" if self.moved.files > 1 else "")


class Story:
    """Shows each step as it happens, and keeps what the closing table needs."""

    def __init__(self, screen: Console, ledger: Ledger) -> None:
        self.screen = screen
        self.ledger = ledger
        self.steps: list[Step] = []
        self._number = 0

    @contextmanager
    def step(self, title: str, how: str = "", *, free: bool = False) -> Iterator[Step]:
        """One step; ``free``: not about the volume, so not in the table."""
        self._number += 1
        step = Step(self._number, title, self.screen, self.ledger)
        self.screen.print(Text.assemble("\n", (f"{step.number:2}  ", "cyan"), (title, "bold")))
        if how:
            self.screen.print(indented(how, "cyan"))
        began = time.perf_counter()
        with self.screen.status("…"):
            yield step
        step.end(time.perf_counter() - began)
        if not free:
            self.steps.append(step)

    def table(self) -> Table:
        table = Table(header_style="bold", box=None, pad_edge=False)
        table.add_column("What it cost")
        for heading in ("seconds", "PUTs", "bytes sent", "objects in store", "bytes in store"):
            table.add_column(heading, justify="right")
        for step in self.steps:
            sent = (f"{len(step.puts):,}", size(sum(step.puts))) if step.puts else ("–", "–")
            objects, held = step.held
            table.add_row(_entry(step), f"{step.seconds:.2f}", *sent, f"{objects:,}", size(held))
        return table


def _entry(step: Step) -> str:
    return f"{step.number:2}  {step.title.split(':')[0].split(',')[0]}"


def indented(line: str, style: str = "") -> Padding:
    return Padding(Text(line, style=style), (0, 0, 0, 4), expand=False)


def saved(logical: int, stored: int) -> str:
    return f"{stored / max(1, logical):.0%}: each block is stored once, and compressed"


def short(path: Path) -> str:
    """The path as seen from here, where that is possible."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def short_locator(locator: str | None) -> str:
    return f"…/{'/'.join((locator or '').split('/')[-3:])}"
