"""What a lease object says, and how much of it is believed. docs/FORMAT.md, section 5.

Anybody who may write to the store may have written it. So nothing in it keeps a writer out for longer than the longest
time for which a lease is lent: what cannot be read, or says what no writer writes, is watched for that time as
well, and then taken over like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flyteplugins_vol.config import LONGEST_LEASE
from flyteplugins_vol.errors import ObjectTooLargeError, RecordDamagedError
from flyteplugins_vol.history.processes import Process
from flyteplugins_vol.history.record import volume_prefix
from flyteplugins_vol.history.small_objects import Kind, flag, number, parse, read, text
from flyteplugins_vol.store.base import ObjectStore, Tagged

KIND = Kind(
    word="lease",
    format="flytevol/lease",
    version=1,
    needs=("requires",),
    if_newer="install a newer release of flyteplugins-vol, or mount the volume read-only",
    if_damaged="see that nobody writes to the volume, then remove that object",
)

MOST_AHEAD = 1 << 32
"""By how much a lease's fence may exceed the ref's: takings without a commit, one a second for a hundred years."""

LEAP = 1 << 20
"""What is added to the ref's fence for the fence after a lease that is not believed: more than its true one had."""

_NOBODY = Process("", 0, "", "")


@dataclass(frozen=True)
class Holding:
    """What a lease object says. ``(holder, fence)`` names one taking; ``tag`` is for `ObjectStore.replace`."""

    holder: str  # id of a workspace, as refs and records have it
    fence: int
    seconds: float  # for which it was lent, counted from the moment at which it was written; at most `LONGEST_LEASE`
    released: bool
    until: float  # its end by the clock of its machine, seconds since boot
    process: Process
    user: str | None
    since: str  # when it was taken, by the holder's clock: for people only, as is `expires`
    tag: str
    data: bytes
    damage: str = ""  # why it is not believed

    def __str__(self) -> str:
        if self.damage:
            return f"somebody unknown ({self.damage})"
        user = f"{self.user}, " if self.user else ""
        return f"{user}process {self.process.pid} on {self.process.host} since {self.since}"


def lease_key(volume_name: str, volume_id: str) -> str:
    """Key of a volume's lease in its store."""
    return f"{volume_prefix(volume_name, volume_id)}/lease.json"


def read_lease(store: ObjectStore, key: str) -> Holding | None:
    """The lease, or None if there never was one. One GET, if it is not damaged.

    Raises `RecordDamagedError`, `NewerFormatError`.
    """
    return read(store, key, lambda found: _holding(found, f"{store.url}/{key}"))


def look_at_lease(store: ObjectStore, key: str) -> Holding | None:
    """As `read_lease`; of what is damaged, a holding of nobody's. Raises `NewerFormatError`."""
    last: Tagged | None = None

    def understand(found: Tagged) -> Holding:
        nonlocal last
        last = found
        return _holding(found, f"{store.url}/{key}")

    try:
        return read(store, key, understand)
    except ObjectTooLargeError as error:  # without its tag nobody can replace it
        error.hint = KIND.if_damaged
        raise
    except RecordDamagedError as error:
        assert last is not None
        return nobodys(last.tag, last.data, error.message)


def nobodys(tag: str, data: bytes, why: str) -> Holding:
    """What to watch in place of a lease that is not believed."""
    return Holding("", 0, LONGEST_LEASE, False, 0.0, _NOBODY, None, "", tag, data, damage=why)


def _holding(found: Tagged, where: str) -> Holding:
    def build(body: dict[str, Any]) -> Holding:
        return Holding(
            holder=text(body, "holder"),
            fence=number(body, "fence", 1),
            seconds=min(number(body, "milliseconds", 1) / 1000, LONGEST_LEASE),
            released=flag(body, "released"),
            until=number(body, "until") / 1000,
            process=Process(text(body, "host"), number(body, "pid"), text(body, "machine"), text(body, "started")),
            user=text(body, "user") if body["user"] is not None else None,
            since=text(body, "since"),
            tag=found.tag,
            data=found.data,
        )

    return parse(KIND, found.data, where, build)
