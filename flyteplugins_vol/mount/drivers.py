"""The two ways to the kernel: ``wire``, the default, and ``pyfuse3``. Both are a `Driver` over one `Operations`."""

from __future__ import annotations

from typing import Protocol

from flyteplugins_vol.errors import SetupError
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount.operations import Operations
from flyteplugins_vol.mount.scheduler import Scheduler
from flyteplugins_vol.mount.wire_driver import WireDriver


class Driver(Protocol):
    """One mount. Owner thread only, but for `barrier` and `notify`."""

    refreshes: bool
    """Whether it can `notify` and `number_nodes`."""

    passes: bool
    """Once mounted: whether the kernel reads and writes files that are open by itself."""

    def mount(self) -> None:
        """Mount at the path of the spec; `MountFailedError` if that cannot be done."""
        ...

    async def serve(self) -> None:
        """Answer requests until the file system is unmounted or `stop` is called."""
        ...

    def stop(self) -> None: ...

    def close(self) -> None:
        """End the connection; if the mount is still there it is detached, and who is inside gets ENOTCONN."""
        ...

    def barrier(self) -> None:
        """Return when the daemon has all that was written before the call, through open files too. `CommitError`."""
        ...

    def notify(self, kind: int, body: bytes) -> None:
        """Tell the kernel something unasked; `OSError` with its answer. Any thread but the owner's, one at a time.

        It may take until requests that are under way are answered.
        """
        ...

    def number_nodes(self, number: int) -> None:
        """From now on only these bits of the numbers that the kernel knows are the inode's, which programs see."""
        ...


class DriverType(Protocol):
    """How a driver is made."""

    def __call__(self, operations: Operations, scheduler: Scheduler, spec: MountSpec) -> Driver: ...

    def error(self, number: int, /) -> Exception:
        """What `Operations` is to fail with under this driver."""
        ...


def choose(name: str) -> DriverType:
    """The driver of this name. Raises `SetupError` for one that is not known or not installed."""
    if name == "wire":
        return WireDriver
    if name != "pyfuse3":
        raise SetupError(f"there is no driver {name!r}", hint="FLYTE_VOL_DRIVER is wire or pyfuse3; unset, it is wire")
    try:
        from flyteplugins_vol.mount.pyfuse3_driver import Pyfuse3Driver
    except ImportError as error:
        raise SetupError(
            f"the driver pyfuse3 cannot be used: {error}",
            hint="pip install 'flyteplugins-vol[pyfuse3]' (it wants libfuse3-dev, pkg-config and a C compiler), or"
            " leave FLYTE_VOL_DRIVER unset",
        ) from None
    return Pyfuse3Driver
