"""Encryption at rest: nothing readable in the store, clear errors without the secret, no altered byte."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from flyteplugins_vol.errors import (
    ConflictError,
    DamageError,
    EncryptionKeyError,
    RecordDamagedError,
    SetupError,
    StoreError,
    UsageError,
)
from flyteplugins_vol.io import RWVolume, StoreOptions, Volume, change_encryption_secret
from flyteplugins_vol.store import cipher, keys
from flyteplugins_vol.store.base import ObjectStore
from flyteplugins_vol.store.cipher import CHUNK, STORED_CHUNK, TRAILER_SIZE, Cipher
from flyteplugins_vol.store.encrypted import Encrypted, Unencrypted
from flyteplugins_vol.store.local import LocalStore
from flyteplugins_vol.store.memory import MemoryStore
from flyteplugins_vol.store.open import open_store
from flyteplugins_vol.store.retrying import Retrying
from flyteplugins_vol.store.suite import StoreSuite

SECRET = "a secret of more than sixteen"
OTHER = "another secret, quite as long"
PACK = "packs/ab/" + "ab" * 32


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """scrypt costs 70 ms on purpose, once per store that is opened; here it is opened often."""
    monkeypatch.setattr(keys, "_COST", {"n": 1 << 4, "r": 8, "p": 1})


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


def options(secret: str = SECRET) -> StoreOptions:
    return StoreOptions(encryption=secret, retries=0)


def new(url: str, **files: bytes) -> RWVolume:
    volume = Volume.new("name-of-volume", url, encryption=SECRET)
    for name, data in files.items():
        volume.write_bytes.sync(f"/{name}", data)
    return volume


# -- the store --------------------------------------------------------------------------------------------------------


class TestEncryptedMemory(StoreSuite):
    """All that a store promises, but for the size that a listing tells: it is that of the stored bytes."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        return Encrypted(MemoryStore(f"memory://{uuid4().hex}"), SECRET)

    def test_list_tells_size_and_time(self, store: ObjectStore) -> None:
        pass


class TestEncryptedLocal(TestEncryptedMemory):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return Retrying(Encrypted(LocalStore(f"file://{tmp_path}/store", f"{tmp_path}/store"), SECRET))


class TestGuarded(StoreSuite):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return Unencrypted(MemoryStore(f"memory://{uuid4().hex}"))


SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 100)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fill", [b"\0", b"\1", b"\1\0"])
def test_any_range_and_any_end_of_a_container(size: int, fill: bytes) -> None:
    store = Encrypted(MemoryStore(f"memory://{uuid4().hex}"), SECRET)
    plain = (fill * size)[:size]
    assert store.create(PACK, plain)
    assert store.get(PACK) == plain
    for count in (1, 40, CHUNK - 1, CHUNK, CHUNK + 5, 10 * CHUNK):
        assert store.get_tail(PACK, count) == plain[-count:]
    for offset in (0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 7, size - 1):
        for count in (1, 2, CHUNK, CHUNK + 2, size - offset):
            if offset >= 0 and count > 0:
                if offset + count <= size:
                    assert store.get_range(PACK, offset, count) == plain[offset : offset + count]
                elif size - offset >= count - CHUNK and fill == b"\0":
                    with pytest.raises(StoreError):
                        store.get_range(PACK, offset, count)


def test_the_same_container_is_the_same_bytes_and_another_place_other_bytes() -> None:
    one = Cipher(bytes(32))
    assert one.seal(PACK, b"x" * 100) == one.seal(PACK, b"x" * 100)
    assert one.seal(PACK, b"x" * 100)[:100] != one.seal(PACK + "0", b"x" * 100)[:100]
    assert one.seal(PACK, b"x" * 2 * CHUNK)[:CHUNK] != one.seal(PACK, b"x" * 2 * CHUNK)[STORED_CHUNK:][:CHUNK]
    assert one.wrap("volumes/x", b"x" * 100) != one.wrap("volumes/x", b"x" * 100)


