"""Other versions of the store from which a workspace takes blocks over: looked for, and their indexes brought here.

What their records name is spared by collections while the records are there, and for a week after: as what the base's
names is. So the rules for the base hold for them as well (docs/FORMAT.md, section 8), if they were looked for when it
was, or later: no commit may come between this look and the rows that name their packs, since it would count as a later
one. Packs that come in have numbers beyond those of the base. So after three days they are stored anew, as those are
that the workspace has uploaded, and the next commit looks for them, as for those, if anything was ever collected.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from flyteplugins_vol.errors import OtherStoreError
from flyteplugins_vol.history.checkout import IndexCache, disk_error
from flyteplugins_vol.history.record import Locator, VersionRecord, load_record
from flyteplugins_vol.history.session import Session
from flyteplugins_vol.store.url import parse_store_url


class Source(NamedTuple):
    """A version, and where its index is, which is not to be written to."""

    record: VersionRecord
    path: str


@contextmanager
def sources(session: Session, cache_dir: str, versions: Sequence[Locator]) -> Generator[list[Source]]:
    """These versions, for as long as it is open. The session publishes nothing meanwhile. Blocks; not in the owner.

    Raises `OtherStoreError`, `VersionNotFoundError`, `DamageError`, `NewerFormatError`, `LocalDirectoryError`,
    `StoreError`.
    """
    for locator in versions:
        check_store(locator, session.store.url)
    with ExitStack() as stack:
        stack.enter_context(session.taking_over())
        yield [_bring(stack, session, cache_dir, locator) for locator in versions]


def check_store(locator: Locator, store_url: str) -> None:
    """Raise `OtherStoreError` unless the version is in this store."""
    if parse_store_url(locator.store_url).text != parse_store_url(store_url).text:
        raise OtherStoreError(
            f"version {locator} is in another store than {store_url}, and blocks are shared within one alone",
            hint="download the files from there and put them here, which copies their bytes",
        )


def _bring(stack: ExitStack, session: Session, cache_dir: str, locator: Locator) -> Source:
    record = load_record(session.store, locator)
    record.check_writable()
    try:
        return Source(record, stack.enter_context(IndexCache(cache_dir).held(session.store, record, session.base)))
    except OSError as error:
        raise disk_error(error, cache_dir) from error
