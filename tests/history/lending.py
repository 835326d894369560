"""A store that lends for tests of leases: a clock that a test moves, and what happens while a writer waits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from flyteplugins_vol.history.holding import lease_key
from flyteplugins_vol.history.lease import Lease
from flyteplugins_vol.history.processes import Process
from flyteplugins_vol.history.refs import ref_key
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore

ID = "00c0ffee00c0ffee"
KEY = lease_key("test", ID)
REF = ref_key("test", ID)
VERSION = f"00000001-{'a' * 40}.json"
FAR = Process("far-away", 4711, "another machine", "1")


class Lending:
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
