"""Files and directories within a volume: remove, copy, rename, over any `FileTree`."""

from __future__ import annotations

import errno
from shutil import SameFileError

from flyteplugins_vol.io.transfer import make_file, make_symlink
from flyteplugins_vol.io.tree import FileTree, Found, Node, error_at, find, join, normal


def remove(tree: FileTree, path: str, *, recursive: bool) -> None:
    """Remove a file or an empty directory; with ``recursive`` all that is below it."""
    found = find(tree, path, follow=False)
    node = found.existing()
    if not found.name:
        if not recursive:
            raise error_at(errno.EBUSY, path)
        _empty(tree, node)
    elif not node.is_dir:
        tree.unlink(found.directory, found.name)
    else:
        if recursive:
            _empty(tree, node)
        elif next(iter(tree.scan(node)), None) is not None:
            raise error_at(errno.ENOTEMPTY, path)
        tree.rmdir(found.directory, found.name)


def copy(tree: FileTree, source: str, target: str, *, recursive: bool, force: bool) -> None:
    """Copy a file, a symlink, or with ``recursive`` a directory. A target that is a directory gets it inside."""
    found = find(tree, source, follow=False)
    node = found.existing()
    if node.is_dir and not recursive:
        raise error_at(errno.EISDIR, source)
    place = _into(tree, found, _target_of_copy(tree, found, target))
    if node.is_dir and _is_below(tree, node, place):
        raise OSError(errno.EINVAL, "a directory cannot be copied into itself", target)
    _copy(tree, node, source, place, force)


def _target_of_copy(tree: FileTree, source: Found, target: str) -> Found:
    """Where a copy goes. A symlink takes the place of another, and not of what that leads to, which may be its own."""
    if not source.existing().is_symlink:
        return find(tree, target)
    place = find(tree, target, follow=False)
    followed = _followed(tree, target) if place.node is not None and place.node.is_symlink else None
    return followed if followed is not None and followed.existing().is_dir else place


def _followed(tree: FileTree, path: str) -> Found | None:
    """What a symlink leads to; None if that is nowhere, in a circle, or out of the volume."""
    try:
        found = find(tree, path)
    except OSError:
        return None
    return found if found.node is not None else None


def rename(tree: FileTree, source: str, target: str, *, force: bool) -> None:
    """Rename or move. A target that is a directory gets it inside; another file is replaced with ``force``."""
    found = find(tree, source, follow=False)
    found.existing()
    if not found.name:
        raise error_at(errno.EBUSY, source)
    place = _into(tree, found, find(tree, target, follow=False))
    if found.existing().is_dir and _is_below(tree, found.existing(), place):
        raise OSError(errno.EINVAL, "a directory cannot be moved into itself", target)
    if place.node is not None and not force:
        raise error_at(errno.EEXIST, place.path)
    tree.rename(found.directory, found.name, place.directory, place.name)


def _into(tree: FileTree, source: Found, target: Found) -> Found:
    """The place itself, or the one below it with the source's name if it is a directory."""
    if target.node is None or not target.node.is_dir or not source.name:
        return target
    node = tree.lookup(target.node, source.name)
    return Found(target.node, source.name, node, join(normal(target.path), source.name))


def _is_below(tree: FileTree, node: Node, place: Found) -> bool:
    """Whether the place lies in the directory, by what is above it: a path may have come there through symlinks."""
    here, root = place.directory, tree.root()
    while here.ino != node.ino:
        above = tree.lookup(here, b"..") if here.ino != root.ino else None
        if above is None or above.ino == here.ino:
            return False
        here = above
    return True


def _copy(tree: FileTree, node: Node, path: str, place: Found, force: bool) -> None:
    todo = [(node, path, place)]
    while todo:
        node, path, place = todo.pop()
        if not node.is_dir:
            _copy_one(tree, node, path, place, force)
            continue
        target = place.node or tree.mkdir(place.directory, place.name, node.mode & 0o7777)
        if not target.is_dir:
            raise error_at(errno.EEXIST, place.path)
        for name, child in list(tree.scan(node)):
            there = Found(target, name, tree.lookup(target, name), join(normal(place.path), name))
            todo.append((child, join(path, name), there))


def _copy_one(tree: FileTree, node: Node, path: str, place: Found, force: bool) -> None:
    if place.node is not None:
        followed = _followed(tree, path) if node.is_symlink else None  # in the place of that it would lead to itself
        if place.node.ino in (node.ino, followed.existing().ino if followed is not None else None):
            raise SameFileError(errno.EINVAL, f"is the same file as {normal(path)}", place.path)
    if node.is_symlink:
        make_symlink(tree, place, tree.readlink(node), force=force)
    elif node.is_file:
        make_file(tree, place, lambda new: tree.clone(node, new), mode=node.mode, mtime=node.mtime, force=force)
    else:
        raise OSError(errno.EINVAL, "has no content that could be copied", path)


def _empty(tree: FileTree, directory: Node) -> None:
    levels = [(directory, b"", list(tree.scan(directory)))]
    while levels:
        here, own_name, entries = levels[-1]
        while entries:
            name, node = entries.pop()
            if node.is_dir:
                levels.append((node, name, list(tree.scan(node))))
                break
            tree.unlink(here, name)
        else:
            levels.pop()
            if levels:
                tree.rmdir(levels[-1][0], own_name)
