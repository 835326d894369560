"""The public types: `Volume`, `RWVolume` and `ROVolume`.

A volume is a line of versions in a store. An `RWVolume` is its one writer: mount it, write, commit. An `ROVolume` is
one immutable version: mount it to read, fork it to write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import UsageError, VersionNotFoundError, VolumeNameError
from flyteplugins_vol.forked import Lock
from flyteplugins_vol.history.record import Locator, VersionRecord, check_name, load_record, parse_locator
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.access import Access
from flyteplugins_vol.io.comparing import Comparing
from flyteplugins_vol.io.copying import Copying
from flyteplugins_vol.io.deleting import Deleting
from flyteplugins_vol.io.dual import dual, dual_class
from flyteplugins_vol.io.encryption import KeySource, with_secret
from flyteplugins_vol.io.facts import new_id
from flyteplugins_vol.io.finding import Finding
from flyteplugins_vol.io.listing import Listing
from flyteplugins_vol.io.merging import Merging
from flyteplugins_vol.io.mounted import Mountable, MountedVolume
from flyteplugins_vol.io.mounting import Mounting, MountOptions, publish_when_terminated
from flyteplugins_vol.io.naming import find_volume
from flyteplugins_vol.io.past import Past
from flyteplugins_vol.io.payload import Known, payload_of, payload_of_version, pickled_writer, unpickled
from flyteplugins_vol.io.publishing import Publishing
from flyteplugins_vol.io.reading import ReadFiles
from flyteplugins_vol.io.recovery import Recoverable, recoverable
from flyteplugins_vol.io.restoring import Restoring
from flyteplugins_vol.io.tagging import Tagging
from flyteplugins_vol.io.upkeep import Upkeep
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.url import parse_store_url


class Volume(ReadFiles, Listing, Finding, Past, Comparing, Merging, Tagging, Copying, Deleting, Upkeep, Mountable):
    """A durable, versioned file system on object storage. `new`, `from_name`, `from_locator`, `find` make one."""

    writable: ClassVar[bool]

    def __init__(
        self, *, name: str, volume_id: str, store: str, options: StoreOptions | None, record: Known | None
    ) -> None:
        self.name = name
        self.id = volume_id
        self.store = store
        self._options = options
        self._record: Known | None = record
        self._mounting: Mounting | None = None
        self._workspace: str | None = None
        self._access = Access()
        self._turn = Lock()

    @staticmethod
    def new(
        name: str | None = None,
        store: str | None = None,
        *,
        store_options: StoreOptions | None = None,
        encryption: KeySource | None = None,
    ) -> RWVolume:
        """A fresh, empty volume. No I/O before it is mounted.

        ``store``: a URL such as ``s3://bucket/prefix``; by default ``FLYTE_VOL_STORE``, else, in a Flyte task, the
        place for volumes of its project and domain, else a directory of this user.
        ``store_options``: endpoint and credentials, where the environment does not say. ``encryption``: the secret of
        an encrypted store, or a function of its URL that gets one; by default ``FLYTE_VOL_ENCRYPTION_KEY``; a store is
        encrypted from its first object on, or never. Raises `VolumeNameError`, `UnknownSchemeError`; `UsageError` in a
        thread that may be of several Flyte tasks, with several stores.
        """
        url = parse_store_url(hosts.store_url(store)).text
        return RWVolume(
            name=check_name(name if name is not None else "volume"),
            volume_id=new_id(),
            store=url,
            options=with_secret(url, store_options, encryption),
            record=None,
        )

    @dual_class
    def from_locator(
        cls,  # noqa: N805
        locator: str,
        *,
        store_options: StoreOptions | None = None,
        encryption: KeySource | None = None,
    ) -> ROVolume:
        """The version at a locator, from anywhere. One GET (and one for the key of an encrypted store).

        Raises `LocatorError`, `VersionNotFoundError`, `RecordDamagedError`, `NewerFormatError`, `StoreError`,
        `EncryptionKeyError`.
        """
        where = parse_locator(locator)
        store_options = with_secret(where.store_url, store_options, encryption)
        with open_store(where.store_url, hosts.store_options(where.store_url, store_options)) as store:
            record = load_record(store, where)
        return ROVolume.of(record, store_options)

    @dual_class
    def from_name(
        cls,  # noqa: N805
        name: str,
        store: str | None = None,
        *,
        create_if_missing: bool = False,
        store_options: StoreOptions | None = None,
        encryption: KeySource | None = None,
    ) -> RWVolume:
        """The writer of the volume with this name, where its ref ``main`` is now. Its commits continue that line.

        ``create_if_missing``: else a new volume, which has the name from its first version on; of two that are made at
        once both have it. A version by its number or tag: `find`. Raises `VolumeNameError`, `VersionNotFoundError` if
        there is none (and not ``create_if_missing``), `UsageError` if there are several.
        """
        if "@" in name:
            raise VolumeNameError(
                f"{name!r} is a version, and a writer goes on from the newest one",
                hint="Volume.find(…) has that version, to read or to fork",
            )
        url = parse_store_url(hosts.store_url(store)).text
        store_options = with_secret(url, store_options, encryption)
        with open_store(url, hosts.store_options(url, store_options)) as opened:
            volume_id = find_volume(opened, check_name(name))
            ref = read_ref(opened, ref_key(name, volume_id)) if volume_id is not None else None
            if volume_id is None or ref is None:
                if create_if_missing:
                    return Volume.new(name, url, store_options=store_options)
                raise VersionNotFoundError(
                    f"no volume {name!r} in {url}",
                    hint="check name and store, or pass create_if_missing=True",
                )
            record = load_record(opened, Locator(url, name, volume_id, ref.version))
        return RWVolume(name=name, volume_id=volume_id, store=url, options=store_options, record=record)

    def _fork(self, name: str | None) -> RWVolume:
        assert self._record is not None
        return RWVolume(
            name=check_name(name if name is not None else self.name),
            volume_id=new_id(),
            store=self.store,
            options=self._options,
            record=self._record,
        )


class ROVolume(Volume):
    """One immutable version. Any number of them may be mounted at once; only `fork` leads back to writing."""

    writable = False

    @classmethod
    def of(cls, record: Known, options: StoreOptions | None = None) -> ROVolume:
        """The volume of a version record."""
        return cls(
            name=record.volume_name, volume_id=record.volume_id, store=record.store_url, options=options, record=record
        )

    def _payload(self) -> dict[str, Any]:
        assert self._record is not None
        return payload_of(self._record)

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickled, (self._payload(),)

    def _do_mount(self, mount_path: str | Path | None = None, **options: Any) -> Path:
        """Mount this version read-only and return the path.

        Options as of `RWVolume.mount`, but for those that are about writing, and ``follow``: seconds between two looks
        for a newer version, which the mount then shows, as by `refresh`. Raises `SetupError`, `StoreError`,
        `AlreadyMountedError`, `IndexDamagedError`.
        """
        return self._mount(MountOptions.read_only(mount_path, **options))

    def _do_unmount(self) -> None:
        """End the mount. Idempotent."""
        if self._mounting is not None:
            self._mounting.end(keep=False)

    def _undo_mount(self, _: Path) -> None:
        self._do_unmount()

    @dual
    def refresh(self: Any, to: ROVolume | str | None = None) -> bool:
        """Let the live mount show another version of the same volume, by default the newest. True: it is another one.

        ``to``: a version or its locator. The mount stays, and so does what is open: files, mappings and programs that
        run keep the bytes that they have, whoever opens or lists from now on gets the new version. Files that are the
        same in both stay cached. This handle *is* the new version from then on: `locator`, `fork` and all else.

        A mount with ``follow`` goes on by itself, and its handle learns of it here. Raises `NotMountedError`,
        `OtherVolumeError`, `VersionNotFoundError`, `StoreError`; then the mount shows what it did.
        """
        locator = to.locator if isinstance(to, ROVolume) else to
        record = VersionRecord.from_wire(self._live().client.refresh(locator))
        is_another = str(record.locator) != self.locator
        self._record = record
        return is_another

    mount = dual(_do_mount, _undo_mount)
    unmount = dual(_do_unmount)
    abandon = dual(_do_unmount)

    def _do_fork(self, name: str | None = None) -> RWVolume:
        """An independent writable volume that begins as this version. Copies nothing and writes nothing."""
        return self._fork(name)

    fork = dual(_do_fork)

    def mounted(self, mount_path: str | Path | None = None, **options: Any) -> MountedVolume:
        """``with vol.mounted() as path`` or ``async with``: mounted inside, unmounted after."""
        return MountedVolume(self, self.unmount, mount_path, options)


class RWVolume(Publishing, Restoring, Volume):
    """The one writer of a volume: mount it, write, `commit` or `finalize`."""

    writable = True

    def _do_mount(
        self, mount_path: str | Path | None = None, *, meta_dir: str | Path | None = None,
        cache_dir: str | Path | None = None, max_uploads: int = 50, attr_cache: float = 60.0,
        entry_cache: float = 60.0, dir_entry_cache: float = 60.0, timeout: float = 120.0, writeback: bool = True,
        upload_delay: float | None = None, cache_size: int | None = None, read_only: bool = False,
        subdir: str | None = None, xattr: bool = False, allow_other: bool = False, warmup: tuple[str, ...] = (),
        autocommit: float | None = None, log_path: str | Path | None = None, resume: bool = True,
        autocommit_bytes: int | None = None, passthrough: bool = False, progress: Any = None,
    ) -> Path:  # fmt: skip
        """Mount for reading and writing and return the path.

        ``mount_path``: an empty or missing directory; by default ``~/flyte-volume``, or ``~/flyte-volume-<name>`` when
        that is taken. ``meta_dir``, ``cache_dir``: local disk for the workspace and for cached blocks; ``cache_size``
        bounds the cache, in bytes. ``max_uploads``: most uploads at once; there are six, and more where the store gets
        faster by it and a sixteenth of the memory suffices. ``attr_cache``, ``entry_cache``, ``dir_entry_cache``:
        seconds for which the kernel may trust what it knows. ``timeout``: seconds for the mount to answer.
        ``writeback``: the kernel gathers small writes. ``passthrough``: the kernel writes new files to the local disk
        by itself, for volumes of large files (docs/SEMANTICS.md has what it trades); where it cannot, the log
        says why, and the mount is as without it. ``upload_delay``: seconds without a write before bytes are
        uploaded in the background. ``read_only``: look at the last version without becoming its writer.
        ``subdir``: show a part of the volume. ``xattr``: offer user.* attributes. ``allow_other``: let other users in.
        ``warmup``: paths to fetch at once. ``autocommit``: seconds between commits, with a last one when the
        mount or this process ends, also by SIGTERM; ``autocommit_bytes``: written bytes between commits, likewise.
        ``log_path``: the daemon's log. ``resume``: take up what an earlier process left uncommitted in ``meta_dir``;
        what another task, or another attempt, left there is set aside for `recoverable`. False: drop it. ``progress``:
        called with dicts that have a ``phase``; ``lease`` says that the lease of ``holder``, who may be dead, is
        watched for another ``left`` seconds (by default the log says so, once).

        Raises `SetupError`, `StoreError`, `VolumeBusyError`, `AlreadyMountedError`, `HandleClosedError`.
        """
        self._check_open()
        if read_only:
            self._check_committed("mount read-only")
        else:
            self._access.check_ours(self.name)
        options = MountOptions(
            mount_path=mount_path, meta_dir=meta_dir, cache_dir=cache_dir, max_uploads=max_uploads,
            attr_cache=attr_cache, entry_cache=entry_cache, dir_entry_cache=dir_entry_cache, timeout=timeout,
            writeback=writeback, upload_delay=upload_delay, cache_size=cache_size, is_read_only=read_only,
            subdir=subdir, xattr=xattr, allow_other=allow_other, warmup=tuple(warmup), autocommit=autocommit,
            log_path=log_path, resume=resume, autocommit_bytes=autocommit_bytes, passthrough=passthrough,
            progress=progress,
        )  # fmt: skip
        return self._mount(options)

    def _undo_mount(self, _: Path) -> None:
        self._take_back()

    def _before_mount(self, *_: Any, **options: Any) -> None:
        if options.get("autocommit") or options.get("autocommit_bytes"):
            publish_when_terminated()  # only the main thread may set that up, and an awaited mount runs in another

    mount = dual(_do_mount, _undo_mount, _before_mount)

    def _payload(self) -> dict[str, Any]:
        boundary = hosts.boundary()
        if boundary is not None:
            return payload_of_version(self._do_hand_over(boundary))
        if self._final is None and (self.mount_path is not None or self.has_changes or not self._own):
            raise UsageError(
                f"volume {self.name!r} has changes that no version has, so it cannot be serialised",
                hint="serialise what commit() or finalize() returns",
            )
        assert self._record is not None
        return payload_of(self._record)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickled_writer(self.name, self.id, self.store, self._record)

    @staticmethod
    def recoverable(
        meta_dir: str | Path | None = None, *, store_options: StoreOptions | None = None
    ) -> list[Recoverable]:  # fmt: skip
        """What processes that died left on this machine and in no version, of any volume, the latest last.

        ``meta_dir``: as it was given to `mount`. Looks at local disk only. A mount of the same volume in the same
        place resumes it by itself, but for what was set aside.
        """
        return recoverable(meta_dir, store_options)

    def mounted(self, mount_path: str | Path | None = None, **options: Any) -> MountedVolume:
        """``with vol.mounted() as path`` or ``async with``: finalized after, or abandoned if the body raised."""
        return MountedVolume(self, self.finalize, mount_path, options)

    def _published(self, record: Known) -> ROVolume:
        return ROVolume.of(record, self._options)

    def __repr__(self) -> str:
        text = super().__repr__()
        return f"{text[:-1]}; it could not be committed: {self._failure}>" if self._failure else text
