"""The lease: one writer at a time, whatever stops, pauses or is cut off, and however clocks differ."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flyteplugins_vol.config import LEASE_VARIABLE, StoreOptions, lease_seconds, store_options_from_environment
from flyteplugins_vol.errors import (
    LeaseLostError,
    NewerFormatError,
    ObjectTooLargeError,
    RecordDamagedError,
    RefMovedError,
    StoreUnavailableError,
    VolumeBusyError,
)
from flyteplugins_vol.history import commit as commit_module
from flyteplugins_vol.history import processes
from flyteplugins_vol.history import session as session_module
from flyteplugins_vol.history.holding import LEAP, MOST_AHEAD, lease_key, read_lease
from flyteplugins_vol.history.lease import Lease
from flyteplugins_vol.history.lease_note import LeaseNote, Released
from flyteplugins_vol.history.processes import Process
from flyteplugins_vol.history.refs import move_ref, read_ref, ref_key
from flyteplugins_vol.store.counting import Counting
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.local import LocalStore
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.open import open_store
from tests.driven import Driven

ID = "00c0ffee00c0ffee"
KEY = lease_key("test", ID)
REF = ref_key("test", ID)
VERSION = f"00000001-{'a' * 40}.json"


FAR = Process("far-away", 4711, "another machine", "1")


class World:
    """A store, a clock that passes only while somebody waits, and what happens meanwhile."""

    def __init__(self) -> None:
        self.store = Faulty(MemoryStore(f"memory://{uuid4().hex}"))
        self.now = 1000.0
        self.meanwhile: Callable[[], None] = lambda: None
        self.told: list[Any] = []

    def lease(self, holder: str, *, seconds: float = 30.0, fresh: bool = False, process: Process = FAR) -> Lease:
        return Lease(
            self.store, "test", ID, holder, seconds=seconds, user="zoë", fresh=fresh, clock=lambda: self.now,
            process=process,
        )  # fmt: skip

    def taken(self, holder: str, **options: Any) -> Lease:
        lease = self.lease(holder, **options)
        self.take(lease)
        return lease

    def take(self, lease: Lease) -> None:
        lease.take(self.told.append, self.wait)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()

    def alter(self, **changes: Any) -> None:
        """Change the lease as another release, or another machine, might have written it."""
        found = self.store.inner.get_tagged(KEY)
        assert found is not None
        body = {**json.loads(found.data), **changes}
        assert self.store.inner.replace(KEY, json.dumps(body).encode(), found.tag)


def one_tag(world: World) -> str:
    found = world.store.inner.get_tagged(KEY)
    assert found is not None
    return found.tag


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_writer_has_it_at_once(world: World) -> None:
    lease = world.taken("one")
    found = read_lease(world.store, KEY)
    assert found is not None
    assert (found.holder, found.fence, found.released, found.seconds) == ("one", 1, False, 30.0)
    assert found.process == FAR
    assert lease.check() == 1
    assert world.now == 1000.0, "nobody waited"


def test_a_new_volume_costs_one_request(world: World) -> None:
    world.taken("one", fresh=True)
    assert world.store.log == [("replace", KEY)]


def test_who_comes_second_is_told_who_was_first(world: World) -> None:
    first = world.taken("one")
    world.meanwhile = first.renew
    with pytest.raises(VolumeBusyError) as caught:
        world.taken("two")
    assert "zoë, process 4711 on far-away since 20" in caught.value.message
    assert "fork" in caught.value.hint
    assert "30 s" in caught.value.hint
    assert first.check() == 1
    assert world.now < 1003, "known as soon as the first renewal is seen"


def test_what_was_released_is_free_at_once(world: World) -> None:
    world.taken("one").release()
    world.store.log.clear()
    assert world.taken("two").check() == 2
    assert world.store.log == [("get_tagged", KEY), ("replace", KEY)]


def test_who_released_it_takes_it_again_without_a_look(world: World, tmp_path: Path) -> None:
    def lease() -> Lease:
        note = LeaseNote(str(tmp_path / "notes"), ID)
        return Lease(world.store, "test", ID, uuid4().hex, seconds=30, user=None, fresh=False, process=FAR, note=note)

    first = lease()
    world.take(first)
    first.release()
    world.store.log.clear()
    second = lease()
    world.take(second)
    assert world.store.log == [("replace", KEY)]
    assert second.check() == 2
    second.release()
    third = world.taken("three")
    world.meanwhile = third.renew
    with pytest.raises(VolumeBusyError):
        world.take(lease())
    (tmp_path / "notes" / f"{ID}.json").write_text("{")
    third.release()
    world.take(lease())


def test_notes_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(300):
        LeaseNote(str(tmp_path), f"{number:016x}").write(Released("tag", number))
    assert len(list(tmp_path.iterdir())) <= 256
    assert LeaseNote(str(tmp_path), f"{299:016x}").take() == Released("tag", 299)
    assert LeaseNote(str(tmp_path), f"{299:016x}").take() is None


def test_a_release_while_somebody_watches(world: World) -> None:
    first = world.taken("one")
    world.meanwhile = first.release
    assert world.taken("two").check() == 2
    assert first.lost is False


@pytest.mark.logs_warnings
def test_what_is_not_renewed_for_as_long_as_it_was_lent_is_taken_over(world: World) -> None:
    move_ref(world.store, REF, VERSION, "one", None)
    first = world.taken("one", seconds=20)
    second = world.taken("two", seconds=60)
    assert 1020 <= world.now < 1023
    assert [told["left"] for told in world.told][:2] == [20.0, 19.0]
    ref = read_ref(world.store, REF)
    assert ref is not None
    assert (ref.version, ref.writer, ref.fence) == (VERSION, "one", 2), "the ref is fenced, and names what it did"
    first.renew()
    with pytest.raises(LeaseLostError, match="zoë, process"):
        first.check()
    assert second.check() == 2


@pytest.mark.logs_warnings
@pytest.mark.parametrize("year", [1999, 2150])
def test_clocks_that_differ_do_no_harm(world: World, year: int) -> None:
    """Neither does the time of a lease keep a successor out, nor does it let one in."""
    first = world.taken("one", seconds=10)
    times = dict.fromkeys(("since", "written", "expires"), f"{year}-01-01T00:00:00Z")

    def renewed() -> None:
        first.renew()
        world.alter(**times)

    world.alter(**times)
    world.meanwhile = renewed
    with pytest.raises(VolumeBusyError):
        world.taken("two")
    first = world.taken("one")
    world.alter(**times)
    world.meanwhile = lambda: None
    assert world.taken("two").fence == 3


@pytest.mark.logs_warnings
def test_a_workspace_that_is_resumed_takes_its_own_lease_over(world: World) -> None:
    world.taken("one")
    assert world.taken("one").fence == 2
    assert world.now == 1000.0


@pytest.mark.logs_warnings
def test_on_one_machine_nobody_waits(world: World) -> None:
    world.taken("one", process=Process.current())
    with pytest.raises(VolumeBusyError):
        world.taken("two")
    assert world.now == 1000.0
    world.now += 30
    assert world.taken("two").fence == 2
    assert world.now == 1030.0


@pytest.mark.logs_warnings
def test_a_process_of_this_machine_that_is_dead_is_not_waited_for(world: World) -> None:
    done = subprocess.Popen(["true"])
    world.taken("one", process=Process.current())
    world.alter(pid=done.pid, started="1")
    assert world.taken("two").fence == 2, "its number is another process's by now, or nobody's"
    done.wait()
    world.alter(pid=done.pid, machine=Process.current().machine)
    assert world.taken("three").fence == 3
    assert world.now == 1000.0


@pytest.mark.parametrize("pid", [0, -1, 1, 1 << 40])
def test_numbers_that_are_no_process_of_ours_kill_nobody(pid: int) -> None:
    me = Process.current()
    assert not replace(me, machine="another").is_dead()
    assert not replace(me, machine="").is_dead()
    assert not replace(me, started="").is_dead()
    assert replace(me, pid=pid).is_dead() in (True, False)
    assert not me.is_dead()


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat")
        named = replace(Process.current(), pid=child.pid, started=stat.read_text().rpartition(")")[2].split()[19])
        assert not named.is_dead()
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended; nobody has asked how
        assert named.is_dead()


def test_the_lost_answer_to_a_renewal_is_no_loss(world: World) -> None:
    lease = world.taken("one")
    world.store.fail("replace", KEY, after=True)
    with pytest.raises(StoreUnavailableError):
        lease.renew()
    lease.renew()
    assert lease.check() == 1


@pytest.mark.logs_warnings
def test_a_lease_that_lapsed_is_renewed_before_it_is_relied_on(world: World) -> None:
    lease = world.taken("one")
    world.now += 31
    world.store.fail("replace", KEY)
    with pytest.raises(StoreUnavailableError):
        lease.check()
    assert lease.check() == 1
    world.now += 31
    second = world.taken("two")
    with pytest.raises(LeaseLostError):
        lease.check()
    lease.release()
    assert second.check() == 2, "who lost it releases nobody's"


def test_a_lease_that_an_operator_removed_goes_on_with_the_fence_of_the_ref(world: World) -> None:
    move_ref(world.store, REF, VERSION, "one", None, 7)
    lease = world.taken("one")
    assert lease.fence == 8
    world.store.delete(KEY)
    lease.renew()
    assert lease.check() == 8
    lease.release()
    world.store.delete(KEY)
    assert world.taken("two").fence == 8, "8 never moved the ref"


@pytest.mark.logs_warnings
def test_the_one_before_publishes_while_it_is_taken_over(world: World) -> None:
    tag = move_ref(world.store, REF, VERSION, "one", None, 1)
    world.taken("one")
    newer = VERSION.replace("00000001", "00000002")
    world.store.alter("get_tagged", REF, lambda found: move_ref(world.store.inner, REF, newer, "one", tag, 1) and found)
    second = world.taken("one")
    assert second.ref is not None
    assert (second.ref.version, read_ref(world.store, REF).fence) == (newer, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize("changes", [{"format_version": 2}, {"requires": ["queues"]}])
def test_a_later_lease_is_refused(world: World, changes: dict[str, Any]) -> None:
    world.taken("one")
    world.alter(**changes)
    with pytest.raises(NewerFormatError):
        world.taken("two")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"format": "flytevol/ref"}', b"[" * 50_000])
def test_what_is_no_lease_keeps_a_writer_out_for_the_longest_time_of_one(world: World, data: bytes) -> None:
    move_ref(world.store, REF, VERSION, "one", None, 7)
    world.store.create(KEY, data)
    with pytest.raises(RecordDamagedError) as caught:
        read_lease(world.store, KEY)
    assert caught.value.hint
    assert world.taken("two").check() == 7 + LEAP
    assert 600 <= world.now - 1000 < 602
    assert world.told[0]["left"] == 600
    assert "somebody unknown" in world.told[0]["holder"]
    ref = read_ref(world.store, REF)
    assert ref is not None
    assert ref.fence == 7 + LEAP, "so that whoever held it before it was broken moves the ref no more"


def test_a_holder_whose_lease_somebody_broke_writes_it_anew(world: World) -> None:
    one = world.taken("one")
    world.store.inner.replace(KEY, b"broken", one_tag(world))
    one.renew()
    assert one.check() == 1
    found = read_lease(world.store, KEY)
    assert found is not None
    assert found.holder == "one"


def test_what_is_written_while_a_broken_one_is_watched_is_of_a_living_writer(world: World) -> None:
    one = world.taken("one")
    world.store.inner.replace(KEY, b"broken", one_tag(world))
    world.meanwhile = one.renew
    with pytest.raises(VolumeBusyError):
        world.taken("two")
    assert world.now < 1002


ABSURD: dict[str, list[Any]] = {
    "milliseconds": [0, -1, True, 1.5, float("nan"), float("inf"), "30000", None, 1 << 53, 1 << 200, 10**4000],
    "fence": [0, -1, True, 1.5, float("nan"), "2", None, 1 << 53, 1 << 200],
    "until": [-1, True, 0.5, float("-inf"), None, 1 << 200],
    "pid": [-1, True, None, 1 << 200],
    "released": [0, 1, "true", None],
    "holder": [None, 5, "x" * 5000],
    "user": [5, "x" * 5000],
    "host": [None, []],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in ABSURD.items() for value in values])
def test_a_lease_that_no_writer_writes_is_waited_for_ten_minutes_at_most(world: World, field: str, value: Any) -> None:
    world.taken("one")
    world.alter(**{field: value})
    with pytest.raises(RecordDamagedError):
        read_lease(world.store, KEY)
    assert world.taken("two").check() == LEAP
    assert 600 <= world.now - 1000 < 602


@pytest.mark.parametrize("milliseconds", [600_001, 31_536_000_000_000, (1 << 53) - 1])
def test_a_lease_of_years_is_taken_over_after_ten_minutes(world: World, milliseconds: int) -> None:
    world.taken("one")
    world.alter(milliseconds=milliseconds, until=(1 << 53) - 1)
    assert world.taken("two").check() == 2
    assert 600 <= world.now - 1000 < 602


def test_an_end_further_off_than_the_lease_is_long_is_not_believed(world: World) -> None:
    """On the machine of its holder, who lives, nobody would watch: it would be held until then."""
    me = Process.current()
    world.taken("one", process=me)
    world.alter(until=(1 << 53) - 1)
    assert world.taken("two", process=me).check() == 2
    assert 30 <= world.now - 1000 < 32


@pytest.mark.parametrize("released", [False, True])
def test_a_fence_far_ahead_of_the_ref_is_not_believed(world: World, released: bool) -> None:
    """Else nobody could go beyond it any more."""
    move_ref(world.store, REF, VERSION, "one", None, 5)
    world.taken("one")
    world.alter(fence=(1 << 53) - 1, released=released)
    assert world.taken("two").check() == 5 + LEAP
    assert world.taken("two").check() == 6 + LEAP, "from there it goes on as ever"


def test_a_great_fence_that_the_ref_has_as_well_is_believed(world: World) -> None:
    move_ref(world.store, REF, VERSION, "one", None, MOST_AHEAD + 5)
    world.taken("one").release()
    world.alter(fence=MOST_AHEAD + 7)
    assert world.taken("two").check() == MOST_AHEAD + 8
    assert world.now == 1000.0


def test_a_ref_that_nobody_can_go_beyond_is_told(world: World) -> None:
    move_ref(world.store, REF, VERSION, "one", None, (1 << 53) - 1)
    with pytest.raises(RecordDamagedError, match="no writer can go beyond") as caught:
        world.taken("two")
    assert "fork" in caught.value.hint


def test_a_lease_of_megabytes_is_not_read_and_the_error_says_which_object_to_remove(world: World) -> None:
    world.store.create(KEY, b" " * 100_000)
    with pytest.raises(ObjectTooLargeError, match=r"lease\.json") as caught:
        world.taken("two")
    assert "remove that object" in caught.value.hint


def test_a_long_name_of_a_user_makes_no_lease_that_others_refuse(world: World) -> None:
    Lease(world.store, "test", ID, "one", seconds=30, user="é" * 99_999, fresh=False, process=FAR).take(
        world.told.append
    )
    found = read_lease(world.store, KEY)
    assert found is not None
    assert found.user is not None
    assert set(found.user) == {"é"}


@pytest.mark.parametrize(
    ("given", "seconds"), [("nan", 30), ("inf", 600), ("-5", 0), ("0", 0), ("1e9", 600), ("x", 30), ("12", 12)]
)
def test_seconds_from_the_environment_are_bounded(given: str, seconds: float) -> None:
    assert lease_seconds({LEASE_VARIABLE: given}) == seconds


@pytest.mark.logs_warnings
def test_of_many_at_once_one_has_it(tmp_path: Path) -> None:
    """On real files, with a real clock: taken over from one that is silent."""
    store = LocalStore(f"file://{tmp_path}", str(tmp_path))
    first = Lease(store, "test", ID, "dead", seconds=0.2, user=None, fresh=True, process=FAR)
    first.take(lambda told: None)
    won: list[Lease] = []

    def challenge(number: int) -> None:
        lease = Lease(store, "test", ID, f"w{number}", seconds=0.2, user=None, fresh=False, process=FAR)
        try:
            lease.take(lambda told: None, time.sleep)
        except VolumeBusyError:
            return
        won.append(lease)

    threads = [threading.Thread(target=challenge, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({lease.fence for lease in won}) == len(won), "no fence is given twice"
    newest = max(won, key=lambda lease: lease.fence)
    for lease in won:
        lease.renew()
    assert [lease for lease in won if not lease.lost] == [newest]


# -- writers -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def store() -> Counting:
    return Counting(Faulty(MemoryStore(f"memory://{uuid4().hex}")))


@pytest.fixture
def volume(tmp_path: Path, store: Counting, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    """A writer with a lease of 0.6 s, renewed every 0.2 s, on a machine that no other is on."""
    monkeypatch.setattr(processes, "_machine", lambda: "")
    driven = Driven.new(tmp_path, store, lease_seconds=0.6)
    driven.create(b"a", noise(1))
    driven.commit("one")
    yield driven
    driven.close()


def noise(seed: int, size: int = 20_000) -> bytes:
    return random.Random(seed).randbytes(size)


def head(volume: Driven) -> str:
    ref = read_ref(volume.store, ref_key(volume.spec.volume_name, volume.spec.volume_id))
    assert ref is not None
    return ref.version


def successor(volume: Driven, base: str | None = None) -> Driven:
    """A writer of the same volume on another machine."""
    base = base or str(volume.session.base.locator)  # type: ignore[union-attr]
    return volume.fork(base, volume_id=volume.spec.volume_id)


def cut_off(volume: Driven) -> Faulty:
    """This writer does not reach the lease any more: for its lease, that is as if it were stopped."""
    faulty = Faulty(volume.store)
    faulty.fail("replace", lease_key(volume.spec.volume_name, volume.spec.volume_id), times=None)
    volume.session._lease.lease._store = faulty  # type: ignore[union-attr]
    return faulty


def test_a_second_writer_is_refused_and_a_reader_is_not(volume: Driven) -> None:
    with pytest.raises(VolumeBusyError, match="process"):
        successor(volume)
    volume.at(str(volume.session.base.locator)).close()  # type: ignore[union-attr]
    volume.create(b"b")
    volume.commit("two")


def test_a_writer_that_ends_lets_the_next_one_in_at_once(volume: Driven) -> None:
    base = str(volume.session.base.locator)  # type: ignore[union-attr]
    volume.close(keep=True)
    other = successor(volume, base)
    other.create(b"b")
    other.commit("two")
    other.close()


@pytest.mark.logs_warnings
def test_a_writer_that_was_cut_off_cannot_publish_over_its_successor(volume: Driven) -> None:
    volume.create(b"mine", noise(2))
    expected = volume.tree()
    cut = cut_off(volume)
    other = successor(volume)
    with pytest.raises(StoreUnavailableError):
        volume.commit("mine")
    cut.clear()
    for _ in range(2):
        with pytest.raises(LeaseLostError) as caught:
            volume.commit("mine")
        saved = caught.value.hint.split("version ")[1].split(";")[0]
    fork = volume.fork(saved, lease_seconds=0.0)
    assert fork.tree() == expected, "as the hint says"
    fork.close()
    assert volume.tree() == expected, "and it is still here"
    other.create(b"theirs")
    theirs = other.commit("theirs")
    other.close()
    assert head(volume) == theirs.locator.file


@pytest.mark.logs_warnings
def test_a_writer_that_is_paused_between_its_look_at_the_ref_and_its_move(volume: Driven) -> None:
    """The moment that no lease can cover, and the ref's fence does."""
    others: list[Driven] = []

    def move_after_a_pause(*args: Any) -> str | None:
        patch.undo()
        cut_off(volume)
        others.append(successor(volume))
        return move_ref(*args)

    volume.create(b"mine", noise(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit_module, "move_ref", move_after_a_pause)
        with pytest.raises((LeaseLostError, StoreUnavailableError)):
            volume.commit("mine")
    others[0].create(b"theirs")
    assert others[0].commit("theirs").locator.file == head(volume)
    others[0].close()


@pytest.mark.parametrize("hangs", [False, True])
def test_a_lease_is_not_released_while_a_ref_may_be_on_its_way(
    volume: Driven, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """Who finds it released does not fence the ref, so nothing of ours may come after that."""
    left, go_on = threading.Event(), threading.Event()

    def hanging(*args: Any) -> str | None:
        left.set()
        go_on.wait(30)
        return move_ref(*args)

    def commit() -> None:
        with suppress(Exception):  # everything is closed below it
            volume.commit("two")

    monkeypatch.setattr(session_module, "_LAST_MOVE_SECONDS", 0.05)
    thread = threading.Thread(target=commit)
    if hangs:
        monkeypatch.setattr(commit_module, "move_ref", hanging)
        volume.create(b"b", noise(2))
        thread.start()
        assert left.wait(30)
    volume.close(keep=True)
    found = read_lease(volume.store, lease_key("test", volume.spec.volume_id))
    assert found is not None
    assert found.released == (not hangs)
    go_on.set()
    if hangs:
        thread.join()


@pytest.mark.logs_warnings
def test_a_successor_must_begin_where_the_ref_is(volume: Driven) -> None:
    """Published while the successor watched: it is told before it writes anything."""
    first = str(volume.session.base.locator)  # type: ignore[union-attr]
    volume.create(b"b")
    volume.commit("two")
    cut_off(volume)
    with pytest.raises(RefMovedError, match="load it again") as caught:
        successor(volume, first)
    assert head(volume) in caught.value.hint
    other = successor(volume)
    other.close()


@pytest.mark.logs_warnings
def test_a_resumed_writer_has_it_at_once_and_the_killed_one_never_again(volume: Driven, store: Counting) -> None:
    volume.create(b"b", noise(2))
    volume.workspace.begin_sync()
    before = volume.session._lease
    assert before is not None
    volume.kill()
    assert volume.session._lease is not None
    assert volume.session._lease.lease.fence > before.lease.fence
    volume.commit("two")


def test_what_a_lease_costs(tmp_path: Path, store: Counting) -> None:
    """PUTs: one to take it, one to release it, none for a commit."""
    volume = Driven.new(tmp_path, store, lease_seconds=60.0)
    volume.create(b"a", noise(1))
    volume.commit("one")
    base = volume.commit("again")
    assert volume.session.status()["lease"]["fence"] == 1
    assert store.puts == 1 + 4 + 2
    volume.close()
    assert store.puts == 1 + 4 + 2 + 1
    store.reset()
    volume.open(base=str(base.locator), meta_dir=str(tmp_path / "other"))
    assert (store.puts, store.gets) == (1, 2), "the lease; record and ref: the index is cached"
    volume.close()
    volume.fork(str(base.locator), volume_id=volume.spec.volume_id, cache_dir=str(tmp_path / "far")).close()
    store.reset()
    volume.open(base=str(base.locator), meta_dir=str(tmp_path / "another"))
    assert (store.puts, store.gets) == (2, 3), "and when somebody had the lease meanwhile, one try in vain and a look"
    store.reset()
    volume.create(b"b", noise(2))
    volume.commit("two")
    assert store.puts == 4
    assert store.gets == 2, "the ref, and whether garbage was collected"
    volume.close()


def test_without_a_mount_a_fork_takes_none_before_its_second_version(volume: Driven, store: Counting) -> None:
    store.reset()
    fork = volume.fork(str(volume.session.base.locator), mount_path="", lease_seconds=60.0)  # type: ignore[union-attr]
    fork.commit("fork")
    assert store.puts == 2
    fork.create(b"b")
    fork.commit("two")
    assert fork.session.status()["lease"]["fence"] == 1
    fork.close()


def test_a_store_that_fails_while_a_lease_is_taken_is_told(tmp_path: Path, store: Counting) -> None:
    faulty = store.inner
    assert isinstance(faulty, Faulty)
    faulty.fail("replace", "*/lease.json")
    volume = Driven.new(tmp_path, store, lease_seconds=60.0)  # new: nobody waits
    volume.create(b"a")
    with pytest.raises(StoreUnavailableError):
        volume.session._lease.wait()  # type: ignore[union-attr]
    base = volume.commit("one")
    volume.close()
    faulty.fail("replace", "*/lease.json")
    with pytest.raises(StoreUnavailableError):
        volume.open(base=str(base.locator), meta_dir=str(tmp_path / "other"))
    volume.open(base=str(base.locator), meta_dir=str(tmp_path / "other"))
    volume.close()


# -- stores ------------------------------------------------------------------------------------------------------------


@pytest.mark.logs_warnings
@pytest.mark.parametrize(
    "backend",
    ["file", "memory", pytest.param("obstore", marks=pytest.mark.s3), pytest.param("fsspec", marks=pytest.mark.s3)],
)
def test_every_store_can_lend(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if backend in ("obstore", "fsspec"):
        server = request.getfixturevalue("s3_environment")
        url = server.new_bucket_url() + "/prefix"
        options = replace(store_options_from_environment(url), backend=backend)
    else:
        url = f"file://{tmp_path}/store" if backend == "file" else f"memory://{uuid4().hex}"
        options = StoreOptions()
    with open_store(url, options) as store:
        first, second = (
            Lease(store, "test", ID, holder, seconds=0.5, user=None, fresh=holder == "one", process=FAR)
            for holder in ("one", "two")
        )
        first.take(lambda told: None)
        with pytest.raises(VolumeBusyError):
            second.take(lambda told: None, lambda seconds: first.renew())
        move_ref(store, REF, VERSION, "one", None, first.check())
        second.take(lambda told: None)
        assert second.check() == 2
        first.renew()
        assert first.lost
        ref = read_ref(store, REF)
        assert ref is not None
        assert (ref.version, ref.fence) == (VERSION, 2)
        second.release()
        third = Lease(store, "test", ID, "three", seconds=60, user=None, fresh=False, process=FAR)
        third.take(lambda told: None)
        assert third.check() == 3


V1 = (
    b'{"count":3,"expires":"2026-11-22T18:35:35Z","fence":2,"format":"flytevol/lease","format_version":1,'
    b'"holder":"edf9436e0dc8463bb0ec4cd3ab4eb3d2","host":"vm","machine":"b5e9bea3bb92ee4b","milliseconds":4000,'
    b'"pid":30472,"released":false,"requires":[],"since":"2026-11-22T18:35:31Z","started":"1424904",'
    b'"until":14254267,"user":"root","written":"2026-11-22T18:35:31.436335Z"}'
)


def test_a_lease_of_the_first_format_is_read_for_ever(world: World) -> None:
    world.store.create(KEY, V1)
    found = read_lease(world.store, KEY)
    assert found is not None
    assert (found.holder, found.fence, found.seconds) == ("edf9436e0dc8463bb0ec4cd3ab4eb3d2", 2, 4.0)
    assert (found.released, found.until, found.user) == (False, 14254.267, "root")
    assert found.process == Process("vm", 30472, "b5e9bea3bb92ee4b", "1424904")
