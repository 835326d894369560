"""Records, history and sources: with the store, without it, and with what is no volume at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from flyteplugins_vol.errors import LocatorError, StoreError, UsageError, VersionNotFoundError
from flyteplugins_vol.explore.feed import Feed
from flyteplugins_vol.explore.sources import Choice, Shown, resolve
from flyteplugins_vol.explore.versions import Gone, History, Versions
from flyteplugins_vol.history.record import VersionRecord
from tests.explore.conftest import Cats, World, commit, put


def found(target: str | None, *, store: str | None = None, from_file: str | None = None) -> Shown:
    shown = resolve(target, store, from_file, lambda _: None)
    assert isinstance(shown, Shown)
    if shown.owned:
        shutil.rmtree(shown.owned)
    return shown


def all_of(history: History) -> list[VersionRecord | Gone]:
    items: list[VersionRecord | Gone] = []
    while not history.done:
        items += history.more(2)
    return items


def test_history_goes_back_to_the_beginning(cats: Cats) -> None:
    versions = Versions(cats.world.url)
    items = all_of(History(versions, [cats.locators[2]]))
    assert items == cats.versions[::-1]


def test_history_goes_through_forks_and_past_what_is_gone(cats: Cats) -> None:
    fork = cats.volume.fork(cats.locators[1], volume_name="fork")
    cats.world.volumes.append(fork)
    put(fork, "more", b"m")
    tip = commit(fork, "on a fork")
    cats.world.store.delete(cats.versions[0].locator.key)
    items = all_of(History(Versions(cats.world.url), [str(tip.locator), cats.locators[2]]))
    assert items[:3] == [tip, cats.versions[2], cats.versions[1]]
    assert isinstance(items[3], Gone)
    assert items[3].locator == cats.locators[0]


def test_history_goes_on_behind_deleted_versions_in_one_volume_only(cats: Cats) -> None:
    fork = cats.volume.fork(cats.locators[2], volume_name="fork")
    cats.world.volumes.append(fork)
    put(fork, "more", b"m")
    tip = commit(fork, "on a fork")
    for version in cats.versions[1:]:
        cats.world.store.delete(version.locator.key)
    items = all_of(History(Versions(cats.world.url), [str(tip.locator)]))
    assert [item if isinstance(item, VersionRecord) else item.locator for item in items] == [
        tip, cats.locators[2], cats.versions[0],
    ]  # fmt: skip


async def test_feed_goes_over_gaps_and_knows_tags(cats: Cats) -> None:
    cats.tag(0, "first")
    cats.tag(0, "begin")
    cats.world.store.delete(cats.versions[1].locator.key)
    feed = Feed(Versions(cats.world.url), cats.versions[2])
    async for _ in feed.load():
        pass
    assert feed.tags == {cats.locators[0]: ["begin", "first"]}
    assert feed.parent(cats.versions[2]) == cats.versions[0]
    assert feed.child(cats.versions[0]) == cats.versions[2]
    assert feed.child(cats.versions[2]) is None
    assert feed.parent(cats.versions[0]) is None


async def test_feed_knows_parents_children_and_the_head(cats: Cats) -> None:
    feed = Feed(Versions(cats.world.url), cats.versions[1])
    async for _ in feed.load():
        pass
    assert feed.items == cats.versions[::-1]
    assert feed.head == cats.locators[2]
    assert feed.child(cats.versions[1]) == cats.versions[2]
    assert feed.parent(cats.versions[1]) == cats.versions[0]
    assert feed.child(cats.versions[2]) is None
    assert feed.parent(cats.versions[0]) is None


def test_what_was_seen_is_there_without_the_store(cats: Cats) -> None:
    assert found("cats").record == cats.versions[2]
    versions = Versions(cats.world.url)
    path = versions.index(cats.versions[2])
    all_of(History(versions, [cats.locators[2]]))
    cats.world.lose_store()
    again = Versions(cats.world.url)
    assert again.index(again.record(cats.locators[2])) == path
    assert all_of(History(again, [cats.locators[2]])) == cats.versions[::-1]
    with pytest.raises(StoreError, match="no longer has"):
        again.check_reachable(cats.versions[2])


def test_a_record_that_was_altered_here_is_not_believed(cats: Cats) -> None:
    versions = Versions(cats.world.url)
    versions.record(cats.locators[0])
    kept = next((cats.world.root / "cache" / "explore" / "records").iterdir())
    kept.write_bytes(kept.read_bytes().replace(b"import the pictures", b"something else here"))
    assert versions.known(cats.locators[0]) is None
    assert versions.record(cats.locators[0]).message == "import the pictures"


@pytest.mark.parametrize("text", ["cats", "cats@3", "cats@main", "cats-{id}", "cats@{hash}", "{locator}", "{path}"])
def test_addresses(cats: Cats, text: str) -> None:
    locator = cats.versions[2].locator
    path = str(locator).removeprefix("file://")
    target = text.format(id=locator.volume_id, hash=locator.hash[:8], locator=locator, path=path)
    assert found(target).record == cats.versions[2]
    assert found("cats@1").record == cats.versions[0]


def test_nothing_named_is_a_choice(cats: Cats) -> None:
    choice = resolve(None, None, None, lambda _: None)
    assert isinstance(choice, Choice)
    assert [volume.name for volume in choice.volumes] == ["cats"]


def test_what_leads_nowhere(world: World, cats: Cats, tmp_path: Path) -> None:
    world.new("cats").commit()
    cases: list[tuple[str | None, type[Exception], str]] = [
        ("dogs", VersionNotFoundError, "no volume 'dogs'"),
        ("cats", UsageError, "2 volumes"),
        (f"cats-{cats.versions[0].volume_id}@9", UsageError, "no versions of"),
        ("file:///nowhere/else", LocatorError, "not a locator"),
        ("no such/path", UsageError, "there is no no such/path"),
        ("a name?", LocatorError, "cannot name a volume"),
        (str(tmp_path), UsageError, "no volume is mounted there"),
        (cats.locators[0].replace("cats", "cots"), VersionNotFoundError, "there is no version"),
    ]
    for target, error, text in cases:
        with pytest.raises(error, match=text) as caught:
            found(target)
        assert getattr(caught.value, "hint", "")


def test_an_index_file(cats: Cats) -> None:
    path = Versions(cats.world.url).index(cats.versions[0])
    for shown in (found(None, from_file=path), found(path)):
        assert (shown.record, shown.index, shown.note, shown.versions) == (None, path, "index file", None)
    with_store = found(None, from_file=path, store=cats.world.url)
    assert with_store.versions is not None


async def test_a_workspace_shows_what_is_not_committed(cats: Cats) -> None:
    from flyteplugins_vol.explore.opened import OpenVersion

    put(cats.volume, "new file", b"n")
    cats.volume.workspace.index.commit()  # as the mount does every second
    shown = resolve(cats.volume.spec.meta_dir, None, None, lambda _: None)
    assert isinstance(shown, Shown)
    assert shown.record == cats.versions[2]
    assert shown.note == "workspace, not committed"
    version = await OpenVersion.open(shown)
    assert len(await version.reader.walk((b"new file",))) == 1
    await version.close()
    assert shown.owned is not None
    assert not os.path.exists(shown.owned)  # noqa: ASYNC240


@pytest.mark.fuse
def test_a_mount_is_found_by_its_path(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from flyteplugins_vol.io import Volume

    monkeypatch.setenv("HOME", str(world.root))
    volume = Volume.new("mounted", world.url)
    path = volume.mount.sync()
    try:
        (path / "file").write_text("hello")
        shown = found(str(path))
        assert shown.note == "workspace, not committed"
        assert shown.record is None
    finally:
        volume.abandon.sync()
