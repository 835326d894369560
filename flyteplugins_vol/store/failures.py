"""From what a cloud service answered to the `StoreError` that says who must act.

Only the HTTP status, the service's error code and the host reach a message. The rest of what client libraries report
may hold a signature, a token or a whole signed URL, so it goes nowhere, not even as the error's cause.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import StoreAccessError, StoreError, StoreUnavailableError

NO_CREDENTIALS = "NoCredentials"
"""Our own word in `Failure.code`: no key was given, and none was found where the client looks for one."""

_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "ContainerBeingDeleted"})
_REGION = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "Redirect"}
)
_RIGHTS = frozenset(
    {
        "AccessDenied", "AccountProblem", "AuthenticationFailed", "InvalidAccessKeyId", "InvalidToken",
        "SignatureDoesNotMatch", "UserSuspended", "XAmzContentSHA256Mismatch",
    }
)  # fmt: skip
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_PASSING = frozenset({"SlowDown", "RequestTimeout", "InternalError", "Throttling", "ThrottlingException"})
_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class Failure(NamedTuple):
    """What is known of a call that failed. ``status`` 0: no answer came."""

    status: int
    code: str  # the service's own word, such as SlowDown; '' if none
    detail: str = ""  # harmless words of ours or of the client library


def is_no_bucket(code: str) -> bool:
    """Whether the service's word says that the bucket is absent, not only the object."""
    return code in _NO_BUCKET


def store_error(failure: Failure, *, url: str, verb: str, key: str) -> StoreError:
    """The error for a failed ``verb`` on ``key`` of the store at ``url``."""
    said = " ".join(part for part in (str(failure.status or ""), failure.code, failure.detail) if part)
    message = f"{verb} {key or 'the listing'} in {url} failed: {said or 'no answer'}"
    status, code = failure.status, failure.code
    if code == NO_CREDENTIALS:
        return StoreAccessError(message, hint=f"set {_credentials(url)}, or pass StoreOptions with them{_more(url)}")
    if code in _NO_BUCKET:
        return StoreAccessError(message, hint="create the bucket, or correct the store's URL or endpoint")
    if code == "RequestTimeTooSkewed":
        return StoreAccessError(message, hint="set this machine's clock: it differs too much from the service's")
    if status == 301 or code in _REGION:
        return StoreAccessError(message, hint="the bucket lives in another region: set AWS_REGION to it")
    if code in _EXPIRED:
        return StoreAccessError(f"{message}: the credentials have expired", hint=_renewed(url))
    if status in (401, 403) or code in _RIGHTS:
        return StoreAccessError(message, hint=f"check {_credentials(url)}, and their rights on this prefix")
    if code in _PASSING or status in _PASSING_STATUS or status == 0:
        return StoreUnavailableError(message, hint="look at the network and at the store's health, then try again")
    return StoreError(message, hint="the store does not do what this package needs of it: check URL and endpoint")


def _more(url: str) -> str:
    if not url.startswith("s3:"):
        return ""
    return (
        "; or AWS_PROFILE to a profile of ~/.aws that has keys; one that gets them by single sign-on, a role or a "
        "program needs the extra `s3`"
    )


def _renewed(url: str) -> str:
    """Keys that were given cannot be renewed here; those of a credential chain are, before they expire."""
    token = " with their AWS_SESSION_TOKEN" if url.startswith("s3:") else ""
    return (
        f"get new credentials and set {_credentials(url)}{token}, or pass StoreOptions with them; then unmount and "
        "mount again: what is not committed is kept on local disk, and goes on from there"
    )


def _credentials(url: str) -> str:
    scheme = url.split(":", 1)[0]
    return _CREDENTIALS.get("az" if scheme.startswith("abfs") else scheme, "the store's credentials")
