"""The index file in segments: what is put together again is what was cut, and only what changed is uploaded."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyteplugins_vol.errors import IndexDamagedError, ObjectMissingError, StoreUnavailableError, VolumeError
from flyteplugins_vol.history import segments as module
from flyteplugins_vol.history.record import IndexMap, IndexObject
from flyteplugins_vol.history.segments import SEGMENT_SIZE, Segments, checkout_segments, hash_file, publish_segments
from flyteplugins_vol.store.counting import Counting
from flyteplugins_vol.store.faulty import Faulty
from flyteplugins_vol.store.memory import MemoryStore


def new_store() -> Counting:
    return Counting(Faulty(MemoryStore(f"memory://{uuid4().hex}")))


def noise(seed: int, size: int = SEGMENT_SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


def key_of(item: IndexObject) -> str:
    return f"index/{item.name[:2]}/{item.name}"


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=10), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_any_line_of_versions_is_put_together_again(
    tmp_path_factory: pytest.TempPathFactory, versions: list[list[int]], tail: int
) -> None:
    """Each version is a list of segments of few kinds, so that they grow, shrink, change and come back."""
    directory = tmp_path_factory.mktemp("segments")
    store = new_store()
    base: Segments | None = None
    published: list[tuple[bytes, Segments]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MAX_OBJECTS", 3)
        patch.setattr(module, "_FOLD", 2)
        patch.setattr(module, "_PER_OBJECT", 5)
        for version in versions:
            content = b"".join(noise(kind) for kind in version) + noise(9, 4096 * tail)
            (directory / "index").write_bytes(content)
            before = store.puts
            base = publish_segments(store, str(directory / "index"), base).segments
            assert store.puts - before <= -(-len(version) // 5) + 1
            published.append((content, base))
        for content, made in published:
            found = checkout_segments(store, made.map, str(directory / "again"))
            assert (directory / "again").read_bytes() == content
            assert found == made
            assert list(made.hashes) == hash_file(str(directory / "index")) or made is not base


def test_only_what_changed_is_uploaded(tmp_path: Path) -> None:
    store = new_store()
    path = tmp_path / "index"
    content = bytearray(b"".join(noise(i) for i in range(50)))
    path.write_bytes(content)
    first = publish_segments(store, str(path), None)
    assert (first.objects, len(first.segments.map.runs)) == (1, 1)
    content[17 * SEGMENT_SIZE + 5] ^= 1
    path.write_bytes(content)
    second = publish_segments(store, str(path), first.segments)
    assert second.objects == 1
    assert second.bytes < SEGMENT_SIZE + 200
    assert [run[2] for run in second.segments.map.runs] == [17, 1, 32]
    same = publish_segments(store, str(path), second.segments)
    assert (same.objects, same.bytes, same.segments) == (0, 0, second.segments)


@pytest.fixture
def published(tmp_path: Path) -> tuple[Counting, Segments, bytes]:
    """An index of 3 MB, in an object that is larger than what is fetched whole."""
    store = new_store()
    content = b"".join(noise(i) for i in range(100))
    (tmp_path / "index").write_bytes(content)
    return store, publish_segments(store, str(tmp_path / "index"), None).segments, content


def test_few_live_segments_of_a_large_object_are_fetched_alone(
    published: tuple[Counting, Segments, bytes], tmp_path: Path
) -> None:
    store, made, content = published
    few = IndexMap(2 * SEGMENT_SIZE, SEGMENT_SIZE, made.map.objects, ((0, 5, 1), (0, 70, 1)))
    store.reset()
    checkout_segments(store, few, str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == content[5 * SEGMENT_SIZE :][:SEGMENT_SIZE] + noise(70)
    assert store.gets == 3  # footer and two ranges
    assert store.received < 3 * SEGMENT_SIZE


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("harm", ["body", "footer", "cut", "cut deep", "empty", "gone", "swapped"])
def test_a_damaged_object_is_named_and_no_other_error_comes_out(
    published: tuple[Counting, Segments, bytes], tmp_path: Path, harm: str, few: bool
) -> None:
    store, made, _ = published
    (item,) = made.map.objects
    data = store.get(key_of(item)) or b""
    bare = store.inner
    bare.delete(key_of(item))
    other = noise(1, len(data))
    harmed = {
        "body": data[:20] + bytes([data[20] ^ 1]) + data[21:],
        "footer": data[:-60] + bytes([data[-60] ^ 1]) + data[-59:],
        "cut": data[:-1],
        "cut deep": data[: len(data) // 2],
        "empty": b"",
        "swapped": other,
    }
    if harm != "gone":
        bare.create(key_of(item), harmed[harm])
    wanted = made.map
    if few:
        wanted = IndexMap(2 * SEGMENT_SIZE, SEGMENT_SIZE, made.map.objects, ((0, 0, 1), (0, 99, 1)))
    expected: type[VolumeError] = ObjectMissingError if harm == "gone" else IndexDamagedError
    with pytest.raises(expected, match=item.name) as caught:
        checkout_segments(store, wanted, str(tmp_path / "again"))
    assert caught.value.hint


@pytest.mark.parametrize("few", [False, True])
def test_an_object_that_was_harmed_on_its_way_is_asked_for_again(
    published: tuple[Counting, Segments, bytes], tmp_path: Path, few: bool
) -> None:
    store, made, content = published
    wanted = made.map
    if few:
        wanted = IndexMap(2 * SEGMENT_SIZE, SEGMENT_SIZE, made.map.objects, ((0, 0, 1), (0, 99, 1)))
    faulty = Faulty(store.inner)
    faulty.alter("get*", "index/*", lambda data: data[:50] + bytes([data[50] ^ 4]) + data[51:], times=2)
    checkout_segments(faulty, wanted, str(tmp_path / "again"))
    found = (tmp_path / "again").read_bytes()
    assert found == (content[:SEGMENT_SIZE] + content[99 * SEGMENT_SIZE : 100 * SEGMENT_SIZE] if few else content)


def test_a_body_cut_out_of_the_middle(published: tuple[Counting, Segments, bytes], tmp_path: Path) -> None:
    """The footer is whole and right, the bytes before it are too few."""
    store, made, _ = published
    (item,) = made.map.objects
    data = store.get(key_of(item)) or b""
    store.inner.delete(key_of(item))
    store.inner.create(key_of(item), data[100_000:])
    few = IndexMap(SEGMENT_SIZE, SEGMENT_SIZE, made.map.objects, ((0, 99, 1),))
    for wanted in (made.map, few):
        with pytest.raises(IndexDamagedError, match=item.name):
            checkout_segments(store, wanted, str(tmp_path / "again"))


@pytest.mark.parametrize("claimed", [101, 5000])
def test_a_record_that_claims_more_entries_than_an_object_has(
    published: tuple[Counting, Segments, bytes], tmp_path: Path, claimed: int
) -> None:
    store, made, _ = published
    (item,) = made.map.objects
    lying = IndexObject(item.name, item.size, claimed)
    index = IndexMap(SEGMENT_SIZE, SEGMENT_SIZE, (lying,), ((0, claimed - 1, 1),))
    with pytest.raises(IndexDamagedError):
        checkout_segments(store, index, str(tmp_path / "again"))


def test_segments_of_another_size_than_the_record_says(
    published: tuple[Counting, Segments, bytes], tmp_path: Path
) -> None:
    store, made, _ = published
    index = IndexMap(50 * 2 * SEGMENT_SIZE, 2 * SEGMENT_SIZE, made.map.objects, ((0, 0, 50),))
    with pytest.raises(IndexDamagedError):
        checkout_segments(store, index, str(tmp_path / "again"))


def test_a_base_with_other_segments_shares_nothing(tmp_path: Path) -> None:
    store = new_store()
    (tmp_path / "index").write_bytes(noise(1) * 4)
    made = publish_segments(store, str(tmp_path / "index"), None).segments
    other = Segments(IndexMap(made.map.size, 4096, made.map.objects, made.map.runs), made.hashes)
    assert publish_segments(store, str(tmp_path / "index"), other).objects == 1


def test_a_store_that_is_away_is_no_damage(published: tuple[Counting, Segments, bytes], tmp_path: Path) -> None:
    store, made, content = published
    assert isinstance(store.inner, Faulty)
    store.inner.fail("get*")
    with pytest.raises(StoreUnavailableError):
        checkout_segments(store, made.map, str(tmp_path / "again"))
    checkout_segments(store, made.map, str(tmp_path / "again"))
    assert (tmp_path / "again").read_bytes() == content
