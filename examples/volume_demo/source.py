"""A real source tree, from what is installed here."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from volume_demo.basics import Tree, measure, run

LEAST_FILES = 5_000
LEAST_BYTES = 200_000_000
LEFT_OUT = {"site-packages", "dist-packages", "__pycache__", "test"}


def gather(target: Path) -> str:
    """Copy the environment's packages to ``target``, and more of that kind until it is large enough; say what.

    A large environment is not copied whole, so that the demo takes a minute everywhere.
    """
    site, library = (Path(sysconfig.get_paths()[name]) for name in ("purelib", "stdlib"))
    taken, tree = copy_until_enough(site, target / "site-packages", Tree())
    parts = [f"{taken} of this environment's site-packages"]
    if not enough(tree):
        taken, tree = copy_until_enough(library, target / "stdlib", tree)
        parts.append(f"{taken} of Python's standard library")
    copies = 0
    while not enough(tree):
        copies += 1
        _, tree = copy_until_enough(site, target / f"site-packages-copy-{copies}", tree)
    if copies:
        more = "a second copy" if copies == 1 else f"{copies} more copies"
        parts.append(f"and, to be large enough, {more} of the first")
    return ", ".join(parts)


def copy_until_enough(source: Path, target: Path, tree: Tree) -> tuple[str, Tree]:
    """Copy entries of a directory until there is enough; how many it took, and how much there is now."""
    target.mkdir(parents=True)
    entries = sorted(entry for entry in source.iterdir() if entry.name not in LEFT_OUT)
    for number, entry in enumerate(entries):
        if enough(tree):
            return f"{number} of {len(entries)} entries", tree
        run("cp", "-a", str(entry), str(target))
        tree += measure(target / entry.name)
    return "all", tree


def enough(tree: Tree) -> bool:
    return tree.files >= LEAST_FILES and tree.bytes >= LEAST_BYTES
