"""From any exception to what a person reads and what a script sees: a short message, a hint, an exit code.

| code | when                                                                             |
|------|----------------------------------------------------------------------------------|
| 0    | done                                                                             |
| 1    | something else went wrong; a question was answered by no                         |
| 2    | the command line is wrong, or what it names is ambiguous                         |
| 3    | there is no such volume, version or file                                         |
| 4    | something is there already, somebody else was first, or changes are in conflict  |
| 5    | this machine is not ready, or its disk full: `flytevol doctor` says why          |
| 6    | the store did not do it                                                          |
| 7    | stored bytes are damaged, or of a newer release                                  |
| 130  | Ctrl-C; nothing is half published                                                |
| 141  | whoever read the output went away                                                |

`flytevol exec` passes the command's own code on; 125 is a failure of ours, 126 and 127 are a command that cannot be run
or found, and 128 + n one that signal n ended: as env(1) and the shells have it.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import NamedTuple

import click

from flyteplugins_vol.errors import (
    ConflictError,
    DamageError,
    LocatorError,
    NewerFormatError,
    SetupError,
    StoreError,
    UsageError,
    VersionNotFoundError,
    VolumeError,
)
from flyteplugins_vol.human import shown, shown_text

INTERRUPTED = 130
BROKEN_PIPE = 141
OURS = 125
"""Exit code of `flytevol exec` when flytevol itself failed."""


class NotFoundError(UsageError):
    """There is nothing of that name."""

    kind = "not-found"


class ExistsError(UsageError):
    """Something is there, and may neither be replaced nor go with something else."""

    kind = "exists"


class AmbiguousError(UsageError):
    """A name that several things have; the message lists them."""

    kind = "ambiguous"


class DeclinedError(UsageError):
    """Somebody was asked, and said no."""

    kind = "declined"


class Failure(NamedTuple):
    """What is told of an error."""

    kind: str
    message: str
    hint: str
    code: int


_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (NotFoundError, 3),
    (VersionNotFoundError, 3),
    (ExistsError, 4),
    (DeclinedError, 1),
    (ConflictError, 4),
    (UsageError, 2),
    (SetupError, 5),
    (StoreError, 6),
    (DamageError, 7),
    (NewerFormatError, 7),
    (click.UsageError, 2),
    (FileNotFoundError, 3),
    (FileExistsError, 4),
)

_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (FileNotFoundError, "flytevol ls shows what is there"),
    (FileExistsError, "--force replaces it"),
    (shutil.SameFileError, "give another DEST: a copy of it would take its own place"),
    (PermissionError, "give another place, or change the permissions there: this user has no right to it"),
    (IsADirectoryError, "get and put take whole directories, cp and rm with -r; cat takes none"),
)
_TYPED: tuple[tuple[str, str], ...] = (
    ("mount() again: what is in no version is kept on local disk; or abandon() it, and load it anew",
     "mount it again: what is in no version is kept on local disk; `flytevol recover` lists it"),
    ("; load it and fork it", "; `flytevol fork` with this locator makes a volume of it"),
    ("load it again by its name to go on from", "try again: by its name you go on from"),
    ("or mount without allow_other", "or leave out --allow-other"),
    ("read a part of it, with offset= and size=, or piece by piece from open()", "without --json it is streamed"),
    ("as vol.locator gives it", "as `flytevol log --locators` prints it"),
    (", or pass StoreOptions with them", ""),
    (" or by StoreOptions", ""),
    (", or give other store_options=", ""),
    ("pass what is missing as store_options=StoreOptions(config=…)",
     "the command line has no options for it: use file://, s3://, gs:// or abfs://"),
    (" (fork())", ""),
    (" (force=True)", ""),
    (", or give encryption= or StoreOptions(encryption=…)", ""),
)  # fmt: skip
"""What hints say in Python, and what is to be typed instead."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ELSEWHERE = "free some space there, or set FLYTE_VOL_CACHE_DIR to a directory on another disk"
_OF_ERRNO = {
    errno.ENOTEMPTY: "-r (--recursive) takes whole directories",
    errno.EBUSY: "the root of a volume stays: -r (--recursive) takes all that is in it",
}


def failure_of(error: BaseException) -> Failure:
    """What to tell of an exception."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), 1)
    hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")
    if isinstance(error, VolumeError):
        return Failure(error.kind, error.message, _typed(error.hint) or _hint_of(error), code)
    if isinstance(error, click.ClickException):
        return Failure("usage", error.format_message(), "", code)
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno in _FULL:
            code, hint = 5, _ELSEWHERE if error.filename is None else "free some space there"
        hint = _OF_ERRNO.get(error.errno, hint)
        where = f"{shown(os.fsdecode(error.filename))}: " if isinstance(error.filename, (str, bytes)) else ""
        return Failure("file", f"{where}{shown_text(error.strerror or str(error))}", hint, code)
    return Failure("failure", f"{type(error).__name__}: {error}", "--debug shows the traceback", code)


def _typed(hint: str) -> str:
    for call, command in _TYPED:
        hint = hint.replace(call, command)
    return hint


def _hint_of(error: VolumeError) -> str:
    return "flytevol list shows the volumes of a store" if isinstance(error, LocatorError) else ""
