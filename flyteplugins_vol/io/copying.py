"""Copies in other stores: another bucket, another region, a directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import NothingCommittedError
from flyteplugins_vol.history.collect import Tally
from flyteplugins_vol.history.copying import copy_version
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import dual
from flyteplugins_vol.io.encryption import KeySource, with_secret
from flyteplugins_vol.io.upkeep import local_scratch
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.url import parse_store_url

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import ROVolume

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Copied:
    """What a copy did.

    ``version``: the version as it is there. ``copied``, ``skipped``: ``objects`` and ``bytes`` of packs and index
    objects that were sent, and that were there already; bytes are those before any encryption. ``versions``: how many
    are new there. ``tags``: those that were brought, or were there. ``moved``: whether the version became the newest of
    its volume there.
    """

    version: ROVolume
    copied: Tally
    skipped: Tally
    versions: int
    tags: tuple[str, ...]
    moved: bool


class Copying:
    """What every volume has of it. `copy` and `rename` of a writable one are about its files."""

    @dual
    def copy_to(
        self: Any,
        store: str,
        *,
        name: str | None = None,
        history: bool = False,
        force: bool = False,
        store_options: StoreOptions | None = None,
        encryption: KeySource | None = None,
        progress: Progress | None = None,
    ) -> Copied:
        """Bring its last version to another store. Only the packs and index objects that are missing there are sent.

        The copy is the same version of the same volume: name, id, number and hash stay, the store's URL is another one.
        It can be mounted, forked and committed to there. A later copy brings what is new and makes that the newest
        version there, unless somebody has committed there meanwhile. A copy that was cut off is taken up by the next
        one. Each object is read whole and checked against its hashes before it is sent, and looked for afterwards.

        ``store``: a URL. ``name``: another name there; the copy is then a volume of its own, whose version has this one
        as its parent. ``history``: also all other versions of the volume that are not newer, and the tags that name
        them; ``force``: also tags that name another version there. ``store_options``, ``encryption``: how to reach that
        store, as of `Volume.new`; both stores may be encrypted, each with a key of its own. ``progress``: called with
        dicts that have a ``phase``: ``copy`` comes with ``done`` and ``total``, in bytes; ``lease`` as of `mount`.

        Raises `NothingCommittedError`, `UsageError` (the same store), `VolumeExistsError` if another volume has the
        name there, `DivergedError`, `TagExistsError`, `VolumeBusyError`, `CollectedError`, `DamageError`,
        `ObjectMissingError`, `NewerFormatError`, `EncryptionKeyError`, `StoreError`, `LocalDirectoryError`. Nothing is
        named there then that is not whole, and what is there stays as it is.
        """
        from flyteplugins_vol.io.volume import ROVolume

        if self.locator is None:
            raise NothingCommittedError(f"volume {self.name!r} has no version to copy", hint="commit first")
        url = parse_store_url(store).text
        options = with_secret(url, store_options, encryption)
        with (
            self._opened() as source,
            open_store(url, hosts.store_options(url, options)) as target,
            local_scratch() as directory,
        ):
            found = copy_version(
                source, target, self._record.locator, name=name, history=history, force=force, scratch=directory,
                progress=progress,
            )  # fmt: skip
        return Copied(
            ROVolume.of(found.record, options), found.copied, found.skipped, found.versions, found.tags, found.moved
        )
