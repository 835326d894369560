"""The profiles of AWS's own tools, ``~/.aws/credentials`` and ``~/.aws/config``: what of them a store needs.

https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html. What cannot be read is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Mapping

_KEYS = {
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}
_PLACES = {"region": "region", "endpoint": "endpoint_url"}
# As botocore does it: whom to ask goes before keys that are in the profile as well, a program after them.
_ASKED_FIRST = ("role_arn", "sso_session", "sso_start_url")
_ASKED = ("credential_process", "login_session")


def read_profile(name: str, *, credentials: str, config: str) -> dict[str, str]:
    """The options, as of `StoreOptions.config`, of the profile of this name in the two files; none if neither has it.

    ``region`` and ``endpoint``, and either its keys, or ``profile``, its name, where keys are to be got from somebody:
    a role, single sign-on, a program. A region alone where it says nothing of keys.
    """
    section = _section(config, "default" if name == "default" else f"profile {name}")
    section.update(_section(credentials, name))
    places, keys = _named(section, _PLACES), _named(section, _KEYS)
    if any(section.get(word) for word in _ASKED_FIRST):
        return {**places, "profile": name}
    if "access_key_id" in keys and "secret_access_key" in keys:
        return {**places, **keys}
    if any(section.get(word) for word in _ASKED):
        return {**places, "profile": name}
    return _named(section, {"region": "region"})


def _section(path: str, name: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, ValueError):
        return {}
    import configparser  # 3 ms, and most machines that run tasks have no such file

    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        parser.read_string(text)
        return dict(parser.items(name))
    except configparser.Error:
        return {}


def _named(section: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {name: section[word] for name, word in names.items() if section.get(word)}
