"""Stores that answer without end: no more is read than the object can have, over every client."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flyteplugins_vol.errors import ObjectTooLargeError, StoreError
from flyteplugins_vol.store.base import ObjectStore, StoreOptions
from flyteplugins_vol.store.limits import CONTAINER, RECORD, SMALL, most_of
from flyteplugins_vol.store.local import LocalStore

from .conftest import Opener
from .scripted import Handler, Script, scripted_server

VOLUME = "volumes/data-00c0ffee00c0ffee"
RECORD_KEY = f"{VOLUME}/versions/00000001-{'a' * 40}.json"
SMALL_KEYS = (f"{VOLUME}/refs/main.json", f"{VOLUME}/lease.json", "keys/main.json")
PACK = f"packs/ab/{'ab' * 32}"
BUFFERS = 24 << 20  # what sockets and clients may hold on the way, at most


@pytest.mark.parametrize(
    ("key", "most"),
    [
        *((key, SMALL) for key in SMALL_KEYS),
        (RECORD_KEY, RECORD), (RECORD_KEY.replace("versions", "deleted"), RECORD),
        (PACK, CONTAINER), (PACK.replace("packs", "index"), CONTAINER), ("anything/else", CONTAINER),
    ],
)  # fmt: skip
def test_what_an_object_can_have(key: str, most: int) -> None:
    assert most_of(key) == most


@dataclass
class Endless:
    """An answer that goes on until the other side hangs up, and how much of it was sent."""

    announced: int | None  # None: in chunks, without a length
    sent: int = 0

    def __call__(self, handler: Handler) -> None:
        wanted = handler.headers.get("Range")
        handler.send_response(206 if wanted else 200)
        if wanted:
            handler.send_header("Content-Range", _content_range(wanted.removeprefix("bytes=")))
        if self.announced is None:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(self.announced))
        handler.send_header("ETag", '"x"')
        handler.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        handler.end_headers()
        handler.close_connection = True
        piece = bytes(1 << 18)
        try:
            while True:
                handler.wfile.write(piece if self.announced is not None else b"%x\r\n%s\r\n" % (len(piece), piece))
                self.sent += len(piece)
        except OSError:
            pass


def _content_range(wanted: str) -> str:
    first, _, last = wanted.partition("-")
    if not first:
        return f"bytes {(1 << 40) - int(last)}-{(1 << 40) - 1}/{1 << 40}"
    return f"bytes {first}-{last}/{1 << 40}"


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_server() as script:
        yield script


@pytest.mark.s3
@pytest.mark.parametrize("announced", [1 << 50, None])
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
@pytest.mark.parametrize(
    ("read", "most"),
    [
        (lambda store: store.get(SMALL_KEYS[0]), SMALL),
        (lambda store: store.get_tagged(SMALL_KEYS[1]), SMALL),
        (lambda store: store.get(RECORD_KEY), RECORD),
        (lambda store: store.get_range(PACK, 5, 1000), 1000),
        (lambda store: store.get_tail(PACK, 1000), 1000),
    ],
    ids=["ref", "lease", "record", "range", "tail"],
)
def test_an_endless_answer_is_not_read_to_its_end(
    read: Callable[[ObjectStore], object], most: int, backend: str, announced: int | None, bare: Opener, script: Script
) -> None:
    store = bare("s3://bucket/prefix", script.options(backend))
    endless = Endless(announced)
    script.answers.append(endless)
    with pytest.raises(StoreError) as caught:
        read(store)
    if backend == "fsspec" or announced is not None:  # obstore refuses what has no length
        assert isinstance(caught.value, ObjectTooLargeError)
    assert caught.value.hint
    assert endless.sent <= most + BUFFERS


@pytest.mark.parametrize("key", [*SMALL_KEYS, RECORD_KEY])
def test_a_large_file_in_the_place_of_a_small_object(tmp_path: Path, key: str) -> None:
    store = LocalStore(f"file://{tmp_path}", str(tmp_path))
    path = tmp_path / key
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    tracemalloc.start()
    try:
        for read in (store.get, store.get_tagged):
            with pytest.raises(ObjectTooLargeError):
                read(key)
        assert store.get_tail(key, 10) == bytes(10)
        assert store.create(key, b"mine") is False
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_file_in_the_place_of_an_object(tmp_path: Path) -> None:
    """A device never ends, and a fifo never begins."""
    store = LocalStore(f"file://{tmp_path}", str(tmp_path))
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert store.get("zero") == b""
    os.mkfifo(tmp_path / "fifo")
    for read in (lambda: store.get("fifo"), lambda: store.get_range("fifo", 0, 1), lambda: store.get_tail("fifo", 1)):
        with pytest.raises(StoreError, match="fifo") as caught:
            read()
        assert "something else lies" in caught.value.hint


def test_over_http_an_endless_answer_is_read_piece_by_piece(script: Script) -> None:
    pytest.importorskip("aiohttp")
    from flyteplugins_vol.store.open import open_bare
    from flyteplugins_vol.store.url import parse_store_url

    url = script.endpoint
    with open_bare(parse_store_url(url), StoreOptions()) as store:
        endless = Endless(None)
        script.answers += [lambda handler: handler.answer(200, b""), endless]  # it looks at the size first
        with pytest.raises(ObjectTooLargeError):
            store.get(SMALL_KEYS[0])
        assert endless.sent <= SMALL + BUFFERS
        script.objects["/" + SMALL_KEYS[0]] = b"content"
        assert store.get(SMALL_KEYS[0]) == b"content"
        assert store.get(SMALL_KEYS[1]) is None
