"""``flytevol://`` URLs: a volume, then ``!/``, then a path in it.

    flytevol://s3://bucket/volumes/data-…/versions/00000003-….json!/dir/file.csv    a version, by its locator
    flytevol://s3:bucket/volumes/data-…/versions/00000003-….json!/dir/file.csv      the same
    flytevol://data!/dir/file.csv                              a volume of the default store, by its name
    flytevol://data@v1.0!/dir/file.csv                         a version of it, by a tag, its number or its hash
    flytevol://dir/file.csv::s3://bucket/…/00000003-….json     the first, as fsspec chains URLs
    flytevol://dir/file.csv, dir/file.csv                      within one `VolumeFileSystem`

What is left of a URL without its protocol keeps the volume, in the second form: libraries take such names apart at
``://`` and at ``:/``, and put the protocol before them again. A locator ends in ``.json``: so the mark is found also
where a key has a ``!/``. A path alone whose first directory ends in ``!`` is written with a slash: ``/dir!/file``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PROTOCOL = "flytevol"

_SCHEME = PROTOCOL + "://"
_MARK = "!/"
_AFTER_LOCATOR = ".json!/"
_SHORT = re.compile(r"[a-z][a-z0-9+.-]*:(?!//)")  # a locator's scheme without its slashes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:@[A-Za-z0-9._-]+)?")


class Parts(NamedTuple):
    """Of a URL: the volume ('' if it names none), and the path without slashes at its ends."""

    volume: str
    path: str

    @property
    def name(self) -> str:
        """The URL without its protocol."""
        if not self.volume:
            return f"/{self.path}" if split(self.path).volume else self.path
        scheme, full, rest = self.volume.partition("://")
        short = f"{scheme}:{rest.lstrip('/')}" if full else self.volume
        return f"{short}{_MARK}{self.path}".removesuffix("/")


def split(url: str) -> Parts:
    """Take a URL, or what is left of one without its protocol, or a plain path apart."""
    rest = url.removeprefix(_SCHEME)
    marked = rest + "/" if rest.endswith("!") else rest
    at = marked.find(_AFTER_LOCATOR)
    at = at + len(_AFTER_LOCATOR) - len(_MARK) if at >= 0 else marked.find(_MARK)
    volume = marked[: max(at, 0)]
    if _SHORT.match(volume):
        scheme, _, place = volume.partition(":")
        volume = f"{scheme}://{'/' if scheme == 'file' else ''}{place.lstrip('/')}"
    if not url.startswith("/") and ("://" in volume or _NAME.fullmatch(volume)):
        return Parts(volume, marked[at + len(_MARK) :].strip("/"))
    return Parts("", rest.strip("/"))


def url_of(parts: Parts) -> str:
    """The URL of a path in a volume."""
    return _SCHEME + parts.name


def locator_from_chain(protocol: str, target: str) -> str:
    """The locator that the next link of a chain of URLs stands for; fsspec gives its parts."""
    if "://" in target:
        return target
    return f"{protocol}://{target if protocol == 'file' else target.lstrip('/')}"
