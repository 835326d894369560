"""What each failure of a service becomes, over both S3 clients, and that no message gives a secret away."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator

import pytest

from flyteplugins_vol.errors import StoreAccessError, StoreError, StoreUnavailableError
from flyteplugins_vol.store import open_store, parse_store_url
from flyteplugins_vol.store.base import ObjectStore, StoreOptions
from flyteplugins_vol.store.obstoreclient import new_client
from flyteplugins_vol.store.obstoreerrors import read_failure
from flyteplugins_vol.store.retrying import Retrying
from tests.servers import S3Server

from .conftest import Opener
from .scripted import Script, applied_then, cut_short, error, hang_up, scripted_server

pytestmark = pytest.mark.s3

SECRET, TOKEN = "TOPSECRET/of+the=store", "TOKENthatNobodyMaySee"


@pytest.fixture(params=["obstore", "fsspec"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def store(bare: Opener, script: Script, backend: str) -> ObjectStore:
    options = script.options(backend, secret_access_key=SECRET, session_token=TOKEN)
    return bare("s3://bucket/prefix", options)


@pytest.mark.parametrize(
    ("status", "code", "kind", "hint"),
    [
        (403, "AccessDenied", StoreAccessError, "AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", StoreAccessError, "AWS_ACCESS_KEY_ID"),
        (403, "RequestTimeTooSkewed", StoreAccessError, "clock"),
        (401, "Unauthorized", StoreAccessError, "AWS_ACCESS_KEY_ID"),
        (400, "ExpiredToken", StoreAccessError, "AWS_SESSION_TOKEN, or pass StoreOptions with them; then unmount and"),
        (403, "ExpiredToken", StoreAccessError, "kept on local disk"),
        (400, "AuthorizationHeaderMalformed", StoreAccessError, "AWS_REGION"),
        (301, "PermanentRedirect", StoreAccessError, "AWS_REGION"),
        (404, "NoSuchBucket", StoreAccessError, "create the bucket"),
        (500, "InternalError", StoreUnavailableError, "try again"),
        (503, "SlowDown", StoreUnavailableError, "try again"),
        (429, "TooManyRequests", StoreUnavailableError, "try again"),
        (400, "RequestTimeout", StoreUnavailableError, "try again"),
        (501, "NotImplemented", StoreError, "endpoint"),
    ],
)
def test_answers_of_the_service(
    store: ObjectStore, script: Script, status: int, code: str, kind: type[StoreError], hint: str
) -> None:
    for call in (lambda: store.get("o"), lambda: store.create("o", b"1"), lambda: list(store.list("a/"))):
        script.answers = [error(status, code)] * 3
        with pytest.raises(StoreError) as caught:
            call()
        assert type(caught.value) is kind
        assert hint in caught.value.hint
        assert str(status) in caught.value.message or code in caught.value.message


@pytest.mark.parametrize("answer", [hang_up, cut_short])
def test_connections_that_break(store: ObjectStore, script: Script, answer: Callable[..., None]) -> None:
    script.answers = [answer] * 2  # aiohttp itself asks again on a connection that was closed before any answer
    with pytest.raises(StoreUnavailableError):
        store.get("o")


def test_nobody_listens(bare: Opener, backend: str) -> None:
    store = bare("s3://bucket", Script("http://127.0.0.1:1").options(backend))
    with pytest.raises(StoreUnavailableError):
        store.get("o")
    with pytest.raises(StoreUnavailableError):
        store.create("o", b"1")


def test_each_call_is_one_request(store: ObjectStore, script: Script) -> None:
    """`Retrying` tries again; a client that does so too would multiply the tries."""
    for call in (lambda: store.get("o"), lambda: store.create("o", b"1")):
        script.answers = [error(503, "SlowDown")] * 5
        with pytest.raises(StoreUnavailableError):
            call()
        assert len(script.answers) == 4


LOST = [hang_up, error(500, "InternalError"), error(409, "ConditionalRequestConflict")]


@pytest.mark.parametrize("answer", LOST)
def test_lost_answer_to_a_conditional_put(store: ObjectStore, script: Script, answer: Callable[..., None]) -> None:
    retrying = Retrying(store, retries=2, sleep=lambda _: None)
    script.answers = [applied_then(answer)]
    assert retrying.create("o", b"mine") is True
    script.answers = [applied_then(answer)]
    tag = retrying.replace("ref", b"one", None)
    script.answers = [applied_then(answer)]
    second = retrying.replace("ref", b"two", tag)
    assert retrying.get_tagged("ref") == (b"two", second)
    assert retrying.replace("ref", b"three", tag) is None
    assert retrying.create("o", b"other") is False


def test_a_writer_in_progress_elsewhere_is_waited_for(store: ObjectStore, script: Script) -> None:
    """S3 answers 409 while another conditional write runs: neither won nor lost."""
    script.answers = [error(409, "ConditionalRequestConflict")]
    with pytest.raises(StoreUnavailableError):
        store.create("o", b"mine")
    assert store.create("o", b"mine") is True


def test_if_match_is_sent_bare(store: ObjectStore, script: Script) -> None:
    """Ceph's RGW compares it with the hash without quotes."""
    tag = store.replace("ref", b"one", None)
    store.replace("ref", b"two", tag)
    assert script.requests[0][2]["if-none-match"] == "*"
    assert script.requests[-1][2]["if-match"] == tag
    assert '"' not in (tag or '"')


