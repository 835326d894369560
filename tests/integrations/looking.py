"""What others on the machine could see of a secret, for tasks of both SDKs."""

from __future__ import annotations

import os
from pathlib import Path


def places_of(secret: str) -> list[str]:
    """Arguments of our processes, and files in the cache directory, that hold it."""
    places: list[str] = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"flyteplugins_vol" in line and secret.encode() in line:
            places.append(f"arguments of {pid}")
    files = (path for path in Path(os.environ["FLYTE_VOL_CACHE_DIR"]).rglob("*") if path.is_file())
    return places + [str(path) for path in files if secret.encode() in path.read_bytes()]
