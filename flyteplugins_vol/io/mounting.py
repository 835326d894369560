"""From the options of `mount()` to a live mount, and to its end."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flyteplugins_vol.config import author, cache_root, high_throughput, home_directory, lease_seconds
from flyteplugins_vol.errors import NotMountedError, UnknownSchemeError, UsageError
from flyteplugins_vol.history.lease_wait import LeaseWait
from flyteplugins_vol.history.local import store_mark
from flyteplugins_vol.history.tidy import WORKSPACES
from flyteplugins_vol.model import MountSpec
from flyteplugins_vol.mount import termination, workspace_lock
from flyteplugins_vol.mount.client import MountClient
from flyteplugins_vol.mount.mount_paths import claim
from flyteplugins_vol.mount.preflight import check_platform
from flyteplugins_vol.mount.protocols import Progress

_FOR_WRITERS = ("writeback", "passthrough", "upload_delay", "autocommit", "autocommit_bytes", "resume", "max_uploads")


@dataclass(frozen=True)
class MountOptions:
    """What `RWVolume.mount` documents, and whether the mount is read-only."""

    mount_path: str | Path | None = None
    meta_dir: str | Path | None = None
    cache_dir: str | Path | None = None
    max_uploads: int = 50
    attr_cache: float = 60.0
    entry_cache: float = 60.0
    dir_entry_cache: float = 60.0
    timeout: float = 120.0
    writeback: bool = True
    passthrough: bool = False
    upload_delay: float | None = None
    cache_size: int | None = None
    is_read_only: bool = False
    subdir: str | None = None
    xattr: bool = False
    allow_other: bool = False
    warmup: tuple[str, ...] = ()
    autocommit: float | None = None
    autocommit_bytes: int | None = None
    follow: float | None = None
    log_path: str | Path | None = None
    resume: bool = True
    progress: Progress | None = None

    def __post_init__(self) -> None:
        for name in ("attr_cache", "entry_cache", "dir_entry_cache"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name}={getattr(self, name)} is negative", hint="give seconds, 0 to switch it off")
        for name in ("timeout", "max_uploads", "autocommit", "autocommit_bytes", "follow", "cache_size"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name}={value} is not positive", hint="leave it out for the default")

    @classmethod
    def read_only(cls, mount_path: str | Path | None, **options: Any) -> MountOptions:
        """Options of a read-only mount. Raises `UsageError` for those that are about writing."""
        wrong = [name for name in _FOR_WRITERS if name in options]
        if wrong:
            raise UsageError(
                f"a read-only volume takes no {', '.join(wrong)}",
                hint="fork() it to get a volume that you can write to",
            )
        options.pop("read_only", None)
        return cls(mount_path=mount_path, is_read_only=True, **options)

    def spec(
        self, *, volume_id: str, volume_name: str, store_url: str, store_options: Mapping[str, Any], base: str | None,
        writable: bool, produced_by: Mapping[str, Any] | None = None,
    ) -> MountSpec:  # fmt: skip
        """What the daemon is told; ``mount_path`` is '' until one is claimed."""
        root = "" if self.meta_dir and self.cache_dir else cache_root()  # which needs a home directory, perhaps
        read_only = self.is_read_only or not writable
        own = f"{volume_name}-{volume_id}"
        # A writer comes back to its workspace; read-only mounts of one version live side by side.
        meta = os.path.join("mounts", f"{own}-{uuid.uuid4().hex[:8]}") if read_only else workspace_of(own, store_url)
        return MountSpec(
            volume_id=volume_id,
            volume_name=volume_name,
            store_url=store_url,
            mount_path="",
            meta_dir=os.path.join(_absolute(self.meta_dir) or root, meta),
            cache_dir=_absolute(self.cache_dir) or os.path.join(root, "cache"),
            store_options=store_options,
            base=base,
            read_only=read_only,
            cache_size=self.cache_size,
            max_uploads=self.max_uploads,
            attr_cache=self.attr_cache,
            entry_cache=self.entry_cache,
            dir_entry_cache=self.dir_entry_cache,
            timeout=self.timeout,
            writeback=self.writeback,
            passthrough=self.passthrough,
            upload_delay=self.upload_delay,
            subdir=self.subdir,
            xattr=self.xattr,
            allow_other=self.allow_other,
            warmup=self.warmup,
            autocommit=self.autocommit,
            autocommit_bytes=self.autocommit_bytes,
            follow=self.follow,
            log_path=_absolute(self.log_path),
            author=author(),
            produced_by=produced_by,
            resume=self.resume,
            lease_seconds=lease_seconds(),
            high_throughput=high_throughput(),
        )


def workspace_of(volume: str, store_url: str) -> str:
    """Below a cache root, the directory of a writer's workspace; ``volume``: its name and id."""
    return os.path.join(WORKSPACES, f"{volume}-{store_mark(store_url)}")


def publish_when_terminated() -> None:
    """Let SIGTERM to this process publish mounts with autocommit first, unless somebody handles it. Main thread."""
    termination.install()


class Mounting:
    """A mount that a handle started."""

    def __init__(self, client: MountClient) -> None:
        self.client = client

    @classmethod
    def start(cls, spec: MountSpec, options: MountOptions) -> Mounting:
        """Claim a path, start the daemon, wait until the mount answers. Raises `SetupError`, `StoreError`."""
        check_platform()
        if spec.store_url.startswith("memory://"):
            raise UnknownSchemeError(
                "a memory:// store lives in one process, and a mount is served by another",
                hint="use file:///path for a store that needs no server",
            )
        at = _absolute(options.mount_path)
        place = claim(at, volume_name=spec.volume_name, home=home_directory() if at is None else "/")
        try:
            client = MountClient.spawn(spec, place=place, progress=options.progress or LeaseWait(spec.volume_name))
        except BaseException:
            place.release()
            raise
        if spec.autocommits:
            termination.publishes(client)
        return cls(client)

    @property
    def path(self) -> Path:
        return self.client.mount_path

    @property
    def live(self) -> bool:
        return self.client.is_alive

    @property
    def read_only(self) -> bool:
        return self.client.spec.read_only

    def end(self, *, keep: bool, abandon: bool = False) -> dict[str, Any]:
        """Unmount; what `MountClient.unmount` tells. Idempotent.

        Unless something is kept, the workspace's directory goes as well: its daemon removes it. What a daemon left that
        was killed goes with ``abandon``, unless another process has had the workspace since.
        """
        answer: dict[str, Any] = {}
        if abandon:
            self.client.abandon()
        else:
            answer = self.client.unmount(keep)
        spec = self.client.spec
        if spec.read_only and (abandon or answer.get("kept") is False):
            shutil.rmtree(spec.meta_dir, ignore_errors=True)  # no other mount has this name
        elif abandon:
            workspace_lock.drop(spec.meta_dir, spec.mount_id)
        return answer

    def forget(self) -> None:
        """Of a mount that ended by itself: free its path for the next one. What was written stays for a resume."""
        with suppress(NotMountedError):  # it was the parent's, before a fork
            self.end(keep=True)

    def drop(self, *, keep: bool = False) -> bool:
        """End the mount, unless it has ended already: whether there was something to end.

        What was not committed goes as well, or stays for a resume (``keep``).
        """
        live = self.live
        if live:
            self.end(keep=keep, abandon=not keep)
        return live


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else os.path.abspath(os.path.expanduser(path))
