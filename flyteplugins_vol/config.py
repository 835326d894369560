"""The one module that reads the environment: where stores are, how to reach them, and where local files go.

Values from the environment become plain options here and travel on as arguments. No other module looks at
`os.environ`, with one exception that is wanted: the cloud client libraries' own credential chains (web identity,
container and instance metadata; over s3fs also whom a profile of ``~/.aws`` says to ask), which take over where no
option names a key.
"""

from __future__ import annotations

import functools
import getpass
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from flyteplugins_vol.errors import LocalDirectoryError
from flyteplugins_vol.profiles import read_profile

# ---------------------------------------------------------------------------------------------- stores

BACKEND_VARIABLE = "FLYTE_VOL_STORE_BACKEND"
"""``fsspec`` sends every scheme through fsspec, ``obstore`` none; unset or ``auto``: the fastest that there is."""


ENCRYPTION_VARIABLE = "FLYTE_VOL_ENCRYPTION_KEY"
"""The secret that wraps the data key of an encrypted store, 16 characters or more. Unset: stores are not encrypted."""


NEW_ENCRYPTION_VARIABLE = "FLYTE_VOL_NEW_ENCRYPTION_KEY"
"""The secret that `flytevol rekey` puts in its place."""


def new_encryption_secret(environ: Mapping[str, str] | None = None) -> str | None:
    """What `NEW_ENCRYPTION_VARIABLE` says, if it is set."""
    env = os.environ if environ is None else environ
    return env.get(NEW_ENCRYPTION_VARIABLE) or None


COPY_ENCRYPTION_VARIABLE = "FLYTE_VOL_COPY_ENCRYPTION_KEY"
"""The secret of the store that `flytevol copy` writes to, where it is another; empty: that store is not encrypted."""


def copy_encryption_secret(environ: Mapping[str, str] | None = None) -> str | None:
    """What `COPY_ENCRYPTION_VARIABLE` says; None if it is not set."""
    env = os.environ if environ is None else environ
    return env.get(COPY_ENCRYPTION_VARIABLE)


