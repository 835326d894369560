"""What tests of versions begin with: a volume on a store that fails when told to, a store of volumes, or a lease."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore
from tests.driven import Driven
from tests.history.copies import Origin
from tests.history.lending import Lending
from tests.history.world import World


@pytest.fixture
def store() -> Faulty:
    return Faulty(MemoryStore(f"memory://{uuid4().hex}"))


@pytest.fixture
def volume(tmp_path: Path, store: Faulty) -> Iterator[Driven]:
    driven = Driven.new(tmp_path, store)
    yield driven
    driven.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path, monkeypatch)
    yield world
    world.close()


@pytest.fixture
def lending() -> Lending:
    return Lending()


@pytest.fixture
def origin(world: World) -> Iterator[Origin]:
    made = Origin(world)
    yield made
    made.volume.close()
