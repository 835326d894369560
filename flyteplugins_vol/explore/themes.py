"""Colours of the explorer, for dark and for light terminals."""

from __future__ import annotations

from textual.theme import Theme

DEFAULTS = {"muted": "#8a8a8a"}
"""Variables of ours that textual's own themes, which the palette offers too, do not have."""

DARK = Theme(
    name="flytevol-dark",
    primary="#8b7cf6",
    secondary="#5fa8d3",
    accent="#f2a65a",
    foreground="#d9dce5",
    background="#12131a",
    surface="#181a23",
    panel="#222533",
    success="#6cc89a",
    warning="#e8b95b",
    error="#ef6f7c",
    dark=True,
    variables={
        "muted": "#868ca3",
        "footer-key-foreground": "#a99df8",
        "footer-background": "#181a23",
        "footer-description-foreground": "#9aa0b4",
        "input-selection-background": "#8b7cf6 35%",
        "block-cursor-text-style": "none",
        "scrollbar": "#343850",
        "scrollbar-background": "#12131a",
    },
)

LIGHT = Theme(
    name="flytevol-light",
    primary="#5b45d6",
    secondary="#1f6f9f",
    accent="#b45a09",
    foreground="#23263a",
    background="#fcfcfe",
    surface="#f2f3f8",
    panel="#e5e7f0",
    success="#1b7a4b",
    warning="#93610a",
    error="#c02c3c",
    dark=False,
    variables={
        "muted": "#6a6f88",
        "footer-key-foreground": "#5b45d6",
        "footer-background": "#f2f3f8",
        "footer-description-foreground": "#5a5f78",
        "input-selection-background": "#5b45d6 25%",
        "block-cursor-text-style": "none",
        "scrollbar": "#c4c7d8",
        "scrollbar-background": "#fcfcfe",
    },
)
