"""Where local files go, as the environment says it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flyteplugins_vol.config import cache_root, default_store, home_directory
from flyteplugins_vol.errors import LocalDirectoryError

NOBODY = 54321
"""A user id that no list of users has."""


def test_a_cache_directory_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", "~/cache")
    assert cache_root() == str(tmp_path / "home" / "cache")
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", "~")
    assert cache_root() == str(tmp_path / "home")
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", "~root/cache")
    assert cache_root() == os.path.expanduser("~root/cache")
    monkeypatch.delenv("FLYTE_VOL_CACHE_DIR")
    assert cache_root() == str(tmp_path / "home" / ".cache" / "flytevol")


@pytest.mark.parametrize("variable", ["FLYTE_VOL_CACHE_DIR", "XDG_CACHE_HOME", "SLURM_TMPDIR"])
def test_a_relative_one_stays_where_it_was(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that goes into its mount does not begin a cache there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, f"cache-of-{tmp_path.name}")
    first = cache_root()
    assert first.startswith(str(tmp_path / f"cache-of-{tmp_path.name}"))
    monkeypatch.chdir("/")
    assert cache_root() == first


def test_a_store_in_a_relative_directory_has_three_slashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", f"data-of-{tmp_path.name}")
    assert default_store() == f"file://{tmp_path}/data-of-{tmp_path.name}/flytevol"


def test_a_user_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", "~nobody-has-this-name/cache")
    with pytest.raises(LocalDirectoryError, match="no home directory of nobody-has-this-name") as caught:
        cache_root()
    assert caught.value.hint == "set another FLYTE_VOL_CACHE_DIR"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        (cache_root, "set HOME or FLYTE_VOL_CACHE_DIR"),
        (default_store, "set HOME or FLYTE_VOL_STORE"),
        (home_directory, "set HOME"),
    ],
)
def test_a_user_without_a_home(asked: Callable[[], str], hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    child = os.fork()
    if not child:
        os._exit(_as_nobody(asked, hint))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _as_nobody(asked: Callable[[], str], hint: str) -> int:
    """In a forked child."""
    try:
        os.setuid(NOBODY)
        asked()
    except LocalDirectoryError as error:
        return 0 if error.hint == hint and "HOME is not set" in error.message else 2
    except BaseException:
        return 3
    return 1
