"""Public types: `Volume`, `RWVolume`, `ROVolume`."""

from __future__ import annotations

from flyteplugins_vol.config import StoreOptions
from flyteplugins_vol.io.volume import ROVolume, RWVolume, Volume

__all__ = ["ROVolume", "RWVolume", "StoreOptions", "Volume"]
