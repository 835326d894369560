"""Commits beside a store that fails, loses answers or stops: the last version stays whole, and nothing is lost."""

from __future__ import annotations

import json
import random
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import (
    IndexDamagedError,
    LocalDirectoryError,
    ObjectMissingError,
    RecordDamagedError,
    RefMovedError,
    StoreError,
    StoreUnavailableError,
    VersionNotFoundError,
)
from flyteplugins_vol.history.record import VersionRecord
from flyteplugins_vol.history.refs import move_ref, read_ref, ref_key
from flyteplugins_vol.store.faulty import Faulty, StoppedError
from tests.driven import ME, Driven


def noise(seed: int, size: int = 20_000) -> bytes:
    return random.Random(seed).randbytes(size)


def head(volume: Driven) -> str | None:
    """The version that the volume's ref names."""
    ref = read_ref(volume.store, ref_key(volume.spec.volume_name, volume.spec.volume_id))
    return None if ref is None else ref.version


def check_version(volume: Driven, record: VersionRecord, expected: dict[bytes, object]) -> None:
    """It can be read by a machine that has nothing of it."""
    other = volume.at(str(record.locator), cache_dir=str(volume.directory / uuid4().hex))
    assert other.tree() == expected
    other.check(record)
    other.close()


def calls_of_a_commit() -> list[str]:
    return ["packs", "index", "versions", "get_tagged", "marks", "refs"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("skip", range(6))
def test_a_fault_at_each_call_leaves_the_last_version_and_the_next_commit_brings_everything(
    volume: Driven, store: Faulty, skip: int, after: bool
) -> None:
    volume.create(b"a", noise(1))
    first = volume.commit()
    before = volume.tree()
    volume.create(b"b", noise(2))
    fault = store.fail(skip=skip, after=after)
    with pytest.raises(StoreUnavailableError):
        volume.commit("two")
    assert fault.hits == 1
    store.clear()
    if (skip, after) != (5, True):
        assert head(volume) == first.locator.file
    check_version(volume, first, before)
    volume.create(b"c", noise(3))
    second = volume.commit("two, again")
    assert head(volume) == second.locator.file
    assert second.parents == (str(first.locator),)
    check_version(volume, second, volume.tree())
    volume.check_staging()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("skip", range(6))
def test_a_fault_at_each_call_of_the_first_commit(volume: Driven, store: Faulty, skip: int, after: bool) -> None:
    volume.create(b"a", noise(1))
    store.fail(skip=skip, after=after)
    with pytest.raises(StoreUnavailableError):
        volume.commit()
    store.clear()
    record = volume.commit()
    assert head(volume) == record.locator.file
    check_version(volume, record, volume.tree())


@pytest.mark.parametrize("call", range(1, 7))
def test_a_process_that_dies_before_each_call_leaves_a_whole_version_and_a_workspace_to_resume(
    volume: Driven, store: Faulty, call: int
) -> None:
    """The write order: at every stop, whatever the ref names is whole."""
    volume.create(b"a", noise(1))
    first = volume.commit()
    before = volume.tree()
    volume.create(b"b", noise(2))
    expected = volume.tree()
    volume.workspace.begin_sync()
    store.stop_at(call)
    with pytest.raises(StoppedError):
        volume.commit("two")
    store.clear()
    assert head(volume) == first.locator.file
    check_version(volume, first, before)
    volume.kill()
    assert volume.tree() == expected
    second = volume.commit("two")
    assert second.parents == (str(first.locator),)
    check_version(volume, second, expected)


def test_a_process_that_dies_after_its_ref_moved_goes_on_from_its_own_version(volume: Driven, store: Faulty) -> None:
    volume.create(b"a", noise(1))
    volume.commit()
    volume.create(b"b", noise(2))
    store.fail("replace", "*", error=StoppedError(), after=True)
    with pytest.raises(StoppedError):
        volume.commit("two")
    store.clear()
    published = head(volume)
    volume.kill()
    record = volume.commit("three")
    assert record.sequence == 3
    assert record.parents[0].endswith(published or "?")
    check_version(volume, record, volume.tree())


def test_packs_of_a_commit_that_failed_are_not_uploaded_again(volume: Driven, store: Faulty) -> None:
    volume.create(b"a", noise(1))
    store.fail("create", "index/*")
    with pytest.raises(StoreUnavailableError):
        volume.commit()
    store.log.clear()
    volume.commit()
    assert not [key for verb, key in store.log if verb == "create" and key.startswith("packs/")]


def test_somebody_else_moved_the_ref(volume: Driven, store: Faulty, tmp_path: Path) -> None:
    volume.create(b"a", noise(1))
    first = volume.commit()
    other = volume.fork(str(first.locator), volume_id=volume.spec.volume_id)
    other.create(b"theirs", noise(2))
    theirs = other.commit()
    volume.create(b"ours", noise(3))
    for _ in range(2):  # trying again does not help, nor harm
        with pytest.raises(RefMovedError, match=theirs.locator.file) as caught:
            volume.commit()
        ours = caught.value.hint.split("version ")[1].split(";")[0]
        assert head(volume) == theirs.locator.file
    fork = volume.fork(ours)  # as the hint says
    assert fork.content(b"ours") == noise(3)
    fork.close()
    other.close()


def test_somebody_else_moves_the_ref_between_our_look_and_our_move(volume: Driven, store: Faulty) -> None:
    volume.create(b"a", noise(1))
    first = volume.commit()
    key = ref_key(volume.spec.volume_name, volume.spec.volume_id)

    def meanwhile(found: object) -> object:
        assert move_ref(store.inner, key, first.locator.file, "somebody", found.tag)  # type: ignore[attr-defined]
        return found

    store.alter("get_tagged", key, meanwhile)
    volume.create(b"b", noise(2))
    with pytest.raises(RefMovedError):
        volume.commit()
    assert volume.commit().sequence == 2, "it still names what we build on"


def test_a_commit_that_failed_is_not_taken_for_done(volume: Driven, store: Faulty) -> None:
    """`None` for "nothing to do" must not hide data that no version has."""
    first = volume.commit()
    volume.create(b"a", noise(1))
    store.fail("replace")
    with pytest.raises(StoreError):
        volume.commit()
    assert volume.commit() is not first
    assert volume.tree()


def test_writes_beside_the_upload_are_in_the_next_version(volume: Driven, store: Faulty) -> None:
    ino = volume.create(b"a", noise(1))
    expected = volume.tree()

    def meanwhile(answer: bool) -> bool:
        volume.workspace.write(ino, 0, b"later")
        volume.create(b"later")
        volume.workspace.housekeep()
        return answer

    store.alter("create", "index/*", meanwhile)
    first = volume.commit()
    check_version(volume, first, expected)
    second = volume.commit()
    assert second.sequence == 2
    check_version(volume, second, volume.tree())


def test_a_file_that_was_unlinked_while_open_is_gone_for_who_checks_out_but_not_for_who_has_it_open(
    volume: Driven,
) -> None:
    ino = volume.create(b"a", noise(1))
    volume.workspace.open(ino, 0)
    volume.workspace.unlink(1, b"a")
    record = volume.commit()
    volume.check(record)
    assert record.stats["files"] == 1
    assert volume.read(ino) == noise(1)
    other = volume.fork(str(record.locator))
    assert other.tree() == {}
    other.check()
    other.check(other.commit())
    other.close()
    volume.workspace.release(ino, 0)
    volume.check(volume.commit())


def test_messages_and_authors_of_every_kind(tmp_path: Path, store: Faulty) -> None:
    volume = Driven.new(tmp_path, store, author="Zoë \U0001f600", produced_by={"run": "r1", "nested": {"n": 1}})
    for message in ("", "line\nbreak", "\0\x7f\u2028 'quotes\"", "x" * 100_000):
        record = volume.commit(message)
        again = volume.at(str(record.locator))
        again.close()
        assert record.message == message
    volume.close()


def test_a_message_that_is_no_text_does_not_cost_the_commit(volume: Driven) -> None:
    """A name from the file system that is no UTF-8 comes as lone surrogates."""
    record = volume.commit("caf\udce9")
    volume.at(str(record.locator)).close()


# -- opening ---------------------------------------------------------------------------------------------------------


def test_a_version_that_is_gone(volume: Driven, store: Faulty) -> None:
    record = volume.commit()
    store.inner.delete(record.locator.key)
    with pytest.raises(VersionNotFoundError):
        volume.at(str(record.locator))


def test_a_record_that_was_altered(volume: Driven, store: Faulty) -> None:
    record = volume.commit("hello")
    data = store.inner.get(record.locator.key)
    assert data is not None
    store.inner.delete(record.locator.key)
    store.inner.create(record.locator.key, data.replace(b"hello", b"hullo"))
    with pytest.raises(RecordDamagedError, match="altered"):
        volume.at(str(record.locator))


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone", "other"])
def test_an_index_object_that_is_damaged(volume: Driven, store: Faulty, tmp_path: Path, harm: str) -> None:
    for i in range(3000):
        volume.create(b"%d" % i)
    record = volume.commit()
    (item,) = record.index.objects
    key = f"index/{item.name[:2]}/{item.name}"
    data = store.inner.get(key)
    assert data is not None
    store.inner.delete(key)
    harmed = {
        "flip": data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
        "cut": data[:-1000],
        "empty": b"",
        "other": b"something else" * 100,
    }
    if harm != "gone":
        store.inner.create(key, harmed[harm])
    with pytest.raises(ObjectMissingError if harm == "gone" else IndexDamagedError, match=item.name):
        volume.at(str(record.locator), cache_dir=str(tmp_path / "elsewhere"))
    store.inner.delete(key)
    store.inner.create(key, data)
    volume.at(str(record.locator), cache_dir=str(tmp_path / "elsewhere")).close()


@pytest.mark.parametrize("harm", ["flip", "cut", "hashes", "no hashes"])
def test_an_index_that_is_damaged_in_the_local_cache_is_fetched_again(
    volume: Driven, store: Faulty, tmp_path: Path, harm: str
) -> None:
    volume.create(b"a", noise(1))
    record = volume.commit()
    path = tmp_path / "cache" / "index" / f"{record.locator.hash}.db"
    hashes = path.with_name(path.name + ".hashes")
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[5000] ^= 1
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(data[: 32 << 10])
        hashes.write_bytes(hashes.read_bytes()[:32])
    elif harm == "hashes":
        hashes.write_bytes(bytes(32))
    else:
        hashes.unlink()
    store.log.clear()
    other = volume.at(str(record.locator))
    assert other.tree() == volume.tree()
    assert any(key.startswith("index/") for _, key in store.log)
    other.close()
    assert path.read_bytes() == bytes(data) if harm.endswith("hashes") else True


# -- the workspace's directory -----------------------------------------------------------------------------------------


def test_a_workspace_is_resumed_with_everything_that_was_not_committed(volume: Driven) -> None:
    volume.create(b"a", noise(1))
    volume.commit()
    ino = volume.create(b"b", noise(2))
    volume.workspace.setxattr(ino, b"user.x", b"y")
    volume.workspace.symlink(1, b"s", b"b", ME)
    expected = volume.tree()
    volume.reopen()
    assert volume.tree() == expected
    check_version(volume, volume.commit(), expected)


def test_a_kill_loses_nothing_that_was_synced_even_after_its_log_file_was_sealed_away(
    tmp_path: Path, store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows on disk name a log file until they are rewritten: until then the file must stay."""
    from flyteplugins_vol.workspace import sealing, staging

    for module in (staging, sealing):
        monkeypatch.setattr(module, "SEGMENT", 100_000)
    volume = Driven.new(tmp_path, store)
    for i in range(20):
        volume.create(b"%d" % i, noise(i))
    volume.workspace.begin_sync()
    expected = volume.tree()
    while volume.seal():
        pass
    for i in range(5):
        volume.workspace.unlink(1, b"%d" % i)
    volume.kill()
    assert volume.tree() == expected
    check_version(volume, volume.commit(), expected)
    volume.close()


def test_log_files_are_deleted_when_their_bytes_are_in_packs(
    tmp_path: Path, store: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flyteplugins_vol.workspace import sealing, staging

    for module in (staging, sealing):
        monkeypatch.setattr(module, "SEGMENT", 100_000)
    volume = Driven.new(tmp_path, store)
    for i in range(40):
        volume.create(b"%d" % i, noise(i))
    volume.commit()
    for _ in range(20):
        volume.workspace.housekeep()
    assert len(list((tmp_path / "meta" / "staging").iterdir())) <= 1
    volume.close()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"volume_id": 1}', "future", "another volume"])
def test_a_state_that_is_not_ours_is_neither_taken_up_nor_thrown_away(volume: Driven, text: str) -> None:
    volume.create(b"precious", noise(1))
    volume.close(keep=True)
    path = Path(volume.spec.meta_dir, "state.json")
    before = path.read_text()
    if text == "future":
        text = json.dumps({**json.loads(before), "format": 2})
    elif text == "another volume":
        text = json.dumps({**json.loads(before), "volume_id": "f" * 16})
    path.write_text(text)
    with pytest.raises(LocalDirectoryError) as caught:
        volume.open()
    assert caught.value.hint
    path.write_text(before)
    volume.open()
    assert volume.content(b"precious") == noise(1)


def test_staged_bytes_that_are_gone_are_said_to_be(volume: Driven) -> None:
    volume.create(b"a", noise(1))
    volume.close(keep=True)
    for path in Path(volume.spec.meta_dir, "staging").iterdir():
        path.unlink()
    with pytest.raises(LocalDirectoryError) as caught:
        volume.open()
    assert caught.value.hint


def test_a_log_file_that_a_power_cut_made_short_reads_as_zeros_and_commits(volume: Driven) -> None:
    """Rows may reach the disk before bytes that nobody synced, as on any file system."""
    volume.create(b"a", noise(1))
    volume.close(keep=True)
    (log,) = Path(volume.spec.meta_dir, "staging").iterdir()
    log.write_bytes(log.read_bytes()[:5000])
    volume.open()
    expected = noise(1)[:5000] + bytes(15_000)
    assert volume.content(b"a") == expected
    record = volume.commit()
    check_version(volume, record, volume.tree())
    assert volume.content(b"a") == expected


def test_an_abandoned_workspace_leaves_its_directory_for_others(volume: Driven) -> None:
    volume.create(b"a", noise(1))
    other_file = Path(volume.spec.meta_dir, "daemon.log")
    other_file.write_text("log")
    volume.opened = False
    volume.session.abandon()
    assert list(Path(volume.spec.meta_dir).iterdir()) == [other_file]
    volume.open()
    assert volume.tree() == {}


def test_a_stale_absence_of_the_ref_is_no_conflict(volume: Driven, store: Faulty) -> None:
    """A volume that has versions has a ref."""
    volume.create(b"a", noise(1))
    first = volume.commit("one")
    volume.create(b"b", noise(2))
    store.alter("get_tagged", "*/refs/*", lambda _: None, times=2)
    second = volume.commit("two")
    assert second.parents == (str(first.locator),)
    assert head(volume) == second.locator.file
