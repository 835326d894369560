"""A live read-only mount is shown other versions of its volume, and whoever has files open keeps the old ones."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import random
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import (
    LocatorError,
    MountFailedError,
    NotMountedError,
    ObjectMissingError,
    OtherVolumeError,
    RefMovedError,
    SetupError,
    UsageError,
    VersionNotFoundError,
    WritableMountError,
)
from flyteplugins_vol.io import ROVolume, RWVolume, Volume
from flyteplugins_vol.mount import kernel_mounts
from tests.io.conftest import World
from tests.mount.conftest import DRIVERS

pytestmark = pytest.mark.fuse

ROUNDS = int(os.environ.get("REFRESH_ROUNDS", "1"))  # of the seeded comparison
KILLS = [float(delay) for delay in os.environ.get("REFRESH_KILLS", "0.01,0.03").split(",")]
"""Seconds after which a daemon that refreshes is killed."""
MIB = 1 << 20


class Pair:
    """A writer's mount and, from `look` on, a reader's mount of the same volume."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.writer: RWVolume = world.new()
        self.w: Path = self.writer.mount.sync(world.path("w"))
        self.reader: ROVolume
        self.r: Path

    def look(self, **options: Any) -> Path:
        self.reader = self.world.load(self.publish().locator)
        self.options = {"cache_dir": self.world.path("cache-r"), **options}  # what the writer has there is not here
        self.r = self.reader.mount.sync(self.world.path("r"), **self.options)
        return self.r

    def publish(self) -> ROVolume:
        return self.writer.commit.sync()

    def step(self) -> None:
        """Publish, and have the reader show it."""
        version = self.publish()
        assert self.reader.refresh.sync()
        assert self.reader.locator == version.locator

    def is_tidy(self) -> bool:
        """Whether nobody needs a former version any more; a refresh to what is shown has the kernel asked for that."""
        self.reader.refresh.sync(self.reader.locator)
        return self.reader.status()["former_versions"] == 0

    def requests(self, work: Callable[[], object]) -> dict[str, int]:
        """What the kernel asked the reader's daemon for while this ran."""
        self.reader.status()
        before = self.reader.status()["requests"]
        work()
        after = self.reader.status()["requests"]
        return {kind: count - before.get(kind, 0) for kind, count in after.items() if count != before.get(kind, 0)}


@pytest.fixture
def pair(world: World) -> Pair:
    return Pair(world)


