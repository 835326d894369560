"""How many packs are under way at once: more where that sends more, no more where it does not."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flyteplugins_vol.errors import StoreUnavailableError
from flyteplugins_vol.workspace import crew as crew_module
from flyteplugins_vol.workspace.budget import memory_there
from flyteplugins_vol.workspace.crew import LEAST, Crew, Pace, most_packs

PACK = 16 << 20


def sent(pace: Pace, packs: int, seconds: Callable[[int], float]) -> list[int]:
    """Sizes of a crew that sends so many packs, each in the time that it takes while so many are on their way."""
    now, sizes = 0.0, [pace.size]
    ends: list[float] = []
    pace.begin(now)
    for _ in range(packs):
        while len(ends) < pace.size:
            heapq.heappush(ends, now + seconds(pace.size))
        now = heapq.heappop(ends)
        pace.finished(PACK, now)
        sizes.append(pace.size)
    return sizes


def test_a_store_that_gives_each_connection_its_share_gets_as_many_as_are_allowed() -> None:
    pace = Pace(50)
    assert max(sent(pace, 2000, lambda _: 0.3)) == 50
    assert pace.size == 50


def test_half_a_gigabyte_is_sent_without_a_try() -> None:
    assert set(sent(Pace(50), 32, lambda _: 0.3)) == {LEAST}


def test_a_store_that_gets_no_faster_keeps_the_first_ones_and_is_tried_seldom() -> None:
    sizes = sent(Pace(50), 2000, lambda size: 0.05 * size)
    assert set(sizes) == {LEAST, 9}
    assert sizes.count(9) < 0.2 * len(sizes)


def test_growth_ends_where_the_line_is_full() -> None:
    """Twelve packs fill it: more of them only take longer."""
    pace = Pace(50)
    sent(pace, 2000, lambda size: 0.3 * max(1.0, size / 12))
    assert pace._kept in (9, 13)


def test_what_was_learned_stays_for_the_next_time() -> None:
    pace = Pace(50)
    sent(pace, 2000, lambda _: 0.3)
    pace.begin(1e6)
    assert pace.size == 50


@pytest.mark.parametrize("most", [1, 2, 6])
def test_never_more_than_are_allowed(most: int) -> None:
    assert max(sent(Pace(most), 500, lambda _: 0.3)) == most


def test_as_many_threads_work_at_once_as_the_pace_says() -> None:
    """Each pack waits until all that are wanted are on their way: a crew that had fewer would hang here."""
    now, lock = [0.0], threading.Lock()
    left = iter(range(6 * 6 + 9 * 2))
    six, nine = threading.Barrier(6), threading.Barrier(9)
    crew = Crew(Pace(9), clock=lambda: now[0])

    def work() -> int:
        with lock:
            number = next(left, None)
        if number is None:
            return 0
        (six if number < 36 else nine).wait(30)
        with lock:
            now[0] += 0.1 if number < 36 else 0.01
        return PACK

    assert crew.run(work)
    assert next(left, None) is None
    assert crew.pace.size == 9
    assert not crew.run(lambda: 0)


def test_the_first_error_is_raised_when_the_others_have_ended() -> None:
    left = iter(range(40))
    lock = threading.Lock()
    done: list[int] = []

    def work() -> int:
        with lock:
            number = next(left, None)
        if number is None:
            return 0
        if number == 3:
            raise StoreUnavailableError("as asked")
        done.append(number)
        return PACK

    with pytest.raises(StoreUnavailableError, match="as asked"):
        Crew(Pace(6)).run(work)
    assert len(done) == 39


def test_where_no_thread_can_be_made_the_caller_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a commit while the interpreter ends."""

    def refused(*_: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refused)
    left = iter(range(20))
    threads: set[int] = set()

    def work() -> int:
        threads.add(threading.get_ident())
        return PACK if next(left, None) is not None else 0

    assert Crew(Pace(6)).run(work)
    assert threads == {threading.get_ident()}
    assert next(left, None) is None


def test_memory_bounds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((None, 6), (1 << 30, 6), (16 << 30, 32), (1 << 40, 50)):
        monkeypatch.setattr(crew_module, "memory_there", lambda there=there: there)
        assert most_packs(50) == expected
    assert most_packs(1) == 1


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    assert memory_there(str(tmp_path)) is None
    proc, groups = tmp_path / "proc", tmp_path / "sys" / "fs" / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  8000 kB\nMemAvailable:   4000 kB\n")
    assert memory_there(str(tmp_path)) == 4000 << 10
    (groups / "pods" / "one").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/pods/one\n")
    (groups / "pods" / "one" / "memory.max").write_text("max\n")
    assert memory_there(str(tmp_path)) == 4000 << 10
    (groups / "pods" / "memory.max").write_text("2048000\n")
    assert memory_there(str(tmp_path)) == 2_048_000
    (proc / "self" / "cgroup").write_text("9:cpu,memory:/old\n1:name=systemd:/\n")
    (groups / "memory" / "old").mkdir(parents=True)
    (groups / "memory" / "old" / "memory.limit_in_bytes").write_text("1024000\n")
    (groups / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert memory_there(str(tmp_path)) == 1_024_000


def test_this_machine_tells() -> None:
    there = memory_there()
    assert there is None or there > 1 << 20


def test_at_the_end_of_the_process_whoever_runs_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refused)
    done: list[threading.Thread] = []
    left = [PACK] * 20

    def work() -> int:
        done.append(threading.current_thread())
        return left.pop() if left else 0

    assert Crew(Pace(4)).run(work)
    assert (left, set(done)) == ([], {threading.current_thread()})
    assert not Crew(Pace(4)).run(work)
    with pytest.raises(ZeroDivisionError):
        Crew(Pace(4)).run(lambda: 1 // 0)
