"""Files without a mount, and through one: the same methods, the same answers."""

from __future__ import annotations

import errno
import io
import os

import pytest

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.io import RWVolume, Volume
from tests.io.conftest import World, names


def test_write_and_read(volume: RWVolume) -> None:
    volume.write_bytes.sync("greeting", b"hello")
    assert volume.read_bytes.sync("/greeting") == b"hello"
    assert volume.read_bytes.sync("greeting", offset=1, size=3) == b"ell"
    assert volume.read_bytes.sync("greeting", offset=9) == b""
    volume.write_text.sync("greeting", "grüß")
    assert volume.read_text.sync("greeting") == "grüß"
    with pytest.raises(FileExistsError):
        volume.write_bytes.sync("greeting", b"", force=False)
    with pytest.raises(UsageError):
        volume.read_bytes.sync("greeting", offset=-1)
    info = volume.stat.sync("greeting")
    assert (info.path, info.name, info.kind, info.size, info.nlink) == ("/greeting", "greeting", "file", 6, 1)
    assert names(volume) == ["/greeting"]
    assert names(volume, "greeting") == ["/greeting"]


def test_wrong_paths(volume: RWVolume) -> None:
    volume.mkdir.sync("a/b", parents=True)
    volume.write_bytes.sync("a/f", b"f")
    for verb in (volume.ls.sync, volume.stat.sync, volume.read_bytes.sync, volume.open.sync, volume.remove.sync):
        with pytest.raises(FileNotFoundError) as caught:
            verb("a/not-there")
        assert caught.value.filename == "a/not-there"
        with pytest.raises(NotADirectoryError):
            verb("a/f/x")
    with pytest.raises(IsADirectoryError):
        volume.read_bytes.sync("a")
    with pytest.raises(IsADirectoryError):
        volume.write_bytes.sync("a", b"")
    with pytest.raises(FileNotFoundError):
        volume.write_bytes.sync("x/y", b"")
    with pytest.raises(FileExistsError):
        volume.mkdir.sync("a")
    volume.mkdir.sync("a", exist_ok=True)
    with pytest.raises(OSError, match="not empty") as caught:
        volume.remove.sync("a")
    assert caught.value.errno == errno.ENOTEMPTY
    assert not volume.exists.sync("a/f/x")
    assert not volume.exists.sync("b")
    assert volume.exists.sync("a/../a/./f")


def test_what_is_written_over_a_file_keeps_its_mode(volume: RWVolume, world: World) -> None:
    local = world.path("run")
    local.write_bytes(b"1")
    local.chmod(0o755)
    with volume.batch_upload() as batch:
        batch.put_file(local, "run")
        batch.put_file(io.BytesIO(b"1"), "closed", mode=0)
    volume.write_bytes.sync("run", b"2")
    volume.write_bytes.sync("new", b"2")
    assert [volume.stat.sync(path).mode for path in ("run", "new", "closed")] == [0o755, 0o644, 0]
    with volume.batch_upload(force=True) as batch:
        batch.put_file(io.BytesIO(b"3"), "run")
        batch.put_file(io.BytesIO(b"3"), "closed", mode=0o600)
    assert [volume.stat.sync(path).mode for path in ("run", "closed")] == [0o755, 0o600]


def test_any_bytes_may_be_a_name(volume: RWVolume) -> None:
    for name in (b"\xff\xfe", b"line\nbreak", "grüß \U0001f40b".encode(), b"esc\x1b[31m", b"x" * 255):
        volume.write_bytes.sync(name, name)
        path = names(volume)[0]
        assert os.fsencode(path) == b"/" + name
        assert volume.read_bytes.sync(path) == name
        volume.remove.sync(path)
    with pytest.raises(OSError, match="File name too long"):
        volume.write_bytes.sync(b"x" * 256, b"")
    with pytest.raises(OSError, match="Invalid or incomplete"):
        volume.write_bytes.sync("\ud800", b"")


