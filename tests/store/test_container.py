"""Containers: what goes in comes out, nothing altered comes out, and no object can make a reader do too much."""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from flyteplugins_vol.errors import DamageError, IndexDamagedError, NewerFormatError, PackDamagedError
from flyteplugins_vol.store.container import (
    ENTRY_SIZE,
    HEADER_SIZE,
    INDEX,
    MAX_PLAIN,
    PACK,
    PLAIN,
    TRAILER_SIZE,
    ZSTD,
    Container,
    Entry,
    block_hash,
    build,
    count_of,
    decode,
    encode,
    object_key,
    parse_footer,
    tail_size,
)

BLOCKS = st.lists(st.one_of(st.binary(min_size=1, max_size=300), st.integers(1, 3000).map(bytes)), max_size=8)


def packed(blocks: list[bytes], kind: bytes = PACK) -> Container:
    return build(kind, [(block_hash(plain), len(plain), *encode(plain)) for plain in blocks])


def stored(made: Container, entry: Entry) -> bytes:
    return made.data[entry.offset : entry.offset + entry.stored]


@given(BLOCKS, st.sampled_from([PACK, INDEX]))
@settings(deadline=None)
def test_what_goes_in_comes_out(blocks: list[bytes], kind: bytes) -> None:
    made = packed(blocks, kind)
    assert count_of(kind, made.data[-TRAILER_SIZE:]) == len(blocks)
    for tail in (made.data, made.data[-tail_size(len(blocks)) :]):
        assert parse_footer(kind, made.name, tail) == made.entries
    assert [decode(entry, stored(made, entry)) for entry in made.entries] == blocks
    assert len(made.data) == HEADER_SIZE + sum(e.stored for e in made.entries) + tail_size(len(blocks))


