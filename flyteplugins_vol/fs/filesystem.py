"""The file system: what fsspec asks of one, said in the methods of `flyteplugins_vol.io` volumes."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# fsspec says little about the types of its arguments.

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from glob import has_magic
from typing import Any, cast

from fsspec.compression import compr  # pyright: ignore[reportMissingTypeStubs]
from fsspec.core import get_compression  # pyright: ignore[reportMissingTypeStubs]

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.fs import urls
from flyteplugins_vol.fs.publishing import Publishing, in_turn
from flyteplugins_vol.fs.writing import NewFile, changed_file, close_both
from flyteplugins_vol.io import RWVolume, StoreOptions, Volume
from flyteplugins_vol.io.info import FileInfo

_BLOCK = 1 << 20  # bytes read ahead of a reader who asks for less

Info = dict[str, Any]


class VolumeFileSystem(Publishing):
    """One volume. `urls` has the form of its URLs.

    ``volume``: a locator, or NAME@VERSION as of `Volume.find`: that version, read-only. A name: the volume of that name
    in ``store`` (by default ``FLYTE_VOL_STORE``), which can be written: each file that is closed, each removal, each
    transaction (``with fs.transaction:``) publishes a version; with ``publish=False``, `commit` does. A handle (better
    by `of`): what is written becomes a version by its own ``commit`` or ``finalize``.
    ``create``: make a volume of that name if there is none. ``message``: of the versions that are published.

    Threads may share one: changes take turns, and whoever reads goes on at the version that another has published.
    """

    protocol = urls.PROTOCOL
    root_marker = ""
    async_impl = False
    # A name leads elsewhere with every version, and with another FLYTE_VOL_STORE; and whoever closes a volume closes it
    # for nobody else.
    cachable = False

    def __init__(
        self, volume: str | Volume = "", *, store: str | None = None, store_options: Mapping[str, Any] | None = None,
        publish: bool | None = None, create: bool = False, message: str | None = None, fo: str = "",
        target_protocol: str = "", target_options: Mapping[str, Any] | None = None, **options: Any,
    ) -> None:  # fmt: skip
        if fo and not volume:
            volume = urls.locator_from_chain(target_protocol or "file", fo)
        if not volume:
            raise UsageError(
                "this flytevol:// URL names no volume",
                hint="flytevol://LOCATOR!/path, flytevol://NAME!/path, flytevol://NAME@VERSION!/path, or volume=",
            )
        self.address = volume if isinstance(volume, str) else volume.locator or volume.name
        credentials = StoreOptions.from_wire(store_options) if store_options is not None else None
        super().__init__(
            volume, store=store, store_options=credentials, publish=publish, create=create, message=message, **options
        )

    @classmethod
    def of(cls, volume: Volume) -> VolumeFileSystem:
        """The file system of a handle: what is written through it is the handle's to commit."""
        return cls(volume, skip_instance_cache=True)

    @property
    def fsid(self) -> str:
        return f"flytevol-{self.volume.store}-{self.volume.id}"

    # -- names -----------------------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in cast("list[Any]", path)]
        return urls.split(str(path)).name

    @classmethod
    def _parent(cls, path: str) -> str:
        parts = urls.split(str(path))
        return urls.Parts(parts.volume, parts.path.rpartition("/")[0]).name

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        volume = urls.split(path).volume
        return {"volume": volume} if volume else {}

    def unstrip_protocol(self, name: str) -> str:
        parts = urls.split(name)
        return urls.url_of(urls.Parts(parts.volume or self.address, parts.path))

    def _inside(self, path: Any) -> str:
        """The path in the volume. Raises `UsageError` if it is one in another volume."""
        parts = urls.split(str(path))
        if parts.volume and parts.volume != self.address:
            raise UsageError(
                f"{path} is not in {self.address}", hint="make a file system for each volume, or let fsspec.open do so"
            )
        return parts.path

    # -- looking ---------------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> Info:
        name, inside = self._strip_protocol(path), self._inside(path)
        return self._info(name, inside, self.look(lambda volume: volume.stat.sync(inside, follow_symlinks=False)))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        prefix = urls.split(path).volume  # the names have it if the path had it
        inside = self._inside(path)
        found = [
            self._info(urls.Parts(prefix, info.path.strip("/")).name, info.path, info)
            for info in self.look(lambda volume: volume.ls.sync(inside))
        ]
        return found if detail else [info["name"] for info in found]

    def walk(
        self, path: str, maxdepth: int | None = None, topdown: bool = True, on_error: Any = "omit", **kwargs: Any
    ) -> Any:
        """As fsspec's own, which calls itself for each level and so ends with a RecursionError some 900 levels down."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        detail = kwargs.pop("detail", False)
        # with the inodes of the directories that each is in: a symlink that leads to one of them leads nowhere new
        todo: list[tuple[str, int, tuple[str, Any, Any] | None, frozenset[int]]] = [
            (self._strip_protocol(path), 1, None, frozenset())
        ]
        while todo:
            here, level, done, above = todo.pop()
            if done is not None:  # from the bottom up: all below it came before
                yield done
                continue
            try:
                inode = self._stat(self._inside(here)).ino
                if inode in above:
                    continue
                above |= {inode}
                listing = self.ls(here, detail=True, **kwargs)
            except OSError as error:
                if on_error == "raise":
                    raise
                if callable(on_error):
                    on_error(error)
                continue
            named = {"" if info["name"] == here else info["name"].rpartition("/")[2]: info for info in listing}
            directories = {name: info for name, info in named.items() if info["type"] == "directory"}
            files = {name: info for name, info in named.items() if name not in directories}
            paths = {name: info["name"] for name, info in directories.items()}
            found = (here, directories, files) if detail else (here, list(directories), list(files))
            if topdown:
                yield found
            else:
                todo.append((here, level, found, above))
            if maxdepth is None or level < maxdepth:
                todo.extend((paths[name], level + 1, None, above) for name in reversed(list(found[1])) if name in paths)

    def exists(self, path: str, **_: Any) -> bool:
        inside = self._inside(path)
        return self.look(lambda volume: volume.exists.sync(inside))

    def created(self, path: str) -> datetime:
        return _time(self._stat(self._inside(path)).ctime)

    def modified(self, path: str) -> datetime:
        return _time(self._stat(self._inside(path)).mtime)

    def ukey(self, path: str) -> str:
        info = self._stat(self._inside(path))
        return f"{self.volume.version}-{info.ino}-{info.size}-{info.mtime}-{info.ctime}"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        inside = self._inside(path)
        first, size = start or 0, None
        if first < 0 or end is not None:
            length = self._stat(inside).size
            first = max(0, length + first) if first < 0 else first
            stop = length if end is None else end + length if end < 0 else end
            size = max(0, stop - first)
        return self.look(lambda volume: volume.read_bytes.sync(inside, offset=first, size=size))

    def _stat(self, inside: str) -> FileInfo:
        return self.look(lambda volume: volume.stat.sync(inside))

    def invalidate_cache(self, path: str | None = None) -> None:
        """A name's newest version is looked up again, unless something was written that is in none."""
        with self.turn:
            if not (self.open_files or self._has_changes):
                self._let_go()
        super().invalidate_cache(path)

    # -- changing --------------------------------------------------------------------------------------------------

    @in_turn
    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Published with the next file: directories alone are no version."""
        self.writable().mkdir.sync(self._inside(path), parents=create_parents)

    @in_turn
    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        volume = self.writable()
        if not (exist_ok and self.isdir(path)):
            volume.mkdir.sync(self._inside(path), parents=True, exist_ok=exist_ok)

    @in_turn
    def rmdir(self, path: str) -> None:
        if not self.isdir(path):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self._rm(path)

    @in_turn
    def _rm(self, path: str) -> None:
        self.writable().remove.sync(self._inside(path))
        self.written()

    @in_turn
    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        with self.one_version():
            if maxdepth is not None:
                super().rm(path, recursive=recursive, maxdepth=maxdepth)
                return
            paths: list[str] = self.expand_path(path)
            for one in paths:
                self.writable().remove.sync(self._inside(one), recursive=recursive)

    @in_turn
    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        with self.one_version():
            source, target = self._inside(path1), self._inside(path2)
            if self.info(path1)["type"] == "directory":
                self.makedirs(path2, exist_ok=True)
                return
            self._make_parent(target)
            self.writable().copy.sync(source, target, force=True)

    @in_turn
    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **options: Any) -> None:
        """As shutil.move: of one name, whatever it is, by renaming it; a directory takes it inside."""
        with self.one_version():
            if not isinstance(path1, str) or not isinstance(path2, str) or has_magic(path1) or maxdepth is not None:
                super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **options)
                return
            self._move(self._inside(path1), self._inside(path2), into=path2.endswith("/") or self._is_directory(path2))

    def _is_directory(self, path: str) -> bool:
        try:
            return self._stat(self._inside(path)).is_dir
        except OSError:
            return False

    def _move(self, source: str, target: str, *, into: bool) -> None:
        def look(path: str) -> FileInfo:
            return self.look(lambda volume: volume.stat.sync(path, follow_symlinks=False))

        moved = look(source)
        if into:
            target = f"{target}/{source.rpartition('/')[2]}".lstrip("/")
        with suppress(FileNotFoundError):
            there = look(target)
            if there.ino == moved.ino and source == target and not into:
                return
            if into or there.is_dir:
                raise FileExistsError(errno.EEXIST, "is there already", target)
        if f"{target}/".startswith(f"{source}/"):
            raise OSError(errno.EINVAL, "cannot be moved into itself", source)
        self._make_parent(target)
        self.writable().rename.sync(source, target, force=True)

    @in_turn
    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        data = b"" if truncate or not self.exists(path) else self.cat_file(path)
        self.pipe_file(path, data)

    @in_turn
    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        inside = self._inside(path)
        volume = self.writable()
        self._make_parent(inside)
        volume.write_bytes.sync(inside, value, force=mode != "create")
        self.written()

    def put(self, *args: Any, **options: Any) -> None:
        with self.one_version():
            super().put(*args, **options)

    def get(self, *args: Any, **options: Any) -> None:
        with self._from_root():
            super().get(*args, **options)

    def copy(self, *args: Any, **options: Any) -> None:
        with self.one_version(), self._from_root():
            super().copy(*args, **options)

    @contextmanager
    def _from_root(self) -> Generator[None, None, None]:
        """`expand_path` writes names with a slash: without one fsspec takes ``dir`` for what is in it."""
        self._of_thread.from_root = True
        try:
            yield
        finally:
            self._of_thread.from_root = False

    def expand_path(self, path: Any, *args: Any, **options: Any) -> list[str]:
        if not getattr(self._of_thread, "from_root", False):
            return super().expand_path(path, *args, **options)
        self._of_thread.from_root = False  # it calls itself
        found: list[str] = super().expand_path(path, *args, **options)
        return [name if urls.split(name).volume else f"/{name.lstrip('/')}" for name in found]

    def pipe(self, *args: Any, **options: Any) -> None:
        with self.one_version():
            super().pipe(*args, **options)

    # -- files -----------------------------------------------------------------------------------------------------

    def open(
        self, path: str, mode: str = "rb", block_size: int | None = None, cache_options: Any = None,
        compression: str | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        if compression is None or "b" not in mode:  # as text it comes here again, for the bytes
            return super().open(path, mode, block_size, cache_options, compression, **options)
        file = super().open(path, mode, block_size, cache_options, **options)
        try:
            codec = compr[get_compression(path, compression)]
            return close_both(codec(file, mode=mode[0]), file)
        except BaseException:
            if isinstance(file, NewFile):
                file.discard()
            file.close()
            raise

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, autocommit: bool = True,
        cache_options: Any = None, **_: Any,
    ) -> Any:  # fmt: skip
        inside = self._inside(path)
        size = block_size if isinstance(block_size, int) and block_size > 0 else _BLOCK
        if mode == "rb":
            return self.open_to_read(inside, size)
        return self._open_to_write(path, mode, inside, size, autocommit)

    @in_turn
    def _open_to_write(self, path: str, mode: str, inside: str, size: int, autocommit: bool) -> Any:
        volume = self.writable()
        if mode == "xb" and volume.exists.sync(inside):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if not mode.startswith("r"):
            self._make_parent(inside)
        if mode in ("wb", "xb"):
            return NewFile(self, volume, inside, size, autocommit=autocommit)
        return changed_file(self, volume.open.sync(inside, mode, buffering=size), size)

    def _make_parent(self, inside: str) -> None:
        parent = inside.rpartition("/")[0]
        volume = self.volume
        if parent and isinstance(volume, RWVolume) and not volume.exists.sync(parent):
            volume.mkdir.sync(parent, parents=True, exist_ok=True)

    def _info(self, name: str, inside: str, info: FileInfo) -> Info:
        found = info
        if info.is_symlink:  # as fsspec's local files: what it leads to, if it leads anywhere
            try:
                found = self._stat(inside)
            except OSError:
                found = info
        made: Info = {
            "name": name,
            "size": 0 if found.is_dir else found.size,
            "type": {"file": "file", "directory": "directory", "symlink": "link"}.get(found.kind, "other"),
            "created": info.ctime / 1e9,
            "mtime": info.mtime / 1e9,
            "mode": info.mode,
            "uid": info.uid,
            "gid": info.gid,
            "ino": info.ino,
            "nlink": info.nlink,
            "islink": info.is_symlink,
        }
        if info.is_symlink:
            made["destination"] = info.target
        return made


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, timezone.utc)
