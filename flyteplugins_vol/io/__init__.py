"""Public types: `Volume`, `RWVolume`, `ROVolume`; and what the images of Flyte's tasks need."""

from __future__ import annotations

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.io.comparing import Difference, FileChange, FileState
from flyteplugins_vol.io.copying import Copied
from flyteplugins_vol.io.encryption import change_encryption_secret
from flyteplugins_vol.io.images import with_high_throughput_volume_deps, with_volume_deps
from flyteplugins_vol.io.listing import VolumeInfo
from flyteplugins_vol.io.merging import MergeConflict
from flyteplugins_vol.io.progress import ProgressBar
from flyteplugins_vol.io.restoring import Restored
from flyteplugins_vol.io.upkeep import Retention, Space, VersionSpace
from flyteplugins_vol.io.volume import ROVolume, RWVolume, Volume

__all__ = [
    "Copied",
    "Difference",
    "FileChange",
    "FileState",
    "MergeConflict",
    "ProgressBar",
    "ROVolume",
    "RWVolume",
    "Restored",
    "Retention",
    "Space",
    "StoreOptions",
    "VersionSpace",
    "Volume",
    "VolumeInfo",
    "change_encryption_secret",
    "with_high_throughput_volume_deps",
    "with_volume_deps",
]