# -- nothing readable -------------------------------------------------------------------------------------------------


def everything(url: str) -> dict[str, bytes]:
    root = Path(url.removeprefix("file://"))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_no_name_no_byte_and_no_hash_is_found_in_the_store(url: str) -> None:
    from flyteplugins_vol.store.container import block_hash

    secrets = {
        "secret-file-name": b"a needle in the haystack, plain",
        "zeros": bytes(300_000),
        "noise": os.urandom(50_000),
    }
    volume = new(url, **secrets)
    record = volume.commit.sync(
        "a message that is secret",
    )
    assert record is not None
    stored = everything(url)
    together = b"\0".join((*stored.values(), *(name.encode() for name in stored)))
    forbidden = [SECRET.encode(), b"secret-file-name", b"needle", b"a message that is secret", b"FLYTEVOL", b"LOVETYLF"]
    forbidden += [b"SQLite format 3", b"CREATE TABLE", secrets["noise"][1000:1032]]
    for data in secrets.values():
        forbidden += [block_hash(data), block_hash(data).hex().encode()]
    for needle in forbidden:
        assert needle not in together, needle
        assert needle.hex().encode() not in together
    assert re.search(rb"\0{40}", together.replace(b"\0" * 8, b"")) is None
    with open_store(url, options()) as store:
        assert {key for key in stored if not key.startswith(".")} == {
            *(info.key for info in store.list("")), keys.KEY,
        }  # fmt: skip


def test_a_volume_is_written_read_forked_and_continued(url: str) -> None:
    volume = new(url, a=b"one", b=b"two" * 100_000)
    volume.commit.sync("first")
    locator = volume.locator
    assert locator is not None
    again = Volume.from_locator.sync(locator, encryption=SECRET)
    assert again.read_bytes.sync("/b") == b"two" * 100_000
    assert again.message == "first"
    fork = again.fork.sync("forked")
    fork.write_bytes.sync("/c", b"three")
    fork.commit.sync("in the same domain")
    later = Volume.from_name.sync("forked", url, encryption=lambda where: SECRET if where == url else "?")
    assert later.read_bytes.sync("/a") == b"one"
    assert later.read_bytes.sync("/c") == b"three"


# -- the secret -------------------------------------------------------------------------------------------------------


@pytest.fixture
def locator(url: str) -> str:
    volume = new(url, a=b"one")
    volume.commit.sync("first")
    assert volume.locator is not None
    return volume.locator


def test_without_a_secret_the_error_says_so(url: str, locator: str) -> None:
    with pytest.raises(EncryptionKeyError, match="there is no secret to open it"):
        Volume.from_locator.sync(locator)
    with pytest.raises(EncryptionKeyError, match="there is no secret"):
        Volume.from_name.sync("name-of-volume", url)


def test_with_another_secret_the_error_says_so(locator: str) -> None:
    with pytest.raises(EncryptionKeyError, match="does not open"):
        Volume.from_locator.sync(locator, encryption=OTHER)


def test_nothing_is_written_unencrypted_into_an_encrypted_store(url: str, locator: str) -> None:
    before = everything(url)
    with pytest.raises(EncryptionKeyError, match="no secret"):
        volume = Volume.new("plain", url)
        volume.write_bytes.sync("/x", b"plain")
        volume.commit.sync("plain")
    assert everything(url) == before


def test_a_store_begun_without_encryption_stays_so(url: str) -> None:
    plain = Volume.new("plain", url)
    plain.write_bytes.sync("/x", b"plain")
    plain.commit.sync("plain")
    assert plain.locator is not None
    with pytest.raises(EncryptionKeyError, match="is not encrypted"):
        volume = new(url, a=b"x")
        volume.commit.sync("x")
    with pytest.raises(EncryptionKeyError, match="is not encrypted"):
        Volume.from_locator.sync(plain.locator, encryption=SECRET)
    assert keys.KEY not in everything(url)


def test_a_short_secret_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="at least 16 characters, this one has 5"):
        Volume.new("x", url, encryption="short")


