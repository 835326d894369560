"""A real source tree, from what is installed here."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from volume_demo.basics import Tree, measure, run

BYTES_FOR_A_FILE = 40_000
LEFT_OUT = {"site-packages", "dist-packages", "__pycache__", "test"}


def gather(target: Path, least: int) -> str:
    """Copy the environment's packages to ``target``, and more of that kind until it is large enough; say what.

    ``least``: bytes, with a file for every 40,000 of them. A large environment is not copied whole, nor what is larger
    than that by itself, so that the demo takes a minute everywhere.
    """
    site, library = (Path(sysconfig.get_paths()[name]) for name in ("purelib", "stdlib"))
    taken, tree = copy_until_enough(site, target / "site-packages", Tree(), least)
    parts = [f"{taken} of this environment's site-packages"]
    if not enough(tree, least):
        taken, tree = copy_until_enough(library, target / "stdlib", tree, least)
        parts.append(f"{taken} of Python's standard library")
    copies = 0
    while not enough(tree, least):
        copies += 1
        _, tree = copy_until_enough(site, target / f"site-packages-copy-{copies}", tree, least)
    if copies:
        more = "a second copy" if copies == 1 else f"{copies} more copies"
        parts.append(f"and, to be large enough, {more} of the first")
    return ", ".join(parts)


def copy_until_enough(source: Path, target: Path, tree: Tree, least: int) -> tuple[str, Tree]:
    """Copy entries of a directory until there is enough; how many it took, and how much there is now."""
    target.mkdir(parents=True)
    entries = sorted(entry for entry in source.iterdir() if entry.name not in LEFT_OUT)
    taken = 0
    for entry in entries:
        if not enough(tree, least) and (there := measure(entry)).bytes <= least:
            run("cp", "-a", str(entry), str(target))
            tree += there
            taken += 1
    return "all" if taken == len(entries) else f"{taken} of {len(entries)} entries", tree


def enough(tree: Tree, least: int) -> bool:
    return tree.files >= least // BYTES_FOR_A_FILE and tree.bytes >= least
