"""The entry point: finds the command, runs it, and turns whatever happens into a message and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO, cast

import click

from flyteplugins_vol.cli.errors import BROKEN_PIPE, INTERRUPTED, OURS, Failure, failure_of
from flyteplugins_vol.cli.interrupt import end_in_a_moment, say_interrupted
from flyteplugins_vol.cli.options import Options

_HERE = "flyteplugins_vol.cli"

# Loaded when they are asked for: a command must not pay for what another needs.
COMMANDS = {
    "new": f"{_HERE}.volumes:new",
    "list": f"{_HERE}.volumes:list_",
    "delete": f"{_HERE}.volumes:delete",
    "log": f"{_HERE}.volumes:log",
    "diff": f"{_HERE}.diff:diff",
    "fork": f"{_HERE}.volumes:fork",
    "merge": f"{_HERE}.merge:merge",
    "copy": f"{_HERE}.copy:copy",
    "tag": f"{_HERE}.tag:tag",
    "restore": f"{_HERE}.restore:restore",
    "verify": f"{_HERE}.verify:verify",
    "du": f"{_HERE}.du:du",
    "prune": f"{_HERE}.prune:prune",
    "gc": f"{_HERE}.gc:gc",
    "rekey": f"{_HERE}.rekey:rekey",
    "ls": f"{_HERE}.reading:ls",
    "tree": f"{_HERE}.reading:tree",
    "cat": f"{_HERE}.reading:cat",
    "stat": f"{_HERE}.reading:stat",
    "get": f"{_HERE}.reading:get",
    "put": f"{_HERE}.writing:put",
    "cp": f"{_HERE}.writing:cp",
    "mv": f"{_HERE}.writing:mv",
    "rm": f"{_HERE}.writing:rm",
    "mount": f"{_HERE}.mounts:mount",
    "umount": f"{_HERE}.mounts:umount",
    "exec": f"{_HERE}.execute:execute",
    "commit": f"{_HERE}.mounts:commit",
    "refresh": f"{_HERE}.mounts:refresh",
    "status": f"{_HERE}.status:status",
    "recover": f"{_HERE}.recover:recover",
    "warmup": f"{_HERE}.warmup:warmup",
    "doctor": f"{_HERE}.doctor:doctor",
    "bench": f"{_HERE}.bench:bench",
    "completion": f"{_HERE}.completion:completion",
    "explore": f"{_HERE}.explore:explore",
}

_SECTIONS = (
    (
        "Volumes",
        (
            "new",
            "list",
            "delete",
            "log",
            "diff",
            "fork",
            "merge",
            "copy",
            "tag",
            "verify",
            "du",
            "prune",
            "gc",
            "rekey",
        ),
    ),
    ("Files", ("ls", "tree", "cat", "stat", "get", "put", "cp", "mv", "rm", "restore", "explore")),
    ("Mounts", ("mount", "umount", "exec", "commit", "refresh", "status", "recover", "warmup")),
    ("This machine", ("doctor", "bench", "completion")),
)


class _NobodyReads(Exception):
    """A broken pipe, which click would end with an exit code of its own."""


@contextmanager
def _nobody_reads() -> Generator[None, None, None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _NobodyReads from error


class _Unheard:
    """Standard error. That nobody reads it, or that its disk is full, is no reason for anything to fail."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


class Commands(click.Group):
    """Commands by section, each loaded when it is needed."""

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        with _nobody_reads():  # help
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: click.Context) -> object:
        with _nobody_reads():
            found = super().invoke(ctx)
            ctx.ensure_object(Options).output.flush()
            return found

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for _, names in _SECTIONS for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = COMMANDS.get(cmd_name)
        if where is None:
            return None
        module, _, attribute = where.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in _SECTIONS:
            with formatter.section(title):
                commands = [(name, self.get_command(ctx, name)) for name in names]
                rows = [(name, command.get_short_help_str(80)) for name, command in commands if command is not None]
                formatter.write_dl(rows)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "obj": None},
    epilog="Every command has --json, --store, --quiet and --debug, and examples in `flytevol COMMAND --help`."
    " Exit codes and what scripts may rely on: docs/cli.md.",
)
@click.version_option(package_name="flyteplugins-vol", prog_name="flytevol")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Durable, versioned file systems on object storage.

    VOLUME is a name (data), a name and a version (data@3), or a locator (s3://…/versions/….json). Names are looked up
    in --store, by default $FLYTE_VOL_STORE.
    """
    ctx.ensure_object(Options).debug = debug


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit. See `errors` for the codes."""
    _open_standard_streams()
    end_in_a_moment()
    sys.unraisablehook = _unraisable
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def _open_standard_streams() -> None:
    """Open those that are closed (``>&-``): a pipe or a database could get their numbers, and print or read there.

    Whoever closes one wants to see nothing of it, so what is written there is dropped. `sys.stdin` stays None: there is
    nothing to read, which is not the same as nothing in it.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one, unless it is used already
            os.set_inheritable(null, null == fd)
            if fd:
                setattr(sys, name, open(null, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - for ever
    sys.stderr = cast("TextIO", _Unheard(sys.stderr))


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    """A file system of fsspec that could not be made fails again when it is thrown away: the first error says it."""
    if not (getattr(found.object, "__module__", None) or "").startswith("fsspec."):
        sys.__unraisablehook__(found)


def run(arguments: list[str]) -> int:
    """Run the command line; the exit code."""
    options = Options()
    if "_FLYTEVOL_COMPLETE" in os.environ:  # a shell asks
        importlib.import_module("flyteplugins_vol.cli.bash_completion")
    try:
        code = cli.main(arguments, prog_name="flytevol", standalone_mode=False, obj=options)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help(), err=True)
        return 2
    except click.UsageError as error:
        options.as_json |= (
            "--json" in arguments[: arguments.index("--") if "--" in arguments else None]
        )  # not parsed yet
        if options.as_json:
            return _fail(options, error, arguments)
        error.show()
        return _code(failure_of(error), arguments)
    except (KeyboardInterrupt, click.Abort):
        _quietly_end_output()
        say_interrupted()
        return INTERRUPTED
    except _NobodyReads:
        _quietly_end_output()
        return BROKEN_PIPE
    except Exception as error:
        return _fail(options, error, arguments)
    return code if isinstance(code, int) else 0


def _fail(options: Options, error: BaseException, arguments: list[str]) -> int:
    failure = failure_of(error)
    if options.debug or "--debug" in arguments:  # not parsed yet, if a command could not even be loaded
        traceback.print_exception(error)
    options.output.failure(failure)
    return _code(failure, arguments)


def _code(failure: Failure, arguments: list[str]) -> int:
    command = next((word for word in arguments if not word.startswith("-")), "")
    return OURS if command == "exec" else failure.code


def _quietly_end_output() -> None:
    """So that the interpreter's last flush does not fail on a pipe that nobody reads."""
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