@given(BLOCKS.filter(bool), st.data())
@settings(deadline=None)
def test_a_flipped_bit_is_noticed_or_changes_nothing(blocks: list[bytes], data: st.DataObject) -> None:
    """A frame of Zstandard has a bit in its header that means nothing; there is no other."""
    made = packed(blocks)
    bit = data.draw(st.integers(8 * HEADER_SIZE, 8 * len(made.data) - 1))
    altered = bytearray(made.data)
    altered[bit // 8] ^= 1 << bit % 8
    try:
        entries = parse_footer(PACK, made.name, bytes(altered))
        found = [decode(entry, bytes(altered[entry.offset : entry.offset + entry.stored])) for entry in entries]
    except (DamageError, NewerFormatError):
        return
    assert found == blocks
    assert any(bit == 8 * (entry.offset + 4) + 4 and entry.codec == ZSTD for entry in made.entries)


@given(BLOCKS, st.data())
@settings(deadline=None)
def test_a_cut_is_noticed_wherever_it_is(blocks: list[bytes], data: st.DataObject) -> None:
    made = packed(blocks)
    cut = data.draw(st.integers(0, len(made.data) - 1))
    with pytest.raises(PackDamagedError):
        parse_footer(PACK, made.name, made.data[:cut])


def test_the_same_blocks_make_two_objects() -> None:
    """The nonce: "it exists already" can only mean our own earlier try."""
    assert packed([b"x"]).name != packed([b"x"]).name
    same = [build(PACK, [(block_hash(b"x"), 1, PLAIN, b"x")], nonce=bytes(16)) for _ in range(2)]
    assert same[0] == same[1]


def test_the_name_is_the_hash_of_the_footer_and_so_vouches_for_it() -> None:
    made = packed([b"a" * 100, b"b"])
    assert blake3(made.data[-tail_size(2) :]).hexdigest() == made.name
    assert object_key(PACK, made.name) == f"packs/{made.name[:2]}/{made.name}"
    assert object_key(INDEX, made.name) == f"index/{made.name[:2]}/{made.name}"


def test_only_what_shrinks_by_five_percent_is_compressed() -> None:
    noise = random.Random(0).randbytes(5000)
    assert encode(noise) == (PLAIN, noise)
    assert encode(noise + bytes(100))[0] == PLAIN
    codec, packed_ = encode(noise + bytes(5000))
    assert codec == ZSTD
    assert len(packed_) < 5500


@pytest.mark.parametrize("kind", [PACK, INDEX])
def test_a_newer_container_is_refused_as_such(kind: bytes) -> None:
    made = packed([b"x"], kind)
    for version, flags in ((2, 0), (255, 0), (1, 1)):
        trailer = struct.pack("<16sIcBHQ8s", bytes(16), 1, kind, version, flags, 1, b"LOVETYLF")
        tail = made.data[-tail_size(1) : -TRAILER_SIZE] + trailer
        with pytest.raises(NewerFormatError, match="newer release"):
            parse_footer(kind, blake3(tail).hexdigest(), tail)


def test_an_object_of_the_other_kind_is_refused() -> None:
    with pytest.raises(IndexDamagedError):
        parse_footer(INDEX, packed([b"x"]).name, packed([b"x"]).data)


@pytest.mark.parametrize(
    ("entries", "count", "bodies"),
    [
        ([(5, MAX_PLAIN + 1, ZSTD)], 1, 5),  # plain too large
        ([(6, 5, ZSTD)], 1, 6),  # stored larger than plain
        ([(5, 6, PLAIN)], 1, 5),  # plain that is not as it is stored
        ([(0, 5, ZSTD)], 1, 0),  # nothing stored
        ([(5, 5, PLAIN)], 1, 6),  # sizes that do not add up
        ([(5, 5, PLAIN)], 2, 10),  # an entry more than there are bytes
        ([(5, 5, PLAIN)], (1 << 20) + 1, 5),
        ([(5, 5, PLAIN)], (1 << 32) - 1, 5),
    ],
)
def test_a_footer_out_of_bounds_is_refused_even_if_its_name_is_right(
    entries: list[tuple[int, int, int]], count: int, bodies: int
) -> None:
    footer = b"".join(struct.pack("<32sIIB3x", bytes(32), *entry) for entry in entries)
    tail = footer + struct.pack("<16sIcBHQ8s", bytes(16), count, PACK, 1, 0, bodies, b"LOVETYLF")
    assert len(footer) == len(entries) * ENTRY_SIZE
    with pytest.raises(PackDamagedError):
        parse_footer(PACK, blake3(tail).hexdigest(), tail)


# -- decompression ---------------------------------------------------------------------------------------------------


def rle_frame(declared: int | None, block: int, blocks: int) -> bytes:
    """A zstd frame (RFC 8878) of blocks that repeat one byte: four bytes each, up to 128 KiB of output each."""
    window = bytes([13 << 3])  # 8 MiB
    head = b"\0" + window if declared is None else b"\x80" + window + struct.pack("<I", declared)
    parts = [struct.pack("<I", (block << 3) | 2 | (i == blocks - 1))[:3] + b"\0" for i in range(blocks)]
    return b"\x28\xb5\x2f\xfd" + head + b"".join(parts)


def entry_for(frame: bytes, size: int) -> Entry:
    return Entry(block_hash(bytes(size)), HEADER_SIZE, len(frame), size, ZSTD)


def test_the_frame_of_these_tests_is_one() -> None:
    frame = rle_frame(2000, 1000, 2)
    assert decode(entry_for(frame, 2000), frame) == bytes(2000)


@pytest.mark.parametrize(
    "frame",
    [
        rle_frame(1 << 27, 128 << 10, 1024),  # says so
        rle_frame(1 << 20, 128 << 10, 4096),  # claims 1 MiB, and would be 512
        rle_frame(None, 128 << 10, 4096),  # claims nothing
        rle_frame(1 << 20, 128 << 10, 8) * 200,  # many frames
    ],
    ids=["honest", "lying", "silent", "frames"],
)
def test_a_bomb_is_refused_within_the_size_that_the_footer_vouches_for(frame: bytes) -> None:
    entry = entry_for(frame, 1 << 20)._replace(hash=bytes(32))
    tracemalloc.start()
    try:
        with pytest.raises(DamageError):
            decode(entry, frame)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_an_entry_larger_than_a_block_may_be_is_refused_before_it_is_unpacked() -> None:
    """Entries also come from the index, which no footer bounds."""
    frame = rle_frame(1 << 27, 128 << 10, 1024)
    tracemalloc.start()
    try:
        with pytest.raises(DamageError):
            decode(entry_for(b"", 0)._replace(stored=len(frame), size=1 << 27), frame)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("junk", [b"", b"\0", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\x04\0\0\0abcd", b"junk" * 10])
def test_junk_for_a_compressed_block_is_damage(junk: bytes) -> None:
    with pytest.raises(DamageError):
        decode(Entry(bytes(32), HEADER_SIZE, len(junk), 100, ZSTD), junk)


@pytest.mark.parametrize("codec", [PLAIN, ZSTD, 7])
def test_a_block_with_other_content_than_its_hash_is_damage(codec: int) -> None:
    body = encode(bytes(1000))[1] if codec == ZSTD else bytes(1000)
    with pytest.raises(DamageError):
        decode(Entry(block_hash(b"1" * 1000), HEADER_SIZE, len(body), 1000, codec), body)
    with pytest.raises(DamageError):
        decode(Entry(block_hash(bytes(1000)), HEADER_SIZE, len(body), 1000, codec), body[:-1])


def test_a_codec_of_a_later_release_is_no_damage() -> None:
    footer = struct.pack("<32sIIB3x", bytes(32), 5, 5, 2)
    tail = footer + struct.pack("<16sIcBHQ8s", bytes(16), 1, PACK, 1, 0, 5, b"LOVETYLF")
    with pytest.raises(NewerFormatError):
        parse_footer(PACK, blake3(tail).hexdigest(), tail)
