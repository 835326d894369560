"""The public types: `Volume`, `RWVolume` and `ROVolume`.

A volume is a line of versions in a store. An `RWVolume` is its one writer: mount it, write, commit. An `ROVolume` is
one immutable version: mount it to read, fork it to write.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.errors import (
    AlreadyMountedError,
    HandleClosedError,
    MountFailedError,
    NothingCommittedError,
    NotMountedError,
    UsageError,
    VersionNotFoundError,
    VolumeError,
)
from flyteplugins_vol.history.record import Locator, VersionRecord, check_name, load_record, parse_locator
from flyteplugins_vol.history.refs import read_ref, ref_key
from flyteplugins_vol.history.unmounted import publish_unmounted
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import dual, dual_class
from flyteplugins_vol.io.files import Access, ReadFiles, WriteFiles
from flyteplugins_vol.io.mounting import Mounting, MountOptions
from flyteplugins_vol.io.naming import find_volume
from flyteplugins_vol.io.payload import (
    Handle,
    Known,
    content_of,
    payload_of,
    payload_of_version,
    pickled_writer,
    unpickled,
)
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.url import parse_store_url


class Volume(ReadFiles, Handle):
    """A durable, versioned file system on object storage. Make one with `new`, `from_locator` or `from_name`."""

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
        self._access = Access()

    @staticmethod
    def new(
        name: str | None = None, store: str | None = None, *, store_options: StoreOptions | None = None
    ) -> RWVolume:
        """A fresh, empty volume. No I/O before it is mounted.

        ``store``: a URL such as ``s3://bucket/prefix``; by default ``FLYTE_VOL_STORE``, else, in a Flyte task, the
        place for volumes of its project and domain, else a directory of this user.
        ``store_options``: endpoint and credentials, where the environment does not say. Raises `VolumeNameError`,
        `UnknownSchemeError`.
        """
        return RWVolume(
            name=check_name(name if name is not None else "volume"),
            volume_id=_new_id(),
            store=parse_store_url(hosts.store_url(store)).text,
            options=store_options,
            record=None,
        )

    @dual_class
    def from_locator(cls, locator: str, *, store_options: StoreOptions | None = None) -> ROVolume:  # noqa: N805
        """The version at a locator, from anywhere. One GET.

        Raises `LocatorError`, `VersionNotFoundError`, `RecordDamagedError`, `NewerFormatError`, `StoreError`.
        """
        where = parse_locator(locator)
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
    ) -> RWVolume:
        """The writer of the volume with this name, where its ref ``main`` is now. Its commits continue that line.

        Raises `VersionNotFoundError` if there is none (and not ``create_if_missing``), `UsageError` if several.
        """
        url = parse_store_url(hosts.store_url(store)).text
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

    # -- what is known of it ---------------------------------------------------------------------------------------

    @property
    def locator(self) -> str | None:
        """Address of its last version; None before the first commit."""
        return str(self._record.locator) if self._own and self._record is not None else None

    @property
    def version(self) -> str | None:
        """Name of its last version: sequence number and hash."""
        return self._record.locator.file.removesuffix(".json") if self._own and self._record is not None else None

    @property
    def mount_path(self) -> Path | None:
        """Where it is mounted by this handle; None if it is not."""
        return self._mounting.path if self._mounting is not None and self._mounting.live else None

    @property
    def stats(self) -> Mapping[str, int]:
        """Counts and bytes of the version that it is, or builds on. Empty before the first commit.

        ``files``, ``bytes`` (logical), ``packs``, ``pack_bytes``, ``index_bytes``; and what its commit added:
        ``new_pack_bytes``, ``new_index_bytes``.
        """
        return dict(self._record.stats) if self._record is not None else {}

    @property
    def message(self) -> str | None:
        return self._record.message if self._own and self._record is not None else None

    @property
    def parents(self) -> tuple[str, ...]:
        """Locators of the versions that its last version builds on, or that it will build on."""
        if self._record is None:
            return ()
        return self._record.parents if self._own else (str(self._record.locator),)

    @property
    def produced_by(self) -> Mapping[str, Any] | None:
        """Run, action and task that made its last version, if one did."""
        return self._record.produced_by if self._own and self._record is not None else None

    @property
    def author(self) -> str | None:
        """Who made its last version, as far as that machine knew."""
        return self._record.author if self._own and self._record is not None else None

    @property
    def created(self) -> str:
        """When its last version was made, RFC 3339, UTC; '' before the first commit."""
        return self._record.created if self._own and self._record is not None else ""

    @property
    def content(self) -> str:
        """A name for the files of its last version; versions with equal names have equal files. '' before the first."""
        return content_of(self._record) if self._own and self._record is not None else ""

    def status(self) -> dict[str, Any]:
        """Counts of the live mount. Raises `NotMountedError`."""
        return self._live().client.status()

    @property
    def _own(self) -> bool:
        """Whether the record is a version of this volume, not of the one that it was forked from."""
        return self._record is not None and self._record.volume_id == self.id

    def _live(self) -> Mounting:
        if self._mounting is None or not self._mounting.live:
            raise NotMountedError(f"volume {self.name!r} is not mounted", hint="call mount() first")
        return self._mounting

    def _mount(self, options: MountOptions) -> Path:
        if self._mounting is not None and self._mounting.live:
            raise AlreadyMountedError(
                f"volume {self.name!r} is mounted already, at {self._mounting.path}",
                hint="use that path, or end that mount first",
            )
        self._leave_unmounted()
        self._mounting = Mounting.start(self._spec(options), options)
        hosts.mounted(self, self._mounting.drop)
        return self._mounting.path

    def _spec(self, options: MountOptions) -> MountSpec:
        return options.spec(
            volume_id=self.id,
            volume_name=self.name,
            store_url=self.store,
            store_options=hosts.store_options(self.store, self._options).to_wire(),
            base=str(self._record.locator) if self._record is not None else None,
            writable=self.writable,
            produced_by=hosts.produced_by(),
        )

    def _fork(self, name: str | None) -> RWVolume:
        assert self._record is not None
        return RWVolume(
            name=check_name(name if name is not None else self.name),
            volume_id=_new_id(),
            store=self.store,
            options=self._options,
            record=self._record,
        )

    def __repr__(self) -> str:
        version = self.version or "no version yet"
        at = f", mounted at {self.mount_path}" if self.mount_path else ""
        return f"<{type(self).__name__} {self.name} {version} in {self.store}{at}>"


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

        Options as of `RWVolume.mount`, but for those that are about writing. Raises `SetupError`, `StoreError`,
        `AlreadyMountedError`, `IndexDamagedError`.
        """
        return self._mount(MountOptions.read_only(mount_path, **options))

    def _do_unmount(self) -> None:
        """End the mount. Idempotent."""
        if self._mounting is not None:
            self._mounting.end(keep=False)

    def _undo_mount(self, _: Path) -> None:
        self._do_unmount()

    mount = dual(_do_mount, _undo_mount)
    unmount = dual(_do_unmount)
    abandon = dual(_do_unmount)

    def _do_fork(self, name: str | None = None) -> RWVolume:
        """An independent writable volume that begins as this version. Copies nothing and writes nothing."""
        return self._fork(name)

    fork = dual(_do_fork)

    def mounted(self, mount_path: str | Path | None = None, **options: Any) -> MountedVolume:
        """``with vol.mounted() as path`` or ``async with``: mounted inside, unmounted after."""
        return MountedVolume(self, mount_path, options)


