"""The product in a minute: a volume, from its first mount to a fresh process that reads version one back.

    python examples/demo.py [--store file | s3 | URL] [--work DIR] [--size MB]

``file`` keeps the store in a directory, ``s3`` starts an S3 server on this machine (needs the extra ``demo-s3``), and a
URL is used as it is, with credentials from the usual environment variables. One byte that differs makes it fail.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from flyteplugins_vol.errors import VolumeError
from flyteplugins_vol.io import Volume
from volume_demo.basics import Failed, Tree, measure, require, run, size
from volume_demo.screen import Story, saved, short, short_locator
from volume_demo.source import gather
from volume_demo.stores import Ledger, start_store

INTRODUCTION = """\
Mount it and use it like a local disk. Commit, and the version is there for good, for everyone
who has its locator. Fork it, and the copy costs next to nothing, whatever the size."""


def main() -> int:
    parser = argparse.ArgumentParser(description="flyteplugins_vol in a minute")
    parser.add_argument("--store", default="file", help="file, s3, or the URL of a store")
    parser.add_argument("--work", type=Path, default=Path(__file__).parents[1] / ".demo", help="scratch directory")
    parser.add_argument("--size", type=int, default=200, metavar="MB", help="of the tree that is copied, at least")
    args = parser.parse_args()
    screen = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    try:
        with ExitStack() as stack:
            tell(screen, stack, args.store, args.work.resolve(), args.size * 1_000_000)
    except VolumeError as error:
        screen.print(Panel(Text(str(error)), title=f"{type(error).__name__} ({error.kind})", border_style="red"))
    except Failed as error:
        screen.print(Panel(Text(str(error)), title="The demo failed", border_style="red"))
    except KeyboardInterrupt:
        screen.print("\n[yellow]Stopped; nothing stays mounted.[/]")
    else:
        return 0
    return 1


def tell(screen: Console, stack: ExitStack, store: str, work: Path, least: int) -> None:
    began = time.perf_counter()
    fresh_directory(work)
    store_url = start_store(store, work, stack)
    screen.print(introduction(store_url, own_server=store == "s3"))
    ledger = Ledger(store_url)
    story = Story(screen, ledger)
    source = work / "source" / "tree"

    with story.step("Gather a real source tree on the local disk", free=True) as step:
        parts = gather(source, least)
    tree = measure(source)
    step.say(f"{tree}: {parts}")

    with story.step(
        "Create a volume and mount it", 'volume = Volume.new("demo", store=…); volume.mount.sync(…)'
    ) as step:
        volume = Volume.new("demo", store=store_url)
        path = volume.mount.sync(work / "mnt", meta_dir=work / "meta", cache_dir=work / "cache")
        stack.callback(quietly, volume.abandon.sync)
        step.say(f"an ordinary directory now: {short(path)}")

    with story.step("Copy the tree onto it", "$ cp -a tree VOLUME/tree") as step:
        run("cp", "-a", str(source), str(path / "tree"))
        step.moved = tree
    with story.step("Pack it into a tar file", "$ tar -C VOLUME -cf VOLUME/tree.tar tree") as step:
        run("tar", "-C", str(path), "-cf", str(path / "tree.tar"), "tree")
        step.moved = Tree(1, (path / "tree.tar").stat().st_size)
    with story.step("Unpack that beside it", "$ tar -C VOLUME/unpacked -xf VOLUME/tree.tar") as step:
        (path / "unpacked").mkdir()
        run("tar", "-C", str(path / "unpacked"), "-xf", str(path / "tree.tar"))
        step.moved = tree
    with story.step("Commit version one", 'first = volume.commit.sync("the tree, three times over")') as step:
        first = volume.commit.sync("the tree, three times over")
    held = measure(path)
    step.say(f"{held} in the volume; {size(ledger.bytes)} in the store, {saved(held.bytes, ledger.bytes)}")
    step.say(f"locator: {short_locator(first.locator)}")

    with story.step("Go on writing, in the same mount") as step:
        step.say(go_on_writing(path))
    with story.step("Commit version two", 'second = volume.commit.sync("a day of work")') as step:
        second = volume.commit.sync("a day of work")
    step.say(f"only what changed went to the store: {step.written}")

    with story.step(
        "Fork version two, and mount the fork as well", 'fork = second.fork.sync("demo-fork"); fork.mount.sync(…)'
    ) as step:
        fork = second.fork.sync("demo-fork")
        fork_path = fork.mount.sync(work / "mnt-fork", meta_dir=work / "meta-fork", cache_dir=work / "cache")
        stack.callback(quietly, fork.abandon.sync)
    step.say(f"{measure(fork_path)} in the fork; it cost {step.written}")
    with story.step("Change the fork", "$ rm -r FORK/unpacked; echo … > FORK/NEWS") as step:
        change_fork(fork_path, path)
        step.say("its parent, mounted beside it, saw nothing of that")
    with story.step("Finalize both: publish and unmount", "fork.finalize.sync(…); volume.finalize.sync()") as step:
        forked, last = fork.finalize.sync("without the copy"), volume.finalize.sync()
        still = [str(mount) for mount in (path, fork_path) if os.path.ismount(mount)]
        require(not still, f"still mounted after finalize: {still}")
        step.say(f"fork:   {short_locator(forked.locator)}")
        step.say(f"volume: {short_locator(last.locator)}")

    with story.step(
        "In a fresh process, without any cache: version one against the source, byte by byte",
        "Volume.from_locator.sync(…).mount.sync(…)",
    ) as step:
        report = check_in_fresh_process(first.locator, source, work)
        for line in report["lines"]:
            step.say(line)

    screen.print()
    screen.print(story.table())
    screen.print()
    keep_only_store(work)
    screen.print(conclusion(report, time.perf_counter() - began))
    if store == "file":
        screen.print(
            f"The store stays in {short(work / 'store')} until `make clean`. To look at version one yourself:\n"
        )
        screen.print(
            f'    path = Volume.from_locator.sync(\n        "{first.locator}"\n    ).mount.sync()',
            style="cyan",
            soft_wrap=True,
        )


# --- the acts --------------------------------------------------------------------------------------------------


def go_on_writing(path: Path) -> str:
    """A day of work on the volume, in the shapes that a file system meets."""
    files = sorted(file for file in (path / "tree").rglob("*.py") if file.stat().st_size > 0)[:6]
    for file in files[:3]:
        with file.open("a") as out:
            out.write("# appended by the demo\n")
    for file in files[3:5]:
        file.write_text("# rewritten by the demo\n" + file.read_text())
    files[5].unlink()
    with (path / "tree.tar").open("r+b") as tar:
        tar.seek(50_000_001)
        tar.write(b"changed in place" * 256)
    notes = path / "notes"
    notes.mkdir()
    for number in range(10):
        (notes / f"{number}.md").write_text(f"# Note {number}\n" * 20)
    notes.rename(path / "journal")
    (path / "latest").symlink_to("journal/9.md")
    return "3 files appended to, 2 rewritten, 1 deleted, 4 KB changed inside the tar, 10 new, a directory renamed"


def change_fork(fork: Path, parent: Path) -> None:
    run("rm", "-r", str(fork / "unpacked"))
    (fork / "NEWS").write_text("this fork went its own way\n")
    require(not (fork / "unpacked").exists(), "the fork still has what was removed from it")
    require(
        (parent / "unpacked").is_dir() and not (parent / "NEWS").exists(), "a change of the fork shows in its parent"
    )


def check_in_fresh_process(locator: str | None, source: Path, work: Path) -> dict[str, Any]:
    require(locator is not None, "version one has no locator")
    program = Path(__file__).parent / "volume_demo" / "check.py"
    done = subprocess.run(
        [sys.executable, str(program), str(locator), str(source), str(work)], stdout=subprocess.PIPE, text=True
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise Failed(f"the checking process ended with status {done.returncode} and said: {done.stdout!r}") from None
    require(done.returncode == 0, "\n".join(["version one is not the source:", *report["wrong"][:20]]))
    return report


# --- beginning and end -----------------------------------------------------------------------------------------


def introduction(store: str, *, own_server: bool) -> Panel:
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    text = Text.assemble(
        ("A Volume is a directory with versions, kept on object storage.\n", "bold"),
        f"{INTRODUCTION}\n\n",
        ("store    ", "dim"),
        f"{store}{' (a server started for this demo)' if own_server else ''}\n",
        ("machine  ", "dim"),
        machine,
    )
    return Panel(text, title="flyteplugins_vol", border_style="cyan")


def conclusion(report: dict[str, Any], seconds: float) -> Panel:
    right = f"Every byte is right: {report['files']:,} files, {size(report['bytes'])}, read back from the store."
    text = Text.assemble((right, "bold green"), (f"\nAll of it took {seconds:.0f} seconds.", "green"))
    return Panel(text, border_style="green")


def fresh_directory(path: Path) -> None:
    """Empty it of what an earlier run left, mounts included."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    for mount in (line.split()[1] for line in lines):
        if mount.startswith(f"{path}/"):
            run("fusermount3", "-u", "-z", mount)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)


def keep_only_store(work: Path) -> None:
    for entry in work.iterdir():
        if entry.name != "store" and entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)


def quietly(call: Callable[[], object]) -> None:
    """For the way out: what is finalized already says so, and that is fine."""
    with suppress(VolumeError):
        call()


if __name__ == "__main__":
    sys.exit(main())
