"""Changes: what differs between two versions."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from flyteplugins_vol.explore.diff import Diff
from flyteplugins_vol.explore.names import split
from flyteplugins_vol.explore.widgets.application import app_of
from flyteplugins_vol.explore.widgets.changes import ChangeRows, summary_text
from flyteplugins_vol.index.difference import Kind

_COLOURS = {Kind.ADDED: "$success", Kind.REMOVED: "$error", Kind.CONTENT: "$warning", Kind.ATTRIBUTES: "$muted"}


class ChangesView(Vertical):
    def compose(self) -> ComposeResult:
        yield Static(id="changes-title", markup=False)
        yield ChangeRows(id="change-rows")

    def on_mount(self) -> None:
        self._diff: Diff | None = None
        self.say("", "d compares a version with its parent; m in the history marks another one to compare with.")

    async def on_unmount(self) -> None:
        await self.forget()

    @property
    def rows(self) -> ChangeRows:
        return self.query_one(ChangeRows)

    def say(self, title: str | Text, empty: str) -> None:
        """Show a title over no rows."""
        self.query_one("#changes-title", Static).update(title)
        self.rows.empty = empty
        self.rows.page_through(0, None)

    async def show(self, title: str, diff: Diff) -> None:
        """Show what a diff found; it is closed when the next one comes."""
        await self.forget()
        self._diff = diff
        variables = app_of(self).theme_variables
        colours = {kind: variables.get(name[1:], "") for kind, name in _COLOURS.items()}
        self.say(
            Text.assemble((title, "bold"), "\n", summary_text(diff.summary, colours)),
            "Nothing differs: every name, every byte and every attribute is the same.",
        )
        self.rows.page_through(diff.summary.rows, diff.page)

    async def forget(self) -> None:
        if self._diff is not None:
            diff, self._diff = self._diff, None
            await diff.close()

    @property
    def path(self) -> tuple[bytes, ...] | None:
        """The path that the cursor is on."""
        change = self.rows.value(self.rows.cursor)
        return split(change.path) if change is not None else None