@dataclass(frozen=True)
class StoreOptions:
    """How to reach a store; equal options reach it equally. Its repr shows no value of ``config``.

    ``config`` holds what the store's client needs, under short names: ``endpoint``, ``allow_http``, ``region``,
    ``access_key_id``, ``secret_access_key``, ``session_token``, ``addressing_style`` (``path`` or ``virtual``) for S3,
    ``profile`` for a profile of ``~/.aws`` whose keys are got from somebody (over s3fs);
    ``account_name``, ``account_key``, ``sas_token``, ``endpoint`` for Azure; ``service_account_path`` or
    ``service_account_key`` for Google. Other names go to obstore (or to the fsspec file system) as they are.
    """

    backend: str = "auto"  # "auto", "obstore" or "fsspec"
    config: Mapping[str, str] = field(default_factory=lambda: {}, repr=False)
    retries: int = 10  # tries after the first one
    timeout: float = 120.0  # seconds after which no further try of one call begins
    encryption: str = field(default="", repr=False)  # the secret of an encrypted store; '': it is none

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values, credentials included: for a private pipe, never for a file or an argument."""
        return {
            "backend": self.backend,
            "config": dict(self.config),
            "retries": self.retries,
            "timeout": self.timeout,
            "encryption": self.encryption,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> StoreOptions:
        """The options that `to_wire` described; names left out get their defaults."""
        return cls(**wire)


def store_options_from_environment(url: str, environ: Mapping[str, str] | None = None) -> StoreOptions:
    """Options for the store at ``url`` from the usual variables of its provider; only what is set is in ``config``.

    Of S3, where they have no keys, from the profile of ``~/.aws`` that they name, or the default one.
    """
    env = os.environ if environ is None else environ
    scheme = urlsplit(url).scheme
    config: dict[str, str] = {}
    if scheme == "s3":
        config = _s3(env)
    elif scheme == "gs":
        config = _first_of(env, _GOOGLE)
    elif scheme in ("az", "abfs", "abfss"):
        config = _first_of(env, _AZURE)
    return StoreOptions(
        backend=env.get(BACKEND_VARIABLE, "") or "auto", config=config, encryption=env.get(ENCRYPTION_VARIABLE, "")
    )


_Names = Mapping[str, tuple[str, ...]]

# Flyte's own names come first: they are about Flyte's storage, the others about anything in the process.
_S3: _Names = {
    "endpoint": ("FLYTE_AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "addressing_style": ("FLYTE_AWS_S3_ADDRESSING_STYLE",),
    "allow_http": ("AWS_ALLOW_HTTP",),
}
# A key, its secret and its token belong together: all come from the first family that has a key.
_S3_KEYS: tuple[_Names, ...] = (
    {"access_key_id": ("FLYTE_AWS_ACCESS_KEY_ID",), "secret_access_key": ("FLYTE_AWS_SECRET_ACCESS_KEY",)},
    {
        "access_key_id": ("AWS_ACCESS_KEY_ID",),
        "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
        "session_token": ("AWS_SESSION_TOKEN",),
    },
)
_GOOGLE: _Names = {
    "service_account_path": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"),
    "service_account_key": ("GOOGLE_SERVICE_ACCOUNT_KEY",),
    "application_credentials": ("GOOGLE_APPLICATION_CREDENTIALS",),
    "endpoint": ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST"),
}
_AZURE: _Names = {
    "account_name": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
    "account_key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY"),
    "sas_token": ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"),
    "client_id": ("AZURE_STORAGE_CLIENT_ID", "AZURE_CLIENT_ID"),
    "client_secret": ("AZURE_STORAGE_CLIENT_SECRET", "AZURE_CLIENT_SECRET"),
    "tenant_id": ("AZURE_STORAGE_TENANT_ID", "AZURE_TENANT_ID"),
    "endpoint": ("AZURE_STORAGE_ENDPOINT",),
    "use_emulator": ("AZURE_STORAGE_USE_EMULATOR",),
}


def _s3(env: Mapping[str, str]) -> dict[str, str]:
    config = _first_of(env, _S3)
    for family in _S3_KEYS:
        keys = _first_of(env, family)
        if "access_key_id" in keys:
            return {**config, **keys}
    # As in AWS's own tools, a pod's identity and the wish to sign nothing go before a profile.
    if env.get("AWS_WEB_IDENTITY_TOKEN_FILE") or env.get("AWS_SKIP_SIGNATURE"):
        return config
    return {**_profile(env), **config}


def _profile(env: Mapping[str, str]) -> dict[str, str]:
    home = env.get("HOME") or os.path.expanduser("~")
    credentials, config = (
        os.path.join(home, path[2:]) if path.startswith("~/") else path
        for path in (
            env.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
            env.get("AWS_CONFIG_FILE") or "~/.aws/config",
        )
    )
    name = env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE") or "default"
    return read_profile(name, credentials=credentials, config=config)


def _first_of(env: Mapping[str, str], names: _Names) -> dict[str, str]:
    found = {name: _first_set(env, variables) for name, variables in names.items()}
    return {name: value for name, value in found.items() if value}


def _first_set(env: Mapping[str, str], variables: Iterable[str]) -> str:
    return next((env[name] for name in variables if env.get(name)), "")


# ---------------------------------------------------------------------------------------------- places

_STORE = "FLYTE_VOL_STORE"
_CACHE = "FLYTE_VOL_CACHE_DIR"


def store_from_environment(environ: Mapping[str, str] | None = None) -> str | None:
    """``FLYTE_VOL_STORE``, if it is set."""
    env = os.environ if environ is None else environ
    return env.get(_STORE) or None


def default_store(environ: Mapping[str, str] | None = None) -> str:
    """``FLYTE_VOL_STORE``, else a directory of this user: ``$XDG_DATA_HOME/flytevol``.

    Raises `LocalDirectoryError` if this user has no home directory.
    """
    env = os.environ if environ is None else environ
    return env.get(_STORE) or "file://" + os.path.join(_home(env, "XDG_DATA_HOME", ".local/share", _STORE), "flytevol")


HIGH_THROUGHPUT_VARIABLE = "FLYTE_VOL_HIGH_THROUGHPUT"
"""``1``: mount volumes for very many files. `with_high_throughput_volume_deps` sets it in an image."""


def high_throughput(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this environment asks for mounts for very many files."""
    env = os.environ if environ is None else environ
    return env.get(HIGH_THROUGHPUT_VARIABLE, "").lower() in ("1", "true", "yes", "on")


