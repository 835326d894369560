"""obstore's threads: its first call begins them for the whole process, and a forked child does not have them.

Its calls there wait for ever, those of a new client as well (0.12.1).
"""

from __future__ import annotations

import os

from ..errors import StoreAccessError

_begun = _lost = False


def enter(url: str) -> None:
    """Before each call. Raises `StoreAccessError` where it would never return."""
    global _begun
    if _lost:
        raise StoreAccessError(
            f"{url} cannot be reached from this process, which was forked from one that has used it",
            hint="start it by multiprocessing's method spawn or forkserver; or install flyteplugins-vol[s3], through "
            "which a forked process reaches s3://",
        )
    _begun = True


def is_lost() -> bool:
    """Whether this process is forked from one that has called obstore."""
    return _lost


def _in_child() -> None:
    global _lost
    _lost = _begun


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
