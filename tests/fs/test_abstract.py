"""fsspec's own suite for file systems, on a writable volume."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fsspec.tests import abstract

from flyteplugins_vol.fs import VolumeFileSystem
from flyteplugins_vol.io import RWVolume


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, volume: RWVolume) -> Iterator[VolumeFileSystem]:
        return VolumeFileSystem.of(volume)

    @pytest.fixture
    def fs_path(self) -> str:
        return "the/path"


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass
