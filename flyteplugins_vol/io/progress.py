"""A progress bar on the terminal, for all that takes ``progress``."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_COUNTED = {"looking": "objects", "pruning": "versions", "deleting": "objects"}  # all other phases tell of bytes


class ProgressBar:
    """``with ProgressBar("publishing") as bar:``, and in it ``await volume.commit(progress=bar)``.

    For every method with an argument ``progress``, several one after the other as well. It is drawn on standard error
    while that is a terminal, or in a notebook, and taken away at the end; else nothing is. Any thread may move it.
    ``total``: how much is to come, if it is known; ``of``: what that is: bytes, objects, or nothing. ``bytes``: how
    many were told of. ``skipped``: files that were left out since they have no content, ``first_skipped`` one's path.
    ``in_use``: programs had something open when the mount was ended.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        of: str = "bytes",
        console: Console | None = None,
        quiet: bool = False,
    ) -> None:
        self._title = title
        self._total = total
        self._of = of
        self._console = console
        self._quiet = quiet
        self._drawn: Any = None  # rich's, while there is one
        self._task: Any = None
        self._lock = threading.Lock()
        self.bytes = 0
        self.skipped = 0
        self.first_skipped = ""
        self.in_use = False

    def __enter__(self) -> ProgressBar:
        if self._quiet:
            return self
        from rich.console import Console

        console = self._console or Console(stderr=True, highlight=False, soft_wrap=True)
        if console.is_terminal or console.is_jupyter:
            self._drawn = _drawn(console)
            self._task = self._drawn.add_task(self._title, total=self._total, of=self._of)
            self._drawn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn is not None:
            self._drawn.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Whatever a method says of its progress."""
        phase = event.get("phase")
        with self._lock:
            self.bytes += event.get("bytes", 0)
            if phase == "skipped":
                self.skipped += 1
                self.first_skipped = self.first_skipped or event["path"]
            self.in_use = self.in_use or phase == "in use"
        if self._drawn is None:
            return
        if "bytes" in event:
            self._drawn.advance(self._task, event["bytes"])
        elif "total" in event:
            of = self._of if self._of != "bytes" else _COUNTED.get(phase or "", "bytes")
            self._drawn.update(self._task, completed=event["done"], total=event["total"], of=of)
        if phase in ("index", "version"):
            self._drawn.update(self._task, description=f"publishing the {phase}")


def _drawn(console: Console) -> Any:
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn
    from rich.text import Text

    class Amount(DownloadColumn):
        def render(self, task: Any) -> Text:
            of = task.fields["of"]
            if of == "bytes":
                return super().render(task)
            shown = "" if task.total is None else f"{int(task.completed):,}/{int(task.total):,} {of}"
            return Text(shown, style="progress.download")

    class Speed(TransferSpeedColumn):
        def render(self, task: Any) -> Text:
            return super().render(task) if task.fields["of"] == "bytes" else Text()

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), Amount(True), Speed())
    return Progress(*columns, console=console, transient=True)
