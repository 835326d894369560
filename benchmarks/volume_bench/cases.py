"""All cases, in the order in which they are run and reported."""

from __future__ import annotations

from volume_bench.case import CASES
from volume_bench.cases_files import large_file, looking, random_reads, random_writes, reading, small_files
from volume_bench.cases_store import commit_ten_of_many, fork, memory, mount_few, mount_many, mount_most
from volume_bench.cases_tools import git_clone, pip_install

__all__ = [
    "CASES",
    "commit_ten_of_many",
    "fork",
    "git_clone",
    "large_file",
    "looking",
    "memory",
    "mount_few",
    "mount_many",
    "mount_most",
    "pip_install",
    "random_reads",
    "random_writes",
    "reading",
    "small_files",
]
