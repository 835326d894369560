"""Ask where to, then write the file there while a bar fills."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, ProgressBar, Static

from flyteplugins_vol import human
from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.explore.export import ExportStopped, export
from flyteplugins_vol.explore.names import file_name_for
from flyteplugins_vol.explore.opened import OpenVersion
from flyteplugins_vol.explore.queries import Entry
from flyteplugins_vol.explore.threads import in_thread
from flyteplugins_vol.explore.widgets.application import app_of
from flyteplugins_vol.explore.widgets.guard import guarded


class ExportScreen(ModalScreen["str | None"]):
    """Returns the path of the file that was written, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "stop", "Close")]

    def __init__(self, version: OpenVersion, entry: Entry) -> None:
        super().__init__()
        self._version = version
        self._entry = entry
        self._stop = threading.Event()
        self._refused = ""  # a path that is there already: once more means yes
        self._at_work = False

    def compose(self) -> ComposeResult:
        with Vertical(id="export", classes="dialog") as dialog:
            dialog.border_title = f"Export {human.size(self._entry.size)}"
            dialog.border_subtitle = "Enter write   Esc stop"
            yield Input(file_name_for(self._entry.name), id="export-path")
            yield ProgressBar(total=max(1, self._entry.size), show_eta=False)
            yield Static("", id="export-state", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.value.strip() and not self._at_work:
            self._at_work = True
            path = os.path.abspath(os.path.expanduser(event.value.strip()))
            self.run_worker(guarded(self, partial(self._export, path)))

    def action_stop(self) -> None:
        self._stop.set()
        self.dismiss(None)

    async def _export(self, target: str) -> None:
        progress = self.query_one(ProgressBar)

        def tell(done: int) -> None:
            if not self._stop.is_set():
                app_of(self).call_from_thread(progress.update, progress=done)

        try:
            contents = await self._version.contents()
            force = target == self._refused
            await in_thread(lambda: export(contents, self._entry, target, force=force, progress=tell, stop=self._stop))
        except ExportStopped:
            return
        except VolumeError as error:
            self._refuse(target, error)
            return
        finally:
            self._at_work = False
        self.dismiss(target)

    def _refuse(self, target: str, error: VolumeError) -> None:
        hint = error.hint
        if os.path.isfile(target) and target != self._refused:
            self._refused, hint = target, "Enter once more overwrites it"
        self.query_one("#export-state", Static).update(f"{error.message}\n{hint}")
