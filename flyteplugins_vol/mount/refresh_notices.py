"""What the kernel is told after a refresh: which names and listings it must ask for again.

Any thread but the owner's: the kernel holds on until requests that are under way in a directory are answered. That is
wanted, since it makes the end of `announce` a moment after which no answer of before is still on its way to a program:
1. Each name that came, went or leads elsewhere is dropped, absent names that the kernel remembers too. It takes the
   directory's lock for that, which whoever looks up or lists holds until he has entered the answer.
2. Then the listing of each of these directories, and its attributes.
Nothing is said of what the kernel does not know, and of unchanged files nothing at all: they stay cached.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby

from flyteplugins_vol.model import ROOT_INO
from flyteplugins_vol.mount import wire_protocol as wire
from flyteplugins_vol.mount.protocols import NewVersion
from flyteplugins_vol.mount.wire_protocol import Notify

log = logging.getLogger(__name__)

Send = Callable[[int, bytes], None]
"""Send a notice of this kind to the kernel; `OSError` with its answer. Blocks."""


def announce(
    send: Send, new: NewVersion, node_of: Callable[[int], int], node_before: Callable[[int], int]
) -> None:  # fmt: skip
    """Tell the kernel what a version that was just taken has otherwise than the one before.

    ``node_of`` and ``node_before``: the nodes that the two versions have for inodes.
    """
    touched = chain(new.changes.names(), ((ino, b"") for ino in new.changes.directories))
    for ino, names in groupby(touched, key=lambda item: item[0]):
        for node in _nodes_of(ino, new, node_of):
            _announce_directory(send, node, (name for _, name in names))
    for ino, names in groupby(new.changes.gone_names(), key=lambda item: item[0]):  # who stands there keeps no others
        _announce_directory(send, node_before(ino), (name for _, name in names))
    if new.root != new.root_before:
        _announce_directory(send, ROOT_INO, new.changes.root_names(new.root_before, new.root))


def drop(send: Send, names: Iterable[tuple[int, bytes]]) -> None:
    """Have the kernel forget names in these directories, and what nobody uses below."""
    for node, name in names:
        _drop(send, node, name)


def known(send: Send, nodes: Iterable[int]) -> Iterator[int]:
    """Those of the nodes that the kernel knows. It asks for their attributes again."""
    return (node for node in nodes if _knows(send, node))


def _nodes_of(ino: int, new: NewVersion, node_of: Callable[[int], int]) -> list[int]:
    """By what the kernel knows a directory: its node, and the root's if that is what the mount shows."""
    if new.root == ROOT_INO:
        return [node_of(ino)]
    if ino == new.root == new.root_before:
        return [ROOT_INO]
    return [node_of(ino)] if ino != ROOT_INO else []  # which is above what the mount shows


def _announce_directory(send: Send, node: int, names: Iterable[bytes]) -> None:
    if not _knows(send, node):
        return
    for name in names:
        if name:
            _drop(send, node, name)
    _sent(send, Notify.INVAL_INODE, wire.INVAL_INODE_OUT.pack(node, 0, -1))


def _drop(send: Send, node: int, name: bytes) -> None:
    _sent(send, Notify.INVAL_ENTRY, wire.INVAL_ENTRY_OUT.pack(node, len(name), 0) + name + b"\0")


def _knows(send: Send, node: int) -> bool:
    return _sent(send, Notify.INVAL_INODE, wire.INVAL_INODE_OUT.pack(node, -1, 0))  # attributes alone: a cheap question


def _sent(send: Send, kind: int, body: bytes) -> bool:
    """Whether the kernel knows what it was told of."""
    try:
        send(kind, body)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True
