"""A volume's mount: the one that its handle holds, from the call of `mount` to its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from flyteplugins_vol.errors import AlreadyMountedError, HandleClosedError, MountFailedError, NotMountedError
from flyteplugins_vol.forked import Lock
from flyteplugins_vol.io import hosts
from flyteplugins_vol.io.dual import Dual
from flyteplugins_vol.io.facts import Facts
from flyteplugins_vol.io.mounting import Mounting, MountOptions
from flyteplugins_vol.io.opened import make_room
from flyteplugins_vol.model import MountSpec

if TYPE_CHECKING:
    from flyteplugins_vol.io.volume import ROVolume, RWVolume, Volume


class Mountable(Facts):
    """What every handle has that can be mounted."""

    if TYPE_CHECKING:
        writable: ClassVar[bool]
        _mounting: Mounting | None
        _workspace: str | None
        _turn: Lock

        def _leave_unmounted(self) -> None: ...

    @property
    def mount_path(self) -> Path | None:
        """Where it is mounted by this handle; None if it is not."""
        return self._mounting.path if self._mounting is not None and self._mounting.live else None

    def status(self) -> dict[str, Any]:
        """Counts of the live mount. Raises `NotMountedError`."""
        return self._live().client.status()

    def _live(self) -> Mounting:
        if self._mounting is None or not self._mounting.live:
            raise NotMountedError(f"volume {self.name!r} is not mounted", hint="call mount() first")
        return self._mounting

    def _check_open(self) -> None:
        """Raises `HandleClosedError`."""

    def _check_unmounted(self) -> None:
        if self._mounting is not None and self._mounting.live:
            raise AlreadyMountedError(
                f"volume {self.name!r} is mounted already, at {self._mounting.path}",
                hint="use that path, or end that mount first",
            )

    def _mount(self, options: MountOptions) -> Path:
        self._check_unmounted()  # at once, also while a long commit has its turn
        with self._turn:
            self._check_unmounted()
            self._check_open()
            if self._mounting is not None:
                self._mounting.forget()
            self._leave_unmounted()
            spec = self._spec(options)
            if not spec.read_only:
                make_room(spec)
            self._mounting = mounting = Mounting.start(spec, options)
            hosts.mounted(cast("Volume", self), mounting.drop)
            try:
                self._check_open()
            except HandleClosedError:  # abandoned meanwhile, which waits for nobody's turn
                mounting.end(keep=False, abandon=True)
                raise
        if not mounting.live:
            raise MountFailedError(
                f"the mount of volume {self.name!r} at {mounting.path} has ended already",
                hint="await mount() before the end of the task that calls it; if you do, its daemon's log says why",
            )
        return mounting.path

    def _take_back(self) -> None:
        """A mount for which nobody waits any more: as before it, with what an earlier process left."""
        mounting = self._mounting
        self._mounting = None
        if mounting is not None:
            mounting.end(keep=not mounting.read_only)

    def resumes(self, workspace: str) -> None:
        """Let mounts for writing take up what is in this directory."""
        self._workspace = workspace

    def _spec(self, options: MountOptions) -> MountSpec:
        spec = options.spec(
            volume_id=self.id,
            volume_name=self.name,
            store_url=self.store,
            store_options=hosts.store_options(self.store, self._options).to_wire(),
            base=str(self._record.locator) if self._record is not None else None,
            writable=self.writable,
            produced_by=hosts.produced_by(),
        )
        return spec if self._workspace is None or spec.read_only else replace(spec, meta_dir=self._workspace)

    def _check_alive(self, mounting: Mounting) -> None:
        """What a mount that died left behind is not in any version: not to be passed over in silence."""
        if not mounting.live:
            raise MountFailedError(
                f"the mount of volume {self.name!r} at {mounting.path} has ended by itself",
                hint="mount() again: what is in no version is kept on local disk; or abandon() it, and load it anew",
            )

    def __repr__(self) -> str:
        version = self.version or "no version yet"
        at = f", mounted at {self.mount_path}" if self.mount_path else ""
        return f"<{type(self).__name__} {self.name} {version} in {self.store}{at}>"


class MountedVolume:
    """The context manager behind `mounted`, for ``with`` and ``async with``.

    ``after`` ends the mount after the body; if that raised, the volume is abandoned.
    """

    def __init__(
        self, volume: ROVolume | RWVolume, after: Dual[..., Any], mount_path: str | Path | None, options: dict[str, Any]
    ) -> None:
        self._volume = volume
        self._after = after
        self._path = mount_path
        self._options = options

    def __enter__(self) -> Path:
        return self._volume.mount.sync(self._path, **self._options)

    async def __aenter__(self) -> Path:
        return await self._volume.mount(self._path, **self._options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (self._after if error is None else self._volume.abandon).sync()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self._after if error is None else self._volume.abandon)()
