"""The application that a widget is in, with a type: textual's own property leaves its result type open."""

from __future__ import annotations

from textual.app import App
from textual.dom import DOMNode


def app_of(node: DOMNode) -> App[object]:
    return node.app  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
