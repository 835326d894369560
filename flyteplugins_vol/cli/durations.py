"""Spans of time on the command line: ``36h``, ``7d``, ``4w``."""

from __future__ import annotations

import re
from datetime import timedelta

import click

_TEXT = re.compile(r"([0-9]{1,6})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}


def duration(text: str | timedelta) -> timedelta:
    """Hours, days or weeks; a type of click's options."""
    if isinstance(text, timedelta):
        return text
    found = _TEXT.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no span of time, such as 36h, 7d or 4w")
    return timedelta(hours=int(found[1]) * _HOURS[found[2]])


def days(span: timedelta) -> str:
    """A span in words."""
    whole, hours = span.days, span.seconds // 3600
    words = [f"{whole} day{'' if whole == 1 else 's'}"] if whole else []
    return " ".join([*words, f"{hours} h"] if hours or not words else words)
