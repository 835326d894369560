"""Golden objects of an encrypted store: read for ever, by this package and by the document alone.

``python -m tests.golden.test_encrypted DIRECTORY`` writes new ones, for a new form of encryption only.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from flyteplugins_vol.errors import EncryptionKeyError
from flyteplugins_vol.history.record import load_record, parse_locator
from flyteplugins_vol.store.base import ObjectStore, StoreOptions
from flyteplugins_vol.store.open import open_store
from tests.driven import ME, Driven
from tests.golden import independent_cipher, independent_reader

SECRET = "golden secret, known to all"
STORES = sorted(path for path in Path(__file__).parent.glob("encrypted*") if path.is_dir())
CONTENT = {b"/small": b"a few bytes", b"/large": bytes(range(256)) * 400, b"/dir/zeros": bytes(70_000), b"/empty": b""}


def opened(store: Path) -> ObjectStore:
    return open_store(f"file://{store}", StoreOptions(encryption=SECRET))


def locator_in(golden: Path, store: Path) -> str:
    return f"file://{store}/{json.loads((golden / 'expected.json').read_text())['key']}"


@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_it_is_read_and_built_on(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden / "store", tmp_path / "store")
    locator = locator_in(golden, tmp_path / "store")
    with opened(tmp_path / "store") as store:
        record = load_record(store, parse_locator(locator))
        assert (record.message, record.sequence) == ("a golden message", 1)
        driven = Driven.new(tmp_path, store, base=locator)
        for path, content in CONTENT.items():
            assert driven.read(driven.find(path).ino) == content
        driven.create(b"more", b"than before")
        again = driven.commit("on top of gold")
        driven.close()
        later = Driven.new(tmp_path, store, base=str(again.locator), read_only=True)
        assert later.read(later.find(b"/more").ino) == b"than before"
        later.close()


@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_the_document_is_enough(golden: Path) -> None:
    def stored(key: str) -> bytes | None:
        path = golden / "store" / key
        return path.read_bytes() if path.exists() else None

    get = independent_cipher.decrypting(stored, SECRET)
    body, found = independent_reader.read_version(get, locator_in(golden, golden / "store"))
    assert body["message"] == "a golden message"
    assert {path: file.content() for path, file in found.items() if path in CONTENT} == CONTENT


@pytest.mark.parametrize("golden", STORES, ids=lambda path: path.name)
def test_without_the_secret_it_is_refused_as_what_it_is(golden: Path) -> None:
    locator = parse_locator(locator_in(golden, golden / "store"))
    for options, why in ((StoreOptions(), "no secret"), (StoreOptions(encryption="x" * 16), "does not open")):
        with open_store(locator.store_url, options) as store, pytest.raises(EncryptionKeyError, match=why):
            load_record(store, locator)


def main(directory: Path) -> None:
    with opened(directory.resolve() / "store") as store:
        driven = Driven.new(directory / "room", store, volume_name="golden", volume_id="00c0ffee00c0ffee")
        parent = driven.workspace.mkdir(1, b"dir", 0o755, ME).ino
        for path, content in CONTENT.items():
            driven.create(path.rpartition(b"/")[2], content, parent if path.startswith(b"/dir") else 1)
        record = driven.commit("a golden message")
        driven.close()
    shutil.rmtree(directory / "room")
    (directory / "expected.json").write_text(json.dumps({"key": record.locator.key}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
