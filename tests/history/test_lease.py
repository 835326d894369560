"""The lease: one writer at a time, whatever stops or pauses, and however clocks differ."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.config import LEASE_VARIABLE, lease_seconds
from flyteplugins_vol.errors import LeaseLostError, StoreUnavailableError, VolumeBusyError
from flyteplugins_vol.history.holding import read_lease
from flyteplugins_vol.history.lease import Lease
from flyteplugins_vol.history.lease_note import LeaseNote, Released
from flyteplugins_vol.history.processes import Process
from flyteplugins_vol.history.refs import move_ref, read_ref
from tests.history.lending import FAR, ID, KEY, REF, VERSION, Lending


def test_the_first_writer_has_it_at_once(lending: Lending) -> None:
    lease = lending.taken("one")
    found = read_lease(lending.store, KEY)
    assert found is not None
    assert (found.holder, found.fence, found.released, found.seconds) == ("one", 1, False, 30.0)
    assert found.process == FAR
    assert lease.check() == 1
    assert lending.now == 1000.0, "nobody waited"


def test_a_new_volume_costs_one_request(lending: Lending) -> None:
    lending.taken("one", fresh=True)
    assert lending.store.log == [("replace", KEY)]


def test_who_comes_second_is_told_who_was_first(lending: Lending) -> None:
    first = lending.taken("one")
    lending.meanwhile = first.renew
    with pytest.raises(VolumeBusyError) as caught:
        lending.taken("two")
    assert "zoë, process 4711 on far-away since 20" in caught.value.message
    assert "fork" in caught.value.hint
    assert "30 s" in caught.value.hint
    assert first.check() == 1
    assert lending.now < 1003, "known as soon as the first renewal is seen"


def test_what_was_released_is_free_at_once(lending: Lending) -> None:
    lending.taken("one").release()
    lending.store.log.clear()
    assert lending.taken("two").check() == 2
    assert lending.store.log == [("get_tagged", KEY), ("replace", KEY)]


def test_who_released_it_takes_it_again_without_a_look(lending: Lending, tmp_path: Path) -> None:
    def lease() -> Lease:
        note = LeaseNote(str(tmp_path / "notes"), ID)
        return Lease(lending.store, "test", ID, uuid4().hex, seconds=30, user=None, fresh=False, process=FAR, note=note)

    first = lease()
    lending.take(first)
    first.release()
    lending.store.log.clear()
    second = lease()
    lending.take(second)
    assert lending.store.log == [("replace", KEY)]
    assert second.check() == 2
    second.release()
    third = lending.taken("three")
    lending.meanwhile = third.renew
    with pytest.raises(VolumeBusyError):
        lending.take(lease())
    (tmp_path / "notes" / f"{ID}.json").write_text("{")
    third.release()
    lending.take(lease())


def test_notes_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(300):
        LeaseNote(str(tmp_path), f"{number:016x}").write(Released("tag", number))
    assert len(list(tmp_path.iterdir())) <= 256
    assert LeaseNote(str(tmp_path), f"{299:016x}").take() == Released("tag", 299)
    assert LeaseNote(str(tmp_path), f"{299:016x}").take() is None


def test_a_release_while_somebody_watches(lending: Lending) -> None:
    first = lending.taken("one")
    lending.meanwhile = first.release
    assert lending.taken("two").check() == 2
    assert first.lost is False


@pytest.mark.logs_warnings
def test_what_is_not_renewed_for_as_long_as_it_was_lent_is_taken_over(lending: Lending) -> None:
    move_ref(lending.store, REF, VERSION, "one", None)
    first = lending.taken("one", seconds=20)
    second = lending.taken("two", seconds=60)
    assert 1020 <= lending.now < 1023
    assert [told["left"] for told in lending.told][:2] == [20.0, 19.0]
    ref = read_ref(lending.store, REF)
    assert ref is not None
    assert (ref.version, ref.writer, ref.fence) == (VERSION, "one", 2), "the ref is fenced, and names what it did"
    first.renew()
    with pytest.raises(LeaseLostError, match="zoë, process"):
        first.check()
    assert second.check() == 2


@pytest.mark.logs_warnings
@pytest.mark.parametrize("year", [1999, 2150])
def test_clocks_that_differ_do_no_harm(lending: Lending, year: int) -> None:
    """Neither does the time of a lease keep a successor out, nor does it let one in."""
    first = lending.taken("one", seconds=10)
    times = dict.fromkeys(("since", "written", "expires"), f"{year}-01-01T00:00:00Z")

    def renewed() -> None:
        first.renew()
        lending.alter(**times)

    lending.alter(**times)
    lending.meanwhile = renewed
    with pytest.raises(VolumeBusyError):
        lending.taken("two")
    first = lending.taken("one")
    lending.alter(**times)
    lending.meanwhile = lambda: None
    assert lending.taken("two").fence == 3


@pytest.mark.logs_warnings
def test_a_workspace_that_is_resumed_takes_its_own_lease_over(lending: Lending) -> None:
    lending.taken("one")
    assert lending.taken("one").fence == 2
    assert lending.now == 1000.0


@pytest.mark.logs_warnings
def test_on_one_machine_nobody_waits(lending: Lending) -> None:
    lending.taken("one", process=Process.current())
    with pytest.raises(VolumeBusyError):
        lending.taken("two")
    assert lending.now == 1000.0
    lending.now += 30
    assert lending.taken("two").fence == 2
    assert lending.now == 1030.0


@pytest.mark.logs_warnings
def test_a_process_of_this_machine_that_is_dead_is_not_waited_for(lending: Lending) -> None:
    done = subprocess.Popen(["true"])
    lending.taken("one", process=Process.current())
    lending.alter(pid=done.pid, started="1")
    assert lending.taken("two").fence == 2, "its number is another process's by now, or nobody's"
    done.wait()
    lending.alter(pid=done.pid, machine=Process.current().machine)
    assert lending.taken("three").fence == 3
    assert lending.now == 1000.0


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


def test_the_lost_answer_to_a_renewal_is_no_loss(lending: Lending) -> None:
    lease = lending.taken("one")
    lending.store.fail("replace", KEY, after=True)
    with pytest.raises(StoreUnavailableError):
        lease.renew()
    lease.renew()
    assert lease.check() == 1


@pytest.mark.logs_warnings
def test_a_lease_that_lapsed_is_renewed_before_it_is_relied_on(lending: Lending) -> None:
    lease = lending.taken("one")
    lending.now += 31
    lending.store.fail("replace", KEY)
    with pytest.raises(StoreUnavailableError):
        lease.check()
    assert lease.check() == 1
    lending.now += 31
    second = lending.taken("two")
    with pytest.raises(LeaseLostError):
        lease.check()
    lease.release()
    assert second.check() == 2, "who lost it releases nobody's"


def test_a_lease_that_an_operator_removed_goes_on_with_the_fence_of_the_ref(lending: Lending) -> None:
    move_ref(lending.store, REF, VERSION, "one", None, 7)
    lease = lending.taken("one")
    assert lease.fence == 8
    lending.store.delete(KEY)
    lease.renew()
    assert lease.check() == 8
    lease.release()
    lending.store.delete(KEY)
    assert lending.taken("two").fence == 8, "8 never moved the ref"


@pytest.mark.logs_warnings
def test_the_one_before_publishes_while_it_is_taken_over(lending: Lending) -> None:
    tag = move_ref(lending.store, REF, VERSION, "one", None, 1)
    lending.taken("one")
    newer = VERSION.replace("00000001", "00000002")
    lending.store.alter(
        "get_tagged", REF, lambda found: move_ref(lending.store.inner, REF, newer, "one", tag, 1) and found
    )
    second = lending.taken("one")
    assert second.ref is not None
    assert (second.ref.version, read_ref(lending.store, REF).fence) == (newer, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "seconds"), [("nan", 30), ("inf", 600), ("-5", 0), ("0", 0), ("1e9", 600), ("x", 30), ("12", 12)]
)
def test_seconds_from_the_environment_are_bounded(given: str, seconds: float) -> None:
    assert lease_seconds({LEASE_VARIABLE: given}) == seconds
