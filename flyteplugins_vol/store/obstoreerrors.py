"""What an obstore exception says: obstore keeps status and code in its text only, so they are read out of there."""

from __future__ import annotations

import re

from .failures import NO_CREDENTIALS, Failure

_STATUS = re.compile(r"status(?: code)?: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_KIND = re.compile(r"\bkind: (Connect|Timeout|Request|Interrupted|Decode|Unknown)\b")
_HOST = re.compile(r"https?://(?:[^/@\s]*@)?([A-Za-z0-9.:\[\]-]+)")
# Where clients look for credentials when none are given; a failure there means that there are none.
_METADATA = re.compile(r"https?://(169\.254\.169\.254|169\.254\.170\.2|metadata(\.google\.internal)?)\b")


def read_failure(error: Exception) -> Failure:
    """Status, code and harmless words of an obstore error; nothing else of its text is fit to be shown."""
    text = str(error)
    if _METADATA.search(text):
        return Failure(0, NO_CREDENTIALS)
    status = _STATUS.search(text)
    code = _CODE.search(text)
    if status or code:
        return Failure(int(status[1]) if status else 0, code[1] if code else "")
    if "without LOCATION" in text:  # a redirect to nowhere: how S3 answers in the wrong region
        return Failure(301, "Redirect")
    if "builder error" in text or "URL scheme is not allowed" in text:
        return Failure(400, "", "the endpoint's URL cannot be used (http:// needs allow_http)")
    if "certificate" in text:
        return Failure(400, "", f"{_host(text)} showed a certificate that is not trusted")
    kind = _KIND.search(text)
    return Failure(0, "", f"no whole answer from {_host(text)} ({kind[1] if kind else type(error).__name__})")


def ends_early(error: Exception, failure: Failure) -> bool:
    """Whether a range was refused since the object ends before it."""
    return failure.status == 416 or any(words in str(error) for words in _NO_RANGE)


# Answers other than 416: moto's and azurite's to a range of an empty object, and obstore's check of the answer.
_NO_RANGE = ("Received non-partial response", "Failed to parse value for CONTENT_RANGE", "Wanted range starting at")


def _host(text: str) -> str:
    found = _HOST.search(text)
    return found[1] if found else "the service"
