"""Names that a search found, more of them fetched as they come in sight."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable

from rich.text import Text

from flyteplugins_vol import human
from flyteplugins_vol.explore.search import Found
from flyteplugins_vol.explore.widgets.guard import guarded
from flyteplugins_vol.explore.widgets.layout import middle, name_text, right
from flyteplugins_vol.explore.widgets.rows import Rows
from flyteplugins_vol.human import shown

_SIZE = 11
_AHEAD = 40  # rows

Result = tuple[Found, bytes]
"""A match and its absolute path."""


class ResultRows(Rows):
    """``more`` is called when the last rows come in sight; `add` takes what it brought."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.results: list[Result] = []
        self.complete = True
        self.more: Callable[[], Awaitable[None]] | None = None
        self._asking = False
        self._empty = ""

    def clear(self, empty: str) -> None:
        self.results, self.complete, self._empty = [], True, empty
        self.set_rows(0)

    def add(self, results: list[Result], *, complete: bool) -> None:
        self.results += results
        self.complete = complete
        self.set_rows(len(self.results))

    @property
    def result(self) -> Result | None:
        return self.results[self.cursor] if self.cursor < len(self.results) else None

    def empty_text(self) -> str:
        return self._empty

    def row_text(self, row: int, width: int) -> Text:
        if not self.complete and row >= len(self.results) - _AHEAD and not self._asking and self.more is not None:
            self._asking = True
            self.run_worker(guarded(self, self._ask))
        found, path = self.results[row]
        is_dir = stat.S_ISDIR(found.mode)
        above, _, _ = path.rpartition(b"/")
        special = self.style("special")
        name = name_text(shown(found.name) + ("/" if is_dir else ""), self.style("strong"), special)
        directory = name_text(shown(above + b"/"), self.style("dim"), special)
        text = Text.assemble(" ", middle(Text.assemble(directory, name), width - _SIZE - 2))
        text.append("" if is_dir else right(human.size(found.size), _SIZE), self.style("dim"))
        return text

    async def _ask(self) -> None:
        try:
            if self.more is not None:
                await self.more()
        finally:
            self._asking = False
