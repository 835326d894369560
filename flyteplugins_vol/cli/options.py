"""What every command has: ``--json``, ``--store``, ``--quiet`` and ``--debug``, wherever in the line they stand."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from flyteplugins_vol.cli.output import Output
from flyteplugins_vol.human import hidden

F = TypeVar("F", bound=Callable[..., Any])

EMPTY = "it is empty; is a variable of the shell unset?"


class LocalPath(click.Path):
    """A path on this machine. An empty one would be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail(EMPTY, param, ctx)
        return super().convert(value, param, ctx)


class _LiveMount(LocalPath):
    """The path of a mount that is there, also as `shown` told it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        return hidden(path) if "\\" in path and not _is_there(path) and _is_there(hidden(path)) else path


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # a dead mount
        return True
    return True


MOUNT_PATH = LocalPath(readable=False)
"""Not checked: where a daemon was killed the kernel may still know the directory, and let nobody read it."""

LIVE_MOUNT = _LiveMount(readable=False)
"""As `MOUNT_PATH`."""

DIRECTORY = LocalPath(file_okay=False)
"""One that is there, or is to be made."""


class _ToWrite(LocalPath):
    """A file that is written when all else is done: what stands in the way is told before that begins."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = os.path.abspath(super().convert(value, param, ctx))
        directory = os.path.dirname(os.path.realpath(path))  # of a pipe (/dev/stdout) it is none, but that exists
        if not os.path.exists(path) and not os.access(directory, os.W_OK | os.X_OK):
            missing = not os.path.isdir(directory)
            self.fail(f"{directory!r} {'is no directory' if missing else 'is not writable'}.", param, ctx)
        return path


TO_WRITE = _ToWrite(dir_okay=False, writable=True, readable=False)
"""A file to be written in the end. Its absolute path: the working directory may be another by then."""


class Options:
    """The options that all commands share. ``ctx.obj`` of every context."""

    def __init__(self) -> None:
        self.as_json = False
        self.quiet = False
        self.debug = False
        self.store: str | None = None

    @property
    def output(self) -> Output:
        return Output(as_json=self.as_json, quiet=self.quiet)


def not_empty(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Of what has a default: for an option that is given by a variable which is unset nobody means that."""
    if value == "":
        raise click.BadParameter(EMPTY, ctx, parameter)
    return value


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if not_empty(ctx, parameter, value):
            setattr(ctx.ensure_object(Options), name, value)

    return keep


def common(command: F) -> F:
    """Give a command the shared options; it gets them as its first argument, by `click.pass_obj`.

    The last paragraph of its docstring, which click is told to leave as it is, are examples.
    """
    text, mark, examples = inspect.cleandoc(command.__doc__ or "").rpartition("\n\b\n")
    assert mark, "no examples"
    lines = "".join(f"\n  {line}" for line in examples.splitlines())
    command.__doc__ = f"{text}\n\n\b\nExamples:{lines}"
    options = (
        click.option("--json", "as_json", is_flag=True, help="Print JSON.", expose_value=False,
                     callback=_keep("as_json")),
        click.option("--store", metavar="URL", expose_value=False, callback=_keep("store"),
                     help="The store in which names are looked up: s3://bucket/prefix, file:///dir, …"
                     " By default $FLYTE_VOL_STORE."),
        click.option("-q", "--quiet", is_flag=True, help="No progress, no notes.", expose_value=False,
                     callback=_keep("quiet")),
        click.option("--debug", is_flag=True, help="Show tracebacks.", expose_value=False, callback=_keep("debug")),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return click.pass_obj(command)  # pyright: ignore[reportReturnType]