def test_given_keys_are_not_mixed_with_a_token_of_the_environment(
    bare: Opener, script: Script, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-other-keys")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    bare("s3://bucket", script.options(backend)).get("o")
    headers = script.requests[0][2]
    assert "Credential=AKEY/" in headers["authorization"]
    assert "x-amz-security-token" not in headers


def test_virtual_addressing_puts_the_bucket_into_the_host() -> None:
    config = {"endpoint": "https://store.example:9000", "addressing_style": "virtual"}
    client = new_client(parse_store_url("s3://bucket/p"), StoreOptions(config=config))
    assert dict(client.config)["endpoint"] == "https://bucket.store.example:9000"


def test_no_credentials_anywhere() -> None:
    """As obstore says it when it asked the metadata service of a machine that has none."""
    text = "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1ms - HTTP error"
    assert read_failure(Exception(text)).code == "NoCredentials"


def test_no_credentials_over_s3fs(bare: Opener, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    options = StoreOptions(backend="fsspec", config={"endpoint": script.endpoint, "region": "r"})
    with pytest.raises(StoreAccessError, match="NoCredentials") as caught:
        bare("s3://bucket", options).get("o")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert os.environ.get("AWS_EC2_METADATA_DISABLED") == "true"  # or this would look for a metadata service


def test_absent_bucket_on_a_real_server(bare: Opener, moto: S3Server, backend: str) -> None:
    store = bare("s3://no-such-bucket/x", moto.options(backend))
    for call in (
        lambda: store.get("o"),
        lambda: store.get_tail("o", 1),
        lambda: store.create("o", b"1"),
        lambda: store.replace("o", b"1", "tag"),
        lambda: list(store.list("")),
        lambda: store.list_dirs(""),
        lambda: store.delete("o"),
    ):
        with pytest.raises(StoreAccessError, match="NoSuchBucket"):
            call()


def test_store_from_the_environment(moto: S3Server, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**moto.environment, "FLYTE_VOL_STORE_BACKEND": backend}.items():
        monkeypatch.setenv(name, value)
    with open_store(moto.new_bucket_url("p")) as store:
        assert store.create("o", b"1")
        assert store.get("o") == b"1"


def test_a_signed_url_in_the_text_of_an_error_is_not_shown() -> None:
    """Azure's shared access signatures are part of the URL, and obstore repeats the URL."""
    for end in ("Server returned non-2xx status code: 403 Forbidden: <Code>AuthenticationFailed</Code>", "HTTP error"):
        url = f"https://user:{TOKEN}@account.example/c/k?sv=1&sig={SECRET}"
        failure = read_failure(Exception(f"Error performing GET {url} in 3ms - {end}"))
        assert failure.status == 403 or "account.example" in failure.detail
        assert SECRET not in repr(failure)
        assert TOKEN not in repr(failure)


ANSWERS = [error(403, "AccessDenied"), error(500, "InternalError"), error(404, "NoSuchBucket"), hang_up]


@pytest.mark.parametrize("answer", ANSWERS)
def test_nothing_tells_a_secret(
    store: ObjectStore,
    script: Script,
    backend: str,
    answer: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = script.options(backend, secret_access_key=SECRET, session_token=TOKEN)
    retrying = Retrying(store, retries=1, sleep=lambda _: None)
    said = [repr(options), str(options), repr(store), repr(retrying), repr(store.__dict__)]
    with caplog.at_level(logging.INFO), caplog.at_level(logging.DEBUG, logger="flyteplugins_vol"):
        for call in (lambda: retrying.get("o"), lambda: retrying.create("o", b"1"), lambda: list(retrying.list(""))):
            script.answers = [answer] * 4
            with pytest.raises(StoreError) as caught:
                call()
            shown = caught.value
            said += [str(shown), repr(shown), repr(shown.to_wire()), *traceback.format_exception(shown)]
    for text in (*said, caplog.text):
        assert SECRET not in text
        assert TOKEN not in text
        assert "Signature=" not in text
