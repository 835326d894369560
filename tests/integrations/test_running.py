"""What a thread is told that may be of several tasks."""

from __future__ import annotations

import pytest

from flyteplugins_vol.errors import UsageError
from flyteplugins_vol.integrations.running import in_common, the_same


def test_the_store_is_theirs_if_they_have_one() -> None:
    assert the_same([], "the store") is None
    assert the_same(["s3://one"] * 2, "the store") == "s3://one"
    for others in (["s3://one", "s3://two"], ["s3://one", None]):
        with pytest.raises(UsageError, match="the store is another one") as caught:
            the_same(others, "the store")
        assert "asyncio.to_thread" in str(caught.value)
        assert "Volume.new(store=" in str(caught.value)


def test_versions_say_what_is_true_of_all() -> None:
    assert in_common([]) is None
    assert in_common([{"run": "a", "task": "b"}]) == {"run": "a", "task": "b"}
    assert in_common([{"run": "a", "task": "b"}, {"run": "a", "task": "c", "attempt": "0"}]) == {"run": "a"}
