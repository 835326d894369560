"""The explorer as an application: from a source to the main screen, and to the end of everything it opened."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from textual.app import App
from textual.notifications import SeverityLevel

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.explore.opened import OpenVersion
from flyteplugins_vol.explore.screens.browse import BrowseScreen
from flyteplugins_vol.explore.screens.loading import LoadingScreen
from flyteplugins_vol.explore.screens.pick import PickScreen
from flyteplugins_vol.explore.sources import Choice, Note, Shown
from flyteplugins_vol.explore.themes import DARK, DEFAULTS, LIGHT
from flyteplugins_vol.explore.threads import in_thread

Source: TypeAlias = "Callable[[Note], Shown | Choice]"


class ExplorerApp(App["VolumeError | None"]):
    """``source`` blocks and says what to show. Returns the error that kept it from opening anything, or None."""

    TITLE = "flytevol"
    CSS_PATH = "explore.tcss"
    ENABLE_COMMAND_PALETTE = True

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._loading = LoadingScreen()
        self.browse: BrowseScreen | None = None

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return DEFAULTS

    def on_mount(self) -> None:
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        self.theme = DARK.name
        self._end_by_signals()
        self.push_screen(self._loading)
        self.run_worker(self._start)

    def action_theme(self) -> None:
        """Dark or light."""
        self.theme = LIGHT.name if self.current_theme.dark else DARK.name

    def _end_by_signals(self) -> None:
        """SIGTERM, and SIGHUP when the terminal is closed, end it as q does: the screen is put in order, copies go."""
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                with suppress(NotImplementedError):  # nor handlers in a loop
                    asyncio.get_running_loop().add_signal_handler(number, partial(self.exit, return_code=128 + number))

    async def _start(self) -> None:
        try:
            found = await in_thread(self._source, self._say)
            shown = await self._pick(found) if isinstance(found, Choice) else found
            self._say("bringing the index to this machine")
            version = await OpenVersion.open(shown)
        except VolumeError as error:
            self.exit(error)
            return
        self.browse = BrowseScreen(version)
        await self.switch_screen(self.browse)  # pyright: ignore[reportUnknownMemberType]

    async def _pick(self, choice: Choice) -> Shown:
        volume = await self.push_screen_wait(PickScreen(choice.versions.store_url, choice.volumes))
        record = await in_thread(choice.versions.newest, str(volume))
        return Shown(volume.name, choice.versions, record)

    def _say(self, step: str) -> None:
        """From any thread."""
        self.call_later(self._loading.say, step)

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", timeout: float | None = None,
        markup: bool = False,
    ) -> None:  # fmt: skip
        """As textual's, but what it says is never markup: it may quote the name of a file."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)
