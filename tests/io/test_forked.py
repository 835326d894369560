"""Forked children: they read what their parent reads, through the same handles, and write nothing of what is its."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests.io.conftest import World

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

BEGIN = """
import asyncio, glob, multiprocessing, os, random, signal, sys, threading, traceback, warnings
from concurrent.futures import ThreadPoolExecutor
from flyteplugins_vol.errors import *
from flyteplugins_vol.io import Volume
warnings.simplefilter("ignore")

def content(number):
    return random.Random(number).randbytes(300_000)

def read(number):
    return version.read_bytes.sync(f"f{number}") == content(number)

def child(body):
    '''How a forked child ended that did this; one that hangs is ended by a signal.'''
    pid = os.fork()
    if not pid:
        signal.alarm(60)
        try:
            body()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid

def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
FILES = 48  # more than a pack of them: one read does not bring them all


def run(script: str, *arguments: str) -> str:
    """The script's output, with ``sys.argv[1:]`` as given; it runs in a process of its own, whose threads are known."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script, *arguments], capture_output=True, text=True, timeout=110
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture
def locator(world: World) -> str:
    return published(world.new())


def published(volume) -> str:
    for number in range(FILES):
        volume.write_bytes.sync(f"f{number}", random.Random(number).randbytes(300_000))
    return str(volume.finalize.sync().locator)


def test_a_child_reads_what_its_parent_has_not_fetched(world: World, locator: str) -> None:
    world.forget_caches()
    run(
        """
version = Volume.from_locator.sync(sys.argv[1])
file = version.open.sync("f0", buffering=1)
assert file.read(7) == content(0)[:7]

def body():
    assert all(map(read, range(48)))
    assert file.read() == content(0)[7:]
    file.close()
    assert len(version.ls.sync()) == 48
    assert version.warm_up.sync() == 0
    ended(child(lambda: [read(2), version.close.sync(), version.read_bytes.sync("f3")]))
    version.close.sync()

ended(child(body))
assert read(47) and file.read() == content(0)[7:]
""",
        locator,
    )


def test_a_child_that_ends_in_order_leaves_its_parent_as_it_was(world: World, locator: str) -> None:
    world.forget_caches()
    run(
        """
version = Volume.from_locator.sync(sys.argv[1])
assert read(0)
if not os.fork():
    signal.alarm(60)
    assert read(1)
    sys.exit(0)
assert os.wait()[1] == 0
assert all(map(read, range(48)))
""",
        locator,
    )


def test_ten_children_at_once_while_the_parents_threads_read(world: World, locator: str) -> None:
    """As PyTorch's DataLoader does it. Each thread is in SQLite, a pool or a fetch when the children begin."""
    world.forget_caches()
    run(
        """
version = Volume.from_locator.sync(sys.argv[1])
assert read(0)
stop = threading.Event()

def look():
    while not stop.is_set():
        assert len(version.ls.sync()) == 48

def body():
    assert all(map(read, range(48)))

with ThreadPoolExecutor(3) as threads:
    looking = [threads.submit(look) for _ in range(2)]
    reading = threads.submit(body)
    children = [child(body) for _ in range(10)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(pool.map(read, range(48)))
    for pid in children:
        ended(pid)
    stop.set()
    for one in (*looking, reading):
        one.result()
""",
        locator,
    )


def test_locks_that_other_threads_had(world: World, locator: str) -> None:
    world.forget_caches()
    run(
        """
version = Volume.from_locator.sync(sys.argv[1])
other = Volume.from_locator.sync(sys.argv[1])
assert read(0)
held, done = threading.Event(), threading.Event()

def hold():
    with version._access.session._lock, version._access.lock, other._access.lock:
        held.set()
        done.wait()

with ThreadPoolExecutor(1) as threads:
    threads.submit(hold)
    held.wait()
    pid = child(lambda: [read(1), other.read_bytes.sync("f2")])
    ended(pid)
    done.set()
assert read(3)
""",
        locator,
    )


def test_what_is_awaited_in_a_child(world: World, locator: str) -> None:
    world.forget_caches()
    run(
        """
version = Volume.from_locator.sync(sys.argv[1])

async def main():
    return await asyncio.gather(*(version.read_bytes(f"f{number}") for number in range(4)))

parent = asyncio.run(main())
ended(child(lambda: asyncio.run(main())))
assert asyncio.run(main()) == parent
""",
        locator,
    )


