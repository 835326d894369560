"""What `flyteplugins_vol.store.base` promises, as tests: for every store here, and for one of your own.

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def store(self):
            return MyStore("my://a-new-empty-place")

Each test gets an empty store. Nothing here imports pytest, and nothing waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import repeat
from typing import Any, TypeVar

from ..errors import StoreError, StoreUnavailableError
from .base import ObjectStore

T = TypeVar("T")

BAD_KEYS = (
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/.hidden", ".tmp", "-a", "a b", "a\0b", "a\nb", "ü",
    "a%2e", "a\\b", "a?b", "a#b", "a" * 256, "a/" * 400 + "a",
)  # fmt: skip
GOOD_KEYS = ("a", "0", "_a", "A.b-c_d=e+f@g~h", "packs/ab/0123.pack", "x" * 255, "/".join(["y" * 99] * 8), "v/a..b")


class StoreSuite:
    """A subclass gives the fixture ``store``; it may say how a second handle on the same store is had."""

    writers = 8
    many = 1_050  # more than one page of a listing (S3: 1,000)

    def again(self, store: ObjectStore) -> ObjectStore:
        """Another handle on the same store, as another process would have."""
        return store

    # --- keys

    def test_good_keys_name_objects(self, store: ObjectStore) -> None:
        for key in GOOD_KEYS:
            assert store.create(key, key.encode())
        assert {key: store.get(key) for key in GOOD_KEYS} == {key: key.encode() for key in GOOD_KEYS}
        assert [info.key for info in store.list("")] == sorted(GOOD_KEYS)

    def test_bad_keys_are_refused_by_every_verb(self, store: ObjectStore) -> None:
        for key in BAD_KEYS:
            for call in _verbs(store, key):
                with _raises(StoreError):
                    call()
        assert list(store.list("")) == []

    def test_bad_prefixes_are_refused(self, store: ObjectStore) -> None:
        for prefix in ("a", "/", "../", "a//", ".a/"):
            with _raises(StoreError):
                list(store.list(prefix))
            with _raises(StoreError):
                store.list_dirs(prefix)

    # --- absence

    def test_absence_is_none(self, store: ObjectStore) -> None:
        store.create("a/b/c", b"1")
        for key in ("a", "a/b", "a/x", "x", "a/b/c/d"):
            assert store.get(key) is None
            assert store.get_range(key, 0, 1) is None
            assert store.get_tail(key, 1) is None
            assert store.get_tagged(key) is None

    # --- get, get_range, get_tail

    def test_get_returns_what_was_written(self, store: ObjectStore) -> None:
        for number, data in enumerate((b"", b"\0", bytes(range(256)), b"\r\n" * 1000, _noise(3 << 20))):
            assert store.create(f"o/{number}", data)
            found = store.get(f"o/{number}")
            assert type(found) is bytes
            assert found == data

    def test_get_range_is_exact(self, store: ObjectStore) -> None:
        data = bytes(range(256))
        store.create("o", data)
        for offset, size in ((0, 1), (0, 256), (10, 20), (255, 1)):
            assert store.get_range("o", offset, size) == data[offset : offset + size]

    def test_get_range_beyond_the_end_is_an_error_and_no_fault_of_the_moment(self, store: ObjectStore) -> None:
        store.create("o", b"12345")
        store.create("empty", b"")
        for key, offset, size in (("o", 0, 6), ("o", 4, 2), ("o", 5, 1), ("o", 99, 1), ("empty", 0, 1)):
            with _raises(StoreError, but_not=StoreUnavailableError):
                store.get_range(key, offset, size)

    def test_ranges_that_are_none_are_refused(self, store: ObjectStore) -> None:
        store.create("o", b"12345")
        for offset, size in ((-1, 2), (0, 0), (0, -1)):
            with _raises(StoreError):
                store.get_range("o", offset, size)
        for size in (0, -1):
            with _raises(StoreError):
                store.get_tail("o", size)

    def test_get_tail_is_the_end_or_all(self, store: ObjectStore) -> None:
        store.create("o", b"12345")
        store.create("empty", b"")
        assert [store.get_tail("o", size) for size in (1, 4, 5, 6, 1000)] == [b"5", b"2345"] + [b"12345"] * 3
        assert store.get_tail("empty", 3) == b""

    # --- create

    def test_create_never_overwrites(self, store: ObjectStore) -> None:
        assert store.create("o", b"first") is True
        assert store.create("o", b"second") is False
        assert store.get("o") == b"first"

    def test_create_again_with_the_same_bytes_is_true(self, store: ObjectStore) -> None:
        assert store.create("o", b"same") is True
        assert store.create("o", b"same") is True

    def test_any_contiguous_bytes_can_be_written(self, store: ObjectStore) -> None:
        whole = bytearray(b"0123456789")
        assert store.create("bytearray", whole)
        assert store.create("view", memoryview(whole)[2:5])
        assert store.create("view", memoryview(b"234"))
        tag = store.replace("replaced", memoryview(whole)[5:], None)
        assert store.replace("replaced", bytearray(b"new"), tag)
        assert [store.get(key) for key in ("bytearray", "view", "replaced")] == [b"0123456789", b"234", b"new"]

    def test_one_creator_wins(self, store: ObjectStore) -> None:
        if not store.conditional:
            return
        for turn in range(3):
            won = self._race(lambda me, key=f"race/{turn}": _patiently(lambda: store.create(key, b"writer %d" % me)))
            assert sum(won) == 1
            assert store.get(f"race/{turn}") == b"writer %d" % won.index(True)

    def test_no_reader_sees_a_part(self, store: ObjectStore) -> None:
        if not store.conditional:
            return
        data = _noise(2 << 20)
        with ThreadPoolExecutor(1) as pool:
            for turn in range(3):
                writing = pool.submit(store.create, f"o/{turn}", data)
                seen = {store.get(f"o/{turn}")}
                while not writing.done():
                    seen.add(store.get(f"o/{turn}"))
                assert writing.result()
                assert seen <= {None, data}

    # --- get_tagged, replace

    def test_replace_goes_from_tag_to_tag(self, store: ObjectStore) -> None:
        first = store.replace("o", b"1", None)
        assert first is not None
        assert store.get_tagged("o") == (b"1", first)
        second = store.replace("o", b"2", first)
        assert second not in (None, first)
        assert store.get_tagged("o") == (b"2", second)

    def test_a_created_object_can_be_replaced(self, store: ObjectStore) -> None:
        store.create("o", b"1")
        found = store.get_tagged("o")
        assert found is not None
        assert store.replace("o", b"2", found.tag) is not None
        assert store.get("o") == b"2"

    def test_replace_loses_when_the_tag_is_old(self, store: ObjectStore) -> None:
        first = store.replace("o", b"1", None)
        store.replace("o", b"2", first)
        assert store.replace("o", b"3", first) is None
        assert store.replace("o", b"3", None) is None
        assert store.get("o") == b"2"

    def test_replace_loses_when_the_object_is_gone(self, store: ObjectStore) -> None:
        tag = store.replace("o", b"1", None)
        store.delete("o")
        assert store.replace("o", b"2", tag) is None
        assert store.get("o") is None

    def test_replace_called_again_answers_again(self, store: ObjectStore) -> None:
        first = store.replace("o", b"1", None)
        assert store.replace("o", b"1", None) == first
        second = store.replace("o", b"2", first)
        assert store.replace("o", b"2", first) == second

    def test_one_replacer_wins(self, store: ObjectStore) -> None:
        if not store.conditional:
            return
        tag = store.replace("o", b"begin", None)
        answers = self._race(lambda me: _patiently(lambda: store.replace("o", b"writer %d" % me, tag)))
        won = [answer is not None for answer in answers]
        assert sum(won) == 1
        assert store.get("o") == b"writer %d" % won.index(True)

    def test_no_update_is_lost(self, store: ObjectStore) -> None:
        if not store.conditional:
            return
        store.replace("count", b"", None)
        self._race(lambda me: [_append(store, "count", b"%d.%d " % (me, turn)) for turn in range(3)])
        written = (store.get("count") or b"").split()
        assert sorted(written) == sorted(b"%d.%d" % (me, turn) for me in range(self.writers) for turn in range(3))

    # --- delete

    def test_delete_removes_and_is_idempotent(self, store: ObjectStore) -> None:
        store.create("a/b", b"1")
        store.delete("a/b")
        store.delete("a/b")
        store.delete("never/was")
        assert store.get("a/b") is None
        assert store.create("a/b", b"2") is True

    # --- list, list_dirs

    def test_list_is_in_order_of_keys_at_every_depth(self, store: ObjectStore) -> None:
        keys = ["a-b", "a/b/c", "a/b/d", "a/b-", "a/b0", "a0", "b.c/d", "b/c"]
        for key in keys:
            store.create(key, key.encode())
        assert [info.key for info in store.list("")] == sorted(keys)
        assert [info.key for info in store.list("a/")] == ["a/b-", "a/b/c", "a/b/d", "a/b0"]
        assert [info.key for info in store.list("a/b/")] == ["a/b/c", "a/b/d"]
        assert list(store.list("nothing/here/")) == []

    def test_list_goes_on_behind_a_key(self, store: ObjectStore) -> None:
        keys = sorted(["a-b", "a/b/c", "a/b/d", "a/b0", "a0", "b/c"])
        for key in keys:
            store.create(key, b"")
        for after in ["", *keys, "a/b", "a/b/", "a/b/c0", "a1", "zz"]:
            assert [info.key for info in store.list("", after)] == [key for key in keys if key > after]
            assert [info.key for info in store.list("a/", after)] == [
                key for key in keys if key > after and key.startswith("a/")
            ]

    def test_list_tells_size_and_time(self, store: ObjectStore) -> None:
        store.create("o", b"12345")
        (info,) = store.list("")
        assert info.size == 5
        assert info.modified.tzinfo is not None
        assert info.modified.year > 2000

    def test_list_goes_over_many_pages(self, store: ObjectStore) -> None:
        keys = [f"p/{number:05}" for number in range(self.many)]
        with ThreadPoolExecutor(self.writers) as pool:
            assert all(pool.map(store.create, keys, repeat(b"x")))
        assert [info.key for info in store.list("p/")] == keys
        assert [info.key for info in store.list("", keys[-3])] == keys[-2:]

    def test_list_dirs_names_directories_only(self, store: ObjectStore) -> None:
        for key in ("top", "v/b/1", "v/a/x/2", "v/a/y/3", "v/file", "w/1"):
            store.create(key, b"")
        assert store.list_dirs("") == ["v", "w"]
        assert store.list_dirs("v/") == ["a", "b"]
        assert store.list_dirs("v/b/") == []
        assert store.list_dirs("nothing/") == []

    # --- the rest

    def test_another_handle_sees_it_at_once(self, store: ObjectStore) -> None:
        other = self.again(store)
        for turn in range(3):
            store.create(f"o/{turn}", b"%d" % turn)
            assert other.get(f"o/{turn}") == b"%d" % turn
            assert len(list(other.list("o/"))) == turn + 1
        other.delete("o/1")
        assert store.get("o/1") is None

    def test_threads_do_not_disturb_each_other(self, store: ObjectStore) -> None:
        def work(me: int) -> bool:
            keys = [f"t{me % 2}/{me}-{number}" for number in range(10)]
            assert all(store.create(key, key.encode() * 100) for key in keys)
            return all(store.get_tail(key, 1 << 20) == key.encode() * 100 for key in keys)

        assert all(self._race(work))

    def test_url_is_normalised(self, store: ObjectStore) -> None:
        assert "://" in store.url
        assert not store.url.endswith("/")
        assert store.url in repr(store)

    def test_close_is_idempotent(self, store: ObjectStore) -> None:
        store.create("o", b"1")
        with store as same:
            assert same is store
        store.close()

    def _race(self, work: Callable[[int], T]) -> list[T]:
        """Answers of ``writers`` threads that begin together."""
        start = threading.Barrier(self.writers)

        def run(me: int) -> T:
            start.wait()
            return work(me)

        with ThreadPoolExecutor(self.writers) as pool:
            return list(pool.map(run, range(self.writers)))


def _patiently(call: Callable[[], T]) -> T:
    """What `Retrying` does for a bare store, without the waiting: racing writers make some servers answer 500."""
    for _ in range(50):
        with suppress(StoreUnavailableError):
            return call()
    return call()


def _verbs(store: ObjectStore, key: str) -> Sequence[Callable[[], Any]]:
    return (
        lambda: store.get(key),
        lambda: store.get_range(key, 0, 1),
        lambda: store.get_tail(key, 1),
        lambda: store.create(key, b"x"),
        lambda: store.get_tagged(key),
        lambda: store.replace(key, b"x", None),
        lambda: store.replace(key, b"x", "tag"),
        lambda: store.delete(key),
    )


def _append(store: ObjectStore, key: str, word: bytes) -> None:
    """Add a word to an object, as often as others come in between."""
    while True:
        found = store.get_tagged(key)
        assert found is not None
        if _patiently(partial(store.replace, key, found.data + word, found.tag)) is not None:
            return


def _noise(size: int) -> bytes:
    return bytes((number * 167) % 251 for number in range(4093)) * (size // 4093 + 1)


@contextmanager
def _raises(kind: type[Exception], *, but_not: type[Exception] | None = None) -> Generator[None, None, None]:
    try:
        yield
    except kind as error:
        if but_not is not None and isinstance(error, but_not):
            raise AssertionError(f"{type(error).__name__} says to try again: {error}") from error
    else:
        raise AssertionError(f"no {kind.__name__}")
