"""Work in the background whose failures are said, and never end the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from textual.css.query import NoMatches
from textual.widget import Widget

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.explore.connection import InterruptedQueryError
from flyteplugins_vol.explore.widgets.application import app_of

Work = Callable[[], Awaitable[None]]

_SECONDS = 10.0


def guarded(widget: Widget, work: Work) -> Work:
    """The same work; a `VolumeError` becomes a notification, a question that nobody waits for any more ends.

    So does what comes back when the widget has been closed and its parts are gone, as in the moment of quitting.
    """

    async def guard() -> None:
        try:
            await work()
        except VolumeError as error:
            say_error(widget, error)
        except InterruptedQueryError:
            pass
        except NoMatches:
            if widget.is_attached and widget.is_running and app_of(widget).is_running:
                raise

    return guard


def say_error(widget: Widget, error: VolumeError) -> None:
    widget.notify(error.hint, title=error.message, severity="error", timeout=_SECONDS, markup=False)
