"""What the screens look like, as text in tests/explore/snapshots.

A change that is wanted: ``UPDATE_SNAPSHOTS=1 pytest tests/explore/test_snapshots.py``, then read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.explore.conftest import Cats, exploring, still

HERE = Path(__file__).parent / "snapshots"
UPDATE = bool(os.environ.get("UPDATE_SNAPSHOTS"))

SCREENS: dict[str, tuple[str, ...]] = {
    "files": ("down", "right"),
    "sizes": ("s", "down", "right"),
    "preview": ("enter",),
    "hex": ("end", "enter"),
    "odd": ("down", "down", "down", "right", "right"),
    "history": ("2", "down"),
    "changes": ("d",),
    "search": ("slash", *"png"),
    "help": ("question_mark",),
    "run": ("o",),
    "export": ("e",),
}


@pytest.mark.parametrize("size", [(80, 24), (200, 60)], ids=["80x24", "200x60"])
@pytest.mark.parametrize("name", SCREENS)
async def test_screens(cats: Cats, name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    async with exploring(cats.locators[2], size=size) as e:
        e.app.animation_level = "none"
        await e.press(*SCREENS[name])
        if name == "search":
            await e.until(lambda: "2 found" in e.text or "1 found" in e.text)
        if name == "run":
            await e.until(lambda: "https:" in e.text)
        e.browse.top.store = "s3://datasets/volumes"
        await e.settle()
        lines = still(e.text).splitlines()
        assert all(len(line) <= size[0] for line in lines)
    compare(HERE / f"{name}-{size[0]}x{size[1]}.txt", "\n".join(lines) + "\n")


def compare(path: Path, text: str) -> None:
    if UPDATE:
        path.write_text(text)
    assert path.exists(), "no snapshot yet: see the head of this file"
    assert _level(text).splitlines() == _level(path.read_text()).splitlines()


def _level(text: str) -> str:
    """Scroll bars end at one height: how far they reach depends on the length of the scratch directory's path."""
    return re.sub("[▁▂▃▄▅▆▇]", "▃", text)
