"""The parts that ask nobody: paths, previews, sniffing, the outline."""

from __future__ import annotations

import random
import struct

import pytest

from flyteplugins_vol.explore.names import file_name_for, joined, split
from flyteplugins_vol.explore.outline import Branch, Outline, Place
from flyteplugins_vol.explore.preview import HEAD, Shape, hex_lines, make_preview
from flyteplugins_vol.explore.queries import PAGE, Entry
from flyteplugins_vol.explore.sniff import sniff
from tests.explore.conftest import png


def test_paths() -> None:
    assert split(joined((b"a", b"b"))) == (b"a", b"b")
    assert file_name_for("żółw.txt".encode()) == "żółw.txt"
    assert "/" not in file_name_for(b"\xff\n")


# --- previews --------------------------------------------------------------------------------------------------


def test_text_is_shown_with_escapes() -> None:
    found = make_preview("a\tb\nżółw\n\x1b[31mred\r\n".encode(), 100)
    assert found.shape is Shape.TEXT
    assert found.lines == ("a   b", "żółw", "\\x1b[31mred")
    assert all(line.isprintable() for line in found.lines)


def test_a_letter_cut_in_two_does_not_make_text_binary() -> None:
    data = ("ż" * HEAD).encode()[: HEAD - 1]
    assert make_preview(data, 10 * HEAD).shape is Shape.TEXT
    assert make_preview(data, len(data)).shape is Shape.HEX  # there it is the end: no text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_marked_encodings(encoding: str) -> None:
    assert make_preview("hello\n".encode(encoding), 100).lines == ("hello",)


def test_binary_is_a_dump() -> None:
    found = make_preview(bytes(range(256)), 256, columns=80)
    assert found.shape is Shape.HEX
    assert found.lines[1] == "00000010  10 11 12 13 14 15 16 17  18 19 1a 1b 1c 1d 1e 1f  ················"
    for columns in (30, 44, 77, 150):
        lines = hex_lines(bytes(100), columns)
        assert len({len(line) for line in lines[:-1]}) == 1
        assert columns < 40 or len(lines[0]) <= columns


def test_empty_and_endless_lines() -> None:
    assert make_preview(b"", 0).shape is Shape.EMPTY
    assert len(make_preview(b"x" * HEAD, HEAD).lines[0]) < 1100


@pytest.mark.parametrize(
    ("head", "kind", "fact"),
    [
        (png(640, 480), "PNG image", "640 × 480 pixels"),
        (b"GIF89a" + struct.pack("<HHB", 10, 20, 0xF1), "GIF image", "10 × 20 pixels"),
        (b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08\0\x20\0\x40\x03", "JPEG image", "64 × 32 pixels"),
        (b"BM" + bytes(4) + bytes(4) + bytes(8) + struct.pack("<iiHH", 8, -9, 1, 24), "BMP image", "8 × 9 pixels"),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\x0f\0\0\x07\0\0", "WebP image", "16 × 8 pixels"),
        (
            b"\x93NUMPY\x01\0\x46\0{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }".ljust(80),
            "NumPy array",
            "(3, 4)",
        ),
        (
            struct.pack("<Q", 58) + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}    ',
            "safetensors",
            "1",
        ),
    ],
)
def test_known_kinds(head: bytes, kind: str, fact: str) -> None:
    found = sniff(head)
    assert found is not None
    assert found.kind == kind
    assert fact in [value for _, value in found.facts]


def test_sniffing_survives_anything() -> None:
    rng = random.Random(1)
    heads = [png(1, 1), b"\xff\xd8\xff\xe0", b"II*\0", b"\x93NUMPY\x01\0\x10\0{[(", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a"]
    for head in heads:
        for _ in range(200):
            data = bytearray(head + rng.randbytes(rng.randint(0, 60)))
            if len(data) > 8:
                data[rng.randrange(6, len(data))] = rng.randrange(256)
            sniff(bytes(data[: rng.randint(0, len(data))]))


# --- the outline -----------------------------------------------------------------------------------------------


def entry(name: bytes) -> Entry:
    return Entry(name, 1, 0o40755, 2, 0, 0, 0, 0, 0, None)


def model_rows(branch: Branch) -> list[tuple[Branch, int]]:
    rows: list[tuple[Branch, int]] = []
    for index in range(branch.count or 0):
        rows.append((branch, index))
        if index in branch.inside:
            rows += model_rows(branch.inside[index])
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_rows_and_places_agree(seed: int) -> None:
    rng = random.Random(seed)
    outline = Outline()
    outline.root.count = rng.randint(1, 8)
    for _ in range(rng.randint(0, 12)):
        branch = rng.choice(list(outline.branches()))
        if not branch.count:
            continue
        index = rng.randrange(branch.count)
        if index in branch.inside:
            if rng.random() < 0.5:
                branch.close(index)
            continue
        branch.open(index, rng.randint(2, 99), b"%d" % index).count = rng.randint(0, 5)
    expected = model_rows(outline.root)
    assert outline.rows == len(expected)
    for row, (branch, index) in enumerate(expected):
        assert outline.place(row) == Place(branch, index)
        assert outline.row(Place(branch, index)) == row
    assert outline.place(len(expected)) is None
    assert outline.place(-1) is None


def test_pages_are_forgotten() -> None:
    branch = Outline().root
    for number in range(200):
        branch.put_page(number, [entry(b"%d" % number)])
    assert branch.entry(199 * PAGE) == entry(b"199")
    assert branch.entry(0) is None
