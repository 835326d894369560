"""What people read: names, sizes, times."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from flyteplugins_vol import human
from flyteplugins_vol.human import escapes, hidden, shown, shown_text

NAMES = [
    b"plain", "żółw 猫".encode(), b"caf\xe9", b"a\nb", b"a\\nb", b"\x1b[31m", "\u202egpj.exe".encode(),
    b"\x00\x07\x7f\x80", "\U000e0041\u2028 \u3000".encode(), b"\\x1b", b"\xff\xfe", "\x85".encode(),
]  # fmt: skip


def test_names_are_printable_and_kept_apart() -> None:
    seen = [shown(name) for name in NAMES]
    assert seen[:3] == ["plain", "żółw 猫", "caf\\xe9"]
    assert all(text.replace("\u3000", "").isprintable() for text in seen)
    assert len(set(seen)) == len(NAMES)
    assert [seen[2][a:b] for a, b in escapes(seen[2])] == ["\\xe9"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_leads_back(name: bytes) -> None:
    text = name.decode("utf-8", "surrogateescape")
    assert shown(text) == shown(name)
    assert hidden(shown(name)) == text


def test_text_of_strangers_is_one_line_and_keeps_its_backslashes() -> None:
    assert shown_text("a\\b\n\x1b[2J") == "a\\b\\n\\x1b[2J"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1024, "1.0 KiB"), (102_400, "100 KiB"), (1 << 20, "1.0 MiB"),
        ((1 << 20) - 1, "1.0 MiB"), (5 << 30, "5.0 GiB"), ((1 << 63) - 1, "8.0 EiB"), (1 << 70, "1024 EiB"),
    ],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert human.size(number) == text
    assert len(text) <= 9


def test_times() -> None:
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    assert human.ago("2026-01-01T23:59:30.5Z", now) == "30 s"
    assert human.ago("2026-01-01T00:00:00Z", now) == "1 d"
    assert human.ago("2020-01-01T00:00:00Z", now) == "6 y"
    assert human.ago("nonsense", now) == "?"
    assert human.ago("2027-01-01T00:00:00Z", now) == "0 s"  # a clock that is ahead
    assert human.local("non\nsense") == "non\\nsense"
    assert len(human.when(-(1 << 63))) == len(human.when((1 << 63) - 1)) == 16
