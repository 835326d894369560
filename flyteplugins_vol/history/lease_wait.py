"""What is said while somebody else's lease is watched, which can take as long as it was lent for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)


class LeaseWait:
    """Takes the events of opening a volume; the text of the first about each holder goes to `say`."""

    def __init__(self, volume: str) -> None:
        self._volume = volume
        self._holder = ""

    def __call__(self, event: Mapping[str, Any]) -> None:
        holder = event.get("holder", "")
        if event.get("phase") == "lease" and holder != self._holder:
            self._holder = holder
            self.say(
                f"volume {self._volume} is held by {holder}: watching for up to {event['left']:.0f} s whether that "
                "writer lives"
            )

    def say(self, text: str) -> None:
        """Tell the log; commands tell the terminal."""
        log.warning("%s", text)
