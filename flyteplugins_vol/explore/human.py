"""Numbers, times and modes as people read them."""

from __future__ import annotations

import stat
from datetime import datetime, timezone

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEPS = ((60, "s"), (60, "min"), (24, "h"), (7, "d"), (4.35, "wk"), (12, "mo"))
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}


def size(count: int) -> str:
    """Bytes in at most nine cells: ``812 B``, ``3.4 KiB``, ``512 MiB``."""
    value = float(count)
    for unit in _UNITS:
        # 1023.95 would be rounded to 1024.0
        if abs(value) < (1000 if unit == "B" else 999.5) or unit == _UNITS[-1]:
            digits = 0 if unit == "B" or abs(value) >= 99.95 else 1
            return f"{value:.{digits}f} {unit}"
        value /= 1024
    raise AssertionError


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def when(ns: int) -> str:
    """A time of a file, in this machine's zone, to the minute."""
    try:
        return datetime.fromtimestamp(ns // 10**9, timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):  # an index may say anything
        return "?"


def parse_time(text: str) -> datetime | None:
    """A time of a version record (RFC 3339, UTC)."""
    try:
        return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def local(text: str) -> str:
    """A record's time in this machine's zone, to the second."""
    found = parse_time(text)
    return found.astimezone().strftime("%Y-%m-%d %H:%M:%S") if found else text


def ago(text: str, now: datetime) -> str:
    """How long ago a record was made: ``5 min``, ``3 d``."""
    found = parse_time(text)
    if found is None:
        return "?"
    value = max(0.0, (now - found).total_seconds())
    for step, unit in _STEPS:
        if value < step:
            return f"{value:.0f} {unit}"
        value /= step
    return f"{value:.0f} y"


def kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "unknown kind")


def mode(bits: int) -> str:
    """``-rw-r--r--``."""
    return stat.filemode(bits)
