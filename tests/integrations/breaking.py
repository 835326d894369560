"""A store that stops working in the middle of a task."""

from __future__ import annotations

import os
import shutil


def break_store(store: str) -> None:
    """Whatever is written below this directory from now on fails: files stand where directories have to be."""
    os.makedirs(store, exist_ok=True)
    for part in ("packs", "index", "volumes"):
        shutil.rmtree(os.path.join(store, part), ignore_errors=True)
        with open(os.path.join(store, part), "w"):
            pass