def test_a_child_writes_nothing_of_what_is_its_parents(world: World) -> None:
    out = run(
        """
volume = Volume.new("data", sys.argv[1])
volume.write_bytes.sync("a", b"committed")
volume.commit.sync()
volume.write_bytes.sync("a", b"not yet")
file = volume.open.sync("b", "wb")
file.write(b"in a buffer")

def refused(change):
    try:
        change()
    except ForkedHandleError as error:
        assert str(os.getppid()) in error.message and error.hint, error
    else:
        raise AssertionError("not refused")

def body():
    assert not volume.has_changes
    refused(lambda: volume.write_bytes.sync("c", b"child"))
    refused(lambda: volume.remove.sync("a"))
    refused(volume.commit.sync)
    refused(volume.finalize.sync)
    refused(volume.mount.sync)
    try:
        file.flush()
    except ForkedHandleError as error:
        assert error.hint
    else:
        raise AssertionError("written")
    assert volume.read_bytes.sync("a") == b"committed"
    copy = volume.fork.sync("copy")
    copy.write_bytes.sync("d", b"child's")
    print(*(info.path for info in copy.finalize.sync().ls.sync()), flush=True)
    volume.close.sync()
    refused(lambda: volume.write_bytes.sync("c", b"child"))

ended(child(body))
file.close()
version = volume.finalize.sync()
print(*(info.path for info in version.ls.sync()), version.read_bytes.sync("a"), version.read_bytes.sync("b"))
""",
        world.store,
    )
    assert out.splitlines() == ["/a /d", "/a /b b'not yet' b'in a buffer'"]


def test_a_child_that_lives_on_keeps_no_lock_of_its_parent(world: World) -> None:
    run(
        """
volume = Volume.new("data", sys.argv[1])
volume.write_bytes.sync("a", b"1")
volume.commit.sync()
leave, left = os.pipe()
(workspace,) = glob.glob(os.environ["FLYTE_VOL_CACHE_DIR"] + "/workspaces/*")
open(workspace + "/daemon.log", "w").close()  # so that the directory stays, and the lock in it
pid = child(lambda: os.read(leave, 1))
volume.write_bytes.sync("b", b"1")
volume.finalize.sync()
again = Volume.from_name.sync("data", sys.argv[1])
again.write_bytes.sync("c", b"1")
assert len(again.finalize.sync().ls.sync()) == 3
os.write(left, b".")
ended(pid)
""",
        world.store,
    )


def test_what_was_never_committed_is_the_parents_to_read(world: World) -> None:
    run(
        """
volume = Volume.new("data", sys.argv[1])
volume.write_bytes.sync("a", b"1")

def body():
    try:
        volume.read_bytes.sync("a")
    except ForkedHandleError:
        return
    raise AssertionError("read")

ended(child(body))
assert volume.read_bytes.sync("a") == b"1"
""",
        world.store,
    )


def test_a_fork_waits_for_whoever_opens_an_index() -> None:
    out = run("""
from flyteplugins_vol import forked

inside, forking, log = threading.Event(), threading.Event(), []

def work():
    with forked.no_fork(), forked.no_fork():
        inside.set()
        forking.wait()
        log.append("done")

os.register_at_fork(before=forking.set)  # the last one to be registered is the first to be called
with ThreadPoolExecutor(1) as threads:
    working = threads.submit(work)
    inside.wait()
    ended(child(lambda: print(log, flush=True)))
    working.result()

def again():
    with forked.no_fork():
        print("and others come in again")

again()
""")
    assert out.splitlines() == ["['done']", "and others come in again"]


def test_a_store_in_memory(world: World) -> None:
    run("""
from flyteplugins_vol.store import memory
volume = Volume.new("data", "memory://forked")
volume.write_bytes.sync("a", b"1")
version = volume.finalize.sync()
assert version.read_bytes.sync("a") == b"1"

def body():
    assert version.read_bytes.sync("a") == b"1"
    own = version.fork.sync("own")
    own.write_bytes.sync("b", b"2")
    own.finalize.sync()

held, done = threading.Event(), threading.Event()

def hold():
    with memory._lock:
        held.set()
        done.wait()

with ThreadPoolExecutor(1) as threads:
    threads.submit(hold)
    held.wait()
    pid = child(body)
    ended(pid)
    done.set()
""")


S3 = """
version = Volume.from_locator.sync(sys.argv[1])
assert read(0)
"""


@pytest.mark.s3
def test_on_s3(world: World, s3_environment) -> None:
    locator = published(world.new("data", s3_environment.new_bucket_url()))
    world.forget_caches()
    script = f"{S3}\nchildren = [child(lambda: [read(n) or 1 // 0 for n in range(48)]) for _ in range(3)]\n"
    run(script + "for pid in children: ended(pid)\nassert read(47)", locator)


@pytest.mark.s3
def test_on_s3_through_s3fs(world: World, s3_environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_VOL_STORE_BACKEND", "fsspec")
    locator = published(world.new("data", s3_environment.new_bucket_url()))
    world.forget_caches()
    run(f"{S3}\nended(child(lambda: [read(n) or 1 // 0 for n in range(48)]))\nassert read(47)", locator)


@pytest.mark.s3
def test_on_s3_without_s3fs_it_says_what_to_do(world: World, s3_environment) -> None:
    locator = published(world.new("data", s3_environment.new_bucket_url()))
    world.forget_caches()
    run(
        f"""
{S3}
def body():
    sys.modules["s3fs"] = None
    for ask in (lambda: read(1), lambda: Volume.from_locator.sync(sys.argv[1])):
        try:
            ask()
        except StoreAccessError as error:
            assert "forked" in error.message and "spawn" in error.hint, error
        else:
            raise AssertionError("reached")

ended(child(body))
assert read(1)
""",
        locator,
    )
