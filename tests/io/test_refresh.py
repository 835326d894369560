"""A live read-only mount is shown another version: what is in use keeps the old bytes, and names are the new ones."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import subprocess

import pytest

from tests.io.two_mounts import Pair, tree
from tests.waiting import wait_for

pytestmark = pytest.mark.fuse

MIB = 1 << 20


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
