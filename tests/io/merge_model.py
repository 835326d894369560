"""What a merge must make of trees: the rules of docs/SEMANTICS.md once more, written the other way, name by name.

A tree is None, ``(mode, content)`` of a file, or ``(mode, {name: tree})`` of a directory.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from flyteplugins_vol.io import RWVolume, Volume

Tree = Any
NAMES = ("a", "b", "c-", "c")


def is_dir(tree: Tree) -> bool:
    return tree is not None and isinstance(tree[1], dict)


def own(tree: Tree) -> Any:
    """What a path is, without what is below it."""
    return (tree[0], "dir") if is_dir(tree) else tree


def names(*trees: Tree) -> list[str]:
    return sorted({name for tree in trees if is_dir(tree) for name in tree[1]})


def inside(tree: Tree, name: str) -> Tree:
    return tree[1].get(name) if is_dir(tree) else None


def has_new(base: Tree, side: Tree) -> bool:
    """Whether something below is there that the base has not so."""
    return any(
        (inside(side, name) is not None and own(inside(side, name)) != own(inside(base, name)))
        or has_new(inside(base, name), inside(side, name))
        for name in names(side)
    )


def merged(base: Tree, sides: list[Tree], choose: Callable[[str, list[int]], int], path: str = "") -> Tree:
    """The tree that comes of it; ``choose`` decides between sides that are in conflict at a path."""
    changed = [side for side, tree in enumerate(sides) if own(tree) != own(base)]
    going = [side for side in changed if is_dir(base) and not is_dir(sides[side])]
    staying = [
        side for side, tree in enumerate(sides)
        if side not in going and (side in changed or has_new(base, tree))
    ]  # fmt: skip
    if going and staying:
        winner = choose(path or "/", sorted(going + staying))
        if winner in going:
            return sides[winner]
        others = [side for side in staying if side in changed]
        mode = sides[winner if winner in changed else others[0]][0] if others else base[0]
        return mode, below(base, sides, choose, path)
    kinds = {own(sides[side]) for side in changed}
    winner = choose(path or "/", changed) if len(kinds) > 1 else changed[0] if changed else None
    tree = base if winner is None else sides[winner]
    return (tree[0], below(base, sides, choose, path)) if is_dir(tree) else tree


def below(base: Tree, sides: list[Tree], choose: Callable[[str, list[int]], int], path: str) -> dict[str, Tree]:
    found = {
        name: merged(inside(base, name), [inside(side, name) for side in sides], choose, f"{path}/{name}")
        for name in names(base, *sides)
    }
    return {name: tree for name, tree in found.items() if tree is not None}


def tree_of(volume: Volume, path: str = "/") -> Tree:
    info = volume.stat.sync(path)
    if not info.is_dir:
        return info.mode, volume.read_bytes.sync(path)
    return info.mode, {one.name: tree_of(volume, one.path) for one in volume.ls.sync(path)}


def change(volume: RWVolume, rng: random.Random, steps: int) -> None:
    """Do this and that to a volume without a mount."""
    for _ in range(steps):
        path = "/" + "/".join(rng.choices(NAMES, k=rng.randint(1, 3)))
        act = rng.choice(("write", "write", "write", "mkdir", "remove", "remove", "mode", "rename"))
        try:
            if act == "write":
                _make_room(volume, path, rng)
                volume.write_bytes.sync(path, b"%d" % rng.randrange(3) * 50)
            elif act == "mkdir":
                _make_room(volume, path, rng)
                volume.mkdir.sync(path, parents=True)
            elif act == "remove":
                volume.remove.sync(path, recursive=True)
            elif act == "rename":
                volume.rename.sync(path, "/" + rng.choice(NAMES), force=True)
            else:
                tree: Any = volume._writing()
                mode = rng.choice((0o600, 0o640, 0o750))
                node = tree.lookup(tree.root(), path.split("/")[1].encode())
                if node is not None:
                    tree.set_attributes(node, mode=mode)
        except OSError:  # it cannot be done to what is there
            pass


def _make_room(volume: RWVolume, path: str, rng: random.Random) -> None:
    """Sometimes a file gives way to a directory, or the other way."""
    if rng.random() < 0.3 and volume.exists.sync(path):
        volume.remove.sync(path, recursive=True)
    parts = path.split("/")
    for depth in range(2, len(parts)):
        above = "/".join(parts[:depth])
        if not volume.exists.sync(above):
            volume.mkdir.sync(above)
        elif rng.random() < 0.3 and not volume.stat.sync(above).is_dir:
            volume.remove.sync(above)
            volume.mkdir.sync(above)