def test_the_environment_says_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_VOL_ENCRYPTION_KEY", SECRET)
    volume = Volume.new("x", url)
    volume.write_bytes.sync("/a", b"one")
    volume.commit.sync("x")
    assert keys.KEY in everything(url)
    assert Volume.from_name.sync("x", url).read_bytes.sync("/a") == b"one"


def test_without_the_package_the_error_names_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with open_store(url, options()) as store, pytest.raises(SetupError, match="cryptography"):
        store.create("volumes/x", b"x")


def test_the_secret_is_changed_and_no_data_is_rewritten(url: str, locator: str) -> None:
    before = everything(url)
    change_encryption_secret(url, OTHER, old=SECRET)
    after = everything(url)
    assert {key for key in before if before[key] != after[key]} == {keys.KEY}
    assert Volume.from_locator.sync(locator, encryption=OTHER).read_bytes.sync("/a") == b"one"
    with pytest.raises(EncryptionKeyError, match="does not open"):
        Volume.from_locator.sync(locator, encryption=SECRET)
    with pytest.raises(EncryptionKeyError, match="does not open"):
        change_encryption_secret(url, SECRET, old=SECRET)
    with pytest.raises(EncryptionKeyError, match="no secret"):
        change_encryption_secret(url, SECRET)
    with pytest.raises(UsageError, match="16 characters"):
        change_encryption_secret(url, "short", old=OTHER)


def test_who_has_it_open_goes_on_when_the_secret_changes(url: str) -> None:
    volume = new(url, a=b"one")
    volume.commit.sync("first")
    change_encryption_secret(url, OTHER, old=SECRET)
    volume.write_bytes.sync("/b", b"two")
    volume.commit.sync("second")
    assert Volume.from_name.sync("name-of-volume", url, encryption=OTHER).read_bytes.sync("/b") == b"two"


def test_two_who_change_it_at_once(url: str, locator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(url, options()) as store:
        monkeypatch.setattr(store, "replace", lambda *_: None)
        with pytest.raises(ConflictError):
            keys.change_secret(store, SECRET, OTHER)


def test_two_first_writers_have_one_key() -> None:
    inner = MemoryStore(f"memory://{uuid4().hex}")
    one, two = Encrypted(inner, SECRET), Encrypted(inner, SECRET)
    assert one.create("volumes/a", b"1")
    assert two.create("volumes/b", b"2")
    assert one.get("volumes/b") == b"2"


def test_no_repr_shows_it_and_the_daemon_redacts_it(url: str) -> None:
    from flyteplugins_vol.mount.logs import _secrets

    assert SECRET not in repr(new(url))
    assert SECRET not in repr(options())
    assert options() == StoreOptions.from_wire(options().to_wire())
    assert SECRET in set(_secrets(options().to_wire()))


# -- altered objects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["packs/", "index/", "volumes/"])
def test_an_altered_bit_a_cut_and_a_swap_are_found(url: str, locator: str, prefix: str) -> None:
    root = Path(url.removeprefix("file://"))
    for key in [key for key in everything(url) if key.startswith(prefix)]:
        path = root / key
        whole = path.read_bytes()
        for data in _altered(whole):
            path.write_bytes(data)
            with open_store(url, options()) as store, pytest.raises((DamageError, EncryptionKeyError)):
                assert store.get(key) == whole, "it was believed"
        path.write_bytes(whole)
        moved = key[:-1] + ("0" if key[-1] != "0" else "1") if prefix != "volumes/" else key + "2"
        shutil.copy(path, root / moved)
        with open_store(url, options()) as store, pytest.raises(DamageError):
            store.get(moved)
        (root / moved).unlink()


def _altered(whole: bytes) -> Iterator[bytes]:
    if whole.startswith(cipher.ENVELOPE):
        body = json.loads(whole)
        for name in ("salt", "sealed", "key"):
            value = body[name]
            yield json.dumps({**body, name: ("0" if value[0] != "0" else "1") + value[1:]}).encode()
            yield json.dumps({**body, name: value[:-4]}).encode()
            yield json.dumps({**body, name: 5}).encode()
        yield b"{}"
        yield b""
        yield b'{"format":"flytevol/version"}'  # plain, from whoever may write to the store but has no secret
        return
    for at in (0, len(whole) // 2, len(whole) - TRAILER_SIZE, len(whole) - 20, len(whole) - 1):
        yield whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    yield whole[:-1]
    yield whole[: len(whole) - TRAILER_SIZE]
    yield whole[STORED_CHUNK:]
    yield whole[:100]
    yield b""
    yield b"FLYTEVOL" + whole[8:]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "flytevol/ref"},
        {"kdf": {"name": "scrypt", "n": 1 << 40, "r": 8, "p": 1, "salt": "00"}},
        {"kdf": {"name": "scrypt", "n": 16, "r": 1 << 30, "p": 1, "salt": "00"}},
        {"kdf": {"name": "scrypt", "n": -5, "r": 8, "p": 1, "salt": "00"}},
        {"kdf": {"name": "scrypt", "n": "16", "r": 8, "p": 1, "salt": "00"}},
        {"kdf": {"name": "scrypt", "n": 17, "r": 8, "p": 1, "salt": "00"}},
        {"kdf": 5},
        {"nonce": "00"},
        {"wrapped": "AAAA"},
        {"wrapped": "?"},
        {"requires": 5, "format_version": "x"},
    ],
)
def test_a_key_object_that_is_damaged_or_hostile(url: str, locator: str, changes: dict[str, object]) -> None:
    path = Path(url.removeprefix("file://")) / keys.KEY
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with open_store(url, options()) as store, pytest.raises(RecordDamagedError, match=r"keys/main.json is damaged"):
        store.get("volumes/x")
        store.create("volumes/x", b"x")


