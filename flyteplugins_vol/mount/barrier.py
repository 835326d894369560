"""The commit barrier: what programs have written through open files reaches the daemon before a commit begins.

Under the writeback cache the kernel keeps written bytes as dirty pages. `close` sends them, but a file that is still
open, or mapped, keeps them for up to 30 s, and syncfs does nothing on FUSE (design.md section 5). So every inode that
is open for writing is opened once more, through the mount, and fsynced.

An inode may have no name any more, or one that this process may not walk to. It is reached by a secret one instead:
`Operations.lookup` resolves ``.flytevol-<token>-<inode>`` in the root. The token is drawn anew for each mount, is never
listed, and the kernel is told to keep the name for no time.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from flyteplugins_vol.errors import CommitError

_WORKERS = 8
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Barrier:
    """Flushes inodes through the mount at ``mount_path``. Any thread but the owner's, whom it keeps busy."""

    def __init__(self, mount_path: str, write_back: Callable[[int], None]) -> None:
        self.secret = b".flytevol-%s-" % secrets.token_hex(16).encode()
        self.threads: set[int] = set()  # of the barrier now: their fsyncs need not be durable, the commit will be
        self._mount_path = os.fsencode(mount_path)
        self._write_back = write_back

    def flush(self, inodes: Iterable[int]) -> None:
        """Return when the daemon has all that was written to these inodes before the call. CommitError if it cannot."""
        inodes = list(inodes)
        if not inodes:
            return
        with ThreadPoolExecutor(min(_WORKERS, len(inodes)), thread_name_prefix="barrier") as pool:
            list(pool.map(self._flush_one, inodes))

    def _flush_one(self, ino: int) -> None:
        thread = threading.get_native_id()
        self.threads.add(thread)
        try:
            fd = self._open(ino)
            if fd is None:
                self._write_back(ino)
                return
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except FileNotFoundError:
            pass  # closed and gone meanwhile
        except OSError as error:
            raise CommitError(
                f"what was written to inode {ino} could not be flushed: {error.strerror or error}",
                hint="the daemon's log has the reason; the mount lives on, so repair it and commit again",
            ) from error
        finally:
            self.threads.discard(thread)

    def _open(self, ino: int) -> int | None:
        """A descriptor of the inode; None where its permissions let this process neither read nor write it."""
        path = os.path.join(self._mount_path, self.secret + str(ino).encode())
        for flags in (_READ, _WRITE):
            try:
                return os.open(path, flags)
            except PermissionError:
                continue
        return None
