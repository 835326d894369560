"""Rows whose values come in pages from somewhere that takes time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from rich.text import Text

from flyteplugins_vol.explore.widgets.guard import guarded
from flyteplugins_vol.explore.widgets.rows import Rows

PAGE = 256
_KEPT = 64

T = TypeVar("T")


class PagedRows(Rows, Generic[T]):
    """Rows of values; a page that is not there yet shows as dots, is asked for, and then shown."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._pages: dict[int, list[T]] = {}
        self._wanted: dict[int, None] = {}
        self._load: Callable[[int, int], Awaitable[list[T]]] | None = None
        self._busy = False

    def page_through(self, count: int, load: Callable[[int, int], Awaitable[list[T]]] | None) -> None:
        """Show ``count`` rows; ``load(first, limit)`` brings them."""
        self._pages.clear()
        self._wanted.clear()
        self._load = load
        self.set_rows(count, cursor=0)

    def value(self, row: int) -> T | None:
        page = self._pages.get(row // PAGE)
        return page[row % PAGE] if page is not None and row % PAGE < len(page) else None

    def value_text(self, value: T, width: int) -> Text:
        raise NotImplementedError

    def row_text(self, row: int, width: int) -> Text:
        value = self.value(row)
        if value is None:
            self._want(row // PAGE)
            return Text("  …", self.style("dim"))
        return self.value_text(value, width)

    def _want(self, page: int) -> None:
        if page in self._pages or self._load is None:
            return
        self._wanted.pop(page, None)
        self._wanted[page] = None
        if not self._busy:
            self._busy = True
            self.run_worker(guarded(self, self._bring), group="pages")

    async def _bring(self) -> None:
        """The page wanted last comes first; those that were only scrolled past are dropped."""
        try:
            while self._wanted and self._load is not None:
                page = self._wanted.popitem()[0]
                while len(self._wanted) > 4:
                    self._wanted.pop(next(iter(self._wanted)))
                load = self._load
                values = await load(page * PAGE, PAGE)
                if load is not self._load:
                    continue
                self._pages[page] = values
                if len(self._pages) > _KEPT:
                    self._pages.pop(next(iter(self._pages)))
                self.refresh()
                if self.cursor // PAGE == page:
                    self.post_message(self.Moved(self))
        finally:
            self._busy = False
