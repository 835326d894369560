"""Versions by what people call them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from flyteplugins_vol.errors import (
    LocatorError,
    UnknownSchemeError,
    UsageError,
    VersionNotFoundError,
    VolumeNameError,
)
from flyteplugins_vol.history.record import parse_locator
from flyteplugins_vol.history.refs import ref_key
from flyteplugins_vol.io import ROVolume, Volume
from flyteplugins_vol.store.open import open_store
from tests.io.conftest import World, committed


def found(world: World, address: str) -> str | None:
    version = world.keep(Volume.find.sync(address, world.store))
    assert isinstance(version, ROVolume)
    return version.message


def test_by_name_number_hash_and_tag(world: World) -> None:
    volume = committed(world, "one", "two", "three")
    third, second, first = volume.log.sync()
    first.tag.sync("v1.0")
    hash_of_two = str(second.version).partition("-")[2]
    assert found(world, "demo") == found(world, f"demo-{volume.id}") == found(world, "demo@main") == "three"
    assert found(world, "demo@1") == found(world, "demo@v1.0") == found(world, f"demo-{volume.id}@00000001") == "one"
    assert found(world, f"demo@{hash_of_two[:12]}") == found(world, f"demo@{second.version}") == "two"
    assert found(world, str(second.locator)) == "two"
    assert asyncio.run(Volume.find("demo@3", world.store)).read_bytes.sync("a") == b"three"
    assert Volume.find.sync("demo@3", world.store).locator == third.locator


def test_a_tag_goes_before_a_hash(world: World) -> None:
    volume = committed(world, "one", "two")
    second, first = volume.log.sync()
    digits = "f" + str(second.version).partition("-")[2][:6]  # a tag is not decimal alone
    first.tag.sync(digits)
    assert found(world, f"demo@{digits}") == "one"


def test_what_is_found_can_be_forked(world: World) -> None:
    committed(world, "one", "two")
    fork = world.keep(Volume.find.sync("demo@1", world.store).fork.sync("other"))
    assert fork.read_bytes.sync("a") == b"one"


def test_the_store_by_default(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    committed(world, "one")
    monkeypatch.setenv("FLYTE_VOL_STORE", world.store)
    assert world.keep(Volume.find.sync("demo")).message == "one"


def test_what_is_not_there(world: World) -> None:
    volume = committed(world, "one")
    for address in ("nope", "nope@1", "", "@1", "a b"):
        with pytest.raises(VersionNotFoundError, match="no volume") as caught:
            found(world, address)
        assert "Volume.list" in caught.value.hint
    for address in ("demo@2", "demo@v2", "demo@", "demo@fff"):
        with pytest.raises(VersionNotFoundError, match="has no version"):
            found(world, address)
    with pytest.raises(LocatorError):
        found(world, "file:///somewhere/else")
    with pytest.raises(UnknownSchemeError):
        Volume.find.sync("demo", "nonsense://there")
    with open_store(world.store) as store:
        store.delete(ref_key("demo", volume.id))
    with pytest.raises(VersionNotFoundError, match="no newest version") as caught:
        found(world, "demo")
    assert "demo@VERSION" in caught.value.hint
    assert found(world, "demo@1") == "one"


def test_several(world: World) -> None:
    one = committed(world, "one")
    other = world.new("demo")
    other.finalize.sync("other")
    with pytest.raises(UsageError, match=f"demo-{one.id}") as caught:
        found(world, "demo")
    assert f"demo-{other.id}" in caught.value.message
    assert found(world, f"demo-{other.id}") == "other"
    with open_store(world.store) as store:  # one that lost a race
        where = parse_locator(str(one.locator))
        lost = replace(where, file=f"{where.file[:9]}{'0' * 40}.json")
        store.create(lost.key, b"{}")
    with pytest.raises(UsageError, match=r"2 versions of demo-.* are meant by '1'"):
        found(world, f"demo-{one.id}@1")
    assert found(world, f"demo-{one.id}@{str(one.version)[:14]}") == "one"


def test_a_writer_is_not_found_by_a_version(world: World) -> None:
    committed(world, "one")
    with pytest.raises(VolumeNameError, match="is a version") as caught:
        Volume.from_name.sync("demo@1", world.store)
    assert "Volume.find" in caught.value.hint