def tree(root: Path, *, times: bool = False) -> dict[str, tuple[Any, ...]]:
    """What programs see of what is below a directory. ``times``: those too, which the writer's kernel has otherwise."""
    found: dict[str, tuple[Any, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in ["." if directory == str(root) else "", *names, *files]:
            path = Path(directory, name)
            if not name:
                continue
            facts = path.lstat()
            content: Any = None
            if stat.S_ISREG(facts.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(facts.st_mode):
                content = path.readlink()
            found[str(path.relative_to(root))] = (
                facts.st_ino, facts.st_mode, facts.st_nlink, facts.st_size,
                *((facts.st_mtime_ns, facts.st_ctime_ns) if times else ()), content,
            )  # fmt: skip
    return found


def is_over(volume: Volume) -> bool:
    return volume.mount_path is None


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


# --- files that are open ----------------------------------------------------------------------------------------


def test_what_is_open_keeps_the_old_bytes_and_who_opens_gets_the_new(pair: Pair) -> None:
    old, new = os.urandom(9 * MIB), os.urandom(6 * MIB)
    for name in ("read", "mapped", "replaced", "deleted", "grown", "cut"):
        (pair.w / name).write_bytes(old)
    r = pair.look()
    files = {name: (r / name).open("rb", buffering=0) for name in os.listdir(r)}
    mapped = mmap.mmap(files["mapped"].fileno(), 0, prot=mmap.PROT_READ)
    assert mapped[:4096] == old[:4096]
    assert files["read"].read(MIB) == old[:MIB]
    numbers = {name: os.fstat(file.fileno()).st_ino for name, file in files.items()}

    (pair.w / "read").write_bytes(new)
    (pair.w / "mapped").write_bytes(new)
    (pair.w / "other").write_bytes(new)
    os.replace(pair.w / "other", pair.w / "replaced")
    (pair.w / "deleted").unlink()
    with (pair.w / "grown").open("ab") as file:
        file.write(new)
    os.truncate(pair.w / "cut", 5)
    pair.step()

    assert mapped[:] == old  # also pages that were never touched
    for file in files.values():
        assert os.fstat(file.fileno()).st_size == len(old)
        assert os.pread(file.fileno(), len(old), 0) == old
    fresh = {name: (r / name).read_bytes() for name in files if name != "deleted"}
    assert fresh == {"read": new, "mapped": new, "replaced": new, "grown": old + new, "cut": old[:5]}
    assert not (r / "deleted").exists()
    for name in ("read", "mapped", "grown", "cut"):  # a file that changed is still the same file
        assert (r / name).stat().st_ino == numbers[name]
    assert (r / "replaced").stat().st_ino != numbers["replaced"]
    assert tree(r) == tree(pair.w)

    assert pair.reader.status()["former_versions"] == 1
    mapped.close()
    for file in files.values():
        file.close()
    wait_for(pair.is_tidy)


def test_a_program_that_runs_keeps_its_code(pair: Pair) -> None:
    shutil.copy(os.path.realpath("/bin/sleep"), pair.w / "program")
    r = pair.look()
    program = subprocess.Popen([r / "program", "60"])
    try:
        (pair.w / "program").write_bytes(b"#!/bin/sh\nexit 7\n" * 2000)
        pair.step()
        assert program.poll() is None
        assert subprocess.run([r / "program"]).returncode == 7
    finally:
        program.terminate()
        assert program.wait(10) == -signal.SIGTERM


# --- names ------------------------------------------------------------------------------------------------------


def test_names_and_listings_that_were_cached_are_asked_for_again(pair: Pair) -> None:
    w = pair.w
    (w / "same").mkdir()
    (w / "dir" / "deep").mkdir(parents=True)
    for name in ("a", "b", "c", "dir/d", "dir/deep/e", "same/f"):
        (w / name).write_text(name)
    (w / "link").symlink_to("a")
    os.link(w / "a", w / "dir" / "hard")
    r = pair.look()
    assert tree(r) == tree(w)
    for _ in range(2):
        assert not (r / "new").exists()
        assert not (r / "dir" / "absent").exists()
        os.listdir(r / "dir")

    (w / "new").mkdir()
    (w / "new" / "inside").write_text("new")
    (w / "dir" / "absent").write_text("here")
    (w / "b").rename(w / "dir" / "b")
    (w / "c").unlink()
    (w / "link").unlink()
    (w / "link").symlink_to("dir")
    os.link(w / "dir" / "d", w / "also-d")
    (w / "dir" / "hard").write_text("both names")
    (w / "dir" / "deep").rename(w / "deep")
    (w / "same").chmod(0o700)
    pair.step()
    assert tree(r) == tree(w)
    with pair.world.load(pair.reader.locator).mounted(pair.world.path("fresh")) as path:
        assert tree(r, times=True) == tree(path, times=True)
    assert sorted(os.listdir(r)) == sorted(os.listdir(w))
    assert (r / "a").read_text() == "both names"

    (w / "new" / "inside").unlink()
    (w / "new").rmdir()
    (w / "new").write_text("a file by now")
    shutil.rmtree(w / "dir")
    pair.step()
    assert tree(r) == tree(w)


def test_who_stands_in_a_directory_that_changes_sees_it_change_and_in_one_that_goes_stays(pair: Pair) -> None:
    for name in ("changed", "gone"):
        (pair.w / name / "sub").mkdir(parents=True)
        (pair.w / name / "file").write_text("old")
        (pair.w / name / "sub" / "file").write_text("old")
    r = pair.look()
    shell = subprocess.Popen(
        ["/bin/sh"], cwd=r / "gone", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert shell.stdin is not None
    assert shell.stdout is not None

    def ask(command: str) -> str:
        shell.stdin.write(f"echo $({command})\n")
        return shell.stdout.readline().strip()

    changed = os.open(r / "changed", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.listdir(changed) == ["file", "sub"]
        (pair.w / "changed" / "file").write_text("new")
        (pair.w / "changed" / "more").write_text("new")
        shutil.rmtree(pair.w / "gone")
        pair.step()
        assert os.listdir(changed) == ["file", "more", "sub"]
        with os.fdopen(os.open("file", os.O_RDONLY, dir_fd=changed)) as file:
            assert file.read() == "new"
        assert ask("cat file") == "old"
        assert ask("ls") == "file sub"
        assert ask("cat sub/file") == "old"
        pair.w.joinpath("gone").mkdir()
        pair.w.joinpath("gone", "another").write_text("new")
        pair.step()
        assert ask("cat sub/../file") == "old"
        assert os.listdir(r / "gone") == ["another"]
        assert ask("cat sub/file") == "old"
    finally:
        os.close(changed)
        shell.stdin.close()
        shell.wait(10)
        shell.stdout.close()
    wait_for(pair.is_tidy)


def test_unchanged_files_cost_no_request(pair: Pair) -> None:
    for number in range(50):
        (pair.w / f"{number}").write_bytes(os.urandom(20_000))
    (pair.w / "dir").mkdir()
    (pair.w / "dir" / "changing").write_text("old")
    r = pair.look()

    def read() -> None:
        for number in range(50):
            (r / f"{number}").stat()
            with open(r / f"{number}", "rb", buffering=0) as file:
                os.read(file.fileno(), 20_000)

    os.listdir(r)
    read()
    assert sum(pair.requests(read).values()) <= 1
    (pair.w / "dir" / "changing").write_text("new")
    pair.step()
    assert sum(pair.requests(read).values()) <= 1
    (pair.w / "7").write_text("new")
    pair.step()
    cost = pair.requests(read)
    assert cost.get("lookup") == 1
    assert cost.get("read") == 1
    assert sum(cost.values()) <= 4  # and the attributes of the directory


# --- from version to version ------------------------------------------------------------------------------------


def test_twice_and_back_to_an_older_version(pair: Pair) -> None:
    r = pair.look()
    versions, trees, held = [pair.reader.locator], [tree(r)], []
    for number in range(3):
        (pair.w / "state").write_text(f"{number}" * 5000)
        (pair.w / f"only-{number}").write_text("x")
        (pair.w / f"only-{number - 1}").unlink(missing_ok=True)
        pair.step()
        versions.append(pair.reader.locator)
        trees.append(tree(r))
        held.append((r / "state").open("rb", buffering=0))
        assert trees[-1] == tree(pair.w)
    assert not pair.reader.refresh.sync()  # it is the newest
    for number in (1, 3, 0, 2, 1, 3):
        assert pair.reader.refresh.sync(versions[number])
        assert tree(r) == trees[number]
        assert pair.reader.version is not None
        assert pair.reader.version in versions[number]  # type: ignore[operator]
        for which, file in enumerate(held):
            assert os.pread(file.fileno(), 10_000, 0) == f"{which}".encode() * 5000
    for file in held:
        file.close()
    assert pair.reader.refresh.sync(pair.world.load(versions[1]))
    wait_for(pair.is_tidy)


def test_versions_of_two_lines_that_gave_one_number_to_two_files(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A writer that was overtaken leaves such a version."""
    monkeypatch.setenv("FLYTE_VOL_LEASE_SECONDS", "0")
    world = pair.world
    (pair.w / "first").write_text("first")
    base = pair.writer.finalize.sync()
    mine = world.keep(Volume.from_name.sync("demo", world.store))
    theirs = world.keep(Volume.from_name.sync("demo", world.store))
    theirs.mkdir.sync("/thing")
    theirs.write_bytes.sync("/thing/inside", b"theirs")
    theirs.write_bytes.sync("/file", b"theirs")
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(world.path("elsewhere")))
    mine.write_bytes.sync("/thing", b"m" * 5000)
    mine.mkdir.sync("/file")
    mine.write_bytes.sync("/other", b"mine")
    newest = theirs.finalize.sync()
    with pytest.raises(RefMovedError) as moved:
        mine.finalize.sync()
    lost = next(word.strip("(),;") for word in str(moved.value).split() if "/versions/" in word)
    mine.abandon.sync()

    reader = world.load(base.locator)
    r = reader.mount.sync(world.path("r2"))
    assert reader.refresh.sync(lost)
    assert (r / "thing").read_bytes() == b"m" * 5000
    assert os.listdir(r / "file") == []
    held = (r / "thing").open("rb", buffering=0)
    number = os.fstat(held.fileno()).st_ino
    assert reader.refresh.sync()
    assert reader.locator == newest.locator
    assert (r / "thing").is_dir()
    assert (r / "thing").stat().st_ino == number
    assert (r / "thing" / "inside").read_bytes() == b"theirs"
    assert (r / "file").read_bytes() == b"theirs"
    assert os.pread(held.fileno(), 10_000, 0) == b"m" * 5000
    assert reader.refresh.sync(lost)
    assert (r / "thing").read_bytes() == b"m" * 5000
    held.close()


def test_fifty_refreshes_leave_memory_and_descriptors_as_they_were(pair: Pair) -> None:
    for number in range(300):
        (pair.w / f"{number}").write_bytes(b"old" * 100)
    r = pair.look()
    first = pair.reader.locator
    for number in range(0, 300, 2):
        (pair.w / f"{number}").write_bytes(b"new" * 200)
    second = pair.publish().locator
    daemon = pair.reader.status()["pid"]

    def resident() -> int:
        return int(Path(f"/proc/{daemon}/statm").read_text().split()[1]) * mmap.PAGESIZE

    used: list[tuple[int, int]] = []
    for number in range(50):
        assert pair.reader.refresh.sync(second if number % 2 == 0 else first)
        assert (r / "0").read_bytes() == (b"new" * 200 if number % 2 == 0 else b"old" * 100)
        assert (r / "1").read_bytes() == b"old" * 100
        if number in (19, 49):
            wait_for(pair.is_tidy)
            used.append((resident(), len(os.listdir(f"/proc/{daemon}/fd"))))
    assert used[1][1] <= used[0][1]
    wait_for(lambda: resident() < used[0][0] + 4 * MIB)  # what was freed goes back when all is quiet


def test_readers_get_files_that_are_wholly_of_one_version(pair: Pair) -> None:
    def write(version: int) -> None:
        for number in range(6):
            (pair.w / f"{number}").write_bytes(bytes([version]) * 200_000)
            (pair.w / f"only-{version}-{number}").touch()
            (pair.w / f"only-{version - 1}-{number}").unlink(missing_ok=True)

    write(1)
    r = pair.look()
    wrong: list[object] = []
    reads = [0, 0]
    done = threading.Event()

    def read(which: int) -> None:
        chance = random.Random(which)
        while not done.is_set():
            try:
                with open(r / f"{chance.randrange(6)}", "rb", buffering=chance.choice([0, 4096])) as file:
                    parts = [file.read(chance.randrange(1, 100_000)) for _ in range(6)]
                if len(set(b"".join(part or b"" for part in parts))) != 1:
                    wrong.append("torn")
                reads[0] += 1
                names = set(os.listdir(r))
                if not names >= {f"{number}" for number in range(6)} or len(names) > 18:
                    wrong.append(names)
                reads[1] += 1
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=read, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    try:
        for version in range(2, 9):
            write(version)
            pair.step()
            assert (r / "0").read_bytes() == bytes([version]) * 200_000
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]
    assert min(reads) > 10
    assert tree(r) == tree(pair.w)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_after_each_refresh_a_walk_shows_the_version(pair: Pair, seed: int) -> None:
    """Random changes, random versions, files and directories held open meanwhile."""
    chance = random.Random(seed)
    r = pair.look()
    versions: list[tuple[str | None, dict[str, Any]]] = [(pair.reader.locator, tree(r))]
    held: list[tuple[Any, bytes]] = []
    standing: list[tuple[int, list[str]]] = []
    for _ in range(8):
        for _ in range(chance.randrange(1, 40)):
            change(pair.w, chance)
        locator = pair.publish().locator
        versions.append((locator, tree(pair.w)))
        look_around(r, chance)
        wanted, expected = versions[-1] if chance.random() < 0.7 else chance.choice(versions)
        pair.reader.refresh.sync(wanted)
        assert tree(r) == expected
        for file, content in held:
            assert os.pread(file.fileno(), len(content) + 1, 0) == content
        files = [r / name for name, facts in expected.items() if isinstance(facts[-1], bytes)]
        chosen = chance.sample(files, min(3, len(files)))
        held.extend((path.open("rb", buffering=0), path.read_bytes()) for path in chosen)
        while len(held) > 10:
            held.pop(chance.randrange(len(held)))[0].close()
        directories = [path for path in r.rglob("*") if path.is_dir() and not path.is_symlink()]
        if directories and len(standing) < 5:
            path = chance.choice(directories)
            standing.append((os.open(path, os.O_RDONLY | os.O_DIRECTORY), []))
        for fd, _ in standing:
            for name in os.listdir(fd):
                os.stat(name, dir_fd=fd, follow_symlinks=False)
    for file, _ in held:
        file.close()
    for fd, _ in standing:
        os.close(fd)
    fresh = pair.world.load(pair.reader.locator)
    with fresh.mounted(pair.world.path("fresh")) as path:
        assert tree(r, times=True) == tree(path, times=True)
    wait_for(pair.is_tidy)


def change(root: Path, chance: random.Random) -> None:
    """One change of some kind."""
    paths = [root, *root.rglob("*")]
    directories = [path for path in paths if path.is_dir() and not path.is_symlink()]
    others = [path for path in paths if path not in directories]
    place = chance.choice(directories) / f"n{chance.randrange(12)}"
    kind = chance.randrange(9)
    try:
        if kind == 0 and not place.is_symlink():
            place.write_bytes(chance.randbytes(chance.choice([0, 10, 5000, 70_000])))
        elif kind == 1:
            place.mkdir()
        elif kind == 2 and others:
            chance.choice(others).unlink()
        elif kind == 3 and others:
            os.replace(chance.choice(others), place)
        elif kind == 4 and others:
            os.link(chance.choice(others), place, follow_symlinks=False)
        elif kind == 5:
            place.symlink_to(f"n{chance.randrange(12)}")
        elif kind == 6 and len(directories) > 1:
            os.replace(chance.choice(directories[1:]), place)
        elif kind == 7 and len(directories) > 1 and chance.random() < 0.4:
            shutil.rmtree(chance.choice(directories[1:]))
        elif kind == 8 and others:
            chosen = chance.choice(others)
            if not chosen.is_symlink():
                with chosen.open("r+b") as file:
                    file.seek(chance.randrange(6000))
                    file.write(b"changed")
    except OSError as error:
        assert error.errno in (
            errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.ENOENT,
        ), error  # fmt: skip


def look_around(root: Path, chance: random.Random) -> None:
    """Have the kernel keep names, absent ones too, listings and pages."""
    for path in [root, *root.rglob("*")]:
        if chance.random() < 0.5:
            os.path.exists(path / f"n{chance.randrange(12)}")
        if chance.random() < 0.3 and path.is_file() and not path.is_symlink():
            path.read_bytes()


# --- options ----------------------------------------------------------------------------------------------------


def test_a_part_of_a_volume(pair: Pair) -> None:
    part = pair.w / "some" / "part"
    part.mkdir(parents=True)
    (part / "a").write_text("old")
    (pair.w / "beside").write_text("x")
    r = pair.look(subdir="some/part")
    assert os.listdir(r) == ["a"]
    assert not (r / "b").exists()
    held = (r / "a").open("rb", buffering=0)

    (part / "a").write_text("new!")
    (part / "b").write_text("b")
    pair.step()
    assert {name: (r / name).read_text() for name in os.listdir(r)} == {"a": "new!", "b": "b"}

    os.rename(part, pair.w / "some" / "before")  # another directory in its place
    part.mkdir()
    (part / "c").write_text("c")
    pair.step()
    assert {name: (r / name).read_text() for name in os.listdir(r)} == {"c": "c"}
    assert not (r / "a").exists()
    assert held.read() == b"old"
    held.close()

    os.rename(part, pair.w / "elsewhere")
    shown = pair.reader.locator
    pair.publish()
    with pytest.raises(UsageError, match="subdir"):
        pair.reader.refresh.sync()
    assert pair.reader.locator == shown
    assert os.listdir(r) == ["c"]


def test_a_mount_that_follows(pair: Pair) -> None:
    (pair.w / "a").write_text("old")
    r = pair.look(follow=0.1)
    assert (r / "a").read_text() == "old"
    (pair.w / "a").write_text("new!")
    locator = pair.publish().locator
    wait_for(lambda: (r / "a").read_text() == "new!")
    assert pair.reader.locator != locator  # a handle learns of it when it is asked
    assert pair.reader.refresh.sync()
    assert pair.reader.locator == locator
    refs = pair.world.root / "store" / "volumes"
    shutil.move(refs, pair.world.root / "away")
    log = Path(pair.reader.status()["log_path"])
    wait_for(lambda: "the one before stays" in log.read_text())
    time.sleep(0.5)
    assert log.read_text().count("the one before stays") == 1
    shutil.move(pair.world.root / "away", refs)
    (pair.w / "a").write_text("newest")
    pair.publish()
    wait_for(lambda: (r / "a").read_text() == "newest")
    with pytest.raises(UsageError, match="follow=0 is not positive"):
        pair.world.load(locator).mount.sync(pair.world.path("never"), follow=0)


def test_what_is_warmed_is_warmed_again(pair: Pair) -> None:
    (pair.w / "data").write_bytes(os.urandom(3 * MIB))
    pair.look(warmup=("/",))
    (pair.w / "data").write_bytes(os.urandom(5 * MIB))
    pair.publish()
    fetched = pair.reader.status()["fetched_bytes"]
    assert pair.reader.refresh.sync()
    wait_for(lambda: pair.reader.status()["fetched_bytes"] >= fetched + 5 * MIB)


# --- what goes wrong --------------------------------------------------------------------------------------------


async def test_a_refresh_that_cannot_be(pair: Pair) -> None:
    (pair.w / "a").write_text("old")
    r = pair.look()
    world, reader = pair.world, pair.reader
    shown = reader.locator
    assert shown is not None
    other = world.new("other")
    other.write_bytes.sync("/a", b"x")
    absent = shown.replace("00000001-", "00000009-")
    for to, error, hint in (
        (absent, VersionNotFoundError, ""),
        (other.commit.sync(), OtherVolumeError, "path of its own"),
        ("nonsense", LocatorError, "address of a version"),
    ):
        with pytest.raises(error) as failed:
            await reader.refresh(to)
        assert hint in failed.value.hint
        assert failed.value.hint
    assert reader.locator == shown
    assert (r / "a").read_text() == "old"
    with pytest.raises(WritableMountError) as writable:
        pair.writer._live().client.refresh()  # which a writer's handle has no method for
    assert "read-only" in writable.value.hint
    reader.unmount.sync()
    with pytest.raises(NotMountedError):
        await reader.refresh()


def test_a_store_that_fails_in_the_middle_leaves_the_old_version(pair: Pair) -> None:
    (pair.w / "a").write_text("old")
    r = pair.look()
    shown = pair.reader.locator
    (pair.w / "a").write_text("new!")
    pair.publish()
    objects = pair.world.root / "store" / "index"
    shutil.move(objects, pair.world.root / "away")
    with pytest.raises(ObjectMissingError):
        pair.reader.refresh.sync()
    assert (pair.reader.locator, (r / "a").read_text()) == (shown, "old")
    assert pair.reader.status()["refreshes"] == 0
    shutil.move(pair.world.root / "away", objects)
    assert pair.reader.refresh.sync()
    assert (r / "a").read_text() == "new!"


def test_only_what_differs_of_the_index_is_fetched(pair: Pair) -> None:
    for number in range(3000):
        (pair.w / f"file-{number}-{'x' * 60}").touch()
    pair.look()
    (pair.w / "a").write_text("one more")
    pair.publish()
    large = max(pair.world.objects("index"), key=lambda path: path.stat().st_size)
    large.write_bytes(b"of the version that is here already")
    assert pair.reader.refresh.sync()
    assert (pair.r / "a").read_text() == "one more"


@pytest.mark.logs_warnings
def test_a_daemon_that_is_killed_in_the_middle_leaves_nothing_that_hangs(pair: Pair) -> None:
    for number in range(400):
        (pair.w / f"{number}").write_bytes(b"old")
    r = pair.look()
    first = pair.reader.locator
    for number in range(400):
        (pair.w / f"{number}").write_bytes(b"new")
    second = pair.publish().locator
    reader = pair.reader
    for delay in KILLS:
        os.listdir(r)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        busy = [subprocess.Popen(["ls", "-lR", r], **quiet) for _ in range(2)]
        killer = threading.Timer(delay, os.kill, (reader.status()["pid"], signal.SIGKILL))
        killer.start()
        with suppress(MountFailedError, NotMountedError):
            reader.refresh.sync(second)
        killer.join()
        wait_for(partial(is_over, reader))
        reader.abandon.sync()
        for program in busy:
            program.wait(20)
        assert kernel_mounts.mount_at(str(r)) is None
        reader = pair.world.load(first)
        assert reader.mount.sync(r, **pair.options) == r
        assert (r / "1").read_bytes() == b"old"


@pytest.mark.skipif("pyfuse3" not in DRIVERS, reason="pyfuse3 is not installed")
def test_the_driver_pyfuse3_refuses(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_VOL_DRIVER", "pyfuse3")
    (pair.w / "a").write_text("old")
    r = pair.look()
    (pair.w / "a").write_text("new!")
    pair.publish()
    with pytest.raises(SetupError, match="through pyfuse3 cannot be refreshed") as refused:
        pair.reader.refresh.sync()
    assert "FLYTE_VOL_DRIVER" in refused.value.hint
    assert (r / "a").read_text() == "old"
    pair.reader.unmount.sync()
    with pytest.raises(SetupError, match="cannot be refreshed"):
        pair.reader.mount.sync(r, follow=1)


def test_an_unmount_while_it_is_refreshed(pair: Pair) -> None:
    for number in range(200):
        (pair.w / f"{number}").write_bytes(b"old")
    r = pair.look(follow=0.01)
    for round_ in range(3):
        (pair.w / f"{round_}").write_bytes(b"new")
        pair.publish()
        list(r.iterdir())
        started = time.monotonic()
        pair.reader.unmount.sync()
        assert time.monotonic() - started < 10
        pair.reader.mount.sync(r, **pair.options)


@pytest.fixture(autouse=True)
def no_open_files() -> Iterator[None]:
    """Files of a failed test must not keep its mounts busy."""
    yield
    gc.collect()
