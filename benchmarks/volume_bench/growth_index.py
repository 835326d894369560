"""The index alone, up to ten million files: filled, published, brought back, opened and looked at."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from flyteplugins_vol.history.segments import checkout_segments, publish_segments
from flyteplugins_vol.index.index import Index
from flyteplugins_vol.store.open import open_store
from volume_bench.bulk import PER_DIRECTORY, fill_index
from volume_bench.curve import Curve, Line, timed
from volume_bench.measure import Clock, drop_page_cache

_LOOKUPS = 2000


def by_index(scratch: Path, sizes: Sequence[int]) -> Curve:
    """Files of an index that no daemon serves; its packs are not made."""
    curve = Curve("index", "Files of an index", "files", {
        "fill": Line("fill it, in SQL", "s"),
        "size": Line("its size", "MB"),
        "publish": Line("publish it whole", "s"),
        "ten": Line("publish after ten files changed", "s"),
        "sent": Line("bytes that this sends", "MB"),
        "checkout": Line("bring it back from the store", "s"),
        "open": Line("open it", "ms"),
        "lookup": Line("look up a random path, nothing cached", "µs"),
        "again": Line("the same paths again", "µs"),
    })  # fmt: skip
    for files in sizes:
        directory = scratch / f"index-{files}"
        directory.mkdir(parents=True)
        _one(curve, directory, files)
        shutil.rmtree(directory)
    return curve


def _one(curve: Curve, directory: Path, files: int) -> None:
    path = str(directory / "index.db")
    store = open_store((directory / "store").as_uri())
    index = Index.create(path, uid=0, gid=0)
    curve.add(files, fill=timed(lambda: (fill_index(index, files, None), _settle(index))))
    curve.add(files, size=os.path.getsize(path) / 1e6)
    clock = Clock()
    with clock.running():
        base = publish_segments(store, path, None).segments
    curve.add(files, publish=clock.seconds)
    chance = random.Random(files)
    _change(index, [chance.randrange(files) for _ in range(10)])
    published = publish_segments(store, path, base)
    curve.add(files, ten=timed(publish_segments, store, path, base, runs=3), sent=published.bytes / 1e6)
    index.close()
    os.unlink(path)
    drop_page_cache()
    curve.add(files, checkout=timed(checkout_segments, store, published.segments.map, path))
    store.close()
    _look(curve, path, files)


def _settle(index: Index) -> None:
    index.commit()
    index.db.checkpoint()


def _change(index: Index, numbers: Sequence[int]) -> None:
    for number in numbers:
        inode = index.inodes.get(_find(index, number))
        assert inode is not None
        inode.mtime += 1
        index.inodes.changed(inode)
    _settle(index)


def _look(curve: Curve, path: str, files: int) -> None:
    def opened() -> float:
        drop_page_cache()
        return timed(lambda: Index.open(path, read_only=True).close())

    curve.add(files, open=median(opened() for _ in range(3)) * 1000)
    drop_page_cache()
    index = Index.open(path, read_only=True)
    chance = random.Random(9)
    numbers = [chance.randrange(files) for _ in range(_LOOKUPS)]
    for name in ("lookup", "again"):
        curve.add(files, **{name: timed(lambda: [_find(index, number) for number in numbers]) / _LOOKUPS * 1e6})
    index.close()


def _find(index: Index, number: int) -> int:
    """From the root to a file, as a LOOKUP of each part does: names, then attributes."""
    directory = index.entries.get(1, b"part-%05d" % (number // PER_DIRECTORY))
    assert directory is not None
    found = index.entries.get(directory, b"%08d.txt" % number)
    assert found is not None
    assert index.inodes.get(found) is not None
    return found
