"""Reading a lease: the first format for ever, no later one, and what no writer writes keeps nobody out for long."""

from __future__ import annotations

from typing import Any

import pytest

from flyteplugins_vol.errors import NewerFormatError, ObjectTooLargeError, RecordDamagedError, VolumeBusyError
from flyteplugins_vol.history.holding import LEAP, MOST_AHEAD, read_lease
from flyteplugins_vol.history.lease import Lease
from flyteplugins_vol.history.processes import Process
from flyteplugins_vol.history.refs import move_ref, read_ref
from tests.history.lending import FAR, ID, KEY, REF, VERSION, Lending


def one_tag(lending: Lending) -> str:
    found = lending.store.inner.get_tagged(KEY)
    assert found is not None
    return found.tag


@pytest.mark.parametrize("changes", [{"format_version": 2}, {"requires": ["queues"]}])
def test_a_later_lease_is_refused(lending: Lending, changes: dict[str, Any]) -> None:
    lending.taken("one")
    lending.alter(**changes)
    with pytest.raises(NewerFormatError):
        lending.taken("two")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"format": "flytevol/ref"}', b"[" * 50_000])
def test_what_is_no_lease_keeps_a_writer_out_for_the_longest_time_of_one(lending: Lending, data: bytes) -> None:
    move_ref(lending.store, REF, VERSION, "one", None, 7)
    lending.store.create(KEY, data)
    with pytest.raises(RecordDamagedError) as caught:
        read_lease(lending.store, KEY)
    assert caught.value.hint
    assert lending.taken("two").check() == 7 + LEAP
    assert 600 <= lending.now - 1000 < 602
    assert lending.told[0]["left"] == 600
    assert "somebody unknown" in lending.told[0]["holder"]
    ref = read_ref(lending.store, REF)
    assert ref is not None
    assert ref.fence == 7 + LEAP, "so that whoever held it before it was broken moves the ref no more"


def test_a_holder_whose_lease_somebody_broke_writes_it_anew(lending: Lending) -> None:
    one = lending.taken("one")
    lending.store.inner.replace(KEY, b"broken", one_tag(lending))
    one.renew()
    assert one.check() == 1
    found = read_lease(lending.store, KEY)
    assert found is not None
    assert found.holder == "one"


def test_what_is_written_while_a_broken_one_is_watched_is_of_a_living_writer(lending: Lending) -> None:
    one = lending.taken("one")
    lending.store.inner.replace(KEY, b"broken", one_tag(lending))
    lending.meanwhile = one.renew
    with pytest.raises(VolumeBusyError):
        lending.taken("two")
    assert lending.now < 1002


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
def test_a_lease_that_no_writer_writes_is_waited_for_ten_minutes_at_most(
    lending: Lending, field: str, value: Any
) -> None:
    lending.taken("one")
    lending.alter(**{field: value})
    with pytest.raises(RecordDamagedError):
        read_lease(lending.store, KEY)
    assert lending.taken("two").check() == LEAP
    assert 600 <= lending.now - 1000 < 602


@pytest.mark.parametrize("milliseconds", [600_001, 31_536_000_000_000, (1 << 53) - 1])
def test_a_lease_of_years_is_taken_over_after_ten_minutes(lending: Lending, milliseconds: int) -> None:
    lending.taken("one")
    lending.alter(milliseconds=milliseconds, until=(1 << 53) - 1)
    assert lending.taken("two").check() == 2
    assert 600 <= lending.now - 1000 < 602


def test_an_end_further_off_than_the_lease_is_long_is_not_believed(lending: Lending) -> None:
    """On the machine of its holder, who lives, nobody would watch: it would be held until then."""
    me = Process.current()
    lending.taken("one", process=me)
    lending.alter(until=(1 << 53) - 1)
    assert lending.taken("two", process=me).check() == 2
    assert 30 <= lending.now - 1000 < 32


@pytest.mark.parametrize("released", [False, True])
def test_a_fence_far_ahead_of_the_ref_is_not_believed(lending: Lending, released: bool) -> None:
    """Else nobody could go beyond it any more."""
    move_ref(lending.store, REF, VERSION, "one", None, 5)
    lending.taken("one")
    lending.alter(fence=(1 << 53) - 1, released=released)
    assert lending.taken("two").check() == 5 + LEAP
    assert lending.taken("two").check() == 6 + LEAP, "from there it goes on as ever"


def test_a_great_fence_that_the_ref_has_as_well_is_believed(lending: Lending) -> None:
    move_ref(lending.store, REF, VERSION, "one", None, MOST_AHEAD + 5)
    lending.taken("one").release()
    lending.alter(fence=MOST_AHEAD + 7)
    assert lending.taken("two").check() == MOST_AHEAD + 8
    assert lending.now == 1000.0


def test_a_ref_that_nobody_can_go_beyond_is_told(lending: Lending) -> None:
    move_ref(lending.store, REF, VERSION, "one", None, (1 << 53) - 1)
    with pytest.raises(RecordDamagedError, match="no writer can go beyond") as caught:
        lending.taken("two")
    assert "fork" in caught.value.hint


def test_a_lease_of_megabytes_is_not_read_and_the_error_says_which_object_to_remove(lending: Lending) -> None:
    lending.store.create(KEY, b" " * 100_000)
    with pytest.raises(ObjectTooLargeError, match=r"lease\.json") as caught:
        lending.taken("two")
    assert "remove that object" in caught.value.hint


def test_a_long_name_of_a_user_makes_no_lease_that_others_refuse(lending: Lending) -> None:
    Lease(lending.store, "test", ID, "one", seconds=30, user="é" * 99_999, fresh=False, process=FAR).take(
        lending.told.append
    )
    found = read_lease(lending.store, KEY)
    assert found is not None
    assert found.user is not None
    assert set(found.user) == {"é"}


V1 = (
    b'{"count":3,"expires":"2026-11-22T18:35:35Z","fence":2,"format":"flytevol/lease","format_version":1,'
    b'"holder":"edf9436e0dc8463bb0ec4cd3ab4eb3d2","host":"vm","machine":"b5e9bea3bb92ee4b","milliseconds":4000,'
    b'"pid":30472,"released":false,"requires":[],"since":"2026-11-22T18:35:31Z","started":"1424904",'
    b'"until":14254267,"user":"root","written":"2026-11-22T18:35:31.436335Z"}'
)


def test_a_lease_of_the_first_format_is_read_for_ever(lending: Lending) -> None:
    lending.store.create(KEY, V1)
    found = read_lease(lending.store, KEY)
    assert found is not None
    assert (found.holder, found.fence, found.seconds) == ("edf9436e0dc8463bb0ec4cd3ab4eb3d2", 2, 4.0)
    assert (found.released, found.until, found.user) == (False, 14254.267, "root")
    assert found.process == Process("vm", 30472, "b5e9bea3bb92ee4b", "1424904")