def test_symlinks_stay_in_the_volume(volume: RWVolume, world: World) -> None:
    secret = world.path("secret")
    secret.write_text("of the machine")
    here = world.path("local")
    here.mkdir()
    (here / "file").write_text("inside")
    (here / "sub").mkdir()
    for name, target in {
        "good": "file", "sub/up": "../file", "absolute": str(secret), "above": "../../../../file", "loop": "loop",
        "dangling": "nowhere", "dir": "sub",
    }.items():  # fmt: skip
        (here / name).symlink_to(target)
    with volume.batch_upload() as batch:
        batch.put_directory(here, "/")
    for path in ("good", "sub/up", "dir/up", "above"):
        assert volume.read_text.sync(path) == "inside"
    with pytest.raises(OSError, match="leads out of the volume"):
        volume.read_bytes.sync("absolute")
    with pytest.raises(OSError, match="Too many levels"):
        volume.stat.sync("loop")
    assert not any(map(volume.exists.sync, ("dangling", "loop", "absolute", "x" * 300, "\ud800", "a\0b")))
    assert volume.download.sync("good", world.root) == world.path("good")
    info = volume.stat.sync("absolute", follow_symlinks=False)
    assert (info.kind, info.target) == ("symlink", str(secret))
    volume.write_bytes.sync("dir/new", b"through")
    assert volume.read_bytes.sync("sub/new") == b"through"
    volume.remove.sync("dir")
    assert volume.exists.sync("sub/new")


def test_walk_goes_from_the_top_and_can_be_pruned(volume: RWVolume) -> None:
    with volume.batch_upload() as batch:
        for path in ("a/1", "a/x/2", "b/3", "4"):
            batch.put_file(io.BytesIO(), path)
    assert list(volume.walk()) == [
        ("/", ["a", "b"], ["4"]), ("/a", ["x"], ["1"]), ("/a/x", [], ["2"]), ("/b", [], ["3"]),
    ]  # fmt: skip
    seen = []
    for directory, directories, _ in volume.walk("/"):
        seen.append(directory)
        if "a" in directories:
            directories.remove("a")
    assert seen == ["/", "/b"]
    with pytest.raises(NotADirectoryError):
        list(volume.walk("4"))


async def test_the_asynchronous_side(volume: RWVolume, world: World) -> None:
    async with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"1"), "a/1")
        batch.put_file(io.BytesIO(b"2"), "2")
    assert [info.path for info in await volume.ls()] == ["/2", "/a"]
    assert [step async for step in volume.walk()] == [("/", ["a"], ["2"]), ("/a", [], ["1"])]
    assert (await volume.stat("2")).size == 1
    assert await volume.read_bytes("a/1") == b"1"
    with await volume.open("3", "wb") as file:
        file.write(b"3")
    await volume.copy("3", "4")
    await volume.rename("4", "5")
    await volume.remove("3")
    assert await volume.download("/", world.path("out")) == world.path("out")
    assert sorted(os.listdir(world.path("out"))) == ["2", "5", "a"]


def test_a_version_has_no_methods_that_write(world: World) -> None:
    version = world.new().finalize.sync()
    for verb in ("batch_upload", "write_bytes", "remove", "copy", "rename", "mkdir"):
        assert not hasattr(version, verb)
    with pytest.raises(OSError, match="read-only") as caught:
        version.open.sync("x", "w")
    assert caught.value.errno == errno.EROFS


def test_small_files_go_into_packs_and_reads_fetch_what_they_need(world: World) -> None:
    volume = world.new("many")
    with volume.batch_upload() as batch:
        for number in range(3000):
            batch.put_file(io.BytesIO(b"%08d" % number * 20), f"d{number % 7}/f{number}")
        batch.put_file(io.BytesIO(os.urandom(24 << 20)), "big")
    version = volume.finalize.sync()
    assert len(world.objects("packs")) <= 4
    world.forget_caches()
    reader = world.load(version.locator)
    assert reader.read_bytes.sync("d3/f1004") == b"00001004" * 20
    with reader.open.sync("big") as file:
        file.seek(13 << 20)
        assert len(file.read(1000)) == 1000
    assert reader._access.session is not None
    assert reader._access.session.session.fetcher.requests <= 4


@pytest.mark.s3
def test_on_s3(world: World, s3_environment) -> None:
    volume = world.new("on-s3", s3_environment.new_bucket_url() + "/prefix")
    with volume.batch_upload() as batch:
        for number in range(50):
            batch.put_file(io.BytesIO(b"x" * number), f"d/{number}")
    version = volume.finalize.sync()
    world.forget_caches()
    assert len(Volume.from_locator.sync(version.locator).ls.sync("d")) == 50


@pytest.mark.slow
def test_a_hundred_thousand_small_files_are_some_packs(world: World) -> None:
    volume = world.new("many")
    with volume.batch_upload() as batch:
        for number in range(100_000):
            batch.put_file(io.BytesIO(b"%d" % number), f"d{number // 1000}/f{number}")
    version = volume.finalize.sync()
    assert version.stats["files"] == 100_101
    assert len(world.objects("packs")) + len(world.objects("index")) + len(world.objects("volumes")) < 50
    assert version.read_bytes.sync("d50/f50500") == b"50500"
