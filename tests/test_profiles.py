"""Profiles of ``~/.aws``: which keys and places a store gets, and whom that leaves alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flyteplugins_vol.config import StoreOptions, store_options_from_environment
from flyteplugins_vol.errors import StoreAccessError
from flyteplugins_vol.io import Volume
from flyteplugins_vol.store.open import open_store
from tests.servers import S3Server

CREDENTIALS = """
[default]
aws_access_key_id = KEY
aws_secret_access_key = a%(b)s/=#;c

[work]
aws_access_key_id=WORK
aws_secret_access_key=SECRET
aws_session_token=TOKEN

[half]
aws_access_key_id = KEY
"""
CONFIG = """
[default]
region = eu-central-1

[profile work]
region = us-west-2
endpoint_url = http://127.0.0.1:9
s3 =
    addressing_style = virtual

[profile login]
sso_session = company
region = eu-west-1

[profile role]
role_arn = arn:aws:iam::1:role/x
source_profile = default

[profile program]
credential_process = /usr/bin/keys

[profile both]
role_arn = arn:aws:iam::1:role/x
aws_access_key_id = KEY
aws_secret_access_key = SECRET

[profile old]
aws_access_key_id = OLD
aws_secret_access_key = SECRET

[profile place]
region = sa-east-1
endpoint_url = http://127.0.0.1:9
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(CREDENTIALS)
    (tmp_path / ".aws" / "config").write_text(CONFIG)
    return tmp_path


def config(home: Path, **environment: str) -> dict[str, str]:
    return dict(store_options_from_environment("s3://bucket/x", {"HOME": str(home), **environment}).config)


def test_the_default_profile(home: Path) -> None:
    expected = {"access_key_id": "KEY", "secret_access_key": "a%(b)s/=#;c", "region": "eu-central-1"}
    assert config(home) == config(home, AWS_PROFILE="default") == expected
    assert config(home, AWS_REGION="eu-north-1") == {**expected, "region": "eu-north-1"}


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_a_profile_by_name(home: Path, variable: str) -> None:
    keys = {"access_key_id": "WORK", "secret_access_key": "SECRET", "session_token": "TOKEN"}
    places = {"region": "us-west-2", "endpoint": "http://127.0.0.1:9"}
    assert config(home, **{variable: "work"}) == {**keys, **places}
    assert config(home, **{variable: "work"}, AWS_ENDPOINT_URL="http://localhost:1") == {
        **keys, **places, "endpoint": "http://localhost:1",
    }  # fmt: skip
    assert config(home, **{variable: "old"}) == {"access_key_id": "OLD", "secret_access_key": "SECRET"}


@pytest.mark.parametrize("name", ["login", "role", "program", "both"])
def test_a_profile_whose_keys_are_got_from_somebody(home: Path, name: str) -> None:
    found = config(home, AWS_PROFILE=name)
    assert found.pop("region", "eu-west-1") == "eu-west-1"
    assert found == {"profile": name}


def test_a_profile_without_keys_says_the_region_alone(home: Path) -> None:
    assert config(home, AWS_PROFILE="place") == {"region": "sa-east-1"}
    assert config(home, AWS_PROFILE="half") == config(home, AWS_PROFILE="nobody") == {}


def test_what_goes_before_a_profile(home: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret"}
    assert config(home, AWS_PROFILE="work", **keys) == {"access_key_id": "mine", "secret_access_key": "secret"}
    assert config(home, AWS_WEB_IDENTITY_TOKEN_FILE="/var/run/token") == {}
    assert config(home, AWS_SKIP_SIGNATURE="true") == {}
    assert dict(store_options_from_environment("gs://bucket", {"HOME": str(home)}).config) == {}


def test_files_elsewhere_and_files_that_are_none(home: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("[default]\naws_access_key_id=A\naws_secret_access_key=B\n")
    elsewhere = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys"), "AWS_CONFIG_FILE": "~/.aws/nothing"}
    assert config(home, **elsewhere) == {"access_key_id": "A", "secret_access_key": "B"}
    for text in (b"no section\n", b"[default\n", b"\xff\xfe\x00", b"[default]\nnothing\n"):
        (tmp_path / "keys").write_bytes(text)
        assert config(home, **elsewhere) == {}
    assert config(home, **{**elsewhere, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path)}) == {}


@pytest.mark.s3
def test_a_volume_by_the_keys_of_a_profile(home: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLYTE_VOL_CACHE_DIR", str(home / "cache"))
    url = s3_server.new_bucket_url()
    place = f"[default]\nendpoint_url = {s3_server.endpoint}\n"
    (home / ".aws" / "config").write_text(place)
    made = Volume.new("data", url).finalize.sync()
    assert Volume.find.sync("data", url).locator == made.locator
    (home / ".aws" / "credentials").unlink()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    with pytest.raises(StoreAccessError, match="NoCredentials") as caught:
        Volume.find.sync("data", url)
    assert "AWS_PROFILE" in caught.value.hint
    program = home / "keys.py"
    answer = json.dumps({"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B"})
    program.write_text(f"open({str(home / 'asked')!r}, 'w')\nprint({answer!r})\n")
    (home / ".aws" / "config").write_text(f"{place}credential_process = {sys.executable} {program}\n")
    assert Volume.find.sync("data", url).locator == made.locator
    assert (home / "asked").exists()


def test_an_option_of_one_backend_is_none_of_the_other(s3_server: S3Server) -> None:
    options = s3_server.options("obstore", profile="nobody")
    assert isinstance(options, StoreOptions)
    url = s3_server.new_bucket_url()
    with open_store(url, options) as store:
        assert store.create("a", b"1")
    with open_store(url, s3_server.options("fsspec", profile="nobody")) as store:  # keys were given
        assert store.get("a") == b"1"
