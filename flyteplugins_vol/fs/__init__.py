"""Volumes as an fsspec file system: ``flytevol://`` URLs. Found by fsspec through its entry point."""

from __future__ import annotations

from flyteplugins_vol.fs.filesystem import VolumeFileSystem

__all__ = ["VolumeFileSystem"]