LEASE_VARIABLE = "FLYTE_VOL_LEASE_SECONDS"
"""Seconds after which a writer that died, or cannot reach its store, may be succeeded; ``0``: there is no lease."""


LONGEST_LEASE = 600.0
"""Seconds. Whoever finds a lease that says more, or that cannot be read, takes it for one of that length."""

_LEASE_SECONDS = 30.0


def lease_seconds(environ: Mapping[str, str] | None = None) -> float:
    """For how long a writer's lease is lent, at most `LONGEST_LEASE`; it is renewed three times as often."""
    env = os.environ if environ is None else environ
    try:
        seconds = float(env.get(LEASE_VARIABLE) or _LEASE_SECONDS)
    except ValueError:
        return _LEASE_SECONDS
    return min(max(0.0, seconds), LONGEST_LEASE) if not math.isnan(seconds) else _LEASE_SECONDS


DRIVER_VARIABLE = "FLYTE_VOL_DRIVER"
"""How a daemon speaks to the kernel: ``wire`` (the default) or ``pyfuse3``."""


def driver(environ: Mapping[str, str] | None = None) -> str:
    """The name of the driver that mounts use."""
    env = os.environ if environ is None else environ
    return env.get(DRIVER_VARIABLE, "") or "wire"


def cache_root(environ: Mapping[str, str] | None = None) -> str:
    """``FLYTE_VOL_CACHE_DIR``, else the job's own disk (``$SLURM_TMPDIR``), else ``$XDG_CACHE_HOME/flytevol``.

    Absolute; ``~`` is the home directory. Raises `LocalDirectoryError` where that is needed, and there is none.
    """
    env = os.environ if environ is None else environ
    if env.get(_CACHE):
        return _absolute(_expanded(env, env[_CACHE], _CACHE))
    if env.get("SLURM_TMPDIR"):
        return _absolute(os.path.join(env["SLURM_TMPDIR"], "flytevol"))
    return os.path.join(_home(env, "XDG_CACHE_HOME", ".cache", _CACHE), "flytevol")


def home_directory(environ: Mapping[str, str] | None = None) -> str:
    """This user's home directory. Raises `LocalDirectoryError` if there is none."""
    return _expanded(os.environ if environ is None else environ, "~", "")


def author() -> str | None:
    """Who commits, as far as the machine knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name for this user id, as in many containers; no module of names
        return None


def daemon_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a mount's daemon: this process's, with an allocator that uses freed memory again."""
    return {**_FRUGAL, **(os.environ if environ is None else environ)}


# Packs are 16 MiB buffers that threads hand to one another, blocks 4 MiB, and both come and go by the hundred. So all
# threads share one heap, both come from it, and its end is kept: what is mapped anew for each costs more in page faults
# than all else that is done to it. `mount.memory` gives the rest back when all is quiet.
_FRUGAL = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "134217728"}


def _home(env: Mapping[str, str], variable: str, fallback: str, instead: str) -> str:
    given = env.get(variable)
    return _absolute(given) if given else os.path.join(_absolute(_expanded(env, "~", instead)), fallback)


def _expanded(env: Mapping[str, str], path: str, instead: str) -> str:
    """A path with ``~`` and ``~user`` replaced; ``instead`` is the variable that does without, for the hint."""
    name, slash, rest = path.partition("/")
    if not name.startswith("~"):
        return path
    home = env.get("HOME") if name == "~" else None
    home = home or os.path.expanduser(name)
    if home == name == "~":  # as in many containers
        raise LocalDirectoryError(
            "there is no home directory of this user: HOME is not set, and the machine's list of users has no entry",
            hint=f"set HOME or {instead}" if instead else "set HOME",
        )
    if home == name:
        raise LocalDirectoryError(f"there is no home directory of {name[1:]}", hint=f"set another {instead}")
    return home + slash + rest


@functools.cache
def _absolute(path: str) -> str:
    """Where a path was when it was first asked for: a program may change its directory, also into a mount."""
    return os.path.abspath(path)
