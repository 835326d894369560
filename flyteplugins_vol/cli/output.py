"""What commands print: tables and text for people, JSON for programs, progress on standard error."""

from __future__ import annotations

import base64
import errno
import json
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from flyteplugins_vol.cli.errors import Failure
from flyteplugins_vol.history.lease_wait import LeaseWait
from flyteplugins_vol.human import count, shown
from flyteplugins_vol.io import ProgressBar, Volume
from flyteplugins_vol.io.info import FileInfo
from flyteplugins_vol.io.tree import as_bytes

_WIDTH = 1 << 20  # columns: what a table would take if it could
_MAY_BE_CUT = "MESSAGE"  # the column that gives way to a narrow terminal, with other text of people
_LEAST = 12  # columns that are left of it


@contextmanager
def to_standard_output() -> Generator[None, None, None]:
    """What is written meanwhile goes there: an error says so, since a full disk may be another one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = "standard output"
        raise


class _Screen(Console):
    """Leaves a broken pipe to `main`, which has an exit code for it."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, "nobody reads any more")

    def print(self, *objects: Any, **options: Any) -> None:
        with to_standard_output():
            super().print(*objects, **options)


class Output:
    """One command's output. Results go to standard output, everything else to standard error."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.out = _Screen(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, value: Any, text: str | Text | Table | None = None) -> None:
        """The command's result: ``value`` as JSON, or ``text`` (by default the value) for people; '' is no result."""
        if self.as_json:
            self.line(json.dumps(value, indent=2 if sys.stdout.isatty() else None))
        elif isinstance(text, Table):
            self.out.print(_whole(self.out, text), end="")
        elif isinstance(text, Text):
            self.out.print(text)
        elif text != "":
            self.line(str(value) if text is None else text)

    def line(self, text: str) -> None:
        """One line, as it is."""
        with to_standard_output():
            sys.stdout.write(text + "\n")

    def note(self, text: str) -> None:
        """Something that a person wants to know and a program does not."""
        if not self.quiet and not self.as_json:
            self.err.print(Text(text, style="dim"))

    def note_skipped(self, bar: ProgressBar) -> None:
        """What a copy has left out."""
        if bar.skipped:
            what = count(bar.skipped, "fifo, socket or device", "fifos, sockets and devices")
            self.note(f"left out, since it has no content: {what}, first {shown(bar.first_skipped)}")

    def warn(self, text: str) -> None:
        self.err.print(Text("warning: ", style="yellow") + Text(text))

    def failure(self, failure: Failure) -> None:
        if self.as_json:
            wire = {"kind": failure.kind, "message": failure.message, "hint": failure.hint, "code": failure.code}
            sys.stderr.write(json.dumps({"error": wire}) + "\n")
            return
        self.err.print(Text("error: ", style="bold red") + Text(failure.message))
        if failure.hint:
            self.err.print(Text(f"  hint: {failure.hint}", style="dim"))

    def flush(self) -> None:
        """Let the results go out now."""
        with to_standard_output():
            sys.stdout.flush()

    def progress(self, title: str, total: int | None = None, *, of: str = "bytes") -> ProgressBar:
        """A bar for a ``with`` block, if standard error is a terminal. ``of``: what is counted, if anything."""
        return ProgressBar(title, total, of=of, console=self.err, quiet=self.quiet)


class Waiting(LeaseWait):
    """Says whose lease is watched, and for how long, while a mount waits for it."""

    def __init__(self, output: Output, volume: str) -> None:
        super().__init__(volume)
        self._output = output

    def say(self, text: str) -> None:
        self._output.note(text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, right: Sequence[str] = ()) -> Table:
    """Rows under plain headings; nothing in them is taken for markup."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, show_header=any(columns))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def _whole(console: Console, rows: Table) -> Segments:
    """A table as it is printed: only a message is cut to the terminal's width, which breaks longer lines by itself.

    Names, versions and locators are there to be copied. No line ends in blanks: one long name would break them all.
    """
    options = console.options.update(width=_WIDTH)
    last = rows.columns[-1]
    over = Measurement.get(console, options, rows).maximum - console.width
    if over > 0 and last.header == _MAY_BE_CUT:
        widest = max(cell_len(str(cell)) for cell in last.cells)
        last.max_width = max(_LEAST, widest - over)
    printed: list[Segment] = []
    for line in console.render_lines(rows, options, pad=False):
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            line[-1] = Segment(line[-1].text.rstrip(), line[-1].style)
        printed += [*line, Segment.line()]
    return Segments(printed)


def files_text(files: int) -> str:
    """Files and directories of a volume, of which indexes count the root as well."""
    return f"{max(0, files - 1):,}"


def plain_name(info: FileInfo, text: str | None = None) -> str:
    """A file's name, escaped; that of a directory ends with a slash."""
    text = shown(info.name or "/") if text is None else text
    return text + ("/" if info.is_dir and not text.endswith("/") else "")


def name_text(info: FileInfo, text: str | None = None) -> Text:
    """A file's name in the colours of its kind, and where it leads to."""
    text = plain_name(info, text)
    if info.is_dir:
        return Text(text, style="bold blue")
    if info.is_symlink:
        return Text.assemble((text, "cyan"), " -> ", shown(info.target or ""))
    return Text(text, style="green" if info.is_file and info.mode & 0o111 else "")


def path_wire(path: str) -> dict[str, str]:
    """A path as JSON values: ``path`` as it is shown; with ``path_base64`` its bytes, where they are not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return {"path": shown(path), "path_base64": base64.b64encode(as_bytes(path)).decode()}
    return {"path": path}


def file_wire(info: FileInfo) -> dict[str, Any]:
    """A file as JSON values. Times are nanoseconds since 1970, ``mode`` is octal."""
    return {
        **path_wire(info.path),
        "kind": info.kind,
        "size": info.size,
        "mode": f"{info.mode:04o}",
        "uid": info.uid,
        "gid": info.gid,
        "links": info.nlink,
        "inode": info.ino,
        "mtime_ns": info.mtime,
        "ctime_ns": info.ctime,
        "target": None if info.target is None else path_wire(info.target)["path"],
    }


def version_wire(volume: Volume) -> dict[str, Any]:
    """A version as JSON values."""
    return {
        "locator": volume.locator,
        "name": volume.name,
        "version": volume.version,
        "message": volume.message,
        "author": volume.author,
        "created": volume.created,
        "parents": list(volume.parents),
        "produced_by": volume.produced_by,
        "stats": dict(volume.stats),
    }