def test_the_key_of_another_store_opens_nothing(url: str, locator: str, tmp_path: Path) -> None:
    other = f"file://{tmp_path}/other"
    new(other, a=b"x").commit.sync("x")
    shutil.copy(tmp_path / "other" / keys.KEY, tmp_path / "store" / keys.KEY)
    with pytest.raises(EncryptionKeyError, match="another key"):
        Volume.from_locator.sync(locator, encryption=SECRET)


@pytest.mark.fuse
def test_a_mount_of_an_encrypted_store(url: str, tmp_path: Path) -> None:
    volume = Volume.new("mounted", url, encryption=SECRET)
    where = volume.mount.sync(tmp_path / "mnt")
    try:
        (where / "file").write_bytes(b"through the kernel" * 1000)
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert SECRET not in listed
        log = Path(volume.status()["log_path"]).read_text()
        assert SECRET not in log
        volume.commit.sync("from the daemon")
    finally:
        volume.finalize.sync()
    assert b"through the kernel" not in b"".join(everything(url).values())
    assert (
        Volume.from_name.sync("mounted", url, encryption=SECRET).read_bytes.sync("/file")
        == b"through the kernel" * 1000
    )


def test_the_command_changes_the_secret(url: str, locator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from flyteplugins_vol.cli.options import Options
    from flyteplugins_vol.cli.rekey import rekey

    monkeypatch.setenv("FLYTE_VOL_ENCRYPTION_KEY", SECRET)
    with pytest.raises(UsageError, match="FLYTE_VOL_NEW_ENCRYPTION_KEY is not set"):
        CliRunner().invoke(rekey, ["--store", url], obj=Options(), catch_exceptions=False)
    monkeypatch.setenv("FLYTE_VOL_NEW_ENCRYPTION_KEY", OTHER)
    done = CliRunner().invoke(rekey, ["--store", url], obj=Options(), catch_exceptions=False)
    assert done.exit_code == 0
    assert OTHER not in done.output
    assert Volume.from_locator.sync(locator, encryption=OTHER).read_bytes.sync("/a") == b"one"
