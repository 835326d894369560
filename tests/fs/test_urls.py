"""URLs: taken apart, put together, chained."""

from __future__ import annotations

import pytest

from flyteplugins_vol.fs import VolumeFileSystem, urls

LOCATOR = "s3://b/x!/y/volumes/data-0123456789abcdef/versions/00000003-" + "0" * 40 + ".json"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        (f"flytevol://{LOCATOR}!/a/b.json!/c", (LOCATOR, "a/b.json!/c")),
        (f"flytevol://{LOCATOR}!/", (LOCATOR, "")),
        (f"flytevol://{LOCATOR}!", (LOCATOR, "")),
        ("flytevol://data!/a/b", ("data", "a/b")),
        ("flytevol://data!/a/b/", ("data", "a/b")),
        ("flytevol://data-3!/a!/b", ("data-3", "a!/b")),
        ("flytevol://data@v1.0!/a", ("data@v1.0", "a")),
        ("flytevol://data-0123456789abcdef@3!/", ("data-0123456789abcdef@3", "")),
        ("data@!/a", ("", "data@!/a")),
        ("flytevol://a/b", ("", "a/b")),
        ("/a!/b/", ("", "a!/b")),
        ("file:/dir/x.json!/a", ("file:///dir/x.json", "a")),
        ("a b!/c", ("", "a b!/c")),
        ("", ("", "")),
    ],
)
def test_split(url: str, parts: tuple[str, str]) -> None:
    assert urls.split(url) == parts
    name = VolumeFileSystem._strip_protocol(url)
    assert "://" not in name
    assert urls.split(name) == urls.split(f"flytevol://{name}") == parts
    assert VolumeFileSystem._get_kwargs_from_urls(url) == ({"volume": parts[0]} if parts[0] else {})
    assert VolumeFileSystem._strip_protocol(name) == name
    assert urls.split(urls.url_of(urls.Parts(*parts))) == parts


def test_chains() -> None:
    assert urls.locator_from_chain("s3", "bucket/x.json") == "s3://bucket/x.json"
    assert urls.locator_from_chain("file", "/dir/x.json") == "file:///dir/x.json"
    assert urls.locator_from_chain("s3", "s3://bucket/x.json") == "s3://bucket/x.json"
