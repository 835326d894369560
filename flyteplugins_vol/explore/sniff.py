"""What a file is, from its first bytes: its kind, and for images and arrays their shape. Never trusts a length."""

from __future__ import annotations

import ast
import json
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow IPC"),
    (b"SQLite format 3\0", "SQLite database"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip archive"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x7fELF", "ELF binary"),
    (b"%PDF-", "PDF"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"ID3", "MP3 audio"),
    (b"OggS", "Ogg media"),
    (b"fLaC", "FLAC audio"),
    (b"wOF2", "WOFF2 font"),
    (b"GGUF", "GGUF model"),
)
_PNG_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey + alpha", 6: "RGBA"}


class Sniffed(NamedTuple):
    """A kind and what else its head tells, as label and value."""

    kind: str
    facts: tuple[tuple[str, str], ...] = ()
    image: bool = False


def sniff(head: bytes) -> Sniffed | None:
    """None: nothing that is known here."""
    for look in _LOOKS:
        try:
            found = look(head)
        except (struct.error, ValueError, IndexError, SyntaxError, KeyError, TypeError, AttributeError, RecursionError):
            found = None  # cut short, or only looks like it
        if found is not None:
            return found
    return next((Sniffed(kind) for magic, kind in _MAGIC if head.startswith(magic)), None)


def _png(head: bytes) -> Sniffed | None:
    if not head.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    return _image("PNG image", width, height, f"{_PNG_COLOURS.get(colour, 'unknown')}, {depth} bits per channel")


def _gif(head: bytes) -> Sniffed | None:
    if head[:6] not in (b"GIF87a", b"GIF89a"):
        return None
    width, height, flags = struct.unpack("<HHB", head[6:11])
    return _image("GIF image", width, height, f"palette of {2 << (flags & 7)}")


def _jpeg(head: bytes) -> Sniffed | None:
    if not head.startswith(b"\xff\xd8\xff"):
        return None
    at = 2
    while head[at] == 0xFF:
        marker, length = head[at + 1], struct.unpack(">H", head[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            depth, height, width, channels = struct.unpack(">BHHB", head[at + 4 : at + 10])
            colour = {1: "grey", 3: "colour", 4: "CMYK"}.get(channels, f"{channels} channels")
            return _image("JPEG image", width, height, f"{colour}, {depth} bits per channel")
        at += 2 + length
    return Sniffed("JPEG image", (), image=True)


def _webp(head: bytes) -> Sniffed | None:
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    chunk = head[12:16]
    if chunk == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    elif chunk == b"VP8L":
        bits = struct.unpack("<I", head[21:25])[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (value & 0x3FFF for value in struct.unpack("<HH", head[26:30]))
    return _image("WebP image", width, height, "lossless" if chunk == b"VP8L" else "")


def _bmp(head: bytes) -> Sniffed | None:
    if head[:2] != b"BM" or head[6:10] != bytes(4):
        return None
    width, height, _, depth = struct.unpack("<iiHH", head[18:30])
    return _image("BMP image", width, abs(height), f"{depth} bits per pixel")


def _tiff(head: bytes) -> Sniffed | None:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None:
        return None
    (at,) = struct.unpack(f"{order}I", head[4:8])
    (count,) = struct.unpack(f"{order}H", head[at : at + 2])
    tags: dict[int, int] = {}
    for number in range(min(count, 100)):
        entry = head[at + 2 + 12 * number : at + 14 + 12 * number]
        tag, kind = struct.unpack(f"{order}HH", entry[:4])
        tags[tag] = struct.unpack(f"{order}{'H' if kind == 3 else 'I'}", entry[8 : 10 if kind == 3 else 12])[0]
    return _image("TIFF image", tags[256], tags[257], "")


def _numpy(head: bytes) -> Sniffed | None:
    if not head.startswith(b"\x93NUMPY"):
        return None
    start = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:start], "little")
    text = head[start : start + length].decode("latin-1")
    header = ast.literal_eval(text.strip())
    order = "Fortran" if header["fortran_order"] else "C"
    return Sniffed("NumPy array", (("shape", str(header["shape"])), ("dtype", str(header["descr"])), ("order", order)))


def _safetensors(head: bytes) -> Sniffed | None:
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or not 2 <= length < 100 << 20:
        return None
    if 8 + length > len(head):  # the header goes on behind what was read: a name is enough to know it by
        return Sniffed("safetensors") if re.match(rb'\{"[^"]+": ?\{', head[8:600]) else None
    tensors = {name: value for name, value in json.loads(head[8 : 8 + length]).items() if name != "__metadata__"}
    kinds = ", ".join(sorted({str(value["dtype"]) for value in tensors.values()}))
    return Sniffed("safetensors", (("tensors", f"{len(tensors):,}"), ("dtypes", kinds)))


def _wave(head: bytes) -> Sniffed | None:
    if head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt ":
        return None
    channels, rate = struct.unpack("<HI", head[22:28])
    return Sniffed("WAV audio", (("channels", str(channels)), ("rate", f"{rate:,} Hz")))


def _media(head: bytes) -> Sniffed | None:
    if head[4:8] != b"ftyp":
        return None
    brand = head[8:12].decode("ascii")
    if brand in ("avif", "heic", "mif1"):
        return Sniffed(f"{brand.upper()} image", (), image=True)
    return Sniffed("MPEG-4 media", (("brand", brand.strip()),))


_LOOKS: tuple[Callable[[bytes], Sniffed | None], ...] = (
    _png, _jpeg, _gif, _webp, _bmp, _tiff, _numpy, _safetensors, _wave, _media,
)  # fmt: skip


def _image(kind: str, width: int, height: int, colours: str) -> Sniffed:
    pixels = f"{width:,} × {height:,} pixels"
    facts = (("size", pixels), ("colours", colours)) if colours else (("size", pixels),)
    return Sniffed(kind, facts, image=True)
