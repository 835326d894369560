"""From version to version, on and back: a mount shows each of them whole, and keeps no other that nobody needs."""

from __future__ import annotations

import errno
import mmap
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from flyteplugins_vol.errors import RefMovedError
from flyteplugins_vol.io import Volume
from tests.io.two_mounts import Pair, tree
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse

ROUNDS = int(os.environ.get("REFRESH_ROUNDS", "1"))  # of the seeded comparison
MIB = 1 << 20


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

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{daemon}/fd"))

    used: list[tuple[int, int]] = []
    for number in range(50):
        assert pair.reader.refresh.sync(second if number % 2 == 0 else first)
        assert (r / "0").read_bytes() == (b"new" * 200 if number % 2 == 0 else b"old" * 100)
        assert (r / "1").read_bytes() == b"old" * 100
        if number in (19, 49):
            wait_for(pair.is_tidy)
            used.append((resident(), descriptors()))
    wait_for(lambda: descriptors() <= used[0][1])  # the last question of `is_tidy` may still be open
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
