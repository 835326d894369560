"""Whether a command can be run at all, asked before anything is mounted for it."""

from __future__ import annotations

import errno
import os

NOT_FOUND, NOT_RUNNABLE = 127, 126  # as in every shell

_DEFAULT = "flyte-volume"  # how the names of default mount paths begin, below the home directory


def refused(command: str, *, at: str | None, chdir: bool) -> tuple[int, str] | None:
    """The exit code and the reason where ``command`` is sure not to run; None: it does, or is perhaps in the volume.

    ``at``: the mount path that was asked for. ``chdir``: the command begins in it.
    """
    paths = [command] if os.path.dirname(command) else [os.path.join(one, command) for one in os.get_exec_path()]
    denied = False
    for path in paths:
        if (chdir and not os.path.isabs(path)) or _is_inside(path, at):
            return None
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            denied = True
            continue
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return None
        denied = True
    if denied:
        return NOT_RUNNABLE, f"{command!r} cannot be run: {os.strerror(errno.EACCES)}"
    return NOT_FOUND, f"there is no command {command!r}"


def _is_inside(path: str, at: str | None) -> bool:
    """Whether a path leads to where the volume will be; a link to there leads nowhere as yet."""
    path = os.path.realpath(path)
    if at is None:
        return path.startswith(os.path.join(os.path.realpath(os.path.expanduser("~")), _DEFAULT))
    return f"{path}/".startswith(os.path.realpath(at).rstrip("/") + "/")
