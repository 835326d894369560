"""Nothing that is given as an address or a path leads out of what it is an address or a path in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flyteplugins_vol.errors import LocatorError, RecordDamagedError, StoreError, UsageError, VolumeError
from flyteplugins_vol.history.record import load_record, parse_locator
from flyteplugins_vol.history.refs import ref_key
from flyteplugins_vol.io import RWVolume, Volume
from flyteplugins_vol.store.open import open_store

FILE = "00000001-" + "0" * 40 + ".json"
SECRET = "what others must not read"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside"
    path.write_text(SECRET)
    return path


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RWVolume:
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(tmp_path / "cache"))
    made = Volume.new("bounded", f"file://{tmp_path}/store")
    made.write_bytes.sync("/inside", b"inside")
    made.mkdir.sync("/dir")
    return made


@pytest.mark.parametrize(
    "text",
    [
        f"file:///store/../etc/volumes/x-0123456789abcdef/versions/{FILE}",
        f"file:///store/%2e%2e/etc/volumes/x-0123456789abcdef/versions/{FILE}",
        f"file:///store/volumes/../../x-0123456789abcdef/versions/{FILE}",
        f"file:///store/volumes/x/..-0123456789abcdef/versions/{FILE}",
        f"file:///store/volumes/x-0123456789abcdef/versions/../{FILE}",
        f"file:///store/volumes/x-0123456789abcdef/versions/{FILE}/../../../passwd",
        f"file:///store\0/volumes/x-0123456789abcdef/versions/{FILE}",
        f"file://host/store/volumes/x-0123456789abcdef/versions/{FILE}",
        f"s3://bucket/../other/volumes/x-0123456789abcdef/versions/{FILE}",
        f"s3://user:password@bucket/volumes/x-0123456789abcdef/versions/{FILE}",
        f"s3://bucket/volumes/x-0123456789abcdef/versions/{FILE}?versionId=5",
        "/etc/passwd",
        "file:///etc/passwd",
    ],
)
def test_a_locator_stays_in_its_scheme_and_store(text: str) -> None:
    with pytest.raises((LocatorError, UsageError)) as caught:
        Volume.from_locator.sync(text)
    assert "password" not in str(caught.value) or "carries a user name or a password" in str(caught.value)


@pytest.mark.parametrize("name", ["../main", "a/b", "", ".hidden", "..", "a\0b", "x" * 64])
def test_a_ref_and_a_volume_have_no_path_in_their_name(name: str) -> None:
    with pytest.raises(UsageError):
        ref_key("volume", "0123456789abcdef", name)
    with pytest.raises(UsageError):
        Volume.new(name, "memory://x")


def test_a_link_in_a_directory_used_as_a_store_is_no_volume(tmp_path: Path, outside: Path) -> None:
    """`file://` follows links that its owner made: who may write to the directory may put anything there anyway."""
    with open_store(f"file://{tmp_path}/store") as store:
        for key in ("../outside", "volumes/../../outside", "/etc/passwd", ".lock"):
            with pytest.raises(StoreError):
                store.get(key)


def test_a_record_names_objects_of_its_own_store_only(volume: RWVolume, tmp_path: Path) -> None:
    volume.commit.sync("x")
    assert volume.locator is not None
    locator = parse_locator(volume.locator)
    path = tmp_path / "store" / locator.key
    body = path.read_text()
    name = body.split('"name":"')[1][:64]
    for other in ("../../../../outside", "/etc/passwd", "s3://bucket/x", name[:-1] + "/", name.upper()):
        from blake3 import blake3

        altered = body.replace(name, other).encode()
        file = f"00000001-{blake3(altered).hexdigest()[:40]}.json"
        (path.parent / file).write_bytes(altered)
        with open_store(locator.store_url) as store, pytest.raises(RecordDamagedError):
            load_record(store, parse_locator(str(locator).replace(locator.file, file)))


@pytest.mark.parametrize(
    "path", ["../../outside", "/../../../outside", "dir/../../../outside", "/dir/../../inside/../../outside"]
)
def test_dots_stop_at_the_root(volume: RWVolume, outside: Path, path: str) -> None:
    with pytest.raises(OSError):
        volume.read_bytes.sync(path)
    assert volume.read_bytes.sync("/../../inside") == b"inside"


@pytest.mark.parametrize("target", ["{}", "/etc/passwd", "../../../../../../{}", "/proc/self/root{}"])
def test_links_lead_nowhere_else(volume: RWVolume, outside: Path, tmp_path: Path, target: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.symlink(target.format(outside), source / "link")
    with volume.batch_upload() as batch:
        batch.put_directory(source, "/")
    with pytest.raises(OSError):
        volume.read_bytes.sync("/link")
    try:
        volume.write_bytes.sync("/link", b"overwritten")
    except (OSError, VolumeError):
        pass
    assert outside.read_text() == SECRET


def test_a_download_writes_where_it_was_told(volume: RWVolume, outside: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a" / "file").write_bytes(b"new")
    os.symlink(outside, source / "link")
    with volume.batch_upload() as batch:
        batch.put_directory(source, "/tree")
    target = tmp_path / "target"
    (target / "tree").mkdir(parents=True)
    os.symlink(tmp_path, target / "tree" / "a")  # somebody hopes that a/file goes through it
    os.symlink(outside, target / "tree" / "link")
    volume.download.sync("/tree", str(target), force=True)
    assert not (target / "tree" / "a").is_symlink()
    assert (target / "tree" / "a" / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").exists()
    assert outside.read_text() == SECRET