class RWVolume(WriteFiles, Volume):
    """The one writer of a volume: mount it, write, `commit` or `finalize`."""

    writable = True

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._final: ROVolume | None = None
        self._abandoned = False
        self._failure = ""  # why it could not be handed over: SDKs tell little more of it than its repr
        self._publishing = threading.RLock()  # so that a handle returned twice is finalized once

    def _do_mount(
        self, mount_path: str | Path | None = None, *, meta_dir: str | Path | None = None,
        cache_dir: str | Path | None = None, max_uploads: int = 50, attr_cache: float = 60.0,
        entry_cache: float = 60.0, dir_entry_cache: float = 60.0, timeout: float = 120.0, writeback: bool = True,
        upload_delay: float | None = None, cache_size: int | None = None, read_only: bool = False,
        subdir: str | None = None, xattr: bool = False, allow_other: bool = False, warmup: tuple[str, ...] = (),
        autocommit: float | None = None, log_path: str | Path | None = None, resume: bool = True,
    ) -> Path:  # fmt: skip
        """Mount for reading and writing and return the path.

        ``mount_path``: an empty or missing directory; by default ``~/flyte-volume``, or ``~/flyte-volume-<name>`` when
        that is taken. ``meta_dir``, ``cache_dir``: local disk for the workspace and for cached blocks; ``cache_size``
        bounds the cache, in bytes. ``max_uploads``: uploads at once. ``attr_cache``, ``entry_cache``,
        ``dir_entry_cache``: seconds for which the kernel may trust what it knows. ``timeout``: seconds for the mount to
        answer. ``writeback``: the kernel gathers small writes. ``upload_delay``: seconds without a write before bytes
        are uploaded in the background. ``read_only``: look at the last version without becoming its writer.
        ``subdir``: show a part of the volume. ``xattr``: offer user.* attributes. ``allow_other``: let other users in.
        ``warmup``: paths to fetch at once. ``autocommit``: seconds between commits, with a last one on SIGTERM.
        ``log_path``: the daemon's log. ``resume``: take up what an earlier process left uncommitted in ``meta_dir``.

        Raises `SetupError`, `StoreError`, `VolumeBusyError`, `AlreadyMountedError`, `HandleClosedError`.
        """
        self._check_open()
        if read_only:
            self._check_committed("mount read-only")
        options = MountOptions(
            mount_path=mount_path, meta_dir=meta_dir, cache_dir=cache_dir, max_uploads=max_uploads,
            attr_cache=attr_cache, entry_cache=entry_cache, dir_entry_cache=dir_entry_cache, timeout=timeout,
            writeback=writeback, upload_delay=upload_delay, cache_size=cache_size, is_read_only=read_only,
            subdir=subdir, xattr=xattr, allow_other=allow_other, warmup=tuple(warmup), autocommit=autocommit,
            log_path=log_path, resume=resume,
        )  # fmt: skip
        return self._mount(options)

    def _undo_mount(self, _: Path) -> None:
        self._do_abandon()

    mount = dual(_do_mount, _undo_mount)

    def _do_commit(self, message: str | None = None, *, progress: Any = None) -> ROVolume:
        """Publish the volume as it is now as an immutable version; it stays mounted, if it is.

        All that was closed or synced before is in it. Without a message and without changes the last version is
        returned. ``progress``: called with dicts that have a ``phase``. Raises `NotMountedError`, `StoreError`,
        `ConflictError`, `CommitError`; the mount lives on then, and the data is kept.
        """
        with self._publishing:
            self._check_open()
            if self._access.writer is not None:
                self._record = record = self._commit_unmounted(message, progress)
            else:
                wire = self._live().client.commit(message, progress, hosts.produced_by())
                self._record = record = VersionRecord.from_wire(wire)
        return ROVolume.of(record, self._options)

    commit = dual(_do_commit)

    def _do_finalize(self, message: str | None = None, *, progress: Any = None) -> ROVolume:
        """Publish the last version, unmount, and close this handle. A second call returns the same version.

        Never mounted: publishes what the volume begins with. Raises as `commit`; the mount lives on then.
        """
        with self._publishing:
            if self._final is not None:
                return self._final
            self._check_open()
            if self._mounting is None or self._mounting.read_only:
                final = self._published_unmounted(message, progress)
            else:
                self._check_alive(self._mounting)
                final = self._do_commit(message, progress=progress)
            if self._mounting is not None:
                self._mounting.end(keep=False)
            self._access.close()
            self._final = final
            return final

    finalize = dual(_do_finalize)

    def _do_hand_over(self, boundary: hosts.Boundary) -> ROVolume:
        """The version that stands for this handle at a task's boundary: an argument is committed, a result finalized.

        Raises as `commit`. A result's mount then ends as well: its task is over.
        """
        with self._publishing:
            try:
                if boundary == "result" or self._final is not None:
                    return self._do_finalize()
                self._check_open()
                if self._mounting is None or self._mounting.read_only:
                    return self._published_unmounted(None)
                self._check_alive(self._mounting)
                return self._do_commit()
            except VolumeError as error:
                self._failure = self._failure or error.message
                if boundary == "result":
                    self._do_abandon()
                raise

    hand_over = dual(_do_hand_over)

    def _published_unmounted(self, message: str | None, progress: Any = None) -> ROVolume:
        if self._access.writer is not None:
            self._record = self._commit_unmounted(message, progress)
        elif not (self._own and message is None and self._record is not None):
            spec = self._spec(MountOptions(resume=False))
            aside = f"{spec.meta_dir}-{_new_id()}"  # a writer that has it mounted, or died with it, keeps its workspace
            self._record = publish_unmounted(replace(spec, meta_dir=aside), message)
        return ROVolume.of(self._record, self._options)

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

    def _do_fork(self, name: str | None = None) -> RWVolume:
        """An independent writable volume that begins as this one is now.

        Mounted, or written to without a mount: commits first. Raises `NothingCommittedError` if there is nothing to
        begin with.
        """
        if self._final is not None:
            return self._final.fork.sync(name)
        self._check_open()
        if (self._mounting is not None and self._mounting.live) or self.has_changes:
            self._do_commit()
        self._check_committed("fork")
        return self._fork(name)

    fork = dual(_do_fork)

    def _do_abandon(self) -> None:
        """End the mount and drop what was not committed. Bounded in time, idempotent; versions stay."""
        if self._mounting is not None:
            self._mounting.end(keep=False, abandon=True)
        self._access.close()
        self._abandoned = self._final is None

    abandon = dual(_do_abandon)

    def mounted(self, mount_path: str | Path | None = None, **options: Any) -> MountedVolume:
        """``with vol.mounted() as path`` or ``async with``: finalized after, or abandoned if the body raised."""
        return MountedVolume(self, mount_path, options)

    def _check_open(self) -> None:
        if self._final is not None:
            raise HandleClosedError(
                f"volume {self.name!r} was finalized as {self._final.version}",
                hint="fork that version to go on writing",
            )
        if self._abandoned:
            raise HandleClosedError(
                f"volume {self.name!r} was abandoned", hint="make a new handle: Volume.new, from_name, or a fork"
            )

    def __repr__(self) -> str:
        text = super().__repr__()
        return f"{text[:-1]}; it could not be committed: {self._failure}>" if self._failure else text

    def _check_alive(self, mounting: Mounting) -> None:
        """What a mount that died left behind is not in any version: not to be passed over in silence."""
        if not mounting.live:
            raise MountFailedError(
                f"the mount of volume {self.name!r} at {mounting.path} has ended by itself",
                hint="mount() again: what was written is kept on local disk; or abandon() it",
            )

    def _check_committed(self, what: str) -> None:
        if self._record is None:
            raise NothingCommittedError(
                f"cannot {what}: volume {self.name!r} has no version yet", hint="commit() or finalize() it first"
            )


class MountedVolume:
    """The context manager behind `mounted`, for ``with`` and ``async with``."""

    def __init__(self, volume: ROVolume | RWVolume, mount_path: str | Path | None, options: dict[str, Any]) -> None:
        self._volume = volume
        self._path = mount_path
        self._options = options

    def __enter__(self) -> Path:
        return self._volume.mount.sync(self._path, **self._options)

    async def __aenter__(self) -> Path:
        return await self._volume.mount(self._path, **self._options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and isinstance(self._volume, RWVolume):
            self._volume.finalize.sync()
        else:
            self._volume.abandon.sync()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and isinstance(self._volume, RWVolume):
            await self._volume.finalize()
        else:
            await self._volume.abandon()


def _new_id() -> str:
    return uuid.uuid4().hex[:16]
