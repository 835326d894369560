"""Leases on real stores, with a real clock: each store can lend, and of many writers at once one has it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.config import StoreOptions, store_options_from_environment
from flyteplugins_vol.errors import VolumeBusyError
from flyteplugins_vol.history.lease import Lease
from flyteplugins_vol.history.refs import move_ref, read_ref
from flyteplugins_vol.store.local import LocalStore
from flyteplugins_vol.store.open import open_store
from tests.history.lending import FAR, ID, REF, VERSION


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
