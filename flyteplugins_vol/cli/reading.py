"""Commands that look at files: ls, tree, cat, stat, get."""

from __future__ import annotations

import stat as modes
import sys
from collections import deque
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from flyteplugins_vol.cli.addresses import path_in, version_at
from flyteplugins_vol.cli.completing import paths as volume_paths
from flyteplugins_vol.cli.completing import volume_names
from flyteplugins_vol.cli.errors import NotFoundError
from flyteplugins_vol.cli.options import LocalPath, Options, common
from flyteplugins_vol.cli.output import file_wire, name_text, path_wire, plain_name, table, to_standard_output
from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.human import shown, size, when
from flyteplugins_vol.io import ROVolume
from flyteplugins_vol.io.info import FileInfo

_PART = 4 << 20
_DEEPEST_JSON = 200  # levels: Python's own JSON gives up at some 450


@click.command(short_help="List a directory.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("paths", nargs=-1, shell_complete=volume_paths)
@click.option("-l", "--long", is_flag=True, help="Permissions, owner, size and time as well.")
@click.option("-r", "-R", "--recursive", is_flag=True, help="With all that is below.")
@click.option("-S", "sort", flag_value="size", help="The largest first.")
@click.option("-t", "sort", flag_value="time", help="The newest first.")
@common
def ls(options: Options, volume: str, paths: tuple[str, ...], long: bool, recursive: bool, sort: str | None) -> None:
    """List files. Without a path: the volume's root. Reads the index only, no file's content.

    Names that a terminal could not show are escaped; the escaped form can be given as a path.

    \b
    flytevol ls data
    flytevol ls data@3 images -l -S
    flytevol ls data --json -r | jq '.[] | select(.size > 1e9) | .path'
    """
    version = version_at(volume, options.store)
    found = [info for path in paths or ("/",) for info in version.ls.sync(path_in(version, path), recursive=recursive)]
    if sort is not None:
        found.sort(key=lambda info: info.size if sort == "size" else info.mtime, reverse=True)
    output = options.output
    several = recursive or len(paths) > 1
    if options.as_json:
        output.result([file_wire(info) for info in found])
    elif long:
        rows = [_long(info, several) for info in found]
        columns = ("MODE", "LINKS", "OWNER", "SIZE", "MODIFIED", "NAME")
        output.result(None, table(columns, rows, right=("LINKS", "SIZE")))
    else:
        for info in found:
            name = shown(info.path) if several else None
            if output.out.is_terminal:
                output.out.print(name_text(info, name))
            else:
                output.line(plain_name(info, name))


@click.command(short_help="Show the tree of directories.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("path", default="/", shell_complete=volume_paths)
@click.option("-L", "--depth", type=click.IntRange(1), metavar="N", help="Go no deeper than N levels.")
@click.option("-d", "--directories", is_flag=True, help="Directories only.")
@common
def tree(options: Options, volume: str, path: str, depth: int | None, directories: bool) -> None:
    """Show a directory and all below it as a tree, with sizes.

    \b
    flytevol tree data
    flytevol tree data images -L 2
    """
    version = version_at(volume, options.store)
    top = version.stat.sync(path_in(version, path))
    if options.as_json:
        options.output.result(_nested(version, top, depth, directories))
        return
    output = options.output
    output.out.print(name_text(top, shown(top.path)))
    if not top.is_dir:
        return
    for prefix, info in _branches(version, top.path, depth, directories, ""):
        note = Text("" if info.is_dir else f"  {size(info.size)}", style="dim")
        output.out.print(Text(prefix, style="dim") + name_text(info) + note)


@click.command(short_help="Print files.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("paths", nargs=-1, required=True, shell_complete=volume_paths)
@common
def cat(options: Options, volume: str, paths: tuple[str, ...]) -> None:
    """Print the content of files, byte for byte. With --json: text, or base64 where it is not UTF-8.

    \b
    flytevol cat data README.md
    flytevol cat data big.csv | head -n 3        # fetches what is read, and no more
    """
    version = version_at(volume, options.store)
    if options.as_json:
        options.output.result([_content(version, path_in(version, path)) for path in paths])
        return
    for path in paths:
        _stream(version, path_in(version, path))


@click.command(short_help="Show a file's attributes, or a version's.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("paths", nargs=-1, shell_complete=volume_paths)
@common
def stat(options: Options, volume: str, paths: tuple[str, ...]) -> None:
    """Show all that is known of files; without a path, of the version.

    \b
    flytevol stat data
    flytevol stat data@3 weights.bin
    """
    from flyteplugins_vol.cli.output import version_wire

    version = version_at(volume, options.store)
    found = [version.stat.sync(path_in(version, path), follow_symlinks=False) for path in paths]
    wires = [file_wire(info) for info in found] if paths else [version_wire(version)]
    if options.as_json:
        options.output.result(wires if len(paths) != 1 and paths else wires[0])
        return
    for wire, info in zip_longest(wires, found):
        if info is not None:  # in JSON some names are escaped already
            wire |= {"path": info.path, "target": info.target}
        rows = [(name, _cell(name, value)) for name, value in wire.items() if value is not None]
        options.output.result(None, table(("", ""), rows))


@click.command(short_help="Copy files to this machine.")
@click.argument("volume", shell_complete=volume_names)
@click.argument("path", shell_complete=volume_paths)
@click.argument("dest", default=".", type=LocalPath(allow_dash=True))
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@common
def get(options: Options, volume: str, path: str, dest: str, force: bool) -> None:
    """Copy a file or a directory, with permissions and times. DEST `-` streams a file to standard output.

    Fifos, sockets and devices in a directory are left out.

    \b
    flytevol get data images ./images
    flytevol get data@3 weights.bin - | sha256sum
    """
    version = version_at(volume, options.store)
    path = path_in(version, path)
    if dest == "-":
        if options.as_json:
            raise UsageError("standard output cannot be the file and JSON", hint="leave out one of - and --json")
        if version.stat.sync(path).is_dir:
            raise UsageError(
                f"{shown(path)} is a directory, and - takes the bytes of one file", hint="give another DEST"
            )
        _stream(version, path)
        return
    parent = Path(dest).absolute().parent
    if not parent.is_dir() and not version.stat.sync(path).is_dir:
        raise NotFoundError(f"there is no directory {shown(str(parent))!r}", hint="make it, or give another DEST")
    output = options.output
    with output.progress(f"getting {shown(path)}", _size_of(version, path)) as bar:
        target = version.download.sync(path, Path(dest), force=force, progress=bar)
    output.note_skipped(bar)
    output.result({**path_wire(str(target)), "bytes": bar.bytes, "skipped": bar.skipped}, shown(str(target)))


def _long(info: FileInfo, several: bool) -> tuple[str | Text, ...]:
    kind = {"directory": modes.S_IFDIR, "symlink": modes.S_IFLNK, "file": modes.S_IFREG, "fifo": modes.S_IFIFO}
    mode = modes.filemode(kind.get(info.kind, 0) | info.mode)
    owner = f"{info.uid}:{info.gid}"
    name = name_text(info, shown(info.path) if several else None)
    return mode, str(info.nlink), owner, size(info.size), when(info.mtime), name


def _branches(
    version: ROVolume, path: str, depth: int | None, directories: bool, prefix: str
) -> Iterator[tuple[str, FileInfo]]:
    levels = [(prefix, _shown_in(version, path, directories))]
    while levels:
        prefix, found = levels[-1]
        if not found:
            levels.pop()
            continue
        info = found.popleft()
        yield prefix + ("├── " if found else "└── "), info
        if info.is_dir and (depth is None or len(levels) < depth):
            levels.append((prefix + ("│   " if found else "    "), _shown_in(version, info.path, directories)))


def _shown_in(version: ROVolume, path: str, directories: bool) -> deque[FileInfo]:
    return deque(info for info in version.ls.sync(path) if info.is_dir or not directories)


def _nested(version: ROVolume, info: FileInfo, depth: int | None, directories: bool) -> dict[str, Any]:
    top = file_wire(info)
    todo = [(top, info, 0)]
    while todo:
        wire, info, level = todo.pop()
        if not info.is_dir or level == depth:
            continue
        if level == _DEEPEST_JSON:
            raise UsageError(
                f"{shown(info.path)} is {level} levels down: JSON nested that deep is read by no library",
                hint="--depth goes no deeper than you say; or `flytevol ls -r --json` gives a flat list",
            )
        children = [(file_wire(child), child, level + 1) for child in _shown_in(version, info.path, directories)]
        wire["children"] = [child for child, _, _ in children]
        todo += children
    return top


def _stream(version: ROVolume, path: str) -> None:
    with version.open.sync(path, "rb", buffering=_PART) as file:
        data = b""
        while True:
            with to_standard_output():
                sys.stdout.flush()
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            if not (data := file.read(_PART)):
                break


def _content(version: ROVolume, path: str) -> dict[str, Any]:
    import base64

    data = version.read_bytes.sync(path)
    try:
        return {**path_wire(path), "text": data.decode()}
    except UnicodeDecodeError:
        return {**path_wire(path), "base64": base64.b64encode(data).decode()}


def _size_of(version: ROVolume, path: str) -> int:
    info = version.stat.sync(path)
    if not info.is_dir:
        return info.size
    return sum(child.size for child in version.ls.sync(path, recursive=True) if child.is_file)


def _cell(name: str, value: Any) -> str:
    if name.endswith("time_ns"):
        return f"{when(value)}  ({value})"
    if name == "size":
        return f"{value}  ({size(value)})"
    if isinstance(value, dict):
        return "  ".join(f"{key}={inner}" for key, inner in value.items())  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return "  ".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType]
    return shown(str(value))
