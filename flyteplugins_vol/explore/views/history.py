"""History: the versions, and all that the record of one says."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.widgets import Static

from flyteplugins_vol.explore.widgets.rows import Rows
from flyteplugins_vol.explore.widgets.versions import Item, VersionRows, details


class HistoryView(Container):
    def compose(self) -> ComposeResult:
        yield VersionRows(id="versions")
        with VerticalScroll(id="version-details", can_focus=False):
            yield Static(id="version-text")

    @property
    def rows(self) -> VersionRows:
        return self.query_one(VersionRows)

    @property
    def item(self) -> Item | None:
        """The version that the cursor is on."""
        return self.rows.item

    @on(Rows.Moved)
    def _moved(self) -> None:
        self.query_one("#version-text", Static).update(details(self.item, self.rows.item_tags))
